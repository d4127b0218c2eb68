"""Normalised values: by hand, guarded where a control does not vary; plate patterns taken out by B-score and loess."""

from __future__ import annotations

import math

import numpy as np
import pytest

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

NEGATIVE = reference_of([90.0, 100.0, 110.0, 100.0, 80.0, math.nan])


def test_by_hand() -> None:
    assert Reference(5, 100.0, pytest.approx(14.826)) == NEGATIVE
    values = [50.0, 100.0, math.nan]
    np.testing.assert_allclose(percent_of_control(values, NEGATIVE), [50, 100, np.nan])
    np.testing.assert_allclose(robust_z(values, NEGATIVE), [-50 / 14.826, 0, np.nan])
    np.testing.assert_allclose(percent_inhibition(values, NEGATIVE, reference_of([20.0])), [62.5, 0, np.nan])


@pytest.mark.parametrize(
    ("values", "centre", "words"),
    [
        ([], None, "no well has a value"),
        ([math.nan], None, "no well has a value"),
        ([5.0], 5.0, "1 well; 4 are needed"),
        ([5.0, 6.0, 7.0], 6.0, "3 wells; 4 are needed"),
        ([5.0, 5.0, 5.0, 9.0], 5.0, "the same value"),
        ([0.1 + 0.2, 0.3, 0.3, 0.1 + 0.2], 0.3, "the same value"),
    ],
)
def test_without_a_scale_there_is_no_z_and_the_reason_stands(
    values: list[float], centre: float | None, words: str
) -> None:
    found = reference_of(values)
    assert found.scale is None
    assert found.centre == (None if centre is None else pytest.approx(centre))
    assert words in found.reason
    assert np.isnan(robust_z([1.0, 2.0], found)).all()


def test_per_cent_of_a_control_at_or_below_zero_is_none() -> None:
    assert np.isnan(percent_of_control([1.0], reference_of([0.0] * 5))).all()
    assert np.isnan(percent_of_control([1.0], reference_of([-2.0, -1.0, -3.0, -2.0]))).all()
    assert np.isnan(percent_inhibition([1.0], reference_of([3.0]), reference_of([3.0]))).all()
    assert np.isnan(percent_inhibition([1.0], reference_of([]), reference_of([3.0]))).all()


def test_median_polish_by_hand() -> None:
    # Rows +0, +10; columns +0, +1, +2; one well 6 too high. The polish leaves those 6 alone, so the MAD is 0.
    grid = np.array([[0.0, 1, 2], [10, 11, 12], [20, 21, 28]])
    rows, columns = (place.ravel() for place in np.indices(grid.shape))
    assert np.isnan(b_score(grid.ravel(), rows, columns)).all()
    # With residuals that vary: Tukey's polish of this table settles at once, rows first.
    grid = np.array([[1.0, 2, 3, 4], [2, 4, 3, 5], [9, 8, 7, 6], [1, 0, 1, 2]])
    rows, columns = (place.ravel() for place in np.indices(grid.shape))
    left = b_score(grid.ravel(), rows, columns).reshape(4, 4)
    np.testing.assert_allclose(np.median(left, axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.median(left, axis=0), 0, atol=1e-6)
    assert np.median(np.abs(left - np.median(left))) * 1.4826 == pytest.approx(1)


def plate(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, columns = (place.ravel() for place in np.indices((16, 24)))
    values = 100 + 2 * rows + 0.1 * (columns - 12) ** 2 + np.random.default_rng(seed).normal(0, 4, rows.size)
    return values, rows, columns


@pytest.mark.parametrize("method", [b_score, loess])
def test_a_pattern_of_the_plate_is_taken_out_and_a_hit_stays(method: object) -> None:
    values, rows, columns = plate()
    values[100] -= 60
    values[7] = np.nan
    assert callable(method)
    corrected = method(values, rows, columns)
    others = np.delete(corrected, [7, 100])
    assert np.isnan(corrected[7])
    assert (corrected[100] - np.median(others)) / np.std(others) < -9
    for place in (rows, columns):
        assert abs(np.corrcoef(np.delete(place, [7, 100]), others)[0, 1]) < 0.1
    assert np.array_equal(corrected, method(values, rows, columns), equal_nan=True)


def test_loess_keeps_the_unit_and_the_level() -> None:
    values, rows, columns = plate()
    corrected = loess(values, rows, columns)
    assert np.median(corrected) == pytest.approx(np.median(values), abs=1)
    assert 3.5 < np.std(corrected) < 4.5


def test_too_few_wells_for_a_plate_pattern() -> None:
    assert np.isnan(b_score([1.0, 2.0], [1, 1], [1, 2])).all()
    assert np.isnan(b_score([], [], [])).all()
    assert np.isnan(loess([1.0] * 9, range(9), range(9))).all()


def test_what_the_methods_cannot_bear_is_said() -> None:
    values, _, _ = plate()
    assert cautions(values, doses=False) == ()
    assert "dose series" in cautions(values, doses=True)[0]
    values = np.random.default_rng(0).normal(100, 4, 384)
    values[:100] -= 60
    assert "26% of the sample wells are hits" in cautions(values, doses=False)[0]
