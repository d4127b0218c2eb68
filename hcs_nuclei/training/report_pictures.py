"""An evaluated image in, its picture out: what is there and what was found, outlined on it, as embedded PNGs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.transform import resize

from hcs_nuclei.outputs.report_pictures import outlines
from hcs_nuclei.training.evaluation import ImageFigures, Shown

#: Edge of a picture, px at most. Outlines of small images are drawn finer than their pixels.
PICTURE_PX = 512
#: Colours of an outline of the truth alone, of the prediction alone, and of both, which is where they agree.
TRUTH, FOUND, BOTH = (38, 208, 255), (255, 140, 0), (255, 255, 255)
_BLACK_PERCENTILE, _WHITE_PERCENTILE = 0.5, 99.8


@dataclass(frozen=True, slots=True)
class Picture:
    """An image and its outlines as data URIs, to be laid over one another at the same size, with its figures."""

    figures: ImageFigures
    image: str
    outlines: str
    width: int
    height: int


def make_picture(shown: Shown) -> Picture:
    """The picture of one evaluated image, shrunk where it is large."""
    image = shown.pair.image.astype(np.float32)
    known = np.isfinite(image)
    image[~known] = image[known].min() if known.any() else 0
    scale = min(1.0, PICTURE_PX / max(image.shape))
    if scale < 1:
        shape = tuple(max(round(length * scale), 1) for length in image.shape)
        image = resize(image, shape, order=1, anti_aliasing=True, preserve_range=True).astype(np.float32)
    black, white = np.percentile(image, (_BLACK_PERCENTILE, _WHITE_PERCENTILE))
    grey = np.clip((image - black) * (255 / max(float(white - black), 1e-6)), 0, 255).astype(np.uint8)
    height, width = grey.shape
    return Picture(shown.figures, _png(Image.fromarray(grey)), _overlay(shown), width, height)


def _overlay(shown: Shown) -> str:
    factor = PICTURE_PX / max(shown.labels.shape)
    # Whole factors, so that a pixel of the image is a square of the same size everywhere.
    scale = float(int(factor)) if factor >= 1 else factor
    truth, found = (outlines(_scaled(labels, scale)) for labels in (shown.pair.labels, shown.labels))
    codes = truth.astype(np.uint8) + 2 * found.astype(np.uint8)
    image = Image.frombytes("P", (codes.shape[1], codes.shape[0]), codes.tobytes())
    image.putpalette([0, 0, 0, *TRUTH, *FOUND, *BOTH])
    return _png(image, bits=2, transparency=0)


def _scaled(labels: npt.NDArray[Any], scale: float) -> npt.NDArray[Any]:
    """Every pixel repeated, or of several the one in their middle."""
    rows, columns = (
        ((np.arange(max(round(length * scale), 1)) + 0.5) / scale).astype(np.intp).clip(0, length - 1)
        for length in labels.shape
    )
    return np.asarray(labels[rows[:, None], columns[None, :]])


def _png(image: Image.Image, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
