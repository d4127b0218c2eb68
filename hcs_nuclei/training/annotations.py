"""Annotated images in: a DSB2018 folder or zip, or a folder with ``images/`` and ``labels/``; pairs out.

Accepted trees::

    DSB2018, also zipped                      images and labels
    <any>/<id>/images/<id>.png                images/<stem>.tif|.tiff|.png
    <any>/<id>/masks/*.png                    labels/<stem>.tif|.tiff|.png
    splits.csv beside it (image_id, split)    index.csv (name, split)

What cannot be used is a fault, and all faults are raised in one error. What can be settled is settled and said.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import zipfile
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TextIO

import numpy as np
import numpy.typing as npt

from hcs_nuclei.errors import DatasetError, NothingAnnotatedError, PlaneError
from hcs_nuclei.segmentation.normalise import to_grey
from hcs_nuclei.sources import decode_image
from hcs_nuclei.training.label_images import Findings, checked_label_image, merge_masks

logger = logging.getLogger(__name__)

_IMAGE_SUFFIXES = {".tif", ".tiff", ".png"}
#: Images that are not read; where there is no other of that name, that is said.
_OTHER_SUFFIXES = {".jpg", ".jpeg", ".bmp", ".gif"}
#: How many names a remark on the whole set gives.
_NAMED = 5
#: Decoders let other threads run, NumPy's small steps hardly do: a third thread gains nothing.
_THREADS = 2

_Named = tuple[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image with its nuclei.

    `image` is (y, x) of any integer or float dtype (colour is turned to grey), `labels` (y, x) int32, 0 = background.
    """

    name: str
    image: npt.NDArray[Any]
    labels: npt.NDArray[np.int32]
    split: str
    modality: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Annotated images in order of name, and remarks in words: what was found among them and how it was settled."""

    images: list[AnnotatedImage]
    remarks: list[str]


@dataclass(frozen=True, slots=True)
class InspectedDataset(Dataset):
    """A data set with its `faults` in words, each of which names an image, and how many images it should have."""

    faults: list[str]
    expected: int


@dataclass(slots=True)
class _Entry:
    """One image of a data set before it is read; files are named relative to the set."""

    name: str
    images: list[str] = field(default_factory=list)
    annotations: list[str] = field(default_factory=list)
    split: str = ""
    modality: str = ""
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True, slots=True)
class _Source:
    """What lies in a folder or zip: `files` in order, what reads one of them, and whether each nucleus has a mask."""

    files: list[str]
    read: Callable[[str], bytes]
    one_mask_each: bool


def read_annotations(
    dataset: Path, *, split: str | None = None, modality: str | None = None, skip_faulty: bool = False
) -> list[AnnotatedImage]:
    """The images of :func:`read_dataset`; its remarks are logged as warnings.

    Raises:
        DatasetError: as :func:`read_dataset`.
    """
    found = read_dataset(dataset, split=split, modality=modality, skip_faulty=skip_faulty)
    for remark in found.remarks:
        logger.warning("%s: %s", dataset, remark)
    return found.images


def data_hash(annotated: Sequence[AnnotatedImage]) -> str:
    """sha256 (hex) over names, pixels and labels, in order."""
    digest = hashlib.sha256()
    for pair in annotated:
        digest.update(pair.name.encode())
        digest.update(np.ascontiguousarray(pair.image).tobytes())
        digest.update(pair.labels.tobytes())
    return digest.hexdigest()


def read_dataset(
    dataset: Path, *, split: str | None = None, modality: str | None = None, skip_faulty: bool = False
) -> Dataset:
    """Every annotated image of `dataset` in order of name, of one split or modality where asked.

    With `skip_faulty` images that cannot be used are left out, and their faults are the first remarks.

    Raises:
        DatasetError: there is no such data set, it has no such images, none of them can be used or, without
            `skip_faulty`, not all of them. The message holds every fault and remark with the names of the files.
    """
    found = inspect_dataset(dataset, split=split, modality=modality)
    if found.faults and not (skip_faulty and found.images):
        lines = [f"{found.expected - len(found.images)} of {found.expected} images of {dataset} cannot be used:"]
        lines += [f"  {fault}" for fault in found.faults]
        if found.remarks:
            lines += ["No obstacle, but worth a look:", *(f"  {remark}" for remark in found.remarks)]
        lines += [f"Mend or remove them{', or go on without them with --skip-faulty' if found.images else ''}."]
        raise DatasetError("\n".join(lines))
    return Dataset(found.images, [f"left out, {fault}" for fault in found.faults] + found.remarks)


def inspect_dataset(
    dataset: Path, *, split: str | None = None, modality: str | None = None, names: Collection[str] | None = None
) -> InspectedDataset:
    """As :func:`read_dataset`, of some `names` alone where asked, and what is wrong with images that cannot be used.

    Raises:
        DatasetError: there is no such data set, or it has no such images.
    """
    with _opened(dataset) as source:
        entries, remarks = _choose(dataset, source.one_mask_each, _arrange(dataset, source), split, modality)
        entries = [entry for entry in entries if names is None or entry.name in names]
        with ThreadPoolExecutor(_THREADS) as threads:
            read = threads.map(lambda entry: _read(entry, source), entries)
            images = [image for image in read if image is not None]
    faults = [f"{entry.name}: {fault}" for entry in entries for fault in entry.findings.faults]
    remarks += [f"{entry.name}: {remark}" for entry in entries for remark in entry.findings.remarks]
    remarks += _same_pixels(images)
    return InspectedDataset(images, remarks, faults, len(entries))


@contextmanager
def _opened(dataset: Path) -> Iterator[_Source]:
    if dataset.is_dir():
        folders = [dataset / "images", dataset / "labels"]
        pairs = all(folder.is_dir() for folder in folders)
        if folders[0].is_dir() and not pairs and not (dataset / "masks").is_dir():
            raise DatasetError(f"{dataset} has images/ and no labels/; expected label images of the same names there.")
        paths = [path for folder in folders for path in folder.iterdir()] if pairs else dataset.rglob("*.*")
        files = _image_files(path.relative_to(dataset).as_posix() for path in paths)
        yield _Source(files, lambda file: (dataset / file).read_bytes(), not pairs)
    elif dataset.exists():
        try:
            archive = zipfile.ZipFile(dataset)
        except zipfile.BadZipFile:
            raise DatasetError(f"{dataset} is not a zip file; expected a DSB2018 zip or folder.") from None
        with archive:
            files = _image_files(archive.namelist())
            if {"images", "labels"} <= (
                kinds := {PurePosixPath(f).parent.name for f in files}
            ) and "masks" not in kinds:
                raise DatasetError(
                    f"{dataset} holds images/ and labels/, which are read from a folder; a zip is expected to be of "
                    "DSB2018. Unpack it, and give the folder."
                )
            yield _Source(files, archive.read, True)
    else:
        raise DatasetError(
            f"{dataset} does not exist; expected a DSB2018 folder or zip, or a folder with images/ and labels/."
        )


def _image_files(files: Iterable[str]) -> list[str]:
    paths = sorted(map(PurePosixPath, files))
    # macOS puts a file of its own, ._<name>, beside each that it zips.
    suffixes = _IMAGE_SUFFIXES | _OTHER_SUFFIXES
    return [str(p) for p in paths if p.suffix.lower() in suffixes and not p.name.startswith(".")]


def _arrange(dataset: Path, source: _Source) -> list[_Entry]:
    """The files of each image, in order of its name."""
    entries: dict[str, _Entry] = {}
    for file in source.files:
        path = PurePosixPath(dataset.resolve().name, file)
        kind, name = path.parent.name, path.parent.parent.name if source.one_mask_each else path.stem
        if kind in ("images", "masks" if source.one_mask_each else "labels"):
            entry = entries.setdefault(name, _Entry(name))
            (entry.images if kind == "images" else entry.annotations).append(file)
    for entry in entries.values():
        entry.images, entry.annotations = _readable(entry.images), _readable(entry.annotations)
    return [entries[name] for name in sorted(entries)]


def _readable(files: list[str]) -> list[str]:
    """Those that can be read, where there are any: a preview beside an image is passed over."""
    return [file for file in files if PurePosixPath(file).suffix.lower() in _IMAGE_SUFFIXES] or files


def _choose(
    dataset: Path, one_mask_each: bool, entries: list[_Entry], split: str | None, modality: str | None
) -> tuple[list[_Entry], list[str]]:
    """The images of `split` and `modality`, and remarks on where files and table differ."""
    table, key = (dataset / "index.csv", "name") if not one_mask_each else (dataset / "splits.csv", "image_id")
    if one_mask_each and not table.is_file():
        table = dataset.parent / "splits.csv"
    index = _read_index(table, key)

    def wanted(name: str) -> bool:
        # An image whose modality is not told belongs to any.
        return any(split in (None, s) and (not m or modality in (None, m)) for s, m in index.get(name, [("", "")]))

    chosen = [entry for entry in entries if wanted(entry.name)]
    if not chosen:
        raise NothingAnnotatedError(_nothing_chosen(dataset, table, index, entries, split, modality))
    for entry in chosen:
        kinds = index.get(entry.name, [("", "")])
        entry.split, entry.modality = kinds[0]
        if len(kinds) > 1:
            entry.findings.faults.append(f"{table.name} has it as {' and as '.join(map(' '.join, kinds))}")
    names = {entry.name for entry in entries}
    remarks = []
    if absent := [name for name in index if name not in names and wanted(name)]:
        remarks.append(f"{table.name} names {len(absent)} images that are not there: {_some(absent)}")
    if split and (unlisted := [name for name in sorted(names) if name not in index]):
        remarks.append(f"{table.name} has no row for {len(unlisted)} images, which are left out: {_some(unlisted)}")
    return chosen, remarks


def _nothing_chosen(
    dataset: Path,
    table: Path,
    index: dict[str, list[tuple[str, str]]],
    entries: list[_Entry],
    split: str | None,
    modality: str | None,
) -> str:
    asked = ", ".join(f"{k} {v}" for k, v in (("split", split), ("modality", modality)) if v)
    message = f"{dataset} holds no annotated images{' of ' + asked if asked else ''}"
    if not entries:
        return f"{message}; expected <id>/images/*.png with <id>/masks/*.png, or images/ and labels/ of TIFF or PNG."
    if not index:
        return f"{message}: which of its {len(entries)} images are, a {table.name} is to say, and there is none."
    kinds = Counter(" ".join(kind) for entry in entries for kind in index.get(entry.name, [("not", "listed")]))
    return f"{message}; by {table} it has {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}."


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")


def delimiter_of(table: TextIO) -> str:
    """Between the cells of a table, by its first line: spreadsheets of half of Europe write semicolons."""
    head = table.readline()
    table.seek(0)
    return ";" if ";" in head and "," not in head else ","


def _read_index(path: Path, key: str) -> dict[str, list[tuple[str, str]]]:
    """Every (split, modality) that the table gives an image, each once; empty where there is no table."""
    index: dict[str, list[tuple[str, str]]] = defaultdict(list)
    if not path.is_file():
        return index
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines, delimiter=delimiter_of(lines))
            if key not in (rows.fieldnames or ()):
                raise DatasetError(f"{path} has no column {key}; it has {', '.join(rows.fieldnames or ()) or 'none'}.")
            for row in rows:
                if not row[key]:
                    raise DatasetError(f"{path} has no {key} in line {rows.line_num}; expected one in every line.")
                # S-BSST265 says FM where DSB2018's splits say fluorescence.
                modality = {"FM": "fluorescence"}.get(row.get("modality") or "", row.get("modality") or "")
                kind = (row.get("split") or "", modality)
                if kind not in index[row[key]]:
                    index[row[key]].append(kind)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as a table (CSV, UTF-8): {error}.") from None
    return index


def _read(entry: _Entry, source: _Source) -> AnnotatedImage | None:
    """Image and labels of `entry`, whose findings grow; None where it cannot be used."""
    faults = entry.findings.faults
    if not entry.images:
        faults.append("no image")
    if len(entry.images) > 1:
        faults.append(f"{len(entry.images)} images, expected one: {', '.join(entry.images)}")
    if not entry.annotations:
        of_none = "masks (an image without nuclei has an empty one)" if source.one_mask_each else "label image"
        faults.append(f"no {of_none}")
    if len(entry.annotations) > 1 and not source.one_mask_each:
        faults.append(f"{len(entry.annotations)} label images, expected one: {', '.join(entry.annotations)}")
    if faults:
        return None

    def pixels(decoder: Callable[[bytes, str], npt.NDArray[Any]], files: list[str]) -> Iterator[_Named]:
        for file in files:
            try:
                decoded = decoder(source.read(file), file)
            except PlaneError as error:  # it names the file
                faults.append(str(error))
            except Exception as error:  # a zip has its own, and every fault is to be in the one message
                faults.append(f"{file} cannot be read: {error}")
            else:
                yield file, decoded

    # A field full of nuclei may be as light as brightfield; of fluorescence it is known that it is none.
    nuclei: Literal["bright"] | None = "bright" if entry.modality == "fluorescence" else None
    found = list(pixels(lambda data, file: to_grey(decode_image(data, file), nuclei=nuclei), entry.images))
    # Of a label image with a palette the numbers are the nuclei, and the colours are for the eye.
    annotations = pixels(partial(decode_image, numbers=not source.one_mask_each), entry.annotations)
    if not found:
        deque(annotations, maxlen=0)  # for their faults
        return None
    ((_, image),) = found
    if source.one_mask_each:
        labels = merge_masks(annotations, image.shape, entry.findings)
    else:
        labels = np.zeros(image.shape, np.int32)
        for name, stored in annotations:
            labels = checked_label_image(name, stored, image.shape, entry.findings)
    return None if faults else AnnotatedImage(entry.name, image, labels, entry.split, entry.modality)


def pixels_of(pair: AnnotatedImage) -> bytes:
    """A digest of an image's pixels, by which it is known under whatever name."""
    return hashlib.sha256(f"{pair.image.shape} {pair.image.dtype}".encode() + pair.image.tobytes()).digest()


def _same_pixels(images: list[AnnotatedImage]) -> list[str]:
    names: dict[bytes, list[str]] = defaultdict(list)
    for image in images:
        names[pixels_of(image)].append(image.name)
    return [f"the same image under {len(n)} names, all kept: {', '.join(n)}" for n in names.values() if len(n) > 1]
