"""A plate's treated wells and one readout in, rows of the tables of statistics and the normalised values of wells out.

Rows are without what says which plate, time point and readout they are of; their names are those of
:mod:`hcs_nuclei.columns.statistics`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hcs_nuclei.screening.controls import Separation, compare_controls
from hcs_nuclei.screening.dose_response import DoseResponse, Potency, fit_dose_response
from hcs_nuclei.screening.estimates import Estimate, known
from hcs_nuclei.screening.normalise import (
    Reference,
    b_score,
    cautions,
    loess,
    percent_inhibition,
    percent_of_control,
    reference_of,
    robust_z,
)
from hcs_nuclei.screening.plate_effects import plate_effects
from hcs_nuclei.screening.replicates import summarise
from hcs_nuclei.screening.treated_wells import DoseSeries, TreatedWells

Values = npt.NDArray[np.float64]
Scale = Literal["percent_of_control", "percent_inhibition"]

#: Below it an assay is not fit for screening single wells (Zhang et al. 1999: 0.5 and more is excellent).
LOW_Z_PRIME = 0.5
_EMPTY = {"Percent": None, "Percent_Low": None, "Percent_High": None}


@dataclass(frozen=True)
class ReadoutWells:
    """One readout of a plate at one time point: `values` (n,) of its `wells`, NaN where a well has none."""

    wells: TreatedWells
    values: Values

    @cached_property
    def negative(self) -> Reference:
        """Centre and scale of the negative control."""
        return reference_of(self.values[self.wells.negative])

    @cached_property
    def percent(self) -> Values:
        """(n,) per cent of the negative control."""
        return percent_of_control(self.values, self.negative)

    @cached_property
    def z(self) -> Values:
        """(n,) robust z against the negative control."""
        return robust_z(self.values, self.negative)

    @cached_property
    def inhibition(self) -> Values:
        """(n,) per cent inhibition between the controls; all NaN unless there is one kind of positive control."""
        positives = list(self.wells.positives.values())
        if len(positives) != 1:
            return np.full_like(self.values, np.nan)
        return percent_inhibition(self.values, self.negative, reference_of(self.values[positives[0]]))

    def patterns_taken_out(self, method: Literal["b_score", "loess"]) -> Values:
        """(n,) B-score or loess of the sample wells; NaN for controls."""
        out = np.full_like(self.values, np.nan)
        chosen = self.wells.samples & np.isfinite(self.values)
        correct = b_score if method == "b_score" else loess
        out[chosen] = correct(self.values[chosen], self.wells.rows[chosen], self.wells.columns[chosen])
        return out

    def cautions(self) -> tuple[str, ...]:
        """Why B-score and loess are not for this plate, in words."""
        return cautions(self.values[self.wells.samples], doses=bool(self.wells.series))


def control_rows(readout: ReadoutWells) -> Iterator[dict[str, Any]]:
    """What the controls say: centre and scale of the negative one, and how each positive one stands off from it."""
    wells = readout.wells
    if not wells.negative.any():
        return
    negative = readout.negative
    for name, value, what in (
        ("NegconMedian", negative.centre, "median"),
        ("NegconMAD", negative.scale, "MAD × 1.4826"),
    ):
        words = f"{what} of {negative.wells} wells" if value is not None else negative.reason
        yield _row(name, None, Estimate(value), negative.wells, None, False, words)
    for control, mask in wells.positives.items():
        found = compare_controls(readout.values[wells.negative], readout.values[mask])
        for name, estimate in _separations(found):
            low = name.endswith("ZPrime") and estimate.value is not None and estimate.value < LOW_Z_PRIME
            yield _row(name, control, estimate, found.negative, found.positive, low, _words(name, estimate, found))


def effect_rows(readout: ReadoutWells, shape: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """What the plate itself does to the readout; `shape` is (rows, columns) of its format."""
    wells = readout.wells
    for effect in plate_effects(readout.values, wells.rows, wells.columns, wells.treatments[0], shape):
        percent = effect.percent
        yield {
            **_row(effect.name, None, effect.size, effect.wells, effect.against, effect.notable, effect.sentence),
            "Percent": percent.value,
            "Percent_Low": percent.low,
            "Percent_High": percent.high,
        }


def dose_rows(readout: ReadoutWells, count: ReadoutWells | None, scale: Scale) -> Iterator[dict[str, Any]]:
    """The curve of each compound's wells; `count` is the count of nuclei, to be shown beside."""
    for series in readout.wells.series:
        found = _fit(readout, series, scale)
        beside = _counts(count, series) if count else {}
        yield {
            "Metadata_Compound": series.compound,
            "Metadata_Concentration_unit": series.units[0] if len(series.units) == 1 else None,
            "Scale": scale,
            "Outcome": found.outcome,
            "Reason": found.reason,
            "Wells": found.wells,
            "Doses": found.doses,
            "LowestDose": found.lowest,
            "HighestDose": found.highest,
            **_potency("RelativeIC50", found.relative),
            **_potency("AbsoluteIC50", found.absolute),
            "Start": found.start,
            "End": found.end,
            "HillSlope": found.slope,
            "Log10Middle": found.middle,
            "Spread": found.spread,
            "Count_HighestDose": beside.get(float(np.max(readout.wells.doses[series.wells]))),
            "Count_Lowest": min(beside.values(), default=None),
        }


def replicate_rows(readout: ReadoutWells, count: ReadoutWells | None) -> Iterator[dict[str, Any]]:
    """Each treatment's wells summarised; `count` is the count of nuclei, to be shown beside."""
    wells = readout.wells
    numbers, treatments = wells.treatments
    for number, treatment in enumerate(treatments):
        mask = numbers == number
        there = np.flatnonzero(mask & np.isfinite(readout.values))
        found = summarise(readout.values[mask])
        replicates = {replicate for i in there if (replicate := wells.replicates[i]) is not None}
        yield {
            "Metadata_control_type": treatment.control_type,
            "Metadata_Compound": treatment.compound,
            "Metadata_Concentration": treatment.concentration,
            "Metadata_Concentration_unit": treatment.unit,
            "Wells": found.wells,
            "Replicates": len(replicates) or None,
            "Median": found.median,
            "MAD": found.mad,
            "Mean": found.mean,
            "Std": found.spread,
            "PercentOfControl_Median": summarise(readout.percent[mask]).median,
            "RobustZ_Median": summarise(readout.z[mask]).median,
            "Count_PercentOfControl": summarise(count.percent[mask]).median if count else None,
        }


def _row(
    name: str, control: str | None, estimate: Estimate, wells: int, against: int | None, notable: bool, words: str
) -> dict[str, Any]:
    return {
        "Metadata_Statistic": name,
        "Metadata_Control": control,
        "Value": estimate.value,
        "Low": estimate.low,
        "High": estimate.high,
        **_EMPTY,
        "Wells": wells,
        "Wells_Against": against,
        "Notable": notable,
        "Words": words,
    }


def _separations(found: Separation) -> tuple[tuple[str, Estimate], ...]:
    return (
        ("ZPrime", found.z_prime),
        ("RobustZPrime", found.robust_z_prime),
        ("SSMD", found.ssmd),
        ("RobustSSMD", found.robust_ssmd),
    )


def _words(name: str, estimate: Estimate, found: Separation) -> str:
    if estimate.value is None:
        return f"none: {estimate.reason}"
    interval = f" ({estimate.low:.3g} to {estimate.high:.3g})" if estimate.low is not None else f"; {estimate.reason}"
    side = ""
    if name.endswith("SSMD"):
        side = ", the positive control is the higher" if estimate.value > 0 else ", the positive control is the lower"
    return f"{estimate.value:.3g}{interval}, {found.negative} wells against {found.positive}{side}"


def _fit(readout: ReadoutWells, series: DoseSeries, scale: Scale) -> DoseResponse:
    values = (readout.percent if scale == "percent_of_control" else readout.inhibition)[series.wells]
    doses = readout.wells.doses[series.wells]
    if len(series.units) > 1:
        return _not_fitted(doses, f"its doses have several units: {', '.join(series.units)}")
    if known(readout.values[series.wells]).size and not known(values).size:
        return _not_fitted(doses, _no_scale(readout, scale))
    return fit_dose_response(doses, values, half=50.0, control=100.0 if scale == "percent_of_control" else 0.0)


def _not_fitted(doses: Values, reason: str) -> DoseResponse:
    levels = np.unique(doses)
    return DoseResponse("not fitted", reason, 0, len(levels), float(levels[0]), float(levels[-1]))


def _no_scale(readout: ReadoutWells, scale: Scale) -> str:
    kinds = list(readout.wells.positives)
    if not readout.wells.negative.any():
        return "the layout names no negative control (negcon), so the wells cannot be normalised"
    if readout.negative.centre is None:
        return "no well of the negative control has a value, so the wells cannot be normalised"
    if scale == "percent_of_control":
        return "the negative control's median is not above 0, so there is no per cent of it"
    if len(kinds) != 1:
        return f"percent_inhibition needs one kind of positive control; found {', '.join(kinds) or 'none'}"
    return "both controls have the same median, or the positive one no value: no inhibition can be told"


def _potency(kind: str, potency: Potency) -> dict[str, Any]:
    dose = potency.dose
    return {
        f"{kind}_Relation": potency.relation or None,
        kind: dose.value,
        f"{kind}_Low": dose.low,
        f"{kind}_High": dose.high,
        f"{kind}_Reason": dose.reason,
    }


def _counts(count: ReadoutWells, series: DoseSeries) -> dict[float, float]:
    """By dose the median count of nuclei in per cent of the negative control's; doses without any are left out."""
    doses, percents = count.wells.doses[series.wells], count.percent[series.wells]
    medians = {float(dose): summarise(percents[doses == dose]).median for dose in np.unique(doses)}
    return {dose: median for dose, median in medians.items() if median is not None}
