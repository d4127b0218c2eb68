"""Prediction: seams leave no trace, labels come back at the size of the field, the same field gives the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from segmentation_samples import best_overlaps, crowded_scene, disks, find_nuclei

from hcs_nuclei.segmentation.diameter import estimate_diameter, median_diameter
from hcs_nuclei.segmentation.evidence import evidence
from hcs_nuclei.segmentation.instances import InstanceSettings
from hcs_nuclei.segmentation.normalise import normalise
from hcs_nuclei.segmentation.predict import OVERLAP_PX, TILE_PX, Segmenter
from hcs_nuclei.segmentation.scale import LARGE, SMALL
from hcs_nuclei.segmentation.targets import DISTANCE, NUCLEUS, TARGETS
from hcs_nuclei.segmentation.tiling import plan_tiles

#: How far the stand-in for a network looks, px: less than half of the tiles' overlap, and a power of two.
REACH = 8
THRESHOLD = 0.4


def _erosions(block: Any, training: bool = False) -> Any:
    """Stands in for a network: *nucleus* is what is bright, *distance* the share of 8 erosions that a pixel survives.

    Only comparisons and sums of eighths, so that its floats are exact wherever a pixel lies in a tile.
    """
    import tensorflow as tf

    bright = tf.cast(block > THRESHOLD, tf.float32)
    left, depth = bright, bright
    for _ in range(1, REACH):
        left = 1 - tf.nn.max_pool2d(1 - left, 3, 1, "SAME")
        depth += left
    none = tf.zeros_like(bright)
    return tf.concat([bright, none, depth / REACH, none + 0.5, none + 0.5], axis=3)


def _without_tiles(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """What `_erosions` says of a whole field at once, by SciPy."""
    bright = (normalise(image) > THRESHOLD).astype(np.float32)
    depth = bright.copy()
    for reach in range(1, REACH):
        depth += ndimage.minimum_filter(bright, 2 * reach + 1, mode="constant", cval=1.0)
    none = np.zeros_like(bright)
    return np.stack([bright, none, depth / np.float32(REACH), none + 0.5, none + 0.5], axis=2)


def _picture(labels: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """A field of 100 counts of background and 3000 of nuclei."""
    return np.where(labels > 0, 3000, 100).astype(np.uint16)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(_erosions, InstanceSettings(seed=0.3), training_diameter_px=20)


def _seams(length: int) -> list[int]:
    """Where the tiles of a field of that height and width meet, px."""
    tiles = plan_tiles(length, 1, tile=(TILE_PX, TILE_PX), overlap=OVERLAP_PX)
    return [tile.target[0].stop for tile in tiles[:-1]]


@pytest.mark.parametrize("shape", [(576, 576), (600, 1200), (1080, 1080), (200, 300), (90, 700)])
def test_tiles_put_together_are_the_field_seen_whole(segmenter: Segmenter, shape: tuple[int, int]) -> None:
    image = _picture(crowded_scene(np.random.default_rng(0), shape, (6, 14), 150))

    np.testing.assert_array_equal(segmenter.prediction_for(image).maps, _without_tiles(image))


def test_nuclei_on_seams_and_on_their_crossing_are_one_nucleus_each(segmenter: Segmenter) -> None:
    (seam,) = _seams(1080)
    circles = [(y, x, 10) for y, x in ((seam, seam), (seam - 4, 100), (seam + 3, 800), (200, seam), (900, seam - 1))]
    truth = disks((1080, 1080), circles)
    found = segmenter(_picture(truth))
    expected, confidence = find_nuclei(_without_tiles(_picture(truth)), segmenter.instances, minimum_area_px=20)

    np.testing.assert_array_equal(found.labels, expected)
    believed = np.float32(evidence(_picture(truth), expected))
    np.testing.assert_array_equal(found.confidence, confidence * believed)
    assert found.labels.max() == len(circles)
    assert best_overlaps(truth, found.labels).min() == 1


def test_nuclei_that_touch_along_a_seam_stay_apart(segmenter: Segmenter) -> None:
    (seam,) = _seams(1080)
    truth = disks((1080, 700), [(seam - 11, 300, 11), (seam + 11, 300, 11)])

    assert segmenter(_picture(truth)).labels.max() == 2


@pytest.mark.parametrize("shape", [(40, 50), (30, 700), (576, 577), (1, 1)])
def test_a_field_of_any_size_has_labels_of_its_size(segmenter: Segmenter, shape: tuple[int, int]) -> None:
    truth = disks(shape, [(14, 16, 9)])
    found = segmenter(_picture(truth))

    assert found.labels.shape == shape
    assert found.labels.dtype == np.uint32
    if min(shape) > 1:
        np.testing.assert_array_equal(found.labels, truth)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("value", [0, 77])
def test_a_field_of_one_value_has_no_nuclei(segmenter: Segmenter, dtype: Any, value: int) -> None:
    found = segmenter(np.full((120, 90), value, dtype), diameter_px=50)

    assert not found.labels.any()
    assert found.confidence.size == 0


@pytest.mark.parametrize("diameter", [8, 20, 60, 110])
def test_nuclei_of_any_size_come_back_at_their_place_and_size(segmenter: Segmenter, diameter: int) -> None:
    shape = (9 * diameter + 3, 11 * diameter + 7)
    truth = disks(shape, [(y * diameter, x * diameter, diameter / 2) for y in (1, 4, 7) for x in (1, 4, 8)])
    found = segmenter(_picture(truth), diameter_px=diameter)

    assert found.labels.shape == shape
    assert found.labels.max() == 9
    assert best_overlaps(truth, found.labels).min() > 0.85


def test_fields_are_scaled_only_where_nuclei_are_far_from_those_of_training(segmenter: Segmenter) -> None:
    smallest, largest = 20 * SMALL, 20 * LARGE

    assert [segmenter.scale_for(d) for d in (None, 20, largest * 0.999, smallest * 1.001)] == [1, 1, 1, 1]
    assert segmenter.scale_for(largest * 1.001) < 1 < segmenter.scale_for(smallest * 0.999)
    assert segmenter.scale_for(80) == pytest.approx(40 / 80)
    assert segmenter.scale_for(14) == pytest.approx(28 / 14)
    assert segmenter.scale_for(8) == segmenter.scale_for(3) == 2.5


def test_small_objects_are_counted_in_the_fields_own_pixels(segmenter: Segmenter) -> None:
    truth = disks((400, 400), [(100, 100, 40), (300, 300, 20)])
    area = int((truth == 2).sum())

    assert segmenter(_picture(truth), diameter_px=80, minimum_area_px=area // 2).labels.max() == 2
    assert segmenter(_picture(truth), diameter_px=80, minimum_area_px=area * 2).labels.max() == 1


@pytest.mark.parametrize("diameter", [None, 45])
def test_the_same_field_gives_the_same_bytes(segmenter: Segmenter, diameter: float | None) -> None:
    image = _picture(crowded_scene(np.random.default_rng(4), (700, 640), (6, 14), 80))
    once, again = (segmenter(image, diameter_px=diameter) for _ in range(2))

    assert once.labels.tobytes() == again.labels.tobytes()
    assert once.confidence.tobytes() == again.confidence.tobytes()


def test_the_output_of_the_network_is_put_together_in_its_order(segmenter: Segmenter) -> None:
    prediction = segmenter.prediction_for(_picture(disks((100, 100), [(50, 50, 20)])))
    seen = prediction.maps

    assert seen.shape == (100, 100, TARGETS)
    assert (prediction.shape, prediction.scale) == ((100, 100), 1)
    assert seen.dtype == np.float32
    assert seen[50, 50, NUCLEUS] == seen[50, 50, DISTANCE] == 1
    assert 0 < seen[50, 32, DISTANCE] < 0.5


def test_median_diameter_is_that_of_the_nuclei_and_not_of_the_debris() -> None:
    circles = [(20, 20 + 30 * i, 10) for i in range(5)] + [
        (60 + 6 * (i // 25), 6 + 6 * (i % 25), 1.5) for i in range(100)
    ]
    labels = disks((120, 180), circles).astype(np.uint32)

    diameter, count = median_diameter(labels)
    assert diameter == pytest.approx(20, rel=0.03)
    assert count == 105
    assert median_diameter(np.zeros((5, 5), np.uint32)) == (0, 0)


def test_the_diameter_of_a_plate_is_that_of_most_of_its_nuclei(segmenter: Segmenter) -> None:
    many = _picture(disks((500, 500), [(y, x, 12) for y in range(30, 500, 60) for x in range(30, 500, 60)]))
    few = _picture(disks((500, 500), [(100, 100, 30), (300, 300, 30)]))
    none = np.zeros((500, 500), np.uint16)

    assert estimate_diameter(segmenter, [few, many, none]) == pytest.approx(24, rel=0.03)
    assert estimate_diameter(segmenter, [none, none]) is None
    assert estimate_diameter(segmenter, []) is None


def test_only_the_middle_of_a_large_field_is_looked_at(segmenter: Segmenter) -> None:
    corner = _picture(disks((2500, 2500), [(60, 60, 30), (1250, 1250, 12)]))

    assert estimate_diameter(segmenter, [corner]) == pytest.approx(24, rel=0.03)
