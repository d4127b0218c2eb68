"""Finished runs in, a folder for annotators out: images, the model's label images to correct, and why these fields.

::

    <folder>/
      images/<name>.tif    camera counts of the nuclear channel
      labels/<name>.tif    what the model found, 1 … n; to be corrected
      index.csv            a row a field; the column `confirmed` is for annotators
      README.txt           what to do, for annotators
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.errors import OutputError
from hcs_nuclei.files import temporary_path
from hcs_nuclei.outputs.ome_zarr import read_level
from hcs_nuclei.outputs.provenance import read_record
from hcs_nuclei.outputs.reading import Paths, find_runs, read_fields
from hcs_nuclei.outputs.treatments import layout_treatments
from hcs_nuclei.plate import safe_name
from hcs_nuclei.training.field_choice import Candidate, ChosenField, choose_fields

STORE = "plate.ome.zarr"
INDEX_FILE = "index.csv"
#: Columns of the index, in order. Those from `plate` on are where a field comes from, and stay with it.
INDEX_COLUMNS = (
    "name", "split", "modality", "confirmed",
    "plate", "acquisition", "well", "field", "timepoint", "treatment", "reason", "nuclei", "mean_confidence",
    "pixel_size_um", "model", "model_sha256", "run", "image_sha256", "labels_sha256",
)  # fmt: skip


def export_fields(runs: Paths, out: Path, *, number: int) -> list[ChosenField]:
    """Write `number` fields of finished runs for annotators into `out`, which appears whole or not at all.

    Args:
        runs: run directories, or directories of runs.
        out: a directory that is not there yet, or empty.
        number: how many fields; all of them where there are fewer.

    Returns:
        The fields in order of choice.

    Raises:
        OutputError: no run, one that is not finished or holds no images, no measured field, or `out` cannot be used.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(f"{out} is there already and is not an empty directory. Choose another --out.")
    found = find_runs(runs)
    chosen = choose_fields(_candidates(found), number)
    if not chosen:
        raise OutputError(f"No field of {', '.join(map(str, found))} was measured; there is nothing to annotate.")
    unfinished = temporary_path(out.resolve())
    try:
        for folder in ("images", "labels"):
            (unfinished / folder).mkdir(parents=True)
        with (unfinished / INDEX_FILE).open("w", newline="", encoding="utf-8") as file:
            index = csv.DictWriter(file, INDEX_COLUMNS, lineterminator="\n")
            index.writeheader()
            for one in chosen:
                index.writerow(_write_field(unfinished, one))
        readme = resources.files("hcs_nuclei.training").joinpath("annotators.txt").read_text(encoding="utf-8")
        (unfinished / "README.txt").write_text(readme, encoding="utf-8")
        os.replace(unfinished, out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}. Choose another --out.") from None
    finally:
        if unfinished.exists():
            shutil.rmtree(unfinished)
    return chosen


def pixels_sha256(pixels: npt.NDArray[Any]) -> str:
    """sha256 (hex) of pixels and their shape, as 32-bit numbers: the type and compression of a file do not matter."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels, dtype="<i4").tobytes())
    return digest.hexdigest()


def dense(labels: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """A label image with its numbers made 1 … n, in the order in which its rows meet them; 0 stays.

    So that a tool that gives other numbers to the same nuclei changes nothing.
    """
    present, first, places = np.unique(labels.ravel(), return_index=True, return_inverse=True)
    met = np.empty(present.size, np.int32)
    met[np.argsort(np.where(present == 0, -1, first))] = np.arange(present.size)
    renumbered: npt.NDArray[np.int32] = (met + (0 not in present))[places].reshape(labels.shape).astype("<i4")
    return renumbered


def write_pair(folder: Path, name: str, image: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
    """``images/<name>.tif`` and ``labels/<name>.tif`` (uint16, or uint32 for more nuclei) below `folder`."""
    import tifffile

    stored = labels.astype(np.uint16 if labels.max(initial=0) < 2**16 else np.uint32)
    for kind, pixels in (("images", image), ("labels", stored)):
        tifffile.imwrite(folder / kind / f"{name}.tif", pixels, compression="zlib")


def _candidates(runs: Sequence[Path]) -> list[Candidate]:
    """Every measured field of the runs, with its treatment."""
    treatments = layout_treatments(runs)
    candidates = []
    for run in runs:
        record = read_record(run)
        if record is None or not record.settings.output.image:
            raise OutputError(
                f"{run} holds no images of its fields"
                + (", for its recipe says output.image: false. Process the plate with images." if record else ".")
            )
        names = [name for name in treatments[run].column_names if name != "Metadata_Well"] if run in treatments else []
        for row in read_fields(run).to_dict("records"):
            if row["status"] in {"ok", "incomplete"} and row["Metadata_Object_Count"] >= 0:
                told = [(name, row[name]) for name in names if row[name] is not None and row[name] == row[name]]
                treatment = tuple(f"{name.removeprefix('Metadata_')}={value}" for name, value in told)
                candidates.append(Candidate(run, row, treatment))
    return candidates


def _write_field(folder: Path, chosen: ChosenField) -> dict[str, Any]:
    """Write image and labels of a field; returns its row of the index."""
    one = chosen.candidate
    row, record = one.row, read_record(one.run)
    assert record is not None  # _candidates has looked
    well, field, timepoint = row["Metadata_Well"], int(row["Metadata_Field"]), int(row["Metadata_Timepoint"])
    image, labels = (
        read_level(one.run / STORE, well, field, labels=is_labels)[timepoint] for is_labels in (False, True)
    )
    labels = dense(labels)
    place = f"_{well}_f{field}" + (f"_t{timepoint}" if record.source.timepoints > 1 else "")
    name = safe_name(one.run.resolve().name) + place
    if (folder / "images" / f"{name}.tif").exists():  # runs of one name, in other directories
        name += "_" + hashlib.sha256(os.fsencode(one.run.resolve())).hexdigest()[:8]
    write_pair(folder, name, image, labels)
    return {
        "name": name,
        "split": "",
        "modality": "fluorescence",
        "confirmed": "",
        "plate": row["Metadata_Plate"],
        "acquisition": row["Metadata_Acquisition"],
        "well": well,
        "field": field,
        "timepoint": timepoint,
        "treatment": "; ".join(one.treatment),
        "reason": chosen.reason,
        "nuclei": int(labels.max(initial=0)),
        "mean_confidence": "" if one.confidence is None else f"{one.confidence:.4f}",
        "pixel_size_um": "" if record.source.pixel_size_um is None else record.source.pixel_size_um,
        "model": record.model.identifier,
        "model_sha256": record.model.sha256,
        "run": one.run.resolve(),
        "image_sha256": pixels_sha256(image),
        "labels_sha256": pixels_sha256(labels),
    }
