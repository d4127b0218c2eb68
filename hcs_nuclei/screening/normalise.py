"""Well values of one plate in, values relative to its negative control out; B-score and loess against plate effects.

Sources: robust z and per cent of control as in Birmingham et al. 2009 (Nat. Methods 6, 569); B-score is Brideau et al.
2003 (J. Biomol. Screen. 8, 634), Tukey's two-way median polish; loess is Cleveland & Devlin 1988 (J. Am. Stat. Assoc.
83, 596) over row and column, as Boutros, Brás & Huber 2006 (Genome Biol. 7, R66) take it for plates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcs_nuclei.screening.estimates import MINIMUM_WELLS, known, mad, varies

Values = npt.NDArray[np.float64]

#: A well so many robust standard deviations off the plate's median is a hit, where hits are to be counted.
_HIT = 3.0
#: Above this share of hits a row's or column's median is no longer that of wells without effect (Mpindi et al. 2015,
#: Bioinformatics 31, 3815).
_MOST_HITS = 0.2
_POLISHES, _SETTLED = 50, 1e-9


@dataclass(frozen=True, slots=True)
class Reference:
    """What a plate's values are held against: the median and MAD × 1.4826 of the wells of one control.

    `centre` is None without a well; `scale` is None below 4 wells and where they do not vary. `reason` says why.
    """

    wells: int
    centre: float | None
    scale: float | None
    reason: str = ""


def reference_of(values: npt.ArrayLike) -> Reference:
    """Centre and scale of the values (n,) of one control's wells; NaN is a well without a value."""
    there = known(values)
    if not there.size:
        return Reference(0, None, None, "no well has a value")
    centre = float(np.median(there))
    if there.size < MINIMUM_WELLS:
        words = f"{there.size} well{'s' * (there.size > 1)}; {MINIMUM_WELLS} are needed for a scale"
        return Reference(there.size, centre, None, words)
    scale = mad(there)
    if not varies(scale, there):
        return Reference(there.size, centre, None, "at least half of the wells have the same value, which is no scale")
    return Reference(there.size, centre, scale)


def robust_z(values: npt.ArrayLike, negative: Reference) -> Values:
    """(value - centre) / scale of the negative control, (n,); all NaN where it has no scale."""
    array = np.asarray(values, dtype=np.float64)
    if negative.centre is None or negative.scale is None:
        return np.full_like(array, np.nan)
    return (array - negative.centre) / negative.scale


def percent_of_control(values: npt.ArrayLike, negative: Reference) -> Values:
    """100 × value / centre of the negative control, (n,); all NaN where that centre is not above 0."""
    array = np.asarray(values, dtype=np.float64)
    if negative.centre is None or not negative.centre > 0:
        return np.full_like(array, np.nan)
    return 100 * array / negative.centre


def percent_inhibition(values: npt.ArrayLike, negative: Reference, positive: Reference) -> Values:
    """0 at the centre of the negative control, 100 at that of the positive, (n,); all NaN where both are the same."""
    array = np.asarray(values, dtype=np.float64)
    if negative.centre is None or positive.centre is None:
        return np.full_like(array, np.nan)
    span = negative.centre - positive.centre
    if not varies(abs(span), np.array([negative.centre, positive.centre])):
        return np.full_like(array, np.nan)
    return 100 * (negative.centre - array) / span


def b_score(values: npt.ArrayLike, rows: npt.ArrayLike, columns: npt.ArrayLike) -> Values:
    """What rows and columns do not explain of the wells' values, in robust standard deviations of it.

    Args:
        values: (n,) of the sample wells alone, controls left out; NaN is a well without a value.
        rows, columns: (n,) their places.

    Returns:
        (n,) residuals of the median polish / (MAD × 1.4826 of them); NaN where the value is, all NaN where less than
        two rows or columns have values, or the residuals do not vary.
    """
    array = np.asarray(values, dtype=np.float64)
    row, column = (np.unique(np.asarray(place), return_inverse=True)[1] for place in (rows, columns))
    grid = np.full((row.max(initial=-1) + 1, column.max(initial=-1) + 1), np.nan)
    grid[row, column] = array
    if (np.isfinite(grid).any(axis=1).sum() < 2) or (np.isfinite(grid).any(axis=0).sum() < 2):
        return np.full_like(array, np.nan)
    residuals = _polished(grid)[row, column]
    there = known(residuals)
    scale = mad(there)
    if not varies(scale, known(array)):
        return np.full_like(array, np.nan)
    return np.asarray(residuals / scale)


def loess(values: npt.ArrayLike, rows: npt.ArrayLike, columns: npt.ArrayLike, span: float = 0.4) -> Values:
    """The wells' values without the smooth surface over the plate; their median stays.

    A local plane at each well, through the `span` share of wells that are nearest, weighted by distance (tricube) and,
    in three rounds, against outliers (bisquare).

    Args:
        values: (n,) of the sample wells alone, controls left out, in any unit; NaN is a well without a value.
        rows, columns: (n,) their places.
        span: share of the wells in each local fit, above 0 and at most 1.

    Returns:
        (n,) in the same unit; NaN where the value is, all NaN where fewer than 10 wells have one.
    """
    array = np.asarray(values, dtype=np.float64)
    out = np.full_like(array, np.nan)
    there = np.isfinite(array)
    if there.sum() < 10:
        return out
    places = np.column_stack([np.asarray(rows, float)[there], np.asarray(columns, float)[there]])
    observed = array[there]
    trust = np.ones(len(observed))
    fitted = observed
    for _ in range(3):
        fitted = _surface(observed, places, trust, max(6, round(span * len(observed))))
        residuals = observed - fitted
        reach = 6 * float(np.median(np.abs(residuals)))
        if not varies(reach, observed):
            break
        trust = np.clip(1 - (residuals / reach) ** 2, 0, None) ** 2
    out[there] = observed - fitted + np.median(observed)
    return out


def cautions(values: npt.ArrayLike, doses: bool) -> tuple[str, ...]:
    """Why B-score and loess may take effects for patterns of the plate, in words; `values` (n,) are the samples'.

    `doses` says whether the plate has dose series, whose effects lie in rows or columns.
    """
    there = known(values)
    said = []
    if doses:
        said.append("the plate has dose series, whose effects lie along rows or columns")
    if there.size and varies(mad(there), there):
        hits = float(np.mean(np.abs(there - np.median(there)) > _HIT * mad(there)))
        if hits > _MOST_HITS:
            said.append(f"{hits:.0%} of the sample wells are hits, and above {_MOST_HITS:.0%} the method fails")
    return tuple(said)


def _polished(grid: Values) -> Values:
    """What Tukey's median polish leaves of (rows, columns) with NaN for no value."""
    left = grid.copy()
    rows, columns = np.isfinite(left).any(axis=1), np.isfinite(left).any(axis=0)
    size = float(np.nanmax(np.abs(left)))
    for _ in range(_POLISHES):
        by_row = np.zeros((len(left), 1))
        by_row[rows, 0] = np.nanmedian(left[rows], axis=1)
        left = left - by_row
        by_column = np.zeros((1, left.shape[1]))
        by_column[0, columns] = np.nanmedian(left[:, columns], axis=0)
        left = left - by_column
        if max(np.abs(by_row).max(), np.abs(by_column).max()) <= _SETTLED * size:
            break
    return left


def _surface(observed: Values, places: Values, trust: Values, nearest: int) -> Values:
    """The local planes' values at `places` (n, 2) for values (n,) with weights `trust` (n,)."""
    fitted = np.empty_like(observed)
    for i, place in enumerate(places):
        offset = places - place
        distance = np.hypot(*offset.T)
        reach = max(float(np.sort(distance)[nearest - 1]), 1.0) * 1.0001
        weight = np.sqrt(np.clip(1 - (distance / reach) ** 3, 0, None) ** 3 * trust)
        design = np.column_stack([np.ones(len(offset)), offset])
        fitted[i] = np.linalg.lstsq(design * weight[:, None], observed * weight, rcond=None)[0][0]
    return fitted
