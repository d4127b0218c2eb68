"""The pixels of all nuclei and how deep inside each lies, against SciPy nucleus by nucleus."""

from __future__ import annotations

import numpy as np
import pytest
from measurement_fields import Labels, blobs, disk, rectangle
from scipy import ndimage
from skimage.segmentation import find_boundaries

from hcs_nuclei.measurement.insides import find_insides, sort_within, total_of
from hcs_nuclei.measurement.runs import find_runs


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scipy(seed: int) -> None:
    labels = blobs(seed)
    insides = find_insides(labels, find_runs(labels))
    assert insides.areas.sum() == insides.pixels.size == insides.depth2.size
    boundaries = find_boundaries(labels, mode="inner")
    edges = np.split(insides.edge, np.cumsum(insides.edge_areas)[:-1])
    for n, number in enumerate(np.unique(labels[labels > 0])):
        of_it = slice(insides.starts[n], insides.starts[n] + insides.areas[n])
        nucleus = labels == number
        places = np.argwhere(nucleus)
        np.testing.assert_array_equal(insides.pixels[of_it], np.flatnonzero(nucleus))
        np.testing.assert_array_equal(insides.y[of_it], places[:, 0] - places[:, 0].min())
        np.testing.assert_array_equal(insides.x[of_it], places[:, 1] - places[:, 1].min())
        depth = ndimage.distance_transform_edt(np.pad(nucleus, 1))[1:-1, 1:-1][nucleus]
        np.testing.assert_array_equal(insides.depth2[of_it], np.rint(depth**2))
        np.testing.assert_array_equal(insides.pixels[edges[n]], np.flatnonzero(nucleus & boundaries))


def test_nothing_is_inside_an_empty_field() -> None:
    labels = np.zeros((6, 9), np.uint32)
    insides = find_insides(labels, find_runs(labels))
    assert insides.pixels.size == insides.areas.size == insides.edge.size == 0


@pytest.mark.parametrize("labels", [np.ones((9, 12), np.uint32), rectangle(9, 12)], ids=["whole field", "inside it"])
def test_the_depth_of_a_rectangle_grows_from_its_sides_whether_or_not_the_field_ends_there(labels: Labels) -> None:
    insides = find_insides(labels, find_runs(labels))
    y, x = np.indices((9, 12))
    expected = np.minimum(np.minimum(y, 8 - y), np.minimum(x, 11 - x)) + 1
    np.testing.assert_array_equal(insides.depth2, expected.ravel() ** 2)


def test_the_edge_of_the_field_is_no_edge_of_a_nucleus() -> None:
    labels = np.zeros((8, 8), np.uint32)
    labels[:4] = 3
    insides = find_insides(labels, find_runs(labels))
    assert insides.pixels[insides.edge].tolist() == list(range(24, 32))


def test_a_disk_is_deepest_in_its_middle() -> None:
    labels = disk(15)
    insides = find_insides(labels, find_runs(labels))
    assert insides.pixels[insides.depth2.argmax()] == labels.size // 2


def test_turning_changes_no_depth() -> None:
    labels = blobs(1)
    turned = np.ascontiguousarray(np.rot90(labels))
    before, after = (find_insides(one, find_runs(one)) for one in (labels, turned))
    field = np.zeros(labels.size, np.int64)
    field[before.pixels] = before.depth2
    other = np.zeros(labels.size, np.int64)
    other[after.pixels] = after.depth2
    np.testing.assert_array_equal(np.rot90(field.reshape(labels.shape)), other.reshape(turned.shape))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32])
def test_sorts_within_each_group_alone(dtype: type) -> None:
    rng = np.random.default_rng(0)
    areas = rng.integers(1, 9, 40)
    values = rng.integers(0, 200, areas.sum()).astype(dtype)
    expected = np.concatenate([np.sort(part) for part in np.split(values, np.cumsum(areas)[:-1])])
    sort_within(values, areas)
    np.testing.assert_array_equal(values, expected)
    totals = total_of(values.astype(np.float64), np.cumsum(areas) - areas)
    np.testing.assert_array_equal(totals, np.bincount(np.repeat(np.arange(40), areas), values))
