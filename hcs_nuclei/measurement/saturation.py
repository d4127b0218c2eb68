"""Images in, the camera's limit out that "saturated" is measured against: as a plate's sample shows it, or one image.

Cameras of 10, 12 or 14 bits are stored in 16, so the file's type does not tell the limit. What tells it is that
everything brighter lands on one value: the maximum then holds many more pixels than any level just below, where an
unsaturated image thins out to single pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

_SCANR_OFFSET = 2**15
_BITS = (8, 10, 12, 14, 16)
#: (fewest pixels at the maximum, how many times the fullest level just below) that make a pile-up.
_AT_A_CAMERA_LIMIT = (8, 3)
_ANYWHERE_ELSE = (100, 10)
#: A pile-up outside the cameras' limits needs a real range below it: a mask or a dead camera is not saturated.
_FEWEST_COUNTS = 128
#: So many different values below the maximum make an image: a mask, drawn in 8 or 16 bits, has one or a few.
_FEWEST_LEVELS = 32
#: "Just below" is the topmost 1/64 of the range, and never fewer levels than this: noise around a dim background falls
#: off within two or three counts, and its last one may by chance be a value at which a camera can end.
_JUST_BELOW = 64
_NEAREST_LEVELS = 4
#: What is saturated has slopes, so some pixels lie above this share of the range; what was filled in has none.
_SLOPE = 1 / 8

Levels = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]


def saturation_level(images: Iterable[npt.NDArray[Any]]) -> int | None:
    """The camera's limit in counts, as a sample of a plate's raw images shows it; None where nothing piles up.

    At a value at which a camera can end, 8 pixels and three times the level below are enough; at any other value (a
    background was subtracted, the export was rescaled) it takes 100 pixels and ten times, with at least 128 counts
    below. A camera can end at 2**bits - 1 for 8 to 16 bits; at the same shifted to the top of 16 bits; and at
    2**15 + 2**bits - 1 where no pixel is below 2**15, which scanR adds to every pixel. An image with one value only
    says nothing and is left out.

    Args:
        images: (y, x) raw images of one channel, camera counts; read one at a time.
    """
    levels, counts = _histogram(images)
    if levels.size < 2:
        return None
    darkest, top = float(levels[0]), float(levels[-1])
    if top in _camera_limits(darkest):
        return int(top) if _piles_up(levels, counts, *_AT_A_CAMERA_LIMIT) else None
    if top - darkest < _FEWEST_COUNTS:
        return None
    return int(top) if _piles_up(levels, counts, *_ANYWHERE_ELSE) else None


def own_saturation_level(image: npt.NDArray[Any]) -> int | None:
    """The camera's limit in counts, as this image alone shows it; None where nothing piles up at a possible one.

    As :func:`saturation_level`, but a single image is believed at a camera's limit only, and only if its other pixels
    lead up to it: a part that was masked with the largest value, or pixels of the sensor that are stuck, stand alone.
    Nearly every image that is not saturated costs a look at its smallest and its largest pixel.

    Args:
        image: (y, x) raw image of one channel, camera counts.
    """
    if not image.size:
        return None
    darkest, top = float(image.min()), float(image.max())
    if top not in _camera_limits(darkest):
        return None
    levels, counts = _levels(image)
    if levels.size < 2 or levels[-2] < darkest + _SLOPE * (top - darkest):
        return None
    return int(top) if _piles_up(levels, counts, *_AT_A_CAMERA_LIMIT) else None


def saturated_fraction(image: npt.NDArray[Any], limit: float | None) -> float:
    """Share of the pixels of a raw (y, x) image, counts, at the camera's limit, 0-1; 0 where there is none."""
    return 0.0 if limit is None else float(np.count_nonzero(image >= limit) / image.size)


def _piles_up(levels: Levels, counts: Counts, pixels: int, times: int) -> bool:
    """Whether the topmost of (k,) `levels` holds `pixels` and `times` the fullest just below, in an image's range."""
    if levels.size <= _FEWEST_LEVELS:
        return False
    darkest, top = float(levels[0]), float(levels[-1])
    first = min(int(np.searchsorted(levels, top - (top - darkest) / _JUST_BELOW)), levels.size - 1 - _NEAREST_LEVELS)
    return bool(counts[-1] >= max(pixels, times * int(counts[first:-1].max())))


def _histogram(images: Iterable[npt.NDArray[Any]]) -> tuple[Levels, Counts]:
    """(k,) distinct values over all images that have more than one, ascending, and (k,) pixels at each."""
    found = [(levels, counts) for levels, counts in map(_levels, images) if levels.size > 1]
    if not found:
        return np.empty(0), np.empty(0, dtype=np.int64)
    levels, where = np.unique(np.concatenate([levels for levels, _ in found]), return_inverse=True)
    counts = np.zeros(levels.size, dtype=np.int64)
    np.add.at(counts, where, np.concatenate([counts for _, counts in found]))
    return levels, counts


def _levels(image: npt.NDArray[Any]) -> tuple[Levels, Counts]:
    """(k,) distinct values of one image, ascending, and (k,) pixels at each."""
    if image.dtype in (np.uint8, np.uint16):  # counting beats sorting ten times over
        counts = np.bincount(image.reshape(-1))
        levels = np.flatnonzero(counts)
        return levels, counts[levels]
    return np.unique(image, return_counts=True)


def _camera_limits(darkest: float) -> set[int]:
    """Values at which a camera can end, in images whose darkest pixel is `darkest`."""
    limits = {limit for bits in _BITS for limit in (2**bits - 1, (2**bits - 1) << (16 - bits))}
    if darkest >= _SCANR_OFFSET:
        limits |= {_SCANR_OFFSET + 2**bits - 1 for bits in _BITS}
    return limits
