"""A folder that annotators have handed back in, its corrections in a data set out; or everything that is wrong with it.

A data set that corrections go into has ``images/``, ``labels/`` and an ``index.csv`` whose columns say of each image
where it comes from, which model it was corrected from, and who took it in and when.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import os
import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hcs_nuclei.audit import user_name, write_audit
from hcs_nuclei.errors import DatasetError, OutputError
from hcs_nuclei.files import replace_file, temporary_path
from hcs_nuclei.training.annotation_export import INDEX_COLUMNS, INDEX_FILE, dense, pixels_sha256, write_pair
from hcs_nuclei.training.annotations import AnnotatedImage, delimiter_of, inspect_dataset

#: What the index of a data set has beside the columns of an export.
_ADDED = ("labels", "imported", "imported_by")
#: Splits that wells go to in turn: of five, three are trained on, one chooses thresholds and one is for the test.
SPLITS = ("train", "val", "train", "test", "train")
_YES = frozenset({"yes", "y", "true", "1", "x"})
#: Of a number that lies in several places, a piece this large is another nucleus; a smaller one is a slip, px.
_PIECE_PX = 20

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Imported:
    """What was taken in: names of label images that were changed and confirmed, and of those that were there before."""

    changed: tuple[str, ...]
    confirmed: tuple[str, ...]
    kept: tuple[str, ...]
    remarks: tuple[str, ...]


def import_corrections(folder: Path, dataset: Path, *, split: str = "auto", replace: bool = False) -> Imported:
    """Check a folder of :func:`hcs_nuclei.training.annotation_export.export_fields` that was corrected, and take it in.

    Numbers are made 1 … n without gaps. An image that the data set has with the same labels is left as it is; another
    image of a name that the data set has is kept under a name of its own.

    Args:
        folder: as it came back. An image that was deleted with its labels is no fault.
        dataset: made where it is not there; nothing of it is changed where there is a fault.
        split: of every image, or ``auto``: all fields of a well go to one, new wells to :data:`SPLITS` in turn, in an
            order that is that of a hash of their names.
        replace: corrections take the place of labels that the data set has of the same image.

    Raises:
        DatasetError: what was handed back cannot be used; the message holds all faults with the names of the files.
        OutputError: `dataset` is no such data set, or cannot be written.
    """
    index = {row["name"]: row for row in _read_index(folder)}
    found = inspect_dataset(folder)
    with _alone_in(dataset):
        there = _read_target(dataset)
        checked = _Checked(dataset, there, split, replace, list(found.faults), list(found.remarks))
        for pair in found.images:
            checked.add(pair, index.get(unicodedata.normalize("NFC", pair.name)))
        if checked.faults:
            listing = "\n".join(f"  {fault}" for fault in checked.faults)
            raise DatasetError(
                f"Nothing of {folder} was taken, for it has {len(checked.faults)} faults:\n{listing}\nMend them all."
            )
        rows = _with_splits([row for _, row in checked.taken.values()], list(there.values()), split)
        taken = {name: pair for name, (pair, _) in checked.taken.items()}
        if taken:
            counts = {"changed": len(checked.changed), "confirmed": len(checked.confirmed)}
            write_audit("annotations.import", str(dataset.resolve()), new={"from": str(folder.resolve()), **counts})
        _write(dataset, taken, _described(rows, taken, frozenset(checked.changed)), there)
    return Imported(tuple(checked.changed), tuple(checked.confirmed), tuple(checked.kept), tuple(checked.remarks))


@dataclass
class _Checked:
    """What is found of each image, against what the data set has: `taken` are pairs and rows by their names there."""

    dataset: Path
    there: Mapping[str, Row]
    split: str
    replace: bool
    faults: list[str]
    remarks: list[str]
    changed: list[str] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    taken: dict[str, tuple[AnnotatedImage, Row]] = field(default_factory=dict)

    def add(self, pair: AnnotatedImage, row: Row | None) -> None:
        """Look at one image, with its row of the index."""
        faults = list(_faults(pair, row))
        if faults or row is None:
            self.faults += faults
            return
        labels, name = pixels_sha256(dense(pair.labels)), row["name"]
        before = self.there.get(name)
        if before is not None and before.get("image_sha256", row["image_sha256"]) != row["image_sha256"]:
            name = f"{name}_{row['image_sha256'][:8]}"  # runs of one name, or a plate that was imaged again
            self.remarks.append(f"{pair.name}: {self.dataset} has another image of this name; it is kept as {name}")
            before = self.there.get(name)
        if before is not None and before.get("labels_sha256") == labels:
            self.kept.append(name)
            return
        if before is not None and not self.replace:
            self.faults.append(
                f"labels/{pair.name}.tif: {self.dataset} has other labels of this image (--replace takes these)"
            )
        if self.split != "auto" and (others := self._other_splits(row, name)):
            self.faults.append(
                f"labels/{pair.name}.tif: other fields of its well, {row['well']} of {row['plate']}, are in {others}; "
                "expected all of a well in one split (--split auto sees to that)"
            )
        (self.changed if labels != row["labels_sha256"] else self.confirmed).append(name)
        self.taken[name] = pair, {**row, "name": name}

    def _other_splits(self, row: Row, name: str) -> str:
        """Splits of other fields of the same well, in words; the judge of a model must not know its neighbours."""
        well = _well(row)
        others = {r["split"] for r in self.there.values() if r.get("well") and r["name"] != name and _well(r) == well}
        return " and ".join(sorted(others - {self.split, ""}))


@contextmanager
def _alone_in(dataset: Path) -> Iterator[None]:
    """One import at a time into the data sets of a directory; others wait.

    The directory is locked, since the data set may not be there yet.
    """
    above = next(place for place in dataset.absolute().parents if place.is_dir())
    try:
        folder = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # it may be entered and not be read
        yield
        return
    try:
        with suppress(OSError):  # a share that knows no locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _faults(pair: AnnotatedImage, row: Row | None) -> Iterable[str]:
    """What is wrong with one image and its labels, beyond what makes a data set unusable."""
    file = f"labels/{pair.name}.tif"
    if row is None:
        yield f"{file}: {INDEX_FILE} has no row for it; expected images that were exported"
        return
    if pixels_sha256(pair.image) != row["image_sha256"]:
        yield f"images/{pair.name}.tif is not the image that was exported"
    unchanged = pixels_sha256(dense(pair.labels)) == row["labels_sha256"]
    if unchanged and row["confirmed"].strip().lower() not in _YES:
        yield f"{file} is neither changed nor confirmed; correct it, or write yes into {INDEX_FILE}"
    if not unchanged:
        for number, pieces in _scattered(pair.labels):
            yield f"{file}: {number} is the number of {pieces} pieces that lie apart; expected one nucleus a number"


def _scattered(labels: npt.NDArray[np.int32]) -> Iterable[tuple[int, int]]:
    """Numbers of which several pieces of :data:`_PIECE_PX` and more lie apart, and how many these are."""
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is None:
            continue
        pieces, count = ndimage.label(labels[window] == number, structure=np.ones((3, 3)))
        if count > 1:
            large = int((np.bincount(pieces.ravel())[1:] >= _PIECE_PX).sum())
            if large > 1:
                yield number, large


def _read_index(folder: Path) -> list[Row]:
    """Rows of the index of what was handed back.

    Raises:
        DatasetError: there is none, or it lacks columns.
    """
    path = folder / INDEX_FILE
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, delimiter=delimiter_of(lines))
            lacking = [name for name in INDEX_COLUMNS if name not in (reader.fieldnames or ())]
            rows = [{key: value or "" for key, value in row.items() if key} for row in reader]
            rows = [{**row, "name": unicodedata.normalize("NFC", row.get("name", ""))} for row in rows]
    except FileNotFoundError:
        raise DatasetError(f"{folder} has no {INDEX_FILE}; expected a folder that annotate export made.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as a table (CSV, UTF-8): {error}.") from None
    if lacking:
        raise DatasetError(f"{path} lacks the columns {', '.join(lacking)}; expected those that annotate export wrote.")
    return rows


def _read_target(dataset: Path) -> dict[str, Row]:
    """Rows of the data set that corrections go into, by name; none where it is yet to be made.

    Raises:
        OutputError: it is of another kind, or has no table.
    """
    if not dataset.exists() or (dataset.is_dir() and not any(dataset.iterdir())):
        return {}
    if not all((dataset / name).is_dir() for name in ("images", "labels")) or not (dataset / INDEX_FILE).is_file():
        raise OutputError(
            f"{dataset} is no data set that corrections can go into: expected images/, labels/ and {INDEX_FILE} (with "
            "name and split), or a directory that is not there yet."
        )
    try:
        with (dataset / INDEX_FILE).open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, delimiter=delimiter_of(lines))
            rows = [{key: value or "" for key, value in row.items() if key} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise OutputError(f"{dataset / INDEX_FILE} cannot be read as a table (CSV, UTF-8): {error}.") from None
    if any("name" not in row or "split" not in row for row in rows):
        raise OutputError(f"{dataset / INDEX_FILE} lacks a column; expected name and split.")
    return {row["name"]: row for row in rows}


def _with_splits(rows: Sequence[Row], there: Sequence[Row], split: str) -> list[Row]:
    """`rows` with their split, in their order."""
    if split != "auto":
        return [{**row, "split": split} for row in rows]
    of_well = {_well(row): row["split"] for row in there if row.get("well") and row["split"]}
    new = sorted({_well(row) for row in rows} - of_well.keys(), key=lambda w: hashlib.sha256(repr(w).encode()).digest())
    begun = len(of_well)
    of_well |= {well: SPLITS[(begun + i) % len(SPLITS)] for i, well in enumerate(new)}
    return [{**row, "split": of_well[_well(row)]} for row in rows]


def _well(row: Mapping[str, str]) -> tuple[str, str, str]:
    return row.get("plate", ""), row.get("acquisition", ""), row.get("well", "")


def _described(rows: Sequence[Row], pairs: Mapping[str, AnnotatedImage], changed: frozenset[str]) -> list[Row]:
    """Rows as the data set keeps them: with what was done to the labels, when it was taken in and by whom."""
    now, by = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), user_name()
    return [
        {
            **row,
            "nuclei": str(np.count_nonzero(np.unique(pairs[row["name"]].labels))),
            "labels_sha256": pixels_sha256(dense(pairs[row["name"]].labels)),
            "labels": "changed" if row["name"] in changed else "confirmed",
            "imported": now,
            "imported_by": by,
        }
        for row in rows
    ]


def _write(dataset: Path, pairs: Mapping[str, AnnotatedImage], rows: Sequence[Row], there: Mapping[str, Row]) -> None:
    """Put images and labels in place one by one, then the table: what it names is there."""
    if not rows:
        return
    columns = list(dict.fromkeys([*(key for row in there.values() for key in row), *INDEX_COLUMNS, *_ADDED]))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({**there, **{row["name"]: row for row in rows}}.values())
    unfinished = temporary_path(dataset / "corrections")
    try:
        for name in ("images", "labels"):
            (dataset / name).mkdir(parents=True, exist_ok=True)
            (unfinished / name).mkdir(parents=True)
        if not (dataset / INDEX_FILE).exists():  # so that an import that is interrupted can be begun again
            replace_file(dataset / INDEX_FILE, text.getvalue().partition("\n")[0].encode() + b"\n")
        for name, pair in pairs.items():
            write_pair(unfinished, name, pair.image, dense(pair.labels))
            for kind in ("images", "labels"):
                os.replace(unfinished / kind / f"{name}.tif", dataset / kind / f"{name}.tif")
        replace_file(dataset / INDEX_FILE, text.getvalue().encode())
    except OSError as error:
        raise OutputError(f"{dataset} cannot be written: {error.strerror}. Choose another --into.") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
