"""Intensity against NumPy, nucleus by nucleus."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from measurement_fields import blobs
from skimage.measure import regionprops
from skimage.segmentation import find_boundaries

from hcs_nuclei.columns import INTENSITY
from hcs_nuclei.measurement.insides import find_insides
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
    "MAD": lambda values: np.median(np.abs(values - np.median(values))),
}
BACKGROUND = 100.25


def image_of(dtype: str, seed: int = 0) -> npt.NDArray[np.generic]:
    """Counts over most of the range of `dtype`; floats have fractions and negative values."""
    rng = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, min(np.iinfo(dtype).max, 2**31), size=(160, 190)).astype(dtype)
    return rng.normal(300, 200, size=(160, 190)).astype(dtype)


def intensity_of(image: npt.NDArray[np.generic], labels: npt.NDArray[np.uint32]) -> dict[str, npt.NDArray[np.float64]]:
    runs = find_runs(labels)
    return measure_intensity(image, find_insides(labels, runs), np.full(runs.numbers.size, BACKGROUND))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
def test_agrees_with_numpy(dtype: str) -> None:
    labels, image = blobs(1), image_of(dtype)
    measured = intensity_of(image, labels)
    nuclei = [image[labels == number].astype(np.float64) for number in np.unique(labels[labels > 0])]
    assert measured.keys() == {column.name for column in INTENSITY}
    for name, function in NUMPY.items():
        expected = [function(values) for values in nuclei]
        np.testing.assert_allclose(measured[f"Nuclei_Intensity_{name}Intensity"], expected, rtol=1e-12, err_msg=name)
    areas = np.array([values.size for values in nuclei])
    for name, subtracted in (("Mean", BACKGROUND), ("Integrated", BACKGROUND * areas)):
        left = measured[f"Nuclei_Intensity_{name}Intensity"] - subtracted
        np.testing.assert_array_equal(measured[f"Nuclei_Intensity_{name}IntensityBackgroundSubtracted"], left)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_edge_is_scikit_images_inner_boundary(dtype: str) -> None:
    labels, image = blobs(1), image_of(dtype)
    measured = intensity_of(image, labels)
    boundary = find_boundaries(labels.astype(np.int64), mode="inner")
    nuclei = [image[boundary & (labels == number)].astype(np.float64) for number in np.unique(labels[labels > 0])]
    for name in ("Mean", "Integrated", "Std", "Min", "Max"):
        expected = [NUMPY[name](values) for values in nuclei]
        found = measured[f"Nuclei_Intensity_{name}IntensityEdge"]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12, err_msg=name)


def test_the_edge_of_the_field_is_no_edge_of_a_nucleus() -> None:
    labels = np.zeros((9, 7), np.uint32)
    labels[:5] = 3
    image = np.arange(63, dtype=np.uint8).reshape(9, 7)
    measured = intensity_of(image, labels)
    assert measured["Nuclei_Intensity_MinIntensityEdge"].item() == 28
    assert measured["Nuclei_Intensity_MeanIntensityEdge"].item() == 31
    everywhere = intensity_of(image, np.ones((9, 7), np.uint32))
    assert everywhere["Nuclei_Intensity_IntegratedIntensityEdge"].item() == 0
    assert np.isnan(everywhere["Nuclei_Intensity_MeanIntensityEdge"].item())


def test_mass_displacement_is_the_distance_of_the_centres_of_mass() -> None:
    labels, image = blobs(1), image_of("uint16")
    measured = intensity_of(image, labels)["Nuclei_Intensity_MassDisplacement"]
    for n, region in enumerate(regionprops(labels.astype(np.int64), image.astype(np.float64))):
        shift = np.subtract(region.centroid_weighted, region.centroid)
        assert measured[n] == pytest.approx(np.hypot(*shift), rel=1e-9, abs=1e-9)


def test_a_nucleus_without_light_has_no_centre_of_mass() -> None:
    measured = intensity_of(np.zeros((160, 190), np.uint16), blobs(1))
    assert np.isnan(measured["Nuclei_Intensity_MassDisplacement"]).all()
    assert (measured["Nuclei_Intensity_MeanIntensityBackgroundSubtracted"] == -BACKGROUND).all()


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_same_bits_wherever_a_nucleus_lies_and_whatever_is_beside_it(dtype: str) -> None:
    labels, image = blobs(2), image_of(dtype)
    together = intensity_of(image, labels)
    turned = intensity_of(np.rot90(image), np.rot90(labels).copy())
    for n, number in enumerate(np.unique(labels[labels > 0])):
        alone = intensity_of(image, np.where(labels == number, labels, 0))
        for name, values in together.items():
            if name.endswith("MassDisplacement"):  # the one that sums in the order of the pixels
                assert values[n] == alone[name][0] == pytest.approx(turned[name][n], rel=1e-9)
            else:
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
