"""Values of all nuclei of a plate in, one drawn histogram out, with a line for each kind of control."""

from __future__ import annotations

from collections.abc import Mapping
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
#: DNA content is drawn on doublings: G1 and G2 have peaks of equal width there.
_DNA_ENDS = (1.0, 16.0)


@dataclass(frozen=True, slots=True)
class Line:
    """One kind's nuclei: `path` is its outline in a box of :data:`WIDTH` × :data:`HEIGHT` px."""

    kind: str
    nuclei: int
    path: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram as it is drawn: each kind's line, heights relative to the highest share of a kind in a bin.

    `ticks` are (x in px, label); `median` of all is (x in px, x of its label, label), None where it is not drawn;
    `beyond` counts nuclei past the ends.
    """

    label: str
    unit: str
    nuclei: int
    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...]
    median: tuple[float, float, str] | None
    beyond: int


def histogram(label: str, unit: str, values: Mapping[str, npt.NDArray[np.floating[Any]]]) -> Histogram | None:
    """The histogram of `values` by kind, each (n,), NaN left out, from 0 to the 99.5th percentile of all.

    None where there is no value.
    """
    known = {kind: of_kind[np.isfinite(of_kind)] for kind, of_kind in values.items()}
    every = np.concatenate([np.zeros(0), *known.values()])
    if not every.size:
        return None
    last = float(np.percentile(every, _LAST_PERCENTILE))
    step = _nice(last / 5)
    # To the next half step, so that the last label is not far from the end.
    end = step / 2 * max(np.ceil(last / (step / 2)), 1)
    middle = float(np.median(every))
    place = WIDTH * middle / end
    return Histogram(
        label=label,
        unit=unit,
        nuclei=int(every.size),
        lines=_lines(known, (0.0, float(end))),
        ticks=tuple((WIDTH * t / end, compact(t)) for t in np.arange(0, end * 1.001, step)),
        median=(place, min(max(place, _LABEL), WIDTH - _LABEL), number(middle)),
        beyond=int(((every < 0) | (every > end)).sum()),
    )


def dna_histogram(values: Mapping[str, npt.NDArray[np.floating[Any]]]) -> Histogram | None:
    """The histogram of DNA content by kind, each (n,) in N, NaN left out, on doublings; None without a value."""
    with np.errstate(divide="ignore", invalid="ignore"):
        known = {kind: (logs := np.log2(of_kind))[np.isfinite(logs)] for kind, of_kind in values.items()}
    every = np.concatenate([np.zeros(0), *known.values()])
    if not every.size:
        return None
    low, high = (float(end) for end in np.log2(_DNA_ENDS))
    return Histogram(
        label="DNA content",
        unit="N, G1 of the negative controls is 2",
        nuclei=int(every.size),
        lines=_lines(known, (low, high)),
        ticks=tuple((WIDTH * (t - low) / (high - low), f"{2**t:g}N") for t in np.arange(low, high + 1)),
        median=None,
        beyond=int(((every < low) | (every > high)).sum()),
    )


def _lines(known: Mapping[str, npt.NDArray[np.floating[Any]]], ends: tuple[float, float]) -> tuple[Line, ...]:
    counts = {kind: np.histogram(of_kind, _BINS, ends)[0] for kind, of_kind in known.items() if of_kind.size}
    shares = {kind: of_kind / known[kind].size for kind, of_kind in counts.items()}
    highest = max((share.max() for share in shares.values()), default=0) or 1
    return tuple(Line(kind, known[kind].size, _path(HEIGHT * share / highest)) for kind, share in shares.items())


def _path(heights: npt.NDArray[np.float64]) -> str:
    width = WIDTH / _BINS
    steps = "".join(f"V{HEIGHT - h:.1f}H{(i + 1) * width:.2f}" for i, h in enumerate(heights))
    return f"M0 {HEIGHT}{steps}V{HEIGHT}"


def _nice(size: float) -> float:
    """The smallest of 1, 2, 5 × 10ⁿ that is at least `size`; 1 for what is not positive."""
    if size <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(size))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= size * 0.999))
