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

    Of two nuclei that are equally near, the pixel goes to the one that lies more nearly above or below it, then to that
    on its left, then to that above; their numbers do not matter. A ring is what scikit-image's ``expand_labels`` adds
    between its two radii.

    Raises:
        ValueError: the gap is negative or the width is not positive.
    """
    if gap_px < 0 or not width_px > 0:
        raise ValueError(f"a ring needs a gap of 0 or more and a width above 0; found {gap_px:g} and {width_px:g} px")
    count = runs.numbers.size
    if not count:
        return Rings(np.empty(0, np.int64), np.empty(0, np.int64))
    pixels, nearest = _nearest(labels, gap_px, gap_px + width_px)
    nucleus = np.searchsorted(runs.numbers, labels.reshape(-1)[nearest])
    # Stable, so that pixels stay in scan order; NumPy sorts 16-bit integers by radix, ten times as fast.
    fits = count <= np.iinfo(np.uint16).max
    order = np.argsort(nucleus.astype(np.uint16) if fits else nucleus, kind="stable")
    return Rings(pixels[order], np.bincount(nucleus, minlength=count))


def _nearest(labels: npt.NDArray[np.uint32], gap: float, reach: float) -> tuple[Indices, Indices]:
    """(p,) flat indices of pixels farther than `gap` px from all nuclei but not than `reach`, and of what is nearest.

    First along columns, then by trying every step along the row, as :mod:`hcs_nuclei.measurement.insides` does. One
    number holds a squared distance and the step that it was found by, so that one minimum finds both: for the reach of
    a ring twice as fast as SciPy's distance transform, which looks arbitrarily far.
    """
    width = labels.shape[1]
    beyond = int(reach) + 1
    steps = [step for away in range(1, min(beyond, width)) for step in (-away, away)]
    bits = len(steps).bit_length()
    kind = np.uint16 if 2 * beyond**2 << bits <= np.iinfo(np.uint16).max else np.uint64
    up, down = _along_columns(labels, beyond)
    column = np.minimum(np.minimum(up, down), beyond).astype(kind)
    column *= column
    column <<= kind(bits)
    best, tried = column.copy(), np.empty_like(column)
    for number, step in enumerate(steps, start=1):
        here, there = (np.s_[:, -step:], np.s_[:, :step]) if step < 0 else (np.s_[:, :-step], np.s_[:, step:])
        np.add(column[there], kind((step * step << bits) + number), out=tried[here])
        np.minimum(best[here], tried[here], out=best[here])
    inside = (best >= kind((int(gap**2) + 1) << bits)) & (best < kind((int(reach**2) + 1) << bits))
    pixels = np.flatnonzero(inside)
    beside = pixels + np.array([0, *steps])[best.reshape(-1)[pixels] & kind((1 << bits) - 1)]
    vertical = np.where(up <= down, -up.astype(np.int32), down)
    return pixels, beside + vertical.reshape(-1)[beside] * np.int64(width)


def _along_columns(labels: npt.NDArray[np.uint32], beyond: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(y, x) rows up, and down, to the nearest pixel of a nucleus in the column; `beyond` or more where none is."""
    height, width = labels.shape
    kind = np.uint16 if height + beyond <= np.iinfo(np.uint16).max else np.uint32
    outside = (labels == 0).astype(kind)
    up, down = np.empty(labels.shape, kind), np.empty(labels.shape, kind)
    for rows, order in ((up, range(height)), (down, range(height - 1, -1, -1))):
        before = np.full(width, beyond, kind)
        for y in order:
            np.add(before, kind(1), out=rows[y])
            np.multiply(rows[y], outside[y], out=rows[y])
            before = rows[y]
    return up, down


def measure_ring(image: npt.NDArray[Any], rings: Rings, nuclear_mean: Floats, background: Floats) -> dict[str, Floats]:
    """Every :data:`hcs_nuclei.columns.RING_INTENSITY` column without its channel's name, (n,) float64 in counts.

    NaN where a nucleus has no ring; the ratios also where the ring's mean is not above 0, or above the background.

    Args:
        image: (y, x) integers or finite floats, camera counts.
        rings: those of the label image's nuclei.
        nuclear_mean: (n,) mean of the same channel over each nucleus, counts.
        background: (n,) its local background there, counts; NaN where there is none.

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
    measured = {
        "MeanIntensity": mean,
        "MedianIntensity": median,
        "StdIntensity": np.sqrt(variance),
        "IntegratedIntensity": total,
        "NuclearRatio": _ratio(nuclear_mean[there], mean),
        "NuclearRatioBackgroundSubtracted": _ratio((nuclear_mean - background)[there], mean - background[there]),
    }
    return {f"Nuclei_Ring_{name}": _where(there, column) for name, column in measured.items()}


def _ratio(nuclear: Floats, ring: Floats) -> Floats:
    """(n,) one over the other, NaN where the other is not above 0."""
    ratio = np.full(ring.shape, np.nan)
    np.divide(nuclear, ring, out=ratio, where=ring > 0)
    return ratio


def _where(there: npt.NDArray[np.bool_], values: Floats) -> Floats:
    """`values` at the places that are `there`, NaN at the others."""
    spread = np.full(there.shape, np.nan)
    spread[there] = values
    return spread
