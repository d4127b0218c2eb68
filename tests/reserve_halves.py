"""S-BSST265 `reserve` as somebody's new annotations, and what a training from them is joined to and judged by.

Half of its 14 images, every other one in the order of `index.csv`, is to learn from, the other half to judge by.
Joined are images that the shipped model was trained on, of S-BSST265 `train` and DSB2018 `train`. The frozen set is of
DSB2018 `val`, on which the shipped model's thresholds were chosen, and its weights were not trained: if that flatters
anybody, then the current model. DSB2018 `test` is not looked at.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from hcs_nuclei.training.annotations import inspect_dataset

#: A training must not learn from what it is judged by, so this is the same for good.
SPLITS = ("train", "test", "train", "test", "val", "test") * 2 + ("train", "test")


def reserve_halves(shared: Path, folder: Path, *, images: int = 14, shift_px: int = 0) -> Path:
    """The 14 images with splits train (5), val (2) and test (7), or the first of them; masks moved by so many px."""
    rows = [row for row in _index(shared) if row["split"] == "reserve"]
    splits = dict(zip((row["name"] for row in rows), SPLITS, strict=True))
    _copy(shared, folder, dict(list(splits.items())[:images]), shift_px)
    return folder


def earlier_annotations(shared: Path, folder: Path, *, every: int) -> tuple[Path, Path]:
    """One in so many fluorescence images of DSB2018 `train` and `val`, and one in four of S-BSST265 `train`."""
    _dsb2018(shared, folder / "dsb2018", {"train": every, "val": every}, first=0)
    rows = [row for row in _index(shared) if row["split"] == "train"]
    _copy(shared, folder / "s-bsst265", {row["name"]: "train" for row in rows[::4]})
    return folder / "dsb2018", folder / "s-bsst265"


def frozen_annotations(shared: Path, folder: Path, *, every: int) -> Path:
    """One in so many fluorescence images of DSB2018 `val`, others than the earlier ones of the same `every`."""
    _dsb2018(shared, folder, {"val": every}, first=1)
    return folder


def shifted(labels: npt.NDArray[np.integer], px: int) -> npt.NDArray[np.integer]:
    """`labels` (y, x) moved down and right; what leaves the image is gone."""
    moved = np.zeros_like(labels)
    height, width = labels.shape
    moved[px:, px:] = labels[: height - px, : width - px]
    return moved


def _copy(shared: Path, folder: Path, splits: dict[str, str], shift_px: int = 0) -> None:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
        for name in splits:
            [path] = (shared / "s-bsst265" / kind).glob(f"{name}.tif*")
            if kind == "labels" and shift_px:
                tifffile.imwrite(folder / kind / path.name, shifted(tifffile.imread(path), shift_px))
            else:
                shutil.copy(path, folder / kind)
    _write_index(folder, list(splits.items()))


def _dsb2018(shared: Path, folder: Path, every: dict[str, int], *, first: int) -> None:
    with (shared / "dsb2018" / "splits.csv").open(newline="", encoding="utf-8") as lines:
        rows = sorted(csv.DictReader(lines), key=lambda row: row["image_id"])
    chosen = []
    for split, step in every.items():
        of_split = [row["image_id"] for row in rows if (row["modality"], row["split"]) == ("fluorescence", split)]
        chosen += of_split[first::step]
    found = inspect_dataset(shared / "dsb2018" / "stage1_train.zip", names=chosen)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for pair in found.images:
        tifffile.imwrite(folder / "images" / f"{pair.name}.tif", pair.image)
        tifffile.imwrite(folder / "labels" / f"{pair.name}.tif", pair.labels.astype(np.uint16))
    _write_index(folder, [(pair.name, pair.split) for pair in found.images])


def _index(shared: Path) -> list[dict[str, str]]:
    with (shared / "s-bsst265" / "index.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _write_index(folder: Path, rows: Sequence[tuple[str, str]]) -> None:
    listing = "".join(f"{name},{split},fluorescence\n" for name, split in rows)
    (folder / "index.csv").write_text(f"name,split,modality\n{listing}", encoding="utf-8")
