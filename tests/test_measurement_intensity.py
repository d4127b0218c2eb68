"""Intensity against NumPy, nucleus by nucleus."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from measurement_fields import blobs

from hcs_nuclei.columns import INTENSITY
from hcs_nuclei.measurement.intensity import measure_intensity
from hcs_nuclei.measurement.runs import find_runs

NUMPY: dict[str, Callable[[npt.NDArray[np.float64]], float]] = {
    "Mean": np.mean,
    "Integrated": np.sum,
    "Std": np.std,
    "Min": np.min,
    "Max": np.max,
    "Median": np.median,
    "LowerQuartile": lambda values: np.percentile(values, 25),
    "UpperQuartile": lambda values: np.percentile(values, 75),
}


def image_of(dtype: str, seed: int = 0) -> npt.NDArray[np.generic]:
    """Counts over most of the range of `dtype`; floats have fractions and negative values."""
    rng = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, min(np.iinfo(dtype).max, 2**31), size=(160, 190)).astype(dtype)
    return rng.normal(300, 200, size=(160, 190)).astype(dtype)


def intensity_of(image: npt.NDArray[np.generic], labels: npt.NDArray[np.uint32]) -> dict[str, npt.NDArray[np.float64]]:
    runs = find_runs(labels)
    return measure_intensity(image, runs.pixels(), runs.areas)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
def test_agrees_with_numpy(dtype: str) -> None:
    labels, image = blobs(1), image_of(dtype)
    measured = intensity_of(image, labels)
    nuclei = [image[labels == number].astype(np.float64) for number in np.unique(labels[labels > 0])]
    assert measured.keys() == {column.name for column in INTENSITY}
    for name, function in NUMPY.items():
        expected = [function(values) for values in nuclei]
        np.testing.assert_allclose(measured[f"Nuclei_Intensity_{name}Intensity"], expected, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_same_bits_wherever_a_nucleus_lies_and_whatever_is_beside_it(dtype: str) -> None:
    labels, image = blobs(2), image_of(dtype)
    together = intensity_of(image, labels)
    turned = intensity_of(np.rot90(image), np.rot90(labels).copy())
    for n, number in enumerate(np.unique(labels[labels > 0])):
        alone = intensity_of(image, np.where(labels == number, labels, 0))
        for name, values in together.items():
            assert values[n] == alone[name][0] == turned[name][n], name


def test_constant_nucleus_has_no_spread() -> None:
    measured = intensity_of(np.full((160, 190), 0.1, dtype=np.float32), blobs(3))
    np.testing.assert_allclose(measured["Nuclei_Intensity_StdIntensity"], 0, atol=1e-15)
    np.testing.assert_array_equal(measured["Nuclei_Intensity_MedianIntensity"], np.float64(np.float32(0.1)))


def test_image_is_left_as_it_was() -> None:
    image = image_of("uint16")
    before = image.copy()
    intensity_of(image, blobs(1))
    np.testing.assert_array_equal(image, before)
