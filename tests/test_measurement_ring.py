"""Rings on disks of known size, between neighbours and at the edge, and against scikit-image and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from measurement_fields import Labels, blobs, disk, renumbered
from skimage.segmentation import expand_labels

from hcs_nuclei.measurement.ring import Rings, find_rings, measure_ring
from hcs_nuclei.measurement.runs import find_runs

NUMPY: dict[str, Callable[[npt.NDArray[np.float64]], float]] = {
    "Mean": np.mean,
    "Median": np.median,
    "Std": np.std,
    "Integrated": np.sum,
}


def rings_of(labels: Labels, gap_px: float, width_px: float) -> Rings:
    return find_rings(labels, find_runs(labels), gap_px=gap_px, width_px=width_px)


def ring_image(labels: Labels, rings: Rings) -> Labels:
    """The rings as a label image."""
    image = np.zeros(labels.size, np.uint32)
    image[rings.pixels] = np.repeat(np.unique(labels[labels > 0]), rings.areas)
    return image.reshape(labels.shape)


@dataclass(frozen=True)
class Size:
    """The radius of a disk and what lies around it, px."""

    radius: float
    gap: float
    width: float


SIZES = {
    "small": Size(6, 1, 3),
    "no gap": Size(10, 0, 4),
    "large": Size(25.5, 3, 12),
    "fractions of a pixel": Size(14.3, 1.6, 5.8),
}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_the_ring_of_a_disk_has_the_area_between_two_circles(size: Size) -> None:
    labels = np.pad(disk(size.radius), int(size.gap + size.width) + 2)
    rings = rings_of(labels, size.gap, size.width)
    inner, outer = size.radius + size.gap, size.radius + size.gap + size.width
    assert rings.areas.tolist() == [pytest.approx(np.pi * (outer**2 - inner**2), rel=0.08)]
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]] - (labels.shape[0] - 1) / 2
    # Distance is counted from the nearest pixel inside, which lies up to a pixel further in than the outline.
    distance = np.hypot(y, x).reshape(-1)[rings.pixels]
    assert distance.min() > inner - 1
    assert distance.max() <= outer


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("seed", range(3))
def test_a_ring_is_what_expanding_adds_between_two_radii(seed: int, size: Size) -> None:
    labels = blobs(seed)
    found = ring_image(labels, rings_of(labels, size.gap, size.width))
    outer, inner = expand_labels(labels, size.gap + size.width), expand_labels(labels, size.gap)
    expected = np.where(inner == 0, outer, 0)
    np.testing.assert_array_equal(found > 0, expected > 0)
    # Where they differ, two nuclei are equally near, and which of them is chosen is a matter of taste.
    for y, x in np.argwhere(found != expected):
        away = [np.hypot(*(np.argwhere(labels == owner) - (y, x)).T).min() for owner in (found[y, x], expected[y, x])]
        assert away[0] == away[1]


def test_of_two_equally_near_the_one_above_or_below_is_chosen_then_the_left_then_the_upper() -> None:
    labels = np.zeros((41, 41), np.uint32)
    labels[10, 20], labels[30, 20], labels[20, 10], labels[20, 30] = 9, 8, 7, 6
    owner = ring_image(labels, rings_of(labels, 0, 12))
    assert owner[20, 20] == 9
    assert owner[20, 21] == 6
    labels[10, 20] = 0
    assert ring_image(labels, rings_of(labels, 0, 12))[20, 20] == 8
    labels[30, 20] = 0
    assert ring_image(labels, rings_of(labels, 0, 12))[20, 20] == 7


@pytest.mark.parametrize("reach", [12, 40, 300])
def test_rings_may_reach_as_far_as_the_field(reach: float) -> None:
    labels = np.zeros((70, 50), np.uint32)
    labels[3, 4], labels[60, 30] = 1, 2
    found = ring_image(labels, rings_of(labels, 0, reach))
    away = [np.hypot(*(np.indices(labels.shape) - np.array(p)[:, None, None])) for p in ((3, 4), (60, 30))]
    near = np.minimum(*away)
    np.testing.assert_array_equal(found > 0, (near > 0) & (near <= reach))
    different = away[0] != away[1]
    np.testing.assert_array_equal(found[different & (found > 0)], np.argmin(away, axis=0)[different & (found > 0)] + 1)


def test_every_ring_pixel_is_nearest_to_its_own_nucleus_and_in_none() -> None:
    labels = blobs(4, (60, 70), 12)
    rings = rings_of(labels, 1, 4)
    numbers, owners = np.unique(labels[labels > 0]), np.repeat(np.arange(rings.areas.size), rings.areas)
    ring = np.stack(np.unravel_index(rings.pixels, labels.shape), axis=1)
    distances = [
        np.hypot(*(ring[:, None] - np.argwhere(labels == number)[None]).transpose(2, 0, 1)).min(axis=1)
        for number in numbers
    ]
    own = np.choose(owners, distances)
    assert not labels.reshape(-1)[rings.pixels].any()
    assert (own == np.min(distances, axis=0)).all()
    assert own.min() > 1
    assert own.max() <= 5


def test_between_two_nuclei_each_has_its_half() -> None:
    labels = np.zeros((21, 60), np.uint32)
    labels[5:16, 10:20], labels[5:16, 26:36] = 3, 7
    found = ring_image(labels, rings_of(labels, 0, 8))
    assert found[10].tolist() == [0] * 2 + [3] * 8 + [0] * 10 + [3] * 3 + [7] * 3 + [0] * 10 + [7] * 8 + [0] * 16
    assert (found == 3).sum() == (found == 7).sum()


def test_two_touching_nuclei_have_no_ring_where_they_touch() -> None:
    labels = np.zeros((20, 40), np.uint32)
    labels[5:15, 10:20], labels[5:15, 20:30] = 1, 2
    found = ring_image(labels, rings_of(labels, 1, 3))
    assert not found[5:15, 10:30].any()
    assert set(found[:4, 10:20].reshape(-1).tolist()) == {0, 1}
    assert set(found[:4, 20:30].reshape(-1).tolist()) == {0, 2}


def test_a_ring_ends_at_the_edge_of_the_field() -> None:
    whole = np.pad(disk(8), 6)
    cut = np.ascontiguousarray(whole[whole.shape[0] // 2 :])
    ring = ring_image(whole, rings_of(whole, 1, 4))
    np.testing.assert_array_equal(ring_image(cut, rings_of(cut, 1, 4)), ring[whole.shape[0] // 2 :])


def test_a_surrounded_nucleus_has_no_ring_and_no_numbers() -> None:
    labels = np.full((12, 12), 2, np.uint32)
    labels[4:8, 4:8] = 1
    labels = np.pad(labels, 4)
    rings = rings_of(labels, 1, 2)
    assert rings.areas[0] == 0 < rings.areas[1]
    measured = measure_ring(
        np.full(labels.shape, 300, np.uint16), rings, np.array([900.0, 600.0]), np.array([100.0, 100.0])
    )
    assert all(np.isnan(values[0]) for values in measured.values())
    assert measured["Nuclei_Ring_NuclearRatio"][1] == 2
    assert measured["Nuclei_Ring_NuclearRatioBackgroundSubtracted"][1] == 2.5


def test_an_empty_field_has_no_rings() -> None:
    rings = rings_of(np.zeros((9, 9), np.uint32), 1, 2)
    measured = measure_ring(np.ones((9, 9)), rings, np.empty(0), np.empty(0))
    assert rings.areas.shape == (0,)
    assert all(values.shape == (0,) for values in measured.values())


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_intensities_agree_with_numpy(dtype: str) -> None:
    labels = blobs(5)
    image = np.random.default_rng(1).uniform(0, 255, labels.shape).astype(dtype)
    rings = rings_of(labels, 1, 3)
    found = ring_image(labels, rings)
    nuclei = np.unique(labels[labels > 0])
    nuclear = np.array([image[labels == number].astype(np.float64).mean() for number in nuclei])
    measured = measure_ring(image, rings, nuclear, np.full(nuclear.shape, 20.0))
    there = rings.areas > 0
    values = [image[found == number].astype(np.float64) for number in nuclei[there]]
    for name, function in NUMPY.items():
        column = measured[f"Nuclei_Ring_{name}Intensity"]
        np.testing.assert_allclose(column[there], [function(v) for v in values], rtol=1e-12, err_msg=name)
    expected = nuclear[there] / [v.mean() for v in values]
    np.testing.assert_allclose(measured["Nuclei_Ring_NuclearRatio"][there], expected, rtol=1e-12)
    expected = (nuclear[there] - 20) / [v.mean() - 20 if v.mean() > 20 else np.nan for v in values]
    np.testing.assert_allclose(
        measured["Nuclei_Ring_NuclearRatioBackgroundSubtracted"][there], expected, rtol=1e-12, equal_nan=True
    )


def test_a_constant_channel_has_no_spread_and_a_ratio_of_one() -> None:
    labels = np.pad(disk(7), 8)
    measured = measure_ring(
        np.full(labels.shape, 250, np.uint16), rings_of(labels, 1, 3), *np.array([[250.0], [np.nan]])
    )
    assert measured["Nuclei_Ring_MeanIntensity"] == measured["Nuclei_Ring_MedianIntensity"] == 250
    assert measured["Nuclei_Ring_StdIntensity"] == 0
    assert measured["Nuclei_Ring_NuclearRatio"] == 1
    assert np.isnan(measured["Nuclei_Ring_NuclearRatioBackgroundSubtracted"]).all()  # no background is known


@pytest.mark.parametrize("level", [0.0, -3.0])
def test_no_ratio_to_a_ring_without_light(level: float) -> None:
    labels = np.pad(disk(7), 8)
    measured = measure_ring(np.full(labels.shape, level), rings_of(labels, 1, 3), np.array([9.0]), np.array([5.0]))
    assert measured["Nuclei_Ring_MeanIntensity"] == level
    assert np.isnan(measured["Nuclei_Ring_NuclearRatio"]).all()
    assert np.isnan(measured["Nuclei_Ring_NuclearRatioBackgroundSubtracted"]).all()


def test_a_cameras_offset_does_not_change_the_ratio_above_the_background() -> None:
    labels = np.pad(disk(7), 40)
    image = np.where(labels > 0, 400, 100).astype(np.float64)
    rings = rings_of(labels, 1, 3)
    image.reshape(-1)[rings.pixels] = 200
    for offset in (0.0, 2.0**15):
        shifted, background = image + offset, np.array([100.0 + offset])
        measured = measure_ring(shifted, rings, np.array([400.0 + offset]), background)
        assert measured["Nuclei_Ring_NuclearRatioBackgroundSubtracted"] == 3


def test_renumbering_only_reorders_rings() -> None:
    labels = blobs(6)
    other = renumbered(labels, 6)
    before, after = (ring_image(image, rings_of(image, 1, 4)) for image in (labels, other))
    table = dict(zip(labels.reshape(-1).tolist(), other.reshape(-1).tolist(), strict=True))
    np.testing.assert_array_equal(np.vectorize(table.get)(before), after)


@pytest.mark.parametrize(("gap", "width"), [(-1.0, 3.0), (1.0, 0.0), (0.0, float("nan"))])
def test_a_ring_that_is_none_is_refused(gap: float, width: float) -> None:
    with pytest.raises(ValueError, match="a gap of 0 or more and a width above 0"):
        rings_of(disk(5), gap, width)
