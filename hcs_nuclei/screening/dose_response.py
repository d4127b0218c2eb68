"""Normalised values of wells and their doses in, a four-parameter logistic curve with its IC50 out.

::

    response(dose) = start + (end - start) / (1 + 10^(-slope · (log10 dose - log10 IC50)))        slope > 0

*Relative* IC50 is the dose half-way between the curve's own plateaus; *absolute* is the dose at which the curve passes
a given response, 50 % of the control. Both are needed: where a compound stops at 60 %, only the first exists.

Which can be told is decided as Sebaugh 2011 (Pharm. Stat. 10, 128) recommends. The relative one needs two doses beyond
either bend of the curve (Sebaugh & McCray 2003, Pharm. Stat. 2, 167: where the logistic's argument is ± log 4.6805),
else it is ``> max`` or ``< min`` of the doses; the absolute one needs two doses on either side of where the curve
passes. n is wells: replicates are fitted as they are, each with the same weight. Dose 0 has no place on a log axis.

Intervals (95 %) are of log10 IC50: of the relative one the profile of the sum of squares (Bates & Watts 1988,
*Nonlinear Regression Analysis*, ch. 6), which may be open on a side; of the absolute one by the delta method. A fit
that is not possible is an outcome with a reason, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hcs_nuclei.screening.estimates import CONFIDENCE, Estimate, varies

Values = npt.NDArray[np.float64]
Relation = Literal["=", ">", "<", ""]
Outcome = Literal["fitted", "no effect", "not fitted"]

#: As many as the curve has parameters; the wells are one more, or nothing is left to judge the fit by.
MINIMUM_DOSES = 4
#: log10 of what the logistic is at its bends, as odds.
_BEND = float(np.log10(4.6805))
_BEYOND = 2
_SLOPES = np.geomspace(0.2, 10, 60)
#: Decades around the doses in which the curve's middle is looked for.
_MARGIN = 2.0
#: A curve that explains no more than chance would in one plate of twenty is no effect.
_CHANCE = 0.05


@dataclass(frozen=True, slots=True)
class Potency:
    """An IC50: `relation` says whether the dose equals it, or it is above the highest (``>``) or below the lowest.

    `dose` with its 95 % interval is in the unit of the doses; for ``>`` and ``<`` it is the highest or lowest dose,
    without one. Without a relation, `dose.reason` says why.
    """

    relation: Relation
    dose: Estimate


@dataclass(frozen=True, slots=True)
class DoseResponse:
    """The curve through one compound's wells in one readout.

    `start` and `end` are the plateaus at low and high dose, in the unit of the values, `slope` is the Hill slope (above
    0; start > end is a falling curve), `middle` is log10 of the dose half-way, whether it may be called an IC50 or not,
    `spread` the standard deviation of wells around the curve. They are None where no curve was fitted; of ``no effect``
    both plateaus are the mean.
    """

    outcome: Outcome
    reason: str
    wells: int
    doses: int
    lowest: float | None
    highest: float | None
    start: float | None = None
    end: float | None = None
    slope: float | None = None
    middle: float | None = None
    spread: float | None = None
    relative: Potency = Potency("", Estimate(None))
    absolute: Potency = Potency("", Estimate(None))

    def at(self, doses: npt.ArrayLike) -> Values:
        """The curve at doses (n,) above 0, in the unit of the values; all NaN where none was fitted."""
        x = np.log10(np.asarray(doses, dtype=np.float64))
        if self.start is None or self.end is None:
            return np.full_like(x, np.nan)
        if self.slope is None or self.middle is None:
            return np.full_like(x, self.start)
        return self.start + (self.end - self.start) * _rise(x, self.middle, self.slope)


@dataclass(frozen=True, slots=True)
class _Fit:
    """A least-squares curve: (start, end, log10 of the middle, slope), and the sum of squares that it leaves."""

    start: float
    end: float
    middle: float
    slope: float
    squares: float
    freedom: int


def fit_dose_response(
    doses: npt.ArrayLike, values: npt.ArrayLike, half: float = 50.0, control: float = 100.0
) -> DoseResponse:
    """Fit wells' values to their doses.

    Args:
        doses: (n,) of each well, >= 0, in one unit; 0 and NaN are left out.
        values: (n,) normalised values; NaN is a well without one.
        half: the response that the absolute IC50 is the dose of, in the unit of the values.
        control: the response without a compound.
    """
    dose, value = np.asarray(doses, dtype=np.float64), np.asarray(values, dtype=np.float64)
    there = np.isfinite(value) & np.isfinite(dose) & (dose > 0)
    x, y = np.log10(dose[there]), value[there]
    levels = np.unique(x)
    # As they were given: a power of ten of their logarithm is not always the same number.
    lowest, highest = (float(dose[there].min()), float(dose[there].max())) if len(levels) else (None, None)
    size = (len(y), len(levels), lowest, highest)
    if len(levels) < MINIMUM_DOSES or len(y) <= MINIMUM_DOSES:
        words = f"{len(y)} wells at {len(levels)} doses above 0; {MINIMUM_DOSES} doses and 5 wells are needed"
        return DoseResponse("not fitted", words, *size)
    if not varies(float(np.ptp(y)), y):
        return _flat(y, (half, control), size, "all wells have the same value")
    fit = _fit(x, y)
    if fit is None:
        return DoseResponse("not fitted", "no curve was found that fits better than others", *size)
    if not _explains(fit, y):
        return _flat(y, (half, control), size, "the curve explains no more than chance would")
    return DoseResponse(
        "fitted",
        "",
        *size,
        start=fit.start,
        end=fit.end,
        slope=fit.slope,
        spread=float(np.sqrt(fit.squares / fit.freedom)),
        relative=_relative(fit, x, y, (lowest, highest)),
        absolute=_absolute(fit, x, half, control, (lowest, highest)),
        middle=fit.middle,
    )


def _rise(x: Values, middle: float | Values, slope: float | Values) -> Values:
    """0 at low doses to 1 at high."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.log(10) * slope * (x - middle))))


def _plateaus(x: Values, y: Values, middle: Values, slope: Values) -> tuple[Values, Values, Values]:
    """(start, end, sum of squares) that are best for each middle and slope, (k,): the curve is linear in its plateaus.

    Where the rise does not vary over the doses the plateaus cannot be told, and the sum of squares is that of the mean.
    """
    rise = _rise(x, middle[:, None], slope[:, None])
    mean_rise, mean = rise.mean(axis=1), float(y.mean())
    apart = rise - mean_rise[:, None]
    size = np.sum(apart**2, axis=1)
    step = np.where(size > 1e-6, np.sum(apart * (y - mean), axis=1) / np.maximum(size, 1e-6), 0.0)
    start = mean - step * mean_rise
    squares = np.sum((y - mean - step[:, None] * apart) ** 2, axis=1)
    return start, start + step, squares


def _fit(x: Values, y: Values) -> _Fit | None:
    """The best curve of a search over all middles and slopes, refined; None where the search ends nowhere."""
    from scipy.optimize import minimize

    middles = np.linspace(x.min() - _MARGIN, x.max() + _MARGIN, 101)
    middle, slope = (grid.ravel() for grid in np.meshgrid(middles, _SLOPES, indexing="ij"))
    best = int(np.argmin(_plateaus(x, y, middle, slope)[2]))
    scale = float(np.sum((y - y.mean()) ** 2))

    def left(place: Values) -> float:
        return float(_plateaus(x, y, place[:1], np.exp(place[1:]))[2][0]) / scale

    bounds = [(middles[0], middles[-1]), (float(np.log(_SLOPES[0])), float(np.log(_SLOPES[-1])))]
    found = minimize(left, [middle[best], np.log(slope[best])], method="Nelder-Mead", bounds=bounds, options=_OPTIONS)
    if not np.isfinite(found.fun):
        return None
    at = np.array([found.x[0]]), np.exp(found.x[1:])
    start, end, squares = (float(part[0]) for part in _plateaus(x, y, *at))
    return _Fit(start, end, float(at[0][0]), float(at[1][0]), squares, len(y) - MINIMUM_DOSES)


_OPTIONS = {"xatol": 1e-5, "fatol": 1e-10, "maxiter": 2000}


def _explains(fit: _Fit, y: Values) -> bool:
    """Whether the curve is better than the mean (F test of its three more parameters)."""
    from scipy.stats import f

    gained = float(np.sum((y - y.mean()) ** 2)) - fit.squares
    if not varies(float(np.sqrt(fit.squares)), y):
        return True
    return bool(f.sf(gained / 3 / (fit.squares / fit.freedom), 3, fit.freedom) < _CHANCE)


def _flat(
    y: Values, levels: tuple[float, float], size: tuple[int, int, float | None, float | None], reason: str
) -> DoseResponse:
    """No effect of the dose: all doses are on one side of the half response, the control's (``> max``) or beyond.

    `levels` are the half response and the control's. Far from the control on its other side, where a strong rise
    is, there is no dose that the half response would be at the end of: no relative IC50 is told.
    """
    mean, (half, control) = float(y.mean()), levels
    side: Relation = ">" if (mean - half) * (control - half) > 0 else "<"
    potency = Potency(side, Estimate(size[3] if side == ">" else size[2], reason=reason))
    relative = potency
    if side == ">" and abs(mean - control) > abs(half - control):
        relative = Potency("", Estimate(None, reason=f"every dose is at {mean:.4g}, where the control is {control:g}"))
    spread = float(np.std(y, ddof=1))
    return DoseResponse(
        "no effect", reason, *size, start=mean, end=mean, spread=spread, relative=relative, absolute=potency
    )


def _relative(fit: _Fit, x: Values, y: Values, doses: tuple[float | None, float | None]) -> Potency:
    levels = np.unique(x)
    below = int(np.sum(levels < fit.middle - _BEND / fit.slope))
    above = int(np.sum(levels > fit.middle + _BEND / fit.slope))
    words = f"{below} doses beyond the lower bend and {above} beyond the upper; {_BEYOND} are needed at each"
    if above < _BEYOND <= below:
        return Potency(">", Estimate(doses[1], reason=words))
    if below < _BEYOND <= above:
        return Potency("<", Estimate(doses[0], reason=words))
    if below < _BEYOND:
        return Potency("", Estimate(None, reason=words))
    low, high = (None if end is None else float(10**end) for end in _profile(fit, x, y))
    return Potency("=", Estimate(float(10**fit.middle), low, high))


def _profile(fit: _Fit, x: Values, y: Values) -> tuple[float | None, float | None]:
    """Where the sum of squares, at its best for each fixed middle, is more than chance allows; None where nowhere."""
    from scipy.optimize import brentq
    from scipy.stats import t

    limit = fit.squares * (1 + float(t.ppf((1 + CONFIDENCE) / 2, fit.freedom)) ** 2 / fit.freedom)

    def over(middle: float) -> float:
        return _best_slope(x, y, middle) - limit

    ends: list[float | None] = []
    for edge in (x.min() - _MARGIN, x.max() + _MARGIN):
        steps = fit.middle + (edge - fit.middle) * np.linspace(0.01, 1, 100) ** 2
        outside = next((place for place in steps if over(place) > 0), None)
        ends.append(None if outside is None else float(brentq(over, fit.middle, outside, xtol=1e-6)))
    return ends[0], ends[1]


def _best_slope(x: Values, y: Values, middle: float) -> float:
    """Smallest sum of squares over all slopes at one middle."""
    from scipy.optimize import minimize_scalar

    squares = _plateaus(x, y, np.full(len(_SLOPES), middle), _SLOPES)[2]
    best = int(np.argmin(squares))
    around = np.log(_SLOPES[[max(best - 1, 0), min(best + 1, len(_SLOPES) - 1)]])
    found = minimize_scalar(
        lambda slope: float(_plateaus(x, y, np.array([middle]), np.exp([slope]))[2][0]), bounds=around, method="bounded"
    )
    return min(float(found.fun), float(squares[best]))


def _absolute(fit: _Fit, x: Values, half: float, control: float, doses: tuple[float | None, float | None]) -> Potency:
    levels = np.unique(x)
    curve = fit.start + (fit.end - fit.start) * _rise(levels, fit.middle, fit.slope)
    before, after = (int(np.sum((curve > half) == side)) for side in (control > half, control <= half))
    words = f"the curve is at {before} doses before {half:g} and at {after} past it; {_BEYOND} are needed"
    if after < _BEYOND <= before:
        return Potency(">", Estimate(doses[1], reason=words))
    if before < _BEYOND <= after:
        return Potency("<", Estimate(doses[0], reason=words))
    if before < _BEYOND:
        return Potency("", Estimate(None, reason=words))
    if (fit.start > half) != (control > half):
        return Potency("", Estimate(None, reason=f"the curve comes back to the control past {half:g}"))
    share = (half - fit.start) / (fit.end - fit.start)
    place = fit.middle + float(np.log10(share / (1 - share))) / fit.slope
    reach = _reach_of_absolute(fit, x, share)
    if reach is None or not reach <= float(np.ptp(x)) + 2 * _MARGIN:
        return Potency("=", Estimate(float(10**place), reason="no interval: the wells say nothing of how steep it is"))
    return Potency("=", Estimate(float(10**place), float(10 ** (place - reach)), float(10 ** (place + reach))))


def _reach_of_absolute(fit: _Fit, x: Values, share: float) -> float | None:
    """Half of the interval of log10 of the absolute IC50, by the delta method; None where the curve is degenerate."""
    from scipy.stats import t

    step, odds = fit.end - fit.start, float(np.log10(share / (1 - share)))
    rise = _rise(x, fit.middle, fit.slope)
    bend = np.log(10) * rise * (1 - rise)
    jacobian = np.column_stack([1 - rise, rise, -step * bend * fit.slope, step * bend * (x - fit.middle)])
    information = jacobian.T @ jacobian
    if np.linalg.cond(information) > 1e14:
        return None
    covariance = fit.squares / fit.freedom * np.linalg.inv(information)
    # d odds / d share = 1 / (ln 10 · share · (1 - share)); share changes with both plateaus.
    by_share = 1 / (np.log(10) * share * (1 - share) * fit.slope)
    gradient = np.array([-(1 - share) / step * by_share, -share / step * by_share, 1, -odds / fit.slope**2])
    variance = float(gradient @ covariance @ gradient)
    return float(t.ppf((1 + CONFIDENCE) / 2, fit.freedom)) * float(np.sqrt(max(variance, 0)))
