"""Values of plates in, charts with a plate at each place of the x axis out, as the screen page draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.outputs.report_heatmap import compact, number

HEIGHT = 220
LEFT = 62
#: Room for a plate along the x axis, px: never so little that three marks stand in each other.
_STEP_LEAST, _STEP_MOST, _WIDTH = 16.0, 130.0, 1180.0
#: Below this nothing more is told: the controls are not apart.
_LOWEST_Z_PRIME = -1.0


@dataclass(frozen=True, slots=True)
class Mark:
    """One kind of wells of one plate: a point at (x, y) and a bar from `low` to `high`, px, with words for it."""

    kind: str
    x: float
    y: float
    low: float
    high: float
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart as it is drawn: marks, (y, label) of its ticks, (x, label) of its plates, a line at `line` px if any."""

    width: float
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    plates: tuple[tuple[float, str], ...]
    slanted: bool
    line: float | None = None


def controls_chart(
    names: Sequence[str], kinds: Mapping[str, Sequence[npt.NDArray[np.float64]]], *, from_zero: bool
) -> Chart:
    """Median and quartiles of each plate's wells by kind.

    Args:
        names: of the plates.
        kinds: by kind for each plate the values of its wells (n,), none of them NaN.
        from_zero: whether the axis begins at 0.
    """
    quartiles = {
        (kind, place): np.percentile(values, (25, 50, 75))
        for kind, of_plates in kinds.items()
        for place, values in enumerate(of_plates)
        if values.size
    }
    every = np.concatenate([np.zeros(0), *quartiles.values()])
    low, high = (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)
    room = 0.06 * (high - low or abs(high) or 1)
    axis = _Axis(0.0 if from_zero and low >= 0 else low - room, high + room, len(names))
    marks = []
    for (kind, place), (first, middle, last) in quartiles.items():
        offset = (list(kinds).index(kind) - (len(kinds) - 1) / 2) * min(0.24 * axis.step, 14)
        words = f"{names[place]}, {kind}: median {number(middle)}, quartiles {number(first)} and {number(last)}, "
        words += f"{kinds[kind][place].size} wells"
        marks.append(Mark(kind, axis.x(place) + offset, axis.y(middle), axis.y(first), axis.y(last), words))
    return axis.chart(names, marks)


def z_prime_chart(names: Sequence[str], rows: Sequence[Sequence[Mapping[str, Any]]]) -> Chart:
    """Z′ with its interval for each plate and positive control, no lower than -1.

    Args:
        names: of the plates.
        rows: for each plate those of its table of statistics, one a positive control.
    """
    axis = _Axis(_LOWEST_Z_PRIME, 1.0, len(names))
    marks = []
    for place, of_plate in enumerate(rows):
        for number_of, row in enumerate(of_plate):
            if row["Value"] is None:
                continue
            ends = [row[end] if row[end] is not None else row["Value"] for end in ("Low", "High")]
            low, value, high = (axis.y(max(v, _LOWEST_Z_PRIME)) for v in (ends[0], row["Value"], ends[1]))
            offset = (number_of - (len(of_plate) - 1) / 2) * min(0.24 * axis.step, 14)
            words = f"{names[place]}, {row['Metadata_Control']}: Z′ {row['Words']}"
            marks.append(Mark("poscon", axis.x(place) + offset, value, low, high, words))
    return axis.chart(names, marks, line=axis.y(0.5))


@dataclass(frozen=True, slots=True)
class _Axis:
    """Plates along x, values from `low` to `high` along y."""

    low: float
    high: float
    plates: int

    @property
    def step(self) -> float:
        return min(max(_WIDTH / self.plates, _STEP_LEAST), _STEP_MOST)

    def x(self, place: int) -> float:
        return LEFT + self.step * (place + 0.5)

    def y(self, value: float) -> float:
        return HEIGHT * (1 - (value - self.low) / (self.high - self.low))

    def chart(self, names: Sequence[str], marks: Sequence[Mark], line: float | None = None) -> Chart:
        raw = (self.high - self.low) / 4
        power = 10.0 ** np.floor(np.log10(raw))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
        values = np.arange(np.ceil(self.low / step), np.floor(self.high / step) + 1) * step
        return Chart(
            width=LEFT + self.step * self.plates,
            marks=tuple(marks),
            ticks=tuple((self.y(v), compact(float(v) + 0.0)) for v in values),
            plates=tuple((self.x(place), name) for place, name in enumerate(names)),
            slanted=any(7.5 * len(name) > self.step for name in names),
            line=line,
        )
