"""Features of a well's nuclei in, the figures of the well out: median, MAD, mean, standard deviation, 5 and 95 %."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def aggregate(features: Floats) -> dict[str, Floats]:
    """Every statistic of :data:`hcs_nuclei.columns.AGGREGATES`, (f,) float64 by prefix, of `features`, (f, n) float64.

    NaN is a nucleus without that value and stays out; a feature without values has NaN, and so has the standard
    deviation of a single one. Percentiles interpolate linearly, as ``numpy.percentile``. The order of the nuclei
    changes nothing.
    """
    ordered = np.sort(features, axis=1)  # NaN last
    known = np.count_nonzero(~np.isnan(ordered), axis=1)
    median = _quantile(ordered, known, 0.5)
    some = np.where(known > 0, known, 1)
    mean = np.where(known > 0, np.nansum(ordered, axis=1) / some, np.nan)
    squares = np.nansum((ordered - mean[:, None]) ** 2, axis=1)
    return {
        "Median_": median,
        "MAD_": _quantile(np.sort(np.abs(ordered - median[:, None]), axis=1), known, 0.5),
        "Mean_": mean,
        "Std_": np.where(known > 1, np.sqrt(squares / np.where(known > 1, known - 1, 1)), np.nan),
        "P05_": _quantile(ordered, known, 0.05),
        "P95_": _quantile(ordered, known, 0.95),
    }


def _quantile(ordered: Floats, known: npt.NDArray[np.intp], share: float) -> Floats:
    """(f,) the quantile `share` of the first `known` values of each row; NaN where a row has none."""
    if not ordered.shape[1]:
        return np.full(len(ordered), np.nan)
    position = np.maximum(known - 1, 0) * share
    below = np.floor(position).astype(np.intp)
    rows = np.arange(len(ordered))
    low, high = ordered[rows, below], ordered[rows, np.minimum(below + 1, np.maximum(known - 1, 0))]
    quantile: Floats = low + (high - low) * (position - below)
    return quantile
