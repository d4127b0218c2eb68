"""Small annotated data sets of both layouts, written file by file so that a test can spoil one."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from segmentation_samples import disks

from hcs_nuclei.training.annotations import AnnotatedImage

TRUTH = disks((24, 32), [(8, 8, 5), (8, 19, 5), (18, 25, 4)])
GREY = (TRUTH * 20 + 30).astype(np.uint8)
LABELS = TRUTH.astype(np.uint16)


def write_png(path: Path, pixels: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


def add_bowl(root: Path, name: str, image: npt.NDArray[Any] = GREY, truth: npt.NDArray[np.int32] = TRUTH) -> None:
    """One image in the layout of the Data Science Bowl, one mask per nucleus."""
    write_png(root / name / "images" / f"{name}.png", image)
    for number in np.unique(truth)[1:]:
        write_png(root / name / "masks" / f"mask{number}.png", ((truth == number) * 255).astype(np.uint8))


def add_pair(root: Path, name: str, image: npt.NDArray[Any] = GREY, labels: npt.NDArray[Any] = LABELS) -> None:
    """One image and its label image, both TIFF."""
    for folder, pixels in (("images", image), ("labels", labels)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(root / folder / f"{name}.tif", pixels)


def box(rows: slice, columns: slice) -> npt.NDArray[np.uint8]:
    """A mask of one rectangle, as large as GREY."""
    mask = np.zeros(GREY.shape, np.uint8)
    mask[rows, columns] = 255
    return mask


def add_masks(root: Path, *masks: npt.NDArray[np.uint8]) -> Path:
    """A bowl of one image `a` with these masks, named 1.png, 2.png …"""
    write_png(root / "a" / "images" / "a.png", GREY)
    for number, mask in enumerate(masks, start=1):
        write_png(root / "a" / "masks" / f"{number}.png", mask)
    return root


def as_pillow_writes(mode: str, pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of `mode`; of mode P the pixels are numbers in a palette whose colours say nothing of them."""
    image = Image.fromarray(pixels)
    if mode == "P":
        image = image.convert("P")
        image.putpalette([value for i in range(256) for value in (255 - i, (i * 7) % 256, (i * 53) % 256)])
    else:
        image = image.convert(mode)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder.parent, folder.name))


def names_of(found: list[AnnotatedImage]) -> list[str]:
    return [pair.name for pair in found]
