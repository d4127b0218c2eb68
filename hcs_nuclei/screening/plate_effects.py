"""Well values and their places in, what the plate itself does to them out: edge, drift over rows or columns, dispenser.

Wells are compared with wells of the same treatment alone (:mod:`hcs_nuclei.screening.within_treatments`), each pattern
after the others are taken out. Where controls lie only in outer columns there is nothing inside to hold them against:
the edge is then not estimable, and that is said. An effect is told by its size with an interval; of several tips or
quadrants the one that is most surely off, with an interval for having looked at all (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hcs_nuclei.plate import row_name
from hcs_nuclei.screening.estimates import MINIMUM_WELLS, Estimate
from hcs_nuclei.screening.within_treatments import Comparable, Values, comparable, effect_of

EffectName = Literal[
    "EdgeEffect",
    "SecondRingEffect",
    "RowDrift",
    "ColumnDrift",
    "Tips8Effect",
    "Tips16Effect",
    "QuadrantEffect",
    "SerpentineEffect",
]
#: From this many rows on, the second ring is told apart from the interior, and quadrants are stamped from four plates.
_ROWS_OF_384 = 16
#: What is smaller than this, in per cent, is small however certain it is.
NOTABLE_PERCENT = 5.0
#: What is seen over less of the plate says nothing about the rest of it.
_SHORTEST = 0.5
_QUADRANTS = ("quadrant A1, A3, …", "quadrant A2, A4, …", "quadrant B1, B3, …", "quadrant B2, B4, …")


@dataclass(frozen=True, slots=True)
class PlateEffect:
    """One pattern of a plate in one readout.

    `size` is in the unit of the values; `percent` is the same in per cent of the comparable wells' median (None where
    that is not above 0). `wells` have the pattern (lie on the ring, under the tip; all of them for a drift), `against`
    do not. `part` is the tip or quadrant that is meant. `sentence` says it in words.
    """

    name: EffectName
    size: Estimate
    percent: Estimate
    wells: int
    against: int
    part: str
    sentence: str

    @property
    def seen(self) -> bool:
        """Whether the interval leaves out 0."""
        return _seen(self.size)

    @property
    def notable(self) -> bool:
        """Whether it is seen, and of 5 % or more."""
        return self.seen and self.percent.value is not None and abs(self.percent.value) >= NOTABLE_PERCENT


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One pattern over n comparable wells.

    `pattern` (n,) is what the values may follow, `others` (n, k) is taken out. `against` (n,) are the wells that those
    with the pattern are held against; None for a drift. `comparisons` is how many such patterns are looked at.
    """

    words: str
    pattern: Values
    others: Values
    against: npt.NDArray[np.bool_] | None = None
    part: str = ""
    comparisons: int = 1


def plate_effects(
    values: npt.ArrayLike,
    rows: npt.ArrayLike,
    columns: npt.ArrayLike,
    treatments: npt.ArrayLike,
    shape: tuple[int, int],
) -> tuple[PlateEffect, ...]:
    """Every effect that a plate of this format can have, estimable or not.

    Args:
        values: (n,) of the plate's wells, in any unit; NaN is a well without a value.
        rows, columns: (n,) 1-based places.
        treatments: (n,) numbers; wells with the same one were treated alike, below 0 it is not known how.
        shape: (rows, columns) of the plate format, whether all of its wells were imaged or not.
    """
    wells = comparable(values, rows, columns, treatments)
    return tuple(_effect(name, wells, patterns) for name, patterns in _patterns(wells, shape))


def _patterns(wells: Comparable, shape: tuple[int, int]) -> Iterator[tuple[EffectName, list[_Pattern]]]:
    """Each effect with its pattern, or one for each tip or quadrant."""
    height, width = shape
    large = height >= _ROWS_OF_384
    rings = _rings(wells, shape)
    edge, second = rings == 0, (rings == 1) & large
    inside = rings >= 1 + large
    row, column = _along(wells.rows, height), _along(wells.columns, width)
    yield "EdgeEffect", [_Pattern("on the outer ring", _stack(edge)[:, 0], _stack(second, row, column), inside)]
    if large:
        yield (
            "SecondRingEffect",
            [_Pattern("on the second ring", _stack(second)[:, 0], _stack(edge, row, column), inside)],
        )
    yield "RowDrift", [_Pattern("from the first to the last row", row, _stack(edge, second, column))]
    yield "ColumnDrift", [_Pattern("from the first to the last column", column, _stack(edge, second, row))]
    smooth = _stack(edge, second, row, column)
    for name, tips in (("Tips8Effect", 8), ("Tips16Effect", 16)):
        if height % tips == 0:
            reach = height // tips
            names = [_tip(k, tips, reach) for k in range(tips)]
            yield name, _parts((wells.rows - 1) // reach, names, smooth)  # type: ignore[misc]
    if large:
        yield "QuadrantEffect", _parts(2 * ((wells.rows - 1) % 2) + (wells.columns - 1) % 2, _QUADRANTS, smooth)
    odd = np.where(wells.rows % 2 == 1, 1.0, -1.0)
    path = _Pattern("along each row of a serpentine that begins at A1", column * odd, _stack(smooth, odd))
    yield "SerpentineEffect", [path]


def _stack(*patterns: npt.NDArray[np.generic]) -> Values:
    return np.column_stack(patterns).astype(np.float64)


def _rings(wells: Comparable, shape: tuple[int, int]) -> npt.NDArray[np.intp]:
    """(n,) how many wells lie between each and the plate's rim."""
    height, width = shape
    return np.minimum(
        np.minimum(wells.rows - 1, height - wells.rows), np.minimum(wells.columns - 1, width - wells.columns)
    )


def _along(places: npt.NDArray[np.intp], count: int) -> Values:
    """-1/2 in the first row or column to 1/2 in the last, (n,)."""
    return (places - 1) / max(count - 1, 1) - 0.5


def _parts(part: npt.NDArray[np.intp], names: Sequence[str], others: Values) -> list[_Pattern]:
    return [
        _Pattern(f"in {name}", (part == k).astype(np.float64), others, part != k, name, len(names))
        for k, name in enumerate(names)
    ]


def _tip(tip: int, tips: int, reach: int) -> str:
    """As a head of that many tips, 9 or 4.5 mm apart, dispenses: each tip into rows that lie together."""
    first, last = row_name(tip * reach + 1), row_name((tip + 1) * reach)
    return f"tip {tip + 1} of {tips} (row{f's {first} to {last}' if reach > 1 else f' {first}'})"


def _effect(name: EffectName, wells: Comparable, patterns: Sequence[_Pattern]) -> PlateEffect:
    found = [_one_effect(name, wells, pattern) for pattern in patterns]
    told = [effect for effect in found if effect.size.value is not None]
    return max(told, key=lambda effect: _certainty(effect.size)) if told else found[0]


def _one_effect(name: EffectName, wells: Comparable, pattern: _Pattern) -> PlateEffect:
    with_it, against = _sides(wells, pattern)
    if pattern.against is not None and min(with_it, against) < MINIMUM_WELLS:
        where = pattern.words if not pattern.part else "under one tip, or in one quadrant,"
        size = Estimate(None, reason=f"too few treatments have wells both {where} and elsewhere inside")
    elif pattern.against is None and _span(wells, pattern.pattern) < _SHORTEST:
        size = Estimate(None, reason="no treatment's wells span half of the plate")
    else:
        size = effect_of(wells, pattern.pattern, pattern.others, pattern.comparisons)
    level = float(np.median(wells.values)) if len(wells.values) else 0.0
    percent = size.times(100 / level) if level > 0 else Estimate(None, reason=size.reason or "no level above 0")
    part = pattern.part if size.value is not None else ""
    return PlateEffect(name, size, percent, with_it, against, part, _sentence(pattern, size, percent, with_it, against))


def _sides(wells: Comparable, pattern: _Pattern) -> tuple[int, int]:
    """How many wells have the pattern and how many have not, in treatments that have both."""
    if pattern.against is None:
        return len(wells.values), 0
    having = pattern.pattern > 0
    kinds = int(wells.treatments.max(initial=-1)) + 1
    both = (np.bincount(wells.treatments[having], minlength=kinds) > 0) & (
        np.bincount(wells.treatments[pattern.against], minlength=kinds) > 0
    )
    mixed = both[wells.treatments]
    return int(np.sum(having & mixed)), int(np.sum(pattern.against & mixed))


def _span(wells: Comparable, along: Values) -> float:
    """The largest share of the plate that the wells of one treatment span along a drift."""
    ends = [along[wells.treatments == kind] for kind in range(int(wells.treatments.max(initial=-1)) + 1)]
    return max((float(np.ptp(places)) for places in ends), default=0.0)


def _seen(size: Estimate) -> bool:
    return size.low is not None and size.high is not None and (size.low > 0 or size.high < 0)


def _certainty(size: Estimate) -> float:
    """Size over the half-width of its interval; above 1 where the interval leaves out 0."""
    assert size.value is not None
    assert size.high is not None
    reach = size.high - size.value
    return abs(size.value) / reach if reach > 0 else float(size.value != 0)


def _sentence(pattern: _Pattern, size: Estimate, percent: Estimate, wells: int, against: int) -> str:
    if size.value is None:
        return f"not estimable: {size.reason}"
    told, unit = (size, "") if percent.value is None else (percent, " %")
    value, low, high = told.value, told.low, told.high
    assert value is not None
    assert low is not None
    assert high is not None
    n = f"{wells} wells" + (f" against {against} of the same treatments" if pattern.against is not None else "")
    if not _seen(size):
        return f"no change seen {pattern.words}: {value:.3g}{unit} ({low:.3g} to {high:.3g}{unit}; {n})"
    ends = sorted((abs(low), abs(high)))
    change = ("lower" if value < 0 else "higher") if pattern.against is not None else ("less" if value < 0 else "more")
    return f"{abs(value):.3g}{unit} {change} {pattern.words} ({ends[0]:.3g} to {ends[1]:.3g}{unit}; {n})"
