"""Neighbours of nuclei at known places, and against SciPy over irregular ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from measurement_fields import Labels, blobs, disk, renumbered
from scipy import ndimage
from scipy.spatial.distance import cdist

from hcs_nuclei.measurement.insides import find_insides
from hcs_nuclei.measurement.neighbours import measure_neighbours
from hcs_nuclei.measurement.runs import find_runs
from hcs_nuclei.measurement.shape import measure_shape

P = "Nuclei_Neighbors_"


def neighbours_of(labels: Labels, distance_px: float = 30) -> dict[str, npt.NDArray[np.float64]]:
    runs = find_runs(labels)
    shape = measure_shape(labels, runs, find_insides(labels, runs))
    y, x = (shape[f"Metadata_Center_{axis}"].astype(np.float64) for axis in "YX")
    return {
        name.removeprefix(P): values
        for name, values in measure_neighbours(labels, runs, y, x, distance_px=distance_px).items()
    }


def squares(*corners: tuple[int, int], side: int = 10, shape: tuple[int, int] = (80, 90)) -> Labels:
    """Square nuclei by their top left corners, numbered from 1."""
    labels = np.zeros(shape, np.uint32)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = number
    return labels


def test_a_nucleus_alone_has_no_distance() -> None:
    measured = neighbours_of(disk(8))
    assert all(np.isnan(measured[f"{name}Distance_Adjacent"]).all() for name in ("FirstClosest", "SecondClosest"))
    assert np.isnan(measured["AngleBetweenNeighbors_Adjacent"]).all()
    assert measured["NumberOfNeighbors_Adjacent"] == measured["NumberOfNeighbors_Within"] == 0
    assert measured["PercentTouching_Adjacent"] == 0


def test_of_two_nuclei_there_is_no_second_nearest() -> None:
    measured = neighbours_of(squares((10, 10), (10, 40)))
    assert measured["FirstClosestDistance_Adjacent"].tolist() == [30, 30]
    assert np.isnan(measured["SecondClosestDistance_Adjacent"]).all()
    assert measured["NumberOfNeighbors_Within"].tolist() == [1, 1]


def test_an_empty_field_has_no_rows() -> None:
    assert {values.shape for values in neighbours_of(np.zeros((9, 9), np.uint32)).values()} == {(0,)}


@pytest.mark.parametrize(
    ("distance", "expected"), [(19.9, [0, 0, 0]), (20, [1, 1, 0]), (35, [1, 2, 1]), (60, [2, 2, 2])]
)
def test_neighbours_within_a_distance_are_counted_from_centre_to_centre(distance: float, expected: list[int]) -> None:
    labels = squares((10, 10), (10, 30), (10, 60))
    assert neighbours_of(labels, distance)["NumberOfNeighbors_Within"].tolist() == expected


@pytest.mark.parametrize(
    ("third", "angle"), [((10, 60), 180), ((40, 35), 90), ((10, 12), 0)], ids=["opposite", "square", "same side"]
)
def test_the_angle_is_between_the_two_nearest(third: tuple[int, int], angle: float) -> None:
    labels = squares((10, 35), (10, 20), third, side=2)
    assert neighbours_of(labels)["AngleBetweenNeighbors_Adjacent"][0] == pytest.approx(angle)


def test_two_touching_nuclei_share_a_side_of_their_outlines() -> None:
    measured = neighbours_of(squares((10, 10), (10, 20), (60, 60)))
    assert measured["NumberOfNeighbors_Adjacent"].tolist() == [1, 1, 0]
    # Ten of the 36 outline pixels of a square of ten.
    np.testing.assert_allclose(measured["PercentTouching_Adjacent"], [1000 / 36, 1000 / 36, 0])


def test_over_a_corner_outlines_touch_without_being_neighbours() -> None:
    measured = neighbours_of(squares((10, 10), (20, 20)))
    assert measured["NumberOfNeighbors_Adjacent"].tolist() == [0, 0]
    np.testing.assert_allclose(measured["PercentTouching_Adjacent"], 100 / 36)


def test_the_edge_of_the_field_is_outline_and_touches_nothing() -> None:
    measured = neighbours_of(squares((0, 0), (0, 10), side=10, shape=(10, 20)))
    np.testing.assert_allclose(measured["PercentTouching_Adjacent"], 1000 / 36)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scipy(seed: int) -> None:
    labels = blobs(seed)
    numbers = np.unique(labels[labels > 0])
    measured = neighbours_of(labels, 25)
    centers = np.array(ndimage.center_of_mass(np.ones(labels.shape), labels, numbers))
    distances = np.sort(cdist(centers, centers), axis=1)
    np.testing.assert_allclose(measured["FirstClosestDistance_Adjacent"], distances[:, 1])
    np.testing.assert_allclose(measured["SecondClosestDistance_Adjacent"], distances[:, 2])
    np.testing.assert_array_equal(measured["NumberOfNeighbors_Within"], (distances <= 25).sum(axis=1) - 1)
    square = np.ones((3, 3), bool)
    for n, number in enumerate(numbers):
        mask, others = labels == number, (labels > 0) & (labels != number)
        around = labels[ndimage.binary_dilation(mask) & others]
        outline = mask & ~ndimage.binary_erosion(mask, square)
        touching = outline & ndimage.binary_dilation(others, square)
        assert measured["NumberOfNeighbors_Adjacent"][n] == np.unique(around).size
        assert measured["PercentTouching_Adjacent"][n] == pytest.approx(100 * touching.sum() / outline.sum())


def test_renumbering_only_reorders_rows() -> None:
    labels = blobs(6)
    other = renumbered(labels, 6)
    before, after = neighbours_of(labels), neighbours_of(other)
    first_pixel = [np.flatnonzero(labels == number)[0] for number in np.unique(labels[labels > 0])]
    order = np.searchsorted(np.unique(other[other > 0]), other.reshape(-1)[first_pixel])
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name][order], err_msg=name)
