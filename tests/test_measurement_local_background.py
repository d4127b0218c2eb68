"""Local background: what it is on a known field, what it follows and what it is not drawn by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from measurement_fields import blobs

from hcs_nuclei.measurement import measure_nuclei
from hcs_nuclei.measurement.local_background import find_free_parts, measure_local_background

Floats = npt.NDArray[np.float64]


def field_of(
    shape: tuple[int, int], pitch: int = 60, radius: int = 12
) -> tuple[npt.NDArray[np.uint32], Floats, Floats]:
    """Round nuclei on a grid, with their centres' y and x."""
    labels = np.zeros(shape, np.uint32)
    y, x = (c.reshape(-1) for c in np.mgrid[pitch // 2 : shape[0] : pitch, pitch // 2 : shape[1] : pitch])
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    for n, (row, column) in enumerate(zip(y, x, strict=True), start=1):
        labels[np.hypot(rows - row, columns - column) < radius] = n
    return labels, y.astype(float), x.astype(float)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_flat_background_is_found_whatever_nuclei_and_debris_show(dtype: type) -> None:
    labels, y, x = field_of((600, 660))
    image = np.where(labels > 0, 3000, 200).astype(dtype)
    image[::97, ::89] = 60000
    assert (measure_local_background(image, find_free_parts(labels, y, x)) == 200).all()


def test_noise_moves_it_by_less_than_a_third_of_its_own() -> None:
    labels, y, x = field_of((600, 660))
    image = np.random.default_rng(0).normal(200, 10, labels.shape).astype(np.float32)
    found = measure_local_background(image, find_free_parts(labels, y, x))
    assert np.abs(found - 200).max() < 10 / 3


def test_it_follows_a_gradient_over_the_field() -> None:
    labels, y, x = field_of((1080, 1080))
    image = np.broadcast_to(100 + 0.1 * np.arange(1080.0), labels.shape)
    found = measure_local_background(image, find_free_parts(labels, y, x))
    inner = (x > 192) & (x < 860)
    # A quarter of the way into surroundings of 288 px, which are those of a tile of 96 px.
    assert np.abs(found - (100 + 0.1 * x))[inner].max() < 0.1 * (72 + 48 + 4)
    assert np.corrcoef(found, x)[0, 1] > 0.97


def test_cytoplasm_over_half_of_the_free_area_is_no_background() -> None:
    labels, y, x = field_of((600, 660))
    image = np.full(labels.shape, 200, np.uint16)
    image[:, ::2] = 200
    rows, columns = np.mgrid[:600, :660]
    image[(rows // 12 + columns // 12) % 2 == 0] = 900  # every second square of three parts
    assert (measure_local_background(image, find_free_parts(labels, y, x)) == 200).all()


def test_light_that_nuclei_scatter_around_them_is_no_background() -> None:
    labels, y, x = field_of((600, 660))
    halo = field_of((600, 660), radius=16)[0]
    image = np.where(halo > 0, 800, 200).astype(np.uint16)
    assert (measure_local_background(image, find_free_parts(labels, y, x)) == 200).all()


def test_where_nuclei_are_too_dense_the_fields_own_level_holds() -> None:
    labels, y, x = field_of((1080, 1080), pitch=24)
    labels[:, 900:] = 0
    left = x < 860
    image = np.where(labels > 0, 3000, 200).astype(np.uint16)
    found = measure_local_background(image, find_free_parts(labels, y[left], x[left]))
    assert (found == 200).all()


def test_a_field_full_of_nuclei_has_none() -> None:
    labels, y, x = field_of((480, 480), pitch=24)
    assert np.isnan(measure_local_background(labels, find_free_parts(labels, y, x))).all()


def test_turning_a_field_changes_no_bit() -> None:
    labels, y, x = field_of((576, 672))
    image = np.random.default_rng(1).poisson(200, labels.shape).astype(np.uint16)
    before = measure_local_background(image, find_free_parts(labels, y, x))
    after = measure_local_background(np.rot90(image), find_free_parts(np.rot90(labels), labels.shape[1] - 1 - x, y))
    np.testing.assert_array_equal(before, after)


def test_no_nuclei_no_values() -> None:
    nothing = np.empty(0)
    labels = np.zeros_like(blobs(1))
    assert measure_local_background(labels, find_free_parts(labels, nothing, nothing)).shape == (0,)


def test_a_margin_without_light_is_nobodys_background() -> None:
    labels, _, x = field_of((600, 660))
    image = np.where(labels > 0, 3000, 200).astype(np.uint16)
    margin = np.zeros(labels.shape, bool)
    margin[:, :180] = True
    labels[margin], image[margin] = 0, 0
    inside = x > 180
    measured = measure_nuclei(labels, {"A": image}, nuclear="A", saturation=None)
    found = measured["Nuclei_Intensity_LocalBackground_A"]
    assert found.size == inside.sum()
    assert (found == 200).all()
