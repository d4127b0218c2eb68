"""Targets: what each channel says of a nucleus, and that the label image can be had back from them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from segmentation_samples import best_overlaps, crowded_scene, disks, find_nuclei

from hcs_nuclei.segmentation.instances import InstanceSettings
from hcs_nuclei.segmentation.targets import BORDER, DISTANCE, NUCLEUS, OFFSET_X, OFFSET_Y, TARGETS, make_targets
from hcs_nuclei.simulate import simulate_field


def _again(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.uint32]:
    return find_nuclei(make_targets(labels), InstanceSettings(), minimum_area_px=1)[0]


#: Radii (px) and number of the nuclei of a scene of 160 × 160 px.
SCENES = {
    "tiny": ((2.6, 4.0), 60),
    "small": ((4.0, 7.0), 50),
    "usual": ((8.0, 16.0), 25),
    "large": ((12.0, 30.0), 12),
    "mixed": ((3.0, 25.0), 25),
}


@pytest.mark.parametrize("kind", SCENES)
def test_nuclei_that_touch_and_are_cut_off_come_back_as_they_were(kind: str) -> None:
    radii, count = SCENES[kind]
    touching = 0
    for seed in range(12):
        truth = crowded_scene(np.random.default_rng(seed), (160, 160), radii, count)
        touching += int(make_targets(truth)[..., BORDER].any())
        found = _again(truth)

        assert found.max() == np.unique(truth).size - 1
        assert best_overlaps(truth, found).min() > 0.8
    assert touching == 12  # else the scenes would be too easy


def test_simulated_nuclei_of_every_kind_come_back() -> None:
    truth = simulate_field(np.random.default_rng(5), size=384, nuclei=80, diameter_px=24).labels
    area = np.bincount(truth.ravel())[1:]

    overlaps = best_overlaps(truth, _again(truth.astype(np.int32)))

    assert (overlaps[area[area > 0] >= 20] > 0.8).all()


@given(st.integers(0, 2**32 - 1))
def test_any_crowd_comes_back(seed: int) -> None:
    truth = crowded_scene(np.random.default_rng(seed), (64, 64), (3.0, 9.0), 10)
    # A sliver left at the field's edge has no depth to grow from: it may lose a quarter to its neighbour.
    large = np.bincount(truth.ravel()) >= 50
    overlaps = best_overlaps(truth, _again(truth))

    assert (overlaps[large[np.unique(truth)[1:]]] > 0.8).all()


def test_an_empty_field_has_empty_targets() -> None:
    targets = make_targets(np.zeros((20, 30), np.int32))

    assert targets.shape == (20, 30, TARGETS)
    assert targets.dtype == np.float32
    assert not targets[..., :OFFSET_Y].any()
    assert (targets[..., OFFSET_Y:] == 0.5).all()
    assert not _again(np.zeros((20, 30), np.int32)).any()


def test_a_field_that_is_one_nucleus_is_found_whole() -> None:
    labels = np.ones((40, 40), np.int32)

    assert make_targets(labels)[..., BORDER].max() == 0
    assert (_again(labels) == 1).all()


def test_nucleus_is_where_the_labels_are() -> None:
    labels = crowded_scene(np.random.default_rng(1), (96, 96), (5, 12), 15)

    np.testing.assert_array_equal(make_targets(labels)[..., NUCLEUS], labels > 0)


def test_distance_of_a_nucleus_alone_is_scipys_over_its_deepest() -> None:
    labels = disks((60, 60), [(30, 28, 14)])
    depth = ndimage.distance_transform_edt(labels)

    np.testing.assert_allclose(make_targets(labels)[..., DISTANCE], depth / depth.max(), rtol=1e-6)


def test_offsets_grow_from_the_centre_to_the_farthest_pixel() -> None:
    labels = disks((60, 60), [(30, 28, 14)])
    y, x = np.mgrid[:60, :60]
    targets = make_targets(labels)
    inside = labels > 0
    reach = np.hypot(y - 30, x - 28)[inside].max()

    assert (targets[30, 28, OFFSET_Y], targets[30, 28, OFFSET_X]) == (0.5, 0.5)
    np.testing.assert_allclose(targets[inside, OFFSET_Y], (0.5 + 0.5 * (y - 30) / reach)[inside], rtol=1e-5)
    np.testing.assert_allclose(targets[inside, OFFSET_X], (0.5 + 0.5 * (x - 28) / reach)[inside], rtol=1e-5)
    assert (targets[..., OFFSET_Y:][labels == 0] == 0.5).all()


def test_every_nucleus_is_1_at_its_deepest_and_0_where_it_meets_another() -> None:
    labels = disks((80, 80), [(30, 24, 12), (30, 44, 9), (60, 60, 6)])
    distance = make_targets(labels)[..., DISTANCE]
    right = (labels == 1) & (np.roll(labels, -1, axis=1) == 2)

    assert right.any()
    assert not distance[right].any()
    assert list(ndimage.maximum(distance, labels, [1, 2, 3])) == [1, 1, 1]


def test_a_nucleus_alone_has_no_border_not_even_at_the_edge() -> None:
    assert not make_targets(disks((60, 60), [(30, 30, 10), (0, 5, 6), (59, 59, 8)]))[..., BORDER].any()


@pytest.mark.parametrize("gap", [0, 1])
def test_nuclei_that_meet_or_nearly_meet_have_a_border_between_them(gap: int) -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[5:15, 3:13] = 1
    labels[5:15, 13 + gap : 23 + gap] = 2
    border = make_targets(labels)[..., BORDER]

    assert border[6:14, 12 + gap].all()
    assert not border[:, :10].any()
    assert not border[:, 16 + gap :].any()


def test_the_border_grows_with_the_nuclei() -> None:
    def widest(edge: int) -> int:
        labels = np.zeros((edge + 10, 2 * edge + 10), np.int32)
        labels[5 : 5 + edge, 5 : 5 + edge] = 1
        labels[5 : 5 + edge, 5 + edge : 5 + 2 * edge] = 2
        return int(make_targets(labels)[5 + edge // 2, :, BORDER].sum())

    assert [widest(edge) for edge in (10, 30, 60)] == [2, 4, 6]


def test_a_crop_from_the_middle_of_a_nucleus_is_as_deep_everywhere() -> None:
    assert (make_targets(np.ones((64, 64), np.int32))[..., DISTANCE] == 1).all()


def test_numbers_do_not_matter_nor_do_their_gaps() -> None:
    labels = crowded_scene(np.random.default_rng(2), (96, 96), (5, 12), 15)
    numbers = np.random.default_rng(3).permutation(60000)[: labels.max() + 1].astype(np.uint16) + 1
    numbers[0] = 0

    np.testing.assert_array_equal(make_targets(numbers[labels]), make_targets(labels))


@given(st.integers(0, 2**32 - 1))
def test_targets_of_any_labels_are_shares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 5, (6, 6)), np.ones((3, 3), int))
    targets = make_targets(labels)

    assert targets.min() >= 0
    assert targets.max() <= 1
    assert set(np.unique(targets[..., (NUCLEUS, BORDER)])) <= {0.0, 1.0}
