"""The granular spectrum: grains of one known size, a slow reference, and what may move or brighten it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from measurement_fields import Labels, blobs
from scipy import ndimage

from hcs_nuclei.columns.options import GRANULARITY_STEPS, granularity_columns
from hcs_nuclei.measurement.granularity import measure_granularity
from hcs_nuclei.measurement.insides import find_insides
from hcs_nuclei.measurement.runs import find_runs

Floats = npt.NDArray[np.float64]
CROSS = ndimage.generate_binary_structure(2, 1)


def spectrum_of(image: npt.NDArray[Any], labels: Labels) -> Floats:
    """(n, steps) of all nuclei, per cent."""
    measured = measure_granularity(image, find_insides(labels, find_runs(labels)), channel="C")
    assert list(measured) == [column.name for column in granularity_columns("C")]
    return np.stack(list(measured.values()), axis=1)


def diamonds(reach: int, shape: tuple[int, int] = (640, 640)) -> npt.NDArray[np.float64]:
    """Bright diamonds that `reach` + 1 erosions of every fourth pixel by a cross take away, 160 px apart, on black."""
    y, x = np.indices(shape)
    return np.where(np.abs((y - 80) % 160 - 80) + np.abs((x - 80) % 160 - 80) <= 4 * reach, 1000.0, 0.0)


@pytest.mark.parametrize("reach", [1, 3, 6])
def test_grains_of_one_size_are_lost_in_one_step(reach: int) -> None:
    labels = np.zeros((640, 640), np.uint32)
    labels[100:540, 100:540] = 1
    spectrum = spectrum_of(diamonds(reach), labels)[0]
    assert spectrum.argmax() == reach
    # Samples show grains wider than they are, which the first step makes up for; then all goes at once.
    assert spectrum.sum() == pytest.approx(100)
    np.testing.assert_allclose(np.delete(spectrum, (0, reach)), 0, atol=1e-9)


def test_even_light_has_no_grains() -> None:
    labels = blobs(0)
    spectrum = spectrum_of(np.full(labels.shape, 400, np.uint16), labels)
    assert (spectrum[:, 1:] == 0).all()
    # All of it is background, so all of it is gone before the first step.
    assert spectrum[:, 0] == pytest.approx(np.full(len(spectrum), 100.0))


def opened_by_reconstruction(eroded: Floats, image: Floats) -> Floats:
    """Dilate under `image` until nothing changes."""
    while True:
        grown = np.minimum(ndimage.grey_dilation(eroded, footprint=CROSS), image)
        if (grown == eroded).all():
            return grown
        eroded = grown


def test_agrees_with_scipys_morphology() -> None:
    labels = blobs(3, shape=(200, 240))
    image = ndimage.gaussian_filter(np.random.default_rng(3).uniform(0, 1000, labels.shape), 2)
    sampled = image[::4, ::4]
    y, x = np.indices((21, 21)) - 10
    disk = np.pad(y**2 + x**2 <= 100, 0)
    coarse = sampled[::4, ::4]
    lowest = ndimage.grey_erosion(coarse, footprint=disk, mode="constant", cval=np.inf)
    opened = ndimage.grey_dilation(lowest, footprint=disk, mode="constant", cval=-np.inf)
    place = np.meshgrid(*(np.linspace(0, n / 4 - 1, n) for n in sampled.shape), indexing="ij")
    grains = np.maximum(sampled - ndimage.map_coordinates(opened, place, order=1, mode="nearest"), 0)
    back = np.meshgrid(
        *(np.linspace(0, s - 1, n) for s, n in zip(sampled.shape, labels.shape, strict=True)), indexing="ij"
    )
    numbers = np.unique(labels[labels > 0])
    start = before = ndimage.mean(image, labels, numbers)
    eroded = grains
    measured = spectrum_of(image, labels)
    for step in range(GRANULARITY_STEPS):
        eroded = ndimage.grey_erosion(eroded, footprint=CROSS, mode="constant", cval=np.inf)
        kept = ndimage.map_coordinates(opened_by_reconstruction(eroded, grains), back, order=1, mode="nearest")
        after = ndimage.mean(kept, labels, numbers)
        np.testing.assert_allclose(measured[:, step], 100 * (before - after) / start, rtol=1e-8, atol=1e-9)
        before = after


def test_brightness_changes_nothing() -> None:
    labels = blobs(1)
    image = np.random.default_rng(1).integers(10, 250, labels.shape).astype(np.uint16)
    np.testing.assert_allclose(spectrum_of(image, labels), spectrum_of(image * 16, labels), rtol=1e-9, atol=1e-9)


def test_other_nuclei_and_their_numbers_change_no_bit() -> None:
    labels = blobs(2)
    image = np.random.default_rng(2).integers(10, 250, labels.shape).astype(np.uint16)
    number = labels.max()
    together = spectrum_of(image, labels)
    alone = spectrum_of(image, np.where(labels == number, np.uint32(7), np.uint32(0)))
    np.testing.assert_array_equal(together[-1], alone[0])


def test_turning_by_a_quarter_changes_little_where_the_samples_are_the_same() -> None:
    # Every fourth pixel of 4 k + 1 is the same from either end.
    labels = blobs(0, shape=(161, 161))
    image = ndimage.gaussian_filter(np.random.default_rng(0).uniform(0, 1000, labels.shape), 3)
    once = spectrum_of(image, labels)
    twice = spectrum_of(np.ascontiguousarray(image.T), np.ascontiguousarray(labels.T))
    np.testing.assert_allclose(once, twice, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(7, 40), (40, 7)])
def test_a_field_too_small_has_none(shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, np.uint32)
    labels[2:5, 2:5] = 1
    assert np.isnan(spectrum_of(np.ones(shape), labels)).all()


def test_a_nucleus_without_light_has_none() -> None:
    labels = blobs(1)
    assert np.isnan(spectrum_of(np.zeros(labels.shape), labels)).all()
