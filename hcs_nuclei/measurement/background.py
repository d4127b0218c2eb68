"""A field's image and label image in, what lies outside its nuclei out: background, noise, unevenness, debris."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

#: Every second pixel along both edges is looked at: a median of a quarter of a million pixels needs no more.
_STRIDE = 2
#: Tiles along an edge, how many of their pixels must lie outside nuclei, and how many such tiles tell of a field.
_TILES, _FEWEST_PIXELS, _FEWEST_TILES = 8, 25, 16
#: Debris is brighter than its surroundings by this many times the noise, and by this share of what a nucleus is.
BRIGHT_NOISE, BRIGHT_SHARE = 10.0, 0.25


@dataclass(frozen=True, slots=True)
class Background:
    """What a field shows outside its nuclei; NaN where too little of it is free.

    Attributes:
        level: median, counts.
        noise: standard deviation from one pixel to the next, counts.
        unevenness: (P95 - P5) / median of the medians of 8 × 8 tiles.
        debris: share of the pixels outside nuclei that are bright, 0-1.
    """

    level: float
    noise: float
    unevenness: float
    debris: float


def measure_background(
    image: npt.NDArray[Any],
    labels: npt.NDArray[np.uint32],
    *,
    reach: int,
    signal: float | None,
    lit: npt.NDArray[np.bool_] | None = None,
) -> Background:
    """Measure what lies farther than `reach` px from every nucleus.

    A pixel is bright where it exceeds the median of its tile by 10 times the noise, and by a quarter of what a nucleus
    exceeds the background by, so that neither a vignette nor the haze around nuclei is debris.

    Args:
        image: (y, x) nuclear channel in counts, best corrected for uneven light.
        labels: (y, x) uint32 label image, 0 = background.
        reach: px.
        lit: (y, x) what lies within a margin without light; None where there is none.
        signal: mean intensity of a typical nucleus, counts; None without nuclei, then noise alone decides.
    """
    pixels = image[::_STRIDE, ::_STRIDE]
    free = ~_dilated(labels[::_STRIDE, ::_STRIDE] > 0, -(-reach // _STRIDE))
    if lit is not None:
        free &= lit[::_STRIDE, ::_STRIDE]
    values = pixels[free]
    nothing = float("nan")
    if values.size < _FEWEST_PIXELS:
        return Background(nothing, nothing, nothing, nothing)
    level, noise = float(np.median(values)), _noise(image, free)
    bright = BRIGHT_NOISE * noise
    if signal is not None:
        bright = max(bright, BRIGHT_SHARE * (signal - level))
    medians, above = [], 0
    for tile in _tiles(free.shape):
        inside = pixels[tile][free[tile]]
        if inside.size >= _FEWEST_PIXELS:
            medians.append(middle := float(np.median(inside)))
            above += int(np.count_nonzero(inside > middle + bright))
        else:
            above += int(np.count_nonzero(inside > level + bright))
    uneven = nothing
    if len(medians) >= _FEWEST_TILES and level > 0:
        low, high = np.percentile(medians, [5, 95])
        uneven = float((high - low) / level)
    return Background(level, noise, uneven, above / values.size)


def _noise(image: npt.NDArray[Any], free: Mask) -> float:
    """Standard deviation of the difference of neighbours where both are free, over √2, without what lies far out.

    A median alone would be a whole number of counts; it says what lies more than three standard deviations out: steps.
    """
    pairs = min(free.shape[1], image[:, 1::_STRIDE].shape[1])
    one, other = image[::_STRIDE, ::_STRIDE][:, :pairs][::2], image[::_STRIDE, 1::_STRIDE][:, :pairs][::2]
    chosen = free[::2, :pairs]
    if not chosen.any():
        return float("nan")
    difference = np.abs(one[chosen].astype(np.float32) - other[chosen].astype(np.float32))
    farthest = 3 * (float(np.median(difference)) * 1.4826 or 1.0)
    near = difference[difference <= farthest]
    # Of a normal distribution cut at three standard deviations, 0.9866 of the standard deviation is left.
    return float(np.sqrt(np.mean(near * near, dtype=np.float64) / 2.0) / 0.9866)


def _tiles(shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """8 × 8 tiles that cover an image of that shape; some are empty where it has fewer pixels than that."""
    rows, columns = ([round(n * i / _TILES) for i in range(_TILES + 1)] for n in shape)
    return [
        (slice(top, bottom), slice(left, right))
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]


def _dilated(mask: Mask, reach: int) -> Mask:
    """`mask` grown by a square of `reach` px to each side; one shift doubles what the last one reached."""
    for _ in range(2):
        mask = np.ascontiguousarray(mask.T)
        grown = 0
        while grown < reach:
            step = min(grown + 1, reach - grown)
            wider = mask.copy()
            wider[step:] |= mask[:-step]
            wider[:-step] |= mask[step:]
            mask, grown = wider, grown + step
    return mask
