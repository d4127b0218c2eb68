"""Annotated images in: a DSB2018 folder or zip, or a folder with ``images/`` and ``labels/``; pairs out.

Accepted trees::

    DSB2018, also zipped              images and labels
    <any>/<id>/images/<id>.png        images/<stem>.tif|.tiff|.png
    <any>/<id>/masks/*.png            labels/<stem>.tif|.tiff|.png
    splits.csv (beside it)            index.csv (name, split)
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.errors import DatasetError
from hcs_nuclei.segmentation.normalise import to_grey

_IMAGE_SUFFIXES = {".tif", ".tiff", ".png"}


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image with its nuclei.

    `image` is (y, x) of any integer dtype (colour is averaged to grey), `labels` (y, x) int32, 0 = background.
    """

    name: str
    image: npt.NDArray[Any]
    labels: npt.NDArray[np.int32]
    split: str
    modality: str


def read_annotations(dataset: Path, *, split: str | None = None, modality: str | None = None) -> list[AnnotatedImage]:
    """Every annotated image of `dataset` in order of name, of one split or modality where asked.

    Raises:
        DatasetError: no such data set, or some of its images cannot be used; all faults at once.
    """
    if not dataset.exists():
        raise DatasetError(
            f"{dataset} does not exist; expected a DSB2018 folder or zip, or a folder with images/ and labels/."
        )
    reader = _ImagesAndLabels(dataset) if (dataset / "images").is_dir() and (dataset / "labels").is_dir() else None
    source = reader or _DataScienceBowl(dataset)
    pairs: list[AnnotatedImage] = []
    faults: list[str] = []
    for name in source.names():
        row = source.index.get(name, {})
        if (split is not None and row.get("split") != split) or (
            modality is not None and (row.get("modality") or modality) != modality
        ):
            continue
        try:
            image, labels = source.read(name)
        except Exception as error:  # each decoder has its own, and every fault is to be in the one message
            faults.append(f"  {name}: {error}")
            continue
        pairs.append(AnnotatedImage(name, image, labels, row.get("split", ""), row.get("modality", "")))
    if faults:
        raise DatasetError(f"{len(faults)} images of {dataset} cannot be used:\n" + "\n".join(faults))
    if not pairs:
        wanted = ", ".join(f"{k} {v}" for k, v in (("split", split), ("modality", modality)) if v)
        raise DatasetError(f"{dataset} holds no annotated images{' of ' + wanted if wanted else ''}.")
    return pairs


class _ImagesAndLabels:
    """A folder with ``images/`` and ``labels/`` of the same stems."""

    def __init__(self, root: Path) -> None:
        self._images = {p.stem: p for p in sorted((root / "images").iterdir()) if p.suffix.lower() in _IMAGE_SUFFIXES}
        self._labels = {p.stem: p for p in sorted((root / "labels").iterdir()) if p.suffix.lower() in _IMAGE_SUFFIXES}
        self.index = _read_index(root / "index.csv", "name")
        for row in self.index.values():
            # S-BSST265 says FM where DSB2018's splits say fluorescence.
            row["modality"] = {"FM": "fluorescence"}.get(row.get("modality", ""), row.get("modality", ""))

    def names(self) -> Iterator[str]:
        return iter(sorted(self._images))

    def read(self, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
        if name not in self._labels:
            raise ValueError(f"no label image of that stem in {self._images[name].parent.parent / 'labels'}")
        image = to_grey(decode(self._images[name].read_bytes(), self._images[name].name))
        labels = decode(self._labels[name].read_bytes(), self._labels[name].name)
        if labels.shape != image.shape:
            raise ValueError(f"its labels are {labels.shape}, the image is {image.shape}")
        return image, labels.astype(np.int32)


class _DataScienceBowl:
    """``<id>/images/*.png`` with one mask PNG per nucleus in ``<id>/masks``, in a folder or a zip."""

    def __init__(self, root: Path) -> None:
        self._zip: zipfile.ZipFile | None = None
        if root.is_file():
            try:
                self._zip = zipfile.ZipFile(root)
            except zipfile.BadZipFile:
                raise DatasetError(f"{root} is not a zip file; expected a DSB2018 zip or folder.") from None
            files = [n for n in self._zip.namelist() if n.lower().endswith(".png")]
        else:
            files = [str(p) for p in sorted(root.rglob("*.png"))]
        self._files: dict[str, dict[str, list[str]]] = defaultdict(lambda: {"images": [], "masks": []})
        for file in files:
            parts = Path(file).parts
            if len(parts) >= 3 and parts[-2] in ("images", "masks"):
                self._files[parts[-3]][parts[-2]].append(file)
        candidates = [root.parent / "splits.csv", root / "splits.csv"]
        self.index = next((i for i in (_read_index(c, "image_id") for c in candidates) if i), {})

    def names(self) -> Iterator[str]:
        return iter(sorted(self._files))

    def read(self, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
        files = self._files[name]
        if len(files["images"]) != 1:
            raise ValueError(f"{len(files['images'])} images in its folder; expected one")
        if not files["masks"]:
            raise ValueError("no masks")
        image = to_grey(self._bytes(files["images"][0]))
        labels = np.zeros(image.shape, np.int32)
        for number, file in enumerate(sorted(files["masks"]), start=1):
            mask = to_grey(self._bytes(file))
            if mask.shape != image.shape:
                raise ValueError(f"mask {Path(file).name} is {mask.shape}, the image is {image.shape}")
            labels[(mask > 0) & (labels == 0)] = number
        return image, labels

    def _bytes(self, file: str) -> npt.NDArray[Any]:
        data = self._zip.read(file) if self._zip else Path(file).read_bytes()
        return decode(data, Path(file).name)


def decode(data: bytes, name: str) -> npt.NDArray[Any]:
    """Pixels of a PNG or TIFF file's bytes, told apart by its name."""
    if name.lower().endswith(".png"):
        import imagecodecs

        return np.asarray(imagecodecs.png_decode(data))
    import tifffile

    return np.asarray(tifffile.imread(io.BytesIO(data)))


def _read_index(path: Path, key: str) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as lines:
        return {row[key]: row for row in csv.DictReader(lines) if key in row}
