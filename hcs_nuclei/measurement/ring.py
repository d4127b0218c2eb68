"""A ring of cytoplasm around every nucleus, and one channel's intensity in it.

A pixel belongs to the ring of its nearest nucleus where that is farther than the gap and no farther than gap + width,
between pixel centres. So no ring reaches into a nucleus nor across the middle between two of them, and a nucleus that
others surround has a small ring or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hcs_nuclei.measurement.runs import Indices, Runs

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rings:
    """The rings of all n nuclei of one field.

    Attributes:
        pixels: (p,) flat indices of the rings' pixels, ring after ring in the order of ascending labels.
        areas: (n,) pixels in each ring, 0 where a nucleus has none; they sum to p.
    """

    pixels: Indices
    areas: Indices


def find_rings(labels: npt.NDArray[np.uint32], runs: Runs, *, gap_px: float, width_px: float) -> Rings:
    """The rings from `gap_px` to `gap_px` + `width_px` around every nucleus.

    Args:
        labels: (y, x) uint32 label image, 0 = background.
        runs: its runs.
        gap_px: from the nucleus' nearest pixel to the ring, 0 or more.
        width_px: of the ring, above 0.

    Of two nuclei that are equally near, the pixel goes to the one that the Euclidean distance transform meets first;
    their numbers do not matter. A ring is what scikit-image's ``expand_labels`` adds between its two radii.

    Raises:
        ValueError: the gap is negative or the width is not positive.
    """
    if gap_px < 0 or not width_px > 0:
        raise ValueError(f"a ring needs a gap of 0 or more and a width above 0; found {gap_px:g} and {width_px:g} px")
    count = runs.numbers.size
    if not count:
        return Rings(np.empty(0, np.int64), np.empty(0, np.int64))
    nearest_y, nearest_x = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    away_y = nearest_y - np.arange(labels.shape[0], dtype=np.int32)[:, None]
    away_x = nearest_x - np.arange(labels.shape[1], dtype=np.int32)
    squared = away_y * away_y + away_x * away_x
    inside = (squared > gap_px**2) & (squared <= (gap_px + width_px) ** 2)
    pixels = np.flatnonzero(inside)
    nearest = nearest_y[inside].astype(np.int64) * labels.shape[1] + nearest_x[inside]
    nucleus = np.searchsorted(runs.numbers, labels.reshape(-1)[nearest])
    # Stable, so that pixels stay in scan order; NumPy sorts 16-bit integers by radix, ten times as fast.
    fits = count <= np.iinfo(np.uint16).max
    order = np.argsort(nucleus.astype(np.uint16) if fits else nucleus, kind="stable")
    return Rings(pixels[order], np.bincount(nucleus, minlength=count))


def measure_ring(image: npt.NDArray[Any], rings: Rings, nuclear_mean: Floats) -> dict[str, Floats]:
    """Every :data:`hcs_nuclei.columns.RING_INTENSITY` column without its channel's name, (n,) float64 in counts.

    NaN where a nucleus has no ring; the ratio also where the ring's mean is not above 0.

    Args:
        image: (y, x) integers or finite floats, camera counts.
        rings: those of the label image's nuclei.
        nuclear_mean: (n,) mean of the same channel over each nucleus, counts.

    Pixels are sorted within each ring before anything is summed, in float64, so a value depends on the ring's pixels
    alone.
    """
    there = rings.areas > 0
    areas = rings.areas[there]
    stops = np.cumsum(areas)
    starts = stops - areas
    values = image.reshape(-1)[rings.pixels]
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        values[start:stop].sort()
    ordered = values.astype(np.float64)
    total = np.add.reduceat(ordered, starts) if starts.size else np.empty(0)
    mean = total / areas
    deviation = ordered - np.repeat(mean, areas)
    deviation *= deviation
    variance = (np.add.reduceat(deviation, starts) if starts.size else np.empty(0)) / areas
    median = (ordered[starts + (areas - 1) // 2] + ordered[starts + areas // 2]) / 2
    ratio = np.full(mean.shape, np.nan)
    np.divide(nuclear_mean[there], mean, out=ratio, where=mean > 0)
    measured = {
        "MeanIntensity": mean,
        "MedianIntensity": median,
        "StdIntensity": np.sqrt(variance),
        "IntegratedIntensity": total,
        "NuclearRatio": ratio,
    }
    return {f"Nuclei_Ring_{name}": _where(there, column) for name, column in measured.items()}


def _where(there: npt.NDArray[np.bool_], values: Floats) -> Floats:
    """`values` at the places that are `there`, NaN at the others."""
    spread = np.full(there.shape, np.nan)
    spread[there] = values
    return spread
