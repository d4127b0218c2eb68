"""Quality of a field's nuclear image, and the camera's limit that "saturated" is measured against."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

#: Share of saturated pixels above which a field counts as saturated.
MAX_SATURATED_FRACTION = 0.01

_SCANR_OFFSET = 2**15
_BITS = (8, 10, 12, 14, 16)
#: (fewest pixels at the maximum, how many times the fullest level just below) that make a pile-up.
_AT_A_CAMERA_LIMIT = (8, 3)
_ANYWHERE_ELSE = (100, 10)
#: A pile-up outside the cameras' limits needs a real range below it: a mask or a dead camera is not saturated.
_FEWEST_LEVELS = 128


def measure_field(
    nuclear: npt.NDArray[Any], labels: npt.NDArray[np.uint32], *, saturation: float | None
) -> dict[str, float | bool]:
    """The field table's quality columns, from one field's nuclear image and label image.

    Args:
        nuclear: (y, x) nuclear channel in camera counts.
        labels: (y, x) uint32 label image, 0 = background.
        saturation: the camera's limit in counts, None where it is not known (then nothing is called saturated).

    Returns:
        ``Metadata_NuclearAreaFraction`` and ``Metadata_QC_SaturatedFraction`` (0-1), ``Metadata_QC_Blank`` (every pixel
        has one value) and ``Metadata_QC_Saturated`` (more than 1 % of the pixels at the limit).

    Raises:
        ValueError: the two images differ in shape, or hold no pixels.
    """
    if nuclear.shape != labels.shape or not nuclear.size:
        raise ValueError(f"expected an image and a label image of one shape, found {nuclear.shape} and {labels.shape}")
    saturated = 0.0 if saturation is None else float(np.count_nonzero(nuclear >= saturation) / nuclear.size)
    return {
        "Metadata_NuclearAreaFraction": float(np.count_nonzero(labels) / labels.size),
        "Metadata_QC_Blank": bool(nuclear.min() == nuclear.max()),
        "Metadata_QC_SaturatedFraction": saturated,
        "Metadata_QC_Saturated": saturated > MAX_SATURATED_FRACTION,
    }


def saturation_level(images: Iterable[npt.NDArray[Any]]) -> int | None:
    """The camera's limit in counts, as a sample of a plate's raw images shows it; None where nothing piles up.

    Cameras of 10, 12 or 14 bits are stored in 16, so the file's type does not tell the limit. What tells it is that
    everything brighter lands on one value: the sample's maximum then holds many more pixels than any level just below
    (the topmost 1/64 of the range), where an unsaturated image thins out to single pixels. At a value at which a camera
    can end, 8 pixels and three times the level below are enough; at any other value (a background was subtracted, the
    export was rescaled) it takes 100 pixels and ten times, with at least 128 levels below. A camera can end at
    2**bits - 1 for 8 to 16 bits; at the same shifted to the top of 16 bits; and at 2**15 + 2**bits - 1 where no pixel
    is below 2**15, which scanR adds to every pixel. An image with one value only says nothing and is left out.

    Args:
        images: (y, x) raw images of one channel, camera counts; read one at a time.
    """
    levels, counts = _histogram(images)
    if levels.size < 2:
        return None
    darkest, top = float(levels[0]), float(levels[-1])
    just_below = counts[:-1][levels[:-1] >= top - (top - darkest) / 64].max(initial=0)
    if top in _camera_limits(darkest):
        pixels, times = _AT_A_CAMERA_LIMIT
    elif top - darkest >= _FEWEST_LEVELS:
        pixels, times = _ANYWHERE_ELSE
    else:
        return None
    return int(top) if counts[-1] >= max(pixels, times * just_below) else None


def _histogram(images: Iterable[npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """(k,) distinct values over all images that have more than one, ascending, and (k,) pixels at each."""
    found = [(levels, counts) for levels, counts in map(_levels, images) if levels.size > 1]
    if not found:
        return np.empty(0), np.empty(0, dtype=np.int64)
    levels, where = np.unique(np.concatenate([levels for levels, _ in found]), return_inverse=True)
    counts = np.zeros(levels.size, dtype=np.int64)
    np.add.at(counts, where, np.concatenate([counts for _, counts in found]))
    return levels, counts


def _levels(image: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
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
