"""Haralick's features against their textbook formulas on every nucleus' own matrix of pairs, and what moves them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from measurement_fields import Labels, blobs, rectangle

from hcs_nuclei.columns.options import texture_columns
from hcs_nuclei.measurement.insides import find_insides
from hcs_nuclei.measurement.runs import find_runs
from hcs_nuclei.measurement.texture import measure_texture

Floats = npt.NDArray[np.float64]
DIRECTIONS = ((0, 3), (3, 3), (3, 0), (3, -3))
NAMES = (
    *("AngularSecondMoment", "Contrast", "Correlation", "Variance", "InverseDifferenceMoment", "SumAverage"),
    *("SumVariance", "SumEntropy", "Entropy", "DifferenceVariance", "DifferenceEntropy", "InfoMeas1", "InfoMeas2"),
)


def texture_of(image: npt.NDArray[Any], labels: Labels, full_scale: float = 255) -> dict[str, Floats]:
    """All of them, as ``Contrast_00``."""
    measured = measure_texture(
        image, labels, find_insides(labels, find_runs(labels)), channel="C", full_scale=full_scale
    )
    return {
        name.removeprefix("Nuclei_Texture_").removesuffix("_256").replace("_C_3", ""): values
        for name, values in measured.items()
    }


def image_for(labels: Labels, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Grainy, with some pixels at level 0, which pairs leave out."""
    return np.random.default_rng(seed).integers(0, 12, labels.shape).astype(np.uint8) * 9


def matrix_of(image: npt.NDArray[Any], nucleus: npt.NDArray[np.bool_], step: tuple[int, int]) -> Floats:
    """The symmetric co-occurrence matrix of one nucleus, pair by pair."""
    matrix = np.zeros((256, 256))
    for y, x in np.argwhere(nucleus):
        other = (y + step[0], x + step[1])
        if not all(0 <= place < edge for place, edge in zip(other, image.shape, strict=True)) or not nucleus[other]:
            continue
        if image[y, x] and image[other]:
            matrix[image[y, x], image[other]] += 1
            matrix[image[other], image[y, x]] += 1
    return matrix


def haralick(counts: Floats, brightest: int) -> tuple[float, ...]:
    """The thirteen features of a co-occurrence matrix, as their definitions read."""
    p = counts / counts.sum()
    i, j = np.indices(p.shape)
    px = p.sum(axis=1)
    mean = (px * np.arange(256)).sum()
    variance = (px * (np.arange(256) - mean) ** 2).sum()
    sums = np.bincount((i + j).ravel(), p.ravel(), minlength=511)
    apart = np.bincount(np.abs(i - j).ravel(), p.ravel(), minlength=256)[: brightest + 1]
    sum_mean = (sums * np.arange(511)).sum()

    def entropy(shares: Floats) -> float:
        return float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())

    crossed = px[:, None] * px[None, :]
    joint = -(p[crossed > 0] * np.log2(crossed[crossed > 0])).sum()
    return (
        (p**2).sum(),
        (p * (i - j) ** 2).sum(),
        ((p * i * j).sum() - mean**2) / variance if variance > 0 else 1.0,
        variance,
        (p / (1 + (i - j) ** 2)).sum(),
        sum_mean,
        (sums * (np.arange(511) - sum_mean) ** 2).sum(),
        entropy(sums),
        entropy(p),
        apart.var(),
        entropy(apart),
        (entropy(p) - joint) / entropy(px) if entropy(px) > 0 else 0.0,
        np.sqrt(max(0.0, 1 - np.exp(-2 * (entropy(crossed) - entropy(p))))),
    )


def test_all_columns_and_no_others_are_measured() -> None:
    labels = blobs(1)
    insides = find_insides(labels, find_runs(labels))
    measured = measure_texture(image_for(labels), labels, insides, channel="C", full_scale=255)
    assert set(measured) == {column.name for column in texture_columns("C")}


def test_agrees_with_the_definitions_pair_by_pair() -> None:
    labels = blobs(0)
    image = image_for(labels)
    measured = texture_of(image, labels)
    compared = 0
    for n, number in enumerate(np.unique(labels[labels > 0])):
        nucleus = labels == number
        for direction, step in enumerate(DIRECTIONS):
            counts = matrix_of(image, nucleus, step)
            found = [measured[f"{name}_{direction:02d}"][n] for name in NAMES]
            if counts.sum():
                expected = haralick(counts, int(image[nucleus].max()))
                assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
                compared += 1
            else:
                assert np.isnan(found).all()
    assert compared > 100


def test_of_one_level_there_is_no_texture() -> None:
    labels = rectangle(12, 9)
    measured = texture_of(np.full(labels.shape, 40, np.uint8), labels)
    for direction in range(4):
        exact = {"AngularSecondMoment": 1, "Contrast": 0, "Correlation": 1, "Variance": 0, "SumAverage": 80}
        exact |= {"InverseDifferenceMoment": 1, "SumVariance": 0, "InfoMeas1": 0, "InfoMeas2": 0}
        exact |= dict.fromkeys(("SumEntropy", "Entropy", "DifferenceEntropy"), 0)
        for name, value in exact.items():
            assert measured[f"{name}_{direction:02d}"].item() == value, name


def test_stripes_have_contrast_across_them_alone() -> None:
    labels = rectangle(24, 24)
    stripes = np.where(np.arange(labels.shape[1]) // 3 % 2, 10, 30).astype(np.uint8)
    measured = texture_of(np.broadcast_to(stripes, labels.shape), labels)
    assert measured["Contrast_00"].item() == 400
    assert measured["Contrast_02"].item() == 0
    assert measured["Correlation_00"].item() == pytest.approx(-1, abs=0.03)  # as many pairs either way, but for the rim
    assert measured["Correlation_02"].item() == 1


def test_turning_by_a_quarter_exchanges_the_directions() -> None:
    labels = blobs(2)
    image = image_for(labels, 2)
    before = texture_of(image, labels)
    after = texture_of(np.rot90(image), np.ascontiguousarray(np.rot90(labels)))
    for name in NAMES:
        for there, here in ((0, 2), (1, 3), (2, 0), (3, 1)):
            np.testing.assert_allclose(
                after[f"{name}_{there:02d}"], before[f"{name}_{here:02d}"], rtol=1e-9, atol=1e-12, err_msg=name
            )


def test_moving_and_other_nuclei_change_no_bit() -> None:
    labels = blobs(2)
    image, number = image_for(labels, 2), labels.max()
    margins = ((17, 3), (101, 8))
    together = texture_of(np.pad(image, margins), np.pad(labels, margins))
    alone = texture_of(image, np.where(labels == number, labels, 0))
    for name, values in together.items():
        np.testing.assert_array_equal(values[-1], alone[name].item(), err_msg=name)


@pytest.mark.parametrize(("dtype", "full_scale"), [(np.uint16, 65535), (np.uint16, 4095), (np.float32, 1.0)])
def test_levels_are_shares_of_the_full_scale(dtype: type, full_scale: float) -> None:
    labels = blobs(3)
    image = image_for(labels, 3)
    expected = texture_of(image, labels)
    scaled = (image * (full_scale / 255)).astype(dtype)
    for name, values in texture_of(scaled, labels, full_scale).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_what_is_above_the_full_scale_is_at_its_top() -> None:
    labels = rectangle(9, 9)
    bright = np.full(labels.shape, 60000, np.uint16)
    assert texture_of(bright, labels, 4095)["SumAverage_00"].item() == 2 * 255
