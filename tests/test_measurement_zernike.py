"""Smallest circles and Zernike moments: exact shapes, SciPy's polynomials, and what may move or turn them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from measurement_fields import Labels, blobs, disk, ellipse, rectangle
from scipy.optimize import minimize
from scipy.special import eval_jacobi

from hcs_nuclei.columns.options import ZERNIKE, ZERNIKE_ORDERS
from hcs_nuclei.measurement.insides import find_insides
from hcs_nuclei.measurement.runs import find_runs
from hcs_nuclei.measurement.zernike import measure_zernike, smallest_circles

Floats = npt.NDArray[np.float64]


def zernike_of(labels: Labels) -> dict[tuple[int, int], Floats]:
    """By n and m."""
    runs = find_runs(labels)
    measured = measure_zernike(runs, find_insides(labels, runs))
    return {order: measured[f"Nuclei_AreaShape_Zernike_{order[0]}_{order[1]}"] for order in ZERNIKE_ORDERS}


@pytest.mark.parametrize("labels", [blobs(1), np.zeros((5, 6), np.uint32)], ids=["nuclei", "none"])
def test_all_columns_and_no_others_are_measured(labels: Labels) -> None:
    runs = find_runs(labels)
    measured = measure_zernike(runs, find_insides(labels, runs))
    assert list(measured) == [column.name for column in ZERNIKE]
    assert {values.shape for values in measured.values()} == {(len(np.unique(labels)) - 1,)}


@pytest.mark.parametrize(("height", "width"), [(1, 2), (1, 9), (5, 5), (12, 31), (40, 3)])
def test_the_smallest_circle_of_a_rectangle_runs_through_its_corners(height: int, width: int) -> None:
    y, x, radius = smallest_circles(find_runs(rectangle(height, width)))
    assert (y.item(), x.item()) == pytest.approx(((height - 1) / 2, (width - 1) / 2))
    assert radius.item() == pytest.approx(np.hypot(height - 1, width - 1) / 2)


@pytest.mark.parametrize("radius", [3, 12, 40])
def test_the_smallest_circle_of_a_disk_is_its_outline(radius: int) -> None:
    y, x, found = smallest_circles(find_runs(disk(radius)))
    assert (y.item(), x.item(), found.item()) == pytest.approx((radius, radius, radius))


@pytest.mark.parametrize("seed", range(3))
def test_no_circle_is_smaller(seed: int) -> None:
    labels = blobs(seed)
    runs = find_runs(labels)
    y, x, radius = smallest_circles(runs)
    for n, number in enumerate(runs.numbers):
        places = np.argwhere(labels == number)
        centre = places.min(axis=0) + np.array([y[n], x[n]])
        away = np.hypot(*(places - centre).T).max()
        assert away == pytest.approx(radius[n], rel=1e-9, abs=1e-9)
        best = minimize(
            lambda c, p=places: np.hypot(*(p - c).T).max(), places.mean(axis=0), method="Nelder-Mead", tol=1e-10
        )
        assert radius[n] <= best.fun * (1 + 1e-6)


def test_agrees_with_scipys_polynomials() -> None:
    labels = blobs(0)
    measured = zernike_of(labels)
    y, x, radius = smallest_circles(find_runs(labels))
    for n, number in enumerate(np.unique(labels[labels > 0])):
        if radius[n] == 0:
            assert all(np.isnan(values[n]) for values in measured.values())
            continue
        places = np.argwhere(labels == number)
        down, right = (places - places.min(axis=0) - (y[n], x[n])).T / radius[n]
        distance, angle = np.minimum(np.hypot(down, right), 1.0), np.arctan2(down, right)
        for (p, m), values in measured.items():
            half = (p - m) // 2
            # The radial polynomial is a Jacobi polynomial (Born and Wolf).
            radial = (-1) ** half * distance**m * eval_jacobi(half, m, 0, 1 - 2 * distance**2)
            expected = np.abs((radial * np.exp(1j * m * angle)).sum()) / (math.pi * radius[n] ** 2)
            assert values[n] == pytest.approx(expected, rel=1e-8, abs=1e-10), (p, m)


def test_a_disk_has_its_area_and_nothing_else() -> None:
    measured = zernike_of(disk(60))
    assert measured[0, 0].item() == pytest.approx(1, abs=0.02)
    # Pixels are symmetric over a quarter turn and a mirror: orders that are not, vanish.
    for (n, m), values in measured.items():
        if (n, m) != (0, 0):
            assert values.item() == pytest.approx(0, abs=1e-12 if m % 4 else 0.02), (n, m)


def test_a_long_nucleus_has_the_order_of_two() -> None:
    long, round_ = zernike_of(ellipse(30, 12, 20)), zernike_of(disk(30))
    assert long[0, 0].item() == pytest.approx(12 / 30, abs=0.02)
    assert long[2, 2].item() > 0.05 > round_[2, 2].item()


def test_turning_and_mirroring_change_nothing() -> None:
    labels = ellipse(30, 12, 20)
    labels[: labels.shape[0] // 2, : labels.shape[1] // 2] = 0  # no symmetry
    before = zernike_of(labels)
    for f in (np.rot90, np.fliplr):
        after = zernike_of(np.ascontiguousarray(f(labels)))
        for order, values in before.items():
            assert after[order].item() == pytest.approx(values.item(), rel=1e-9, abs=1e-12)


def test_moving_and_other_nuclei_change_no_bit() -> None:
    labels = blobs(2)
    number = labels.max()
    together = zernike_of(np.pad(labels, ((17, 3), (101, 8))))
    alone = zernike_of(np.where(labels == number, labels, 0))
    for order, values in together.items():
        np.testing.assert_array_equal(values[-1], alone[order].item(), err_msg=str(order))
