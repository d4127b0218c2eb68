"""Well values of two controls in, how well an assay tells them apart out: Z′ and SSMD, plain and robust.

Sources: Z′ is Zhang, Chung & Oldenburg 1999 (J. Biomol. Screen. 4, 67), with the sample's standard deviation; SSMD is
Zhang 2007 (Genomics 89, 552), without the assumption of equal spread. The robust forms have the median for the mean
and the median absolute deviation × 1.4826 for the standard deviation.

Intervals are by the delta method for wells that are normally distributed and independent: of Z′ on the scale of
log(1 - Z′), which keeps the interval below 1, with Student's t at Welch's degrees of freedom. A median has 64 %, and a
median absolute deviation 37 %, of the efficiency of its plain form. A bootstrap is no better at 4 to 16 wells, where
it takes the spread for too small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcs_nuclei.screening.estimates import CONFIDENCE, MINIMUM_WELLS, Estimate, known, mad, varies

#: Asymptotic efficiency for normal values of the median (2/π) and of the median absolute deviation.
_MEDIAN_EFFICIENCY, _MAD_EFFICIENCY = 2 / math.pi, 0.3675
#: Half of an interval of the logarithm of 1 - Z′ that says nothing any more: its ends are 10²¹ times apart.
_WIDEST = 25.0


@dataclass(frozen=True, slots=True)
class Separation:
    """A positive control against the negative one, of one plate and readout.

    `negative` and `positive` are numbers of wells with a value. SSMD is above 0 where the positive control's values
    are the higher ones.
    """

    negative: int
    positive: int
    z_prime: Estimate
    robust_z_prime: Estimate
    ssmd: Estimate
    robust_ssmd: Estimate


@dataclass(frozen=True, slots=True)
class _Side:
    """One control: wells, centre and spread, and the variances of both as estimates."""

    wells: int
    centre: float
    spread: float
    variance_of_centre: float
    relative_variance_of_spread: float

    @property
    def variance_of_spread(self) -> float:
        return self.spread**2 * self.relative_variance_of_spread


def compare_controls(negative: npt.ArrayLike, positive: npt.ArrayLike) -> Separation:
    """Z′ and SSMD, plain and robust, of the values of the wells of two controls; NaN is a well without a value.

    Args:
        negative: (n,) values of the negative control's wells.
        positive: (m,) of the positive control's.
    """
    low, high = known(negative), known(positive)
    few = [
        f"{len(values)} well{'s' * (len(values) != 1)} of the {side} control"
        for side, values in (("negative", low), ("positive", high))
        if len(values) < MINIMUM_WELLS
    ]
    if few:
        absent = Estimate(None, reason=f"{' and '.join(few)}; {MINIMUM_WELLS} of each are needed")
        return Separation(len(low), len(high), absent, absent, absent, absent)
    plain, robust = (_plain(low), _plain(high)), (_robust(low), _robust(high))
    return Separation(len(low), len(high), _z_prime(*plain), _z_prime(*robust), _ssmd(*plain), _ssmd(*robust))


def _plain(values: npt.NDArray[np.float64]) -> _Side:
    spread = float(np.std(values, ddof=1))
    spread = spread if varies(spread, values) else 0.0
    n = len(values)
    return _Side(n, float(np.mean(values)), spread, spread**2 / n, 1 / (2 * (n - 1)))


def _robust(values: npt.NDArray[np.float64]) -> _Side:
    spread = mad(values)
    spread = spread if varies(spread, values) else 0.0
    n = len(values)
    return _Side(
        n,
        float(np.median(values)),
        spread,
        spread**2 / n / _MEDIAN_EFFICIENCY,
        1 / (2 * (n - 1)) / _MAD_EFFICIENCY,
    )


def _z_prime(negative: _Side, positive: _Side) -> Estimate:
    distance = abs(positive.centre - negative.centre)
    spread = positive.spread + negative.spread
    if not distance > 1e-9 * max(abs(positive.centre), abs(negative.centre)):
        return Estimate(None, reason="the controls have the same centre")
    value = 1 - 3 * spread / distance
    if spread == 0:
        return Estimate(value, reason="no interval: neither control varies")
    of_spread = (positive.variance_of_spread + negative.variance_of_spread) / spread**2
    of_distance = (positive.variance_of_centre + negative.variance_of_centre) / distance**2
    reach = _quantile(positive, negative) * math.sqrt(of_spread + of_distance)
    if reach > _WIDEST:
        return Estimate(value, reason="no interval: the controls are not apart")
    return Estimate(value, 1 - (1 - value) * math.exp(reach), 1 - (1 - value) * math.exp(-reach))


def _ssmd(negative: _Side, positive: _Side) -> Estimate:
    variance = positive.spread**2 + negative.spread**2
    if variance == 0:
        return Estimate(None, reason="neither control varies")
    value = (positive.centre - negative.centre) / math.sqrt(variance)
    of_centres = (positive.variance_of_centre + negative.variance_of_centre) / variance
    # The variance's own relative variance is four times that of the spread, and a root halves what is relative.
    of_variance = sum(side.spread**4 * 4 * side.relative_variance_of_spread for side in (positive, negative))
    reach = _quantile(positive, negative) * math.sqrt(of_centres + value**2 / 4 * of_variance / variance**2)
    return Estimate(value, value - reach, value + reach)


def _quantile(positive: _Side, negative: _Side) -> float:
    """Student's t at Welch's degrees of freedom of the sum of both variances."""
    from scipy.stats import t

    variances = [side.spread**2 for side in (positive, negative)]
    freedom = sum(variances) ** 2 / sum(
        v**2 / (side.wells - 1) for v, side in zip(variances, (positive, negative), strict=True)
    )
    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))
