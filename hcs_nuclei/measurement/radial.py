"""How one channel is spread from the middle of every nucleus to its outline, all nuclei at once.

Named and defined as CellProfiler's MeasureObjectIntensityDistribution with four rings scaled to the nucleus: the middle
is the pixel deepest inside; a pixel's ring follows from its distance to the middle over the sum of that and its depth.
That distance is counted in steps to the eight neighbours as the crow flies; CellProfiler's stays inside the nucleus.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.columns.options import RADIAL_BINS
from hcs_nuclei.measurement.insides import Insides
from hcs_nuclei.measurement.runs import Indices

Floats = npt.NDArray[np.float64]
_WEDGES = 8
#: Keeps a pixel on the outline in the outermost ring.
_RIM = 0.001


class Rounds:
    """Which ring and which of its eight wedges each pixel of n nuclei lies in; found once for all channels."""

    def __init__(self, insides: Insides) -> None:
        self.pixels = insides.pixels
        self.count = insides.areas.size
        nucleus = np.repeat(np.arange(self.count), insides.areas)
        middle = _deepest(insides)
        down = insides.y - insides.y[middle][nucleus]
        right = insides.x - insides.x[middle][nucleus]
        long, short = np.maximum(abs(down), abs(right)), np.minimum(abs(down), abs(right))
        distance = long - short + np.sqrt(2) * short
        share = distance / (distance + np.sqrt(insides.depth2) + _RIM)
        ring = (share * RADIAL_BINS).astype(np.int64)
        wedge = (down > 0) + 2 * (right > 0) + 4 * (abs(down) > abs(right))
        self.cell: Indices = (nucleus * RADIAL_BINS + ring) * _WEDGES + wedge
        self.sizes = self.table(np.ones(self.pixels.shape))

    def table(self, values: npt.NDArray[Any]) -> Floats:
        """(n, rings, wedges) sums of (p,) `values`, one for each pixel."""
        sums = np.bincount(self.cell, values, minlength=self.count * RADIAL_BINS * _WEDGES)
        return sums.reshape(self.count, RADIAL_BINS, _WEDGES).astype(np.float64)


def measure_radial(image: npt.NDArray[Any], rounds: Rounds, *, channel: str) -> dict[str, Floats]:
    """Every column of :func:`hcs_nuclei.columns.radial_columns` of `channel`, (n,) float64.

    Shares of nothing are NaN; a ring without pixels has a share of 0, and no variation (0), as CellProfiler's.

    Args:
        image: (y, x) integers or finite floats, camera counts.
        rounds: of the nuclei's pixels.
        channel: how its columns are named.
    """
    values = rounds.table(image.reshape(-1)[rounds.pixels].astype(np.float64))
    ring, whole = values.sum(axis=2), values.sum(axis=(1, 2))[:, None]
    area, full = rounds.sizes.sum(axis=2), rounds.sizes.sum(axis=(1, 2))[:, None]
    share = np.divide(ring, whole, out=np.full(ring.shape, np.nan), where=whole != 0)
    filled = rounds.sizes > 0
    wedges = filled.sum(axis=2)
    means = np.divide(values, rounds.sizes, out=np.zeros(values.shape), where=filled)
    mean = means.sum(axis=2) / np.maximum(wedges, 1)
    deviation = np.where(filled, means - mean[:, :, None], 0.0)
    spread = np.sqrt((deviation**2).sum(axis=2) / np.maximum(wedges, 1))
    measured = {
        "FracAtD": share,
        "MeanFrac": share / (area / full + np.finfo(float).eps),
        "RadialCV": np.divide(spread, mean, out=np.where(spread > 0, np.nan, 0.0), where=mean != 0),
    }
    return {
        f"Nuclei_RadialDistribution_{name}_{channel}_{number + 1}of{RADIAL_BINS}": np.ascontiguousarray(
            columns[:, number]
        )
        for name, columns in measured.items()
        for number in range(RADIAL_BINS)
    }


def _deepest(insides: Insides) -> Indices:
    """(n,) index of the pixel deepest inside each nucleus, the first in scan order of those that are equally deep."""
    if not insides.areas.size:
        return insides.areas
    deepest = np.maximum.reduceat(insides.depth2, insides.starts)
    candidates = np.flatnonzero(insides.depth2 == np.repeat(deepest, insides.areas))
    first: Indices = candidates[np.searchsorted(candidates, insides.starts)]
    return first
