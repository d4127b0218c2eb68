"""Dose–response: a published fit to its digits, known curves within their intervals, outcomes in place of errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hcs_nuclei.screening.dose_response import fit_dose_response

DOSES = np.repeat(10.0 ** np.linspace(-2, 2, 10), 3)

#: Root length (cm) of ryegrass at concentrations (mM) of ferulic acid, from Inderjit, Streibig & Olofsdotter 2002; the
#: worked example of R's drc (Ritz & Streibig 2005, J. Stat. Softw. 12(5)).
RYEGRASS = {
    0.0: (7.58, 8.0, 8.3285714, 7.25, 7.375, 7.9625),
    0.94: (8.3555556, 6.9142857, 7.75),
    1.88: (6.8714286, 6.45, 5.9222222),
    3.75: (1.925, 2.8857143, 4.2333333),
    7.5: (1.1875, 0.8571429, 1.0571429),
    15.0: (0.6875, 0.525, 0.825),
    30.0: (0.25, 0.22, 0.44),
}


def curve(middle: float, slope: float, start: float, end: float, seed: int, spread: float = 6.0) -> np.ndarray:
    rise = 1 / (1 + 10 ** (-slope * (np.log10(DOSES) - middle)))
    return start + (end - start) * rise + np.random.default_rng(seed).normal(0, spread, len(DOSES))


def test_the_published_fit_of_ryegrass() -> None:
    # drc takes dose 0 into its fit, where the curve is at its upper plateau; so is it at a millionth.
    doses = [dose or 1e-6 for dose, lengths in RYEGRASS.items() for _ in lengths]
    values = [length for lengths in RYEGRASS.values() for length in lengths]
    found = fit_dose_response(doses, values, half=0.5 * (0.48141 + 7.79296), control=7.8)
    assert (found.outcome, found.wells, found.doses) == ("fitted", 24, 7)
    assert found.slope == pytest.approx(2.98222, rel=1e-3)
    assert found.end == pytest.approx(0.48141, rel=1e-3)
    assert found.start == pytest.approx(7.79296, rel=1e-4)
    assert found.spread == pytest.approx(0.5196256, rel=1e-4)
    assert found.relative.relation == "="
    assert found.relative.dose.value == pytest.approx(3.05795, rel=1e-4)
    # drc: 3.05795, standard error 0.18573 by the delta method, 20 degrees of freedom.
    assert found.relative.dose.low == pytest.approx(3.05795 - 2.086 * 0.18573, rel=0.03)
    assert found.relative.dose.high == pytest.approx(3.05795 + 2.086 * 0.18573, rel=0.03)
    # The absolute one at the same response is the same dose, with an interval that knows less of the plateaus.
    assert found.absolute.dose.value == pytest.approx(3.058, rel=1e-3)


def test_dose_0_is_not_on_the_axis() -> None:
    values = curve(0.0, 1.2, 100, 10, 0)
    plain = fit_dose_response(DOSES, values)
    with_zero = fit_dose_response([*DOSES, 0.0, 0.0, math.nan], [*values, 100.0, 5000.0, 1.0])
    assert with_zero == plain
    assert (plain.lowest, plain.highest) == (pytest.approx(0.01), pytest.approx(100))


@pytest.mark.parametrize(
    ("middle", "slope", "start", "end"), [(0.0, 1.2, 100, 10), (-0.5, 2.0, 100, 30), (0.3, 0.9, 100, 180)]
)
def test_a_curve_without_noise_is_found_to_its_digits(middle: float, slope: float, start: float, end: float) -> None:
    found = fit_dose_response(DOSES, curve(middle, slope, start, end, 0, spread=1e-3))
    assert found.relative.dose.value == pytest.approx(10**middle, rel=1e-3)
    assert (found.start, found.end, found.slope) == (
        pytest.approx(start, abs=0.1),
        pytest.approx(end, abs=0.1),
        pytest.approx(slope, rel=1e-2),
    )
    np.testing.assert_allclose(found.at(DOSES), curve(middle, slope, start, end, 0, spread=0), atol=0.01)


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """200 seeds of 10 doses in triplicate with a spread of 6 %: 95 % is said, 190 are expected."""
    truth = 1.0, 10 ** (math.log10((50 / 90) / (40 / 90)) / 1.2)
    held = np.zeros(2)
    for seed in range(200):
        found = fit_dose_response(DOSES, curve(0.0, 1.2, 100, 10, seed))
        for k, potency in enumerate((found.relative, found.absolute)):
            assert potency.relation == "="
            held[k] += (potency.dose.low or 0) <= truth[k] <= (potency.dose.high or math.inf)
    assert ((held >= 180) & (held < 200)).all(), held


def test_a_curve_that_goes_on_past_the_highest_dose() -> None:
    found = fit_dose_response(DOSES, curve(1.8, 1.2, 100, 0, 0))
    assert (found.outcome, found.relative.relation, found.absolute.relation) == ("fitted", ">", ">")
    assert found.relative.dose.value == pytest.approx(100)
    assert (found.relative.dose.low, found.relative.dose.high) == (None, None)
    assert "beyond the upper; 2 are needed" in found.relative.dose.reason


def test_a_curve_that_began_before_the_lowest_dose() -> None:
    found = fit_dose_response(DOSES, curve(-1.9, 1.2, 100, 0, 0))
    assert (found.relative.relation, found.absolute.relation) == ("<", "<")
    assert found.relative.dose.value == pytest.approx(0.01)


def test_a_compound_that_stops_at_60_per_cent_has_a_relative_ic50_alone() -> None:
    found = fit_dose_response(DOSES, curve(0.0, 1.5, 100, 60, 0, spread=1))
    assert found.relative.relation == "="
    assert found.relative.dose.value == pytest.approx(1, rel=0.1)
    assert found.absolute.relation == ">"


def test_a_rising_readout() -> None:
    found = fit_dose_response(DOSES, curve(0.0, 1.5, 100, 180, 0, spread=1))
    assert found.relative.dose.value == pytest.approx(1, rel=0.1)
    assert (found.start or 999) < (found.end or 0)
    assert found.absolute.relation == ">"  # it never falls to half of the control
    back = fit_dose_response(DOSES, curve(0.0, 1.5, 10, 100, 0, spread=1))
    assert (back.relative.relation, back.absolute.relation) == ("=", "")
    assert "comes back to the control" in back.absolute.dose.reason


def test_an_absolute_ic50_of_which_the_wells_say_little_has_no_interval() -> None:
    # Between 1 and 10 the curve may be as steep as it likes: by the delta method the interval is 10^±500.
    found = fit_dose_response([1e-3, 1e-2, 0.1, 1, 10, 100, 1e3, 1e4], [101, 99, 100, 99, 101, 1, 1, 0])
    dose = found.absolute.dose
    assert (found.outcome, found.absolute.relation, dose.low, dose.high) == ("fitted", "=", None, None)
    assert 10 < (dose.value or 0) < 100
    assert "no interval" in dose.reason


def test_no_interval_is_wider_than_what_was_searched() -> None:
    rng = np.random.default_rng(5)
    doses = 10.0 ** np.arange(-3, 5)
    for _ in range(60):
        found = fit_dose_response(doses, 100 / (1 + (doses / 3.0) ** 3) + rng.normal(0, 5, 8))
        if found.absolute.dose.high is not None:
            assert found.absolute.dose.high / (found.absolute.dose.low or 0) < 10 ** (2 * (7 + 4))


def test_a_strong_rise_at_every_dose_has_no_relative_ic50_beyond_them() -> None:
    found = fit_dose_response(DOSES, curve(0.0, 1.0, 300, 300, 1))
    assert (found.outcome, found.relative.relation, found.relative.dose.value) == ("no effect", "", None)
    assert found.relative.dose.reason.endswith("where the control is 100")
    assert found.absolute.relation == ">"


@pytest.mark.parametrize("values", [np.full(8, 100.0), 100 / (1 + (np.arange(8.0) / 40))])
def test_the_highest_dose_is_told_as_it_was_given(values: np.ndarray) -> None:
    doses = [0.0137, 0.0412, 0.123, 0.37, 1.11, 3.33, 10.0, 30.0]
    found = fit_dose_response(doses, values)
    assert (found.lowest, found.highest) == (0.0137, 30.0)
    assert found.absolute.dose.value == 30.0


@pytest.mark.parametrize(("level", "control", "relation"), [(100, 100, ">"), (4, 100, "<"), (0, 0, ">"), (96, 0, "<")])
def test_no_effect_lies_on_the_side_that_the_wells_are_on(level: float, control: float, relation: str) -> None:
    found = fit_dose_response(DOSES, curve(0.0, 1.0, level, level, 1), control=control)
    assert (found.outcome, found.relative.relation, found.absolute.relation) == ("no effect", relation, relation)
    assert found.relative.dose.value == pytest.approx(100 if relation == ">" else 0.01)
    assert found.start == found.end == pytest.approx(level, abs=4)
    np.testing.assert_allclose(found.at([1.0]), [found.start])


NOTHING = {
    "no well": ([], []),
    "dose 0 alone": ([0.0] * 9, [100.0] * 9),
    "three doses": ([1.0, 1.0, 2.0, 2.0, 3.0, 3.0], [90.0, 95.0, 50.0, 55.0, 9.0, 8.0]),
    "four wells": ([1.0, 2.0, 3.0, 4.0], [90.0, 50.0, 20.0, 10.0]),
    "no value": (DOSES, np.full(30, np.nan)),
}


@pytest.mark.parametrize(("doses", "values"), NOTHING.values(), ids=NOTHING.keys())
def test_too_little_is_an_outcome_and_no_error(doses: list[float], values: list[float]) -> None:
    found = fit_dose_response(doses, values)
    assert found.outcome == "not fitted"
    assert "4 doses and 5 wells are needed" in found.reason
    assert (found.relative.relation, found.relative.dose.value) == ("", None)
    assert np.isnan(found.at([1.0])).all()


ODD = {
    "all equal": np.full(30, 100.0),
    "a jump between two doses": np.where(DOSES < 1, 100.0, 0.0),
    "one well of a thousand": np.where(np.arange(30) == 4, 1e3, 100.0),
    "a valley": 100 - 80 * np.exp(-(np.log10(DOSES) ** 2)),
    "huge": curve(0, 1, 1e12, 1e11, 0, 1e10),
    "negative": curve(0, 1, -10, -50, 0, 1),
}


@pytest.mark.parametrize("values", ODD.values(), ids=ODD.keys())
def test_odd_values_are_an_outcome_and_no_error(values: np.ndarray) -> None:
    found = fit_dose_response(DOSES, values)
    assert found.outcome in {"fitted", "no effect"}
    for potency in (found.relative, found.absolute):
        assert (potency.dose.value is None) == (potency.relation == "")
