"""Well values, their treatments and a pattern in, how much of the pattern is in the values out.

Only wells of the same treatment are compared: each treatment has a level of its own, and what is told of the pattern is
what differs between wells of one treatment. Outliers count less (Huber's M-estimator, Huber 1981, *Robust Statistics*,
ch. 7: weight 1 up to 1.345 robust standard deviations), so that one blocked tip or dead well is no plate effect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcs_nuclei.screening.estimates import CONFIDENCE, MAD_TO_SD, Estimate

Values = npt.NDArray[np.float64]

_HUBER = 1.345
_ROUNDS, _SETTLED = 50, 1e-6
#: A pattern of which less than this share is its own, and not treatments' or other patterns', cannot be told from them.
_OWN_SHARE = 0.1
#: So many wells more than what is fitted, or nothing is known of how far equal wells lie apart.
_FREEDOM = 3


@dataclass(frozen=True, slots=True)
class Comparable:
    """The wells that can be compared: those of treatments with two wells or more.

    `values` (n,) in the readout's unit, `rows` and `columns` (n,) 1-based, `treatments` (n,) numbers from 0.
    """

    values: Values
    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    treatments: npt.NDArray[np.intp]

    def centred(self, pattern: Values) -> Values:
        """`pattern` (n,) or (n, k) less its mean in each treatment."""
        columns = pattern.reshape(len(self.values), -1)
        return _less_means(columns, np.ones(len(columns)), self.treatments).reshape(pattern.shape)


def comparable(
    values: npt.ArrayLike, rows: npt.ArrayLike, columns: npt.ArrayLike, treatments: npt.ArrayLike
) -> Comparable:
    """The comparable ones of a plate's wells.

    Args:
        values: (n,); NaN is a well without a value.
        rows, columns: (n,) 1-based.
        treatments: (n,) numbers; wells with the same one were treated alike, below 0 it is not known how.
    """
    array, kinds = np.asarray(values, dtype=np.float64), np.asarray(treatments)
    there = np.isfinite(array) & (kinds >= 0)
    _, number, wells = np.unique(kinds[there], return_inverse=True, return_counts=True)
    several = wells[number] > 1
    chosen = np.flatnonzero(there)[several]
    return Comparable(
        array[chosen],
        np.asarray(rows, dtype=np.intp)[chosen],
        np.asarray(columns, dtype=np.intp)[chosen],
        np.unique(number[several], return_inverse=True)[1],
    )


def effect_of(wells: Comparable, pattern: Values, others: Values, comparisons: int = 1) -> Estimate:
    """How much the values rise for one unit of `pattern`, whatever the treatments and the `others` do.

    Args:
        wells: n of them.
        pattern: (n,).
        others: (n, k) patterns that are taken out.
        comparisons: of how many such patterns the one with the largest effect is told; widens the interval
            (Bonferroni).
    """
    kinds = int(wells.treatments.max(initial=-1)) + 1
    beside = _independent(wells.centred(others))
    own = wells.centred(pattern)
    size = float(np.sum(own**2))
    own_alone = own - beside @ (beside.T @ own)
    freedom = len(own) - kinds - beside.shape[1] - 1
    if size == 0:
        return Estimate(None, reason="the wells of each treatment do not differ in it")
    if np.sum(own_alone**2) < _OWN_SHARE * size:
        return Estimate(None, reason="it cannot be told from the other patterns with these wells")
    if freedom < _FREEDOM:
        return Estimate(None, reason=f"{len(own)} comparable wells are too few")
    value, error = _robust_slope(wells, np.column_stack([own_alone, beside]), freedom)
    return _with_interval(value, error, freedom, comparisons)


def _independent(patterns: Values) -> Values:
    """An orthonormal basis (n, rank) of the columns of `patterns` (n, k)."""
    if not patterns.size:
        return patterns
    left, sizes, _ = np.linalg.svd(patterns, full_matrices=False)
    return np.asarray(left[:, sizes > 1e-9 * max(float(sizes.max()), 1e-300)])


def _robust_slope(wells: Comparable, design: Values, freedom: int) -> tuple[float, float]:
    """(coefficient of the design's first column, its standard error) with a level for each treatment.

    `design` (n, k) is centred in each treatment, and its first column is orthogonal to the others.
    """
    count = len(design)
    fitted: Values = np.zeros(count)
    residuals: Values = np.zeros(count)
    weights: Values = np.ones(count)
    coefficients: Values = np.zeros(design.shape[1])
    for _ in range(_ROUNDS):
        # Levels are taken out as weighted means: as a matrix, hundreds of treatments would make it slow.
        x, y = (_less_means(part, weights, wells.treatments) for part in (design, wells.values[:, None]))
        root = np.sqrt(weights)[:, None]
        coefficients = np.asarray(np.linalg.lstsq(x * root, (y * root)[:, 0], rcond=None)[0], dtype=np.float64)
        residuals = y[:, 0] - x @ coefficients
        before, fitted = fitted, wells.values - residuals
        # Each level fits one residual of its treatment: the spread is of those that are free.
        scale = MAD_TO_SD * float(np.median(np.abs(residuals))) * np.sqrt(count / (freedom + 1))
        if not scale > 1e-12 * float(np.max(np.abs(wells.values))):
            break
        weights = np.minimum(1, _HUBER * scale / np.maximum(np.abs(residuals), 1e-300))
        if np.max(np.abs(fitted - before)) <= _SETTLED * scale:
            break
    share = float(np.mean(weights == 1))
    correction = 1 + ((count - freedom) / count) * (1 - share) / share
    variance = (correction / share) ** 2 * float(np.sum((weights * residuals) ** 2)) / freedom
    return float(coefficients[0]), float(np.sqrt(variance / np.sum(design[:, 0] ** 2)))


def _less_means(columns: Values, weights: Values, treatments: npt.NDArray[np.intp]) -> Values:
    """Columns (n, k) less their weighted mean in each treatment."""
    total = np.bincount(treatments, weights)
    means = np.column_stack([np.bincount(treatments, weights * column) / total for column in columns.T])
    return np.asarray(columns - means[treatments])


def _with_interval(value: float, error: float, freedom: int, comparisons: int) -> Estimate:
    from scipy.stats import t

    reach = float(t.ppf(1 - (1 - CONFIDENCE) / 2 / comparisons, freedom)) * error
    return Estimate(value, value - reach, value + reach)
