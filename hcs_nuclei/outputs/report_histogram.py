"""Values of all nuclei of a plate in, one drawn histogram out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.outputs.report_heatmap import compact, number

WIDTH, HEIGHT = 400, 130
_BINS = 64
#: Half the width of the median's label, which must not leave the drawing.
_LABEL = 50
#: Few merged or dirty objects would else leave the histogram a spike at its left end.
_LAST_PERCENTILE = 99.5


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram as it is drawn: `path` is the outline in a box of :data:`WIDTH` × :data:`HEIGHT` px.

    `ticks` are (x in px, label); `median` is (x in px, x of its label, label); `beyond` counts nuclei past the end.
    """

    label: str
    unit: str
    nuclei: int
    path: str
    ticks: tuple[tuple[float, str], ...]
    median: tuple[float, float, str]
    beyond: int


def histogram(label: str, unit: str, values: npt.NDArray[np.floating[Any]]) -> Histogram | None:
    """The histogram of `values` (n,), NaN left out, from 0 to their 99.5th percentile; None where there is no value."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    step = _nice(float(np.percentile(known, _LAST_PERCENTILE)) / 5)
    # To the next half step, so that the last label is not far from the end.
    end = step / 2 * max(np.ceil(float(np.percentile(known, _LAST_PERCENTILE)) / (step / 2)), 1)
    counts, _ = np.histogram(known, bins=_BINS, range=(0, end))
    heights = HEIGHT * counts / max(counts.max(), 1)
    width = WIDTH / _BINS
    steps = "".join(f"V{HEIGHT - h:.1f}H{(i + 1) * width:.2f}" for i, h in enumerate(heights))
    middle = float(np.median(known))
    place = WIDTH * middle / end
    return Histogram(
        label=label,
        unit=unit,
        nuclei=int(known.size),
        path=f"M0 {HEIGHT}{steps}V{HEIGHT}Z",
        ticks=tuple((WIDTH * t / end, compact(t)) for t in np.arange(0, end * 1.001, step)),
        median=(place, min(max(place, _LABEL), WIDTH - _LABEL), number(middle)),
        beyond=int((known > end).sum()),
    )


def _nice(size: float) -> float:
    """The smallest of 1, 2, 5 × 10ⁿ that is at least `size`; 1 for what is not positive."""
    if size <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(size))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= size * 0.999))
