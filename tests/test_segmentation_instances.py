"""Instances: what is a nucleus, what is dropped, and how the rest is numbered."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from segmentation_samples import crowded_scene, disks, find_nuclei
from skimage.measure import label

from hcs_nuclei.segmentation.instances import InstanceSettings, separate
from hcs_nuclei.segmentation.targets import BORDER, DISTANCE, NUCLEUS, TARGETS, make_targets

SETTINGS = InstanceSettings()


def _noisy(seed: int) -> npt.NDArray[np.float32]:
    """Targets of a crowd, blurred and with noise on them, as a network would say them."""
    rng = np.random.default_rng(seed)
    targets = make_targets(crowded_scene(rng, (128, 128), (4, 14), 25))
    blurred = ndimage.gaussian_filter(targets, (1, 1, 0)) + rng.normal(0, 0.05, targets.shape)
    return blurred.clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_nuclei_are_numbered_without_gaps_in_order_of_their_first_pixel(seed: int) -> None:
    labels, confidence = find_nuclei(_noisy(seed), SETTINGS, minimum_area_px=20)
    numbers, first = np.unique(labels, return_index=True)

    assert labels.dtype == np.uint32
    np.testing.assert_array_equal(numbers, np.arange(numbers.size))
    assert (np.diff(first[1:]) > 0).all()
    assert confidence.shape == (numbers.size - 1,)


@pytest.mark.parametrize("seed", range(5))
def test_every_nucleus_is_one_region_inside_the_mask(seed: int) -> None:
    prediction = _noisy(seed)
    labels, _ = find_nuclei(prediction, SETTINGS, minimum_area_px=20)

    assert label(labels, connectivity=1).max() == labels.max()
    assert (prediction[..., NUCLEUS][labels > 0] > SETTINGS.nucleus).all()


def test_confidence_is_the_mean_probability_over_the_nucleus() -> None:
    prediction = _noisy(7)
    labels, confidence = find_nuclei(prediction, SETTINGS, minimum_area_px=20)
    expected = ndimage.mean(prediction[..., NUCLEUS], labels, np.arange(1, labels.max() + 1))

    assert confidence.dtype == np.float32
    np.testing.assert_allclose(confidence, expected, rtol=1e-5)


def test_the_same_prediction_gives_the_same_bytes() -> None:
    once, again = (find_nuclei(_noisy(3), SETTINGS, minimum_area_px=20) for _ in range(2))

    assert once[0].tobytes() == again[0].tobytes()
    assert once[1].tobytes() == again[1].tobytes()


def test_the_last_bits_of_the_floats_do_not_matter() -> None:
    # Wide plateaus of distance, as a network says them of large nuclei: on these the last bits would draw the line.
    labels = disks((90, 120), [(45, 40, 26), (45, 84, 26)])
    prediction = make_targets(labels)
    prediction[..., DISTANCE] = np.round(prediction[..., DISTANCE] * 5) / 5
    prediction[..., DISTANCE][35:55, 60:64] = 0.4
    jitter = np.random.default_rng(0).uniform(-1e-4, 1e-4, prediction.shape).astype(np.float32)

    settings = InstanceSettings(border=0.4)

    once, again = (find_nuclei(p, settings, minimum_area_px=20)[0] for p in (prediction, prediction + jitter))
    assert once.max() == 2
    np.testing.assert_array_equal(once, again)


def test_small_nuclei_are_dropped_and_the_others_numbered_again() -> None:
    labels = disks((60, 60), [(8, 8, 3), (20, 20, 8), (45, 45, 9)])
    area = np.bincount(labels.ravel())
    found, confidence = find_nuclei(make_targets(labels), SETTINGS, minimum_area_px=float(area[1]) + 1)

    np.testing.assert_array_equal(found, np.maximum(labels - 1, 0))
    assert confidence == pytest.approx([0.99, 0.99])  # as sure as it may be
    assert find_nuclei(make_targets(labels), SETTINGS, minimum_area_px=float(area[1]))[0].max() == 3


def test_unsure_nuclei_are_dropped() -> None:
    labels = disks((60, 60), [(15, 15, 8), (45, 45, 8)])
    prediction = make_targets(labels)
    prediction[..., NUCLEUS][labels == 1] = 0.6

    found, confidence = find_nuclei(prediction, InstanceSettings(minimum_confidence=0.7), minimum_area_px=20)

    np.testing.assert_array_equal(found, labels == 2)
    assert confidence == pytest.approx([0.99])


def test_seeds_of_a_few_pixels_are_noise() -> None:
    prediction = make_targets(disks((60, 60), [(30, 30, 12)]))
    flat = np.minimum(prediction[..., DISTANCE], 0.4)
    flat[30, 25:27] = flat[30, 34:37] = 1.0  # a seed of 2 px and one of 3
    prediction[..., DISTANCE] = flat

    assert find_nuclei(prediction, SETTINGS, minimum_area_px=20)[0].max() == 1
    assert find_nuclei(prediction, InstanceSettings(minimum_seed_px=1), minimum_area_px=20)[0].max() == 2
    assert find_nuclei(prediction, InstanceSettings(minimum_seed_px=4), minimum_area_px=20)[0].max() == 0


def test_a_border_parts_what_the_distance_does_not() -> None:
    prediction = np.zeros((30, 60, TARGETS), np.float32)
    prediction[5:25, 5:55, NUCLEUS] = 1
    prediction[7:23, 7:53, DISTANCE] = 0.9
    prediction[5:25, 29:31, BORDER] = 1

    assert find_nuclei(prediction, InstanceSettings(border=0.5), minimum_area_px=20)[0].max() == 2
    assert find_nuclei(prediction, InstanceSettings(border=0.0), minimum_area_px=20)[0].max() == 1


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_flat_prediction_is_no_nucleus_or_one(value: float) -> None:
    prediction = np.full((30, 30, TARGETS), value, np.float32)
    prediction[..., BORDER] = 0
    labels, confidence = find_nuclei(prediction, SETTINGS, minimum_area_px=20)

    assert labels.max() == confidence.size == (value == 1.0)
    assert labels.shape == (30, 30)


def test_the_threshold_of_a_nucleus_follows_the_scale_it_is_seen_at() -> None:
    y, x = np.indices((64, 64))
    maps = np.zeros((64, 64, 5), np.float32)
    maps[..., NUCLEUS] = np.clip(1 - np.hypot(y - 32, x - 32) / 32, 0, 1)  # 0.5 at a radius of 16 px
    maps[..., DISTANCE] = maps[..., NUCLEUS]
    settings = InstanceSettings(nucleus=0.5, nucleus_per_octave=0.125)

    radius = {scale: np.sqrt((separate(maps, settings, scale) > 0).sum() / np.pi) for scale in (0.5, 1.0, 2.0, 1e6)}

    assert radius == pytest.approx({0.5: 20, 1.0: 16, 2.0: 12, 1e6: 3.2}, abs=0.3)
