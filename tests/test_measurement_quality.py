"""Quality flags of a field."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from quality_fields import field_of, noisy_field, quality_of
from scipy import ndimage

from hcs_nuclei.columns import FIELD_QUALITY
from hcs_nuclei.measurement import FieldNuclei, measure_field
from hcs_nuclei.measurement.background import measure_background

SHAPE = (100, 200)


def nuclei_of(image: npt.NDArray[Any], labels: npt.NDArray[np.uint32], confidence: float = 0.9) -> FieldNuclei:
    """What is measured of the nuclei of a field; `confidence` is that of all of them."""
    numbers = np.unique(labels[labels > 0])
    area = np.array([np.count_nonzero(labels == n) for n in numbers])
    y, x = (np.array([where[axis].mean() for where in (np.nonzero(labels == n) for n in numbers)]) for axis in (0, 1))
    mean = np.array([image[labels == n].mean() for n in numbers])
    return FieldNuclei(area, x, y, mean, np.full(numbers.size, confidence, np.float32))


def quality(
    image: npt.NDArray[Any], labels: npt.NDArray[np.uint32], *, saturation: float | None = None
) -> dict[str, float | bool]:
    """The quality of a field whose plate's nuclei are 22 px wide."""
    nuclei = nuclei_of(image, labels) if image.shape == labels.shape else nuclei_of(labels, labels)
    return measure_field(image, labels, nuclei, saturation=saturation, diameter_px=22)


def test_field_with_nuclei() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint32)
    labels[:50, :40] = 7
    image = noisy_field(0, 1000, shape=SHAPE)
    image[:2, :100] = 4095  # exactly 1 %
    measured = quality(image, labels, saturation=4095)
    assert measured["Metadata_NuclearAreaFraction"] == 0.1
    assert measured["Metadata_QC_Blank"] is False
    assert measured["Metadata_QC_SaturatedFraction"] == 0.01
    assert measured["Metadata_QC_Saturated"] is False
    image[2, 0] = 4095
    assert quality(image, labels, saturation=4095)["Metadata_QC_Saturated"] is True


def test_unknown_limit_flags_nothing() -> None:
    measured = quality(np.full(SHAPE, 65535, np.uint16), np.zeros(SHAPE, np.uint32), saturation=None)
    assert measured["Metadata_QC_SaturatedFraction"] == 0
    assert measured["Metadata_QC_Saturated"] is False


def test_blank_field() -> None:
    measured = quality(np.zeros(SHAPE, np.uint16), np.zeros(SHAPE, np.uint32), saturation=4095)
    known = {name: value for name, value in measured.items() if value == value}
    assert known == {
        "Metadata_NuclearAreaFraction": 0,
        "Metadata_QC_Blank": True,
        "Metadata_QC_SaturatedFraction": 0,
        "Metadata_QC_Saturated": False,
        "Metadata_QC_Background": 0,
        "Metadata_QC_Noise": 0,
        "Metadata_QC_DebrisFraction": 0,
    }
    assert {type(value) for value in measured.values()} == {float, bool}


def test_label_image_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        quality(np.zeros(SHAPE), np.zeros((3, 3), np.uint32), saturation=None)


def spoilt(kind: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint32]]:
    """A simulated field of 60 nuclei, good but for one thing."""
    good = field_of(11)
    image, labels = good.images["DAPI"].astype(np.float64), good.labels
    rng = np.random.default_rng(1)
    if kind == "uneven":
        image += 200 * np.linspace(0, 1, image.shape[1])
    elif kind == "debris":
        free = np.argwhere(~ndimage.binary_dilation(labels > 0, iterations=8))
        for y, x in rng.choice(free, 60, replace=False):
            image[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] += 700
    elif kind == "saturated":
        image = (image - 150) * 5 + 150
    elif kind == "empty":
        other = field_of(12, nuclei=0)
        image, labels = other.images["DAPI"].astype(np.float64), other.labels
    elif kind == "noisy":
        image += rng.normal(0, 60, image.shape)
    elif kind == "dim":
        image = (image - 100) / 4 + 100
    elif kind == "confluent":
        other = field_of(13, nuclei=600)
        image, labels = other.images["DAPI"].astype(np.float64), other.labels
    return np.clip(image, 0, 4095).astype(np.uint16), labels


#: The measure that tells each fault, and how many times that of the good field it is there.
FAULTS = {
    "uneven": ("QC_Unevenness", 3, np.inf),
    "debris": ("QC_DebrisFraction", 20, np.inf),
    "saturated": ("QC_SaturatedFraction", 100, np.inf),
    "noisy": ("QC_Noise", 5, 20),
    "dim": ("QC_Contrast", 0.2, 0.3),
    "confluent": ("NuclearAreaFraction", 2, 12),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_moves_its_own_measure(fault: str) -> None:
    good, bad = quality_of(*spoilt("good")), quality_of(*spoilt(fault))
    for name, (measure, least, most) in FAULTS.items():
        column = f"Metadata_{measure}"
        ratio = (bad[column] + 1e-4) / (good[column] + 1e-4)
        if name == fault:
            assert least < ratio < most, (column, good[column], bad[column])
        elif fault not in ("saturated", "dim"):  # which are brighter and darker altogether
            assert not least < ratio < most, (column, good[column], bad[column])


def test_a_field_without_nuclei_has_a_background_and_no_focus_of_rims() -> None:
    measured = quality_of(*spoilt("empty"))
    unknown = {name.removeprefix("Metadata_QC_") for name, value in measured.items() if value != value}
    assert unknown == {
        "EdgeWidth",
        "Contrast",
        "MedianDiameter",
        "NeighbourDistance",
        "MeanConfidence",
        "LowConfidenceFraction",
    }
    assert 140 < measured["Metadata_QC_Background"] < 180
    assert measured["Metadata_QC_DebrisFraction"] < 0.002


def test_background_and_noise_are_what_they_were_made_of() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(300, 8, (256, 256))
    labels = np.zeros(image.shape, np.uint32)
    labels[40:80, 40:80] = 1
    image[labels > 0] += 1000
    background = measure_background(image, labels, reach=6, signal=1300.0)
    assert background.level == pytest.approx(300, abs=0.3)
    assert background.noise == pytest.approx(8, rel=0.05)
    assert background.unevenness < 0.01
    assert background.debris == 0
    image[128:, 128:] += 60  # a quarter of the field has a fifth more light
    uneven = measure_background(image, labels, reach=6, signal=1300.0)
    assert uneven.unevenness == pytest.approx(0.2, rel=0.05)
    assert uneven.debris == 0


def test_what_was_corrected_for_is_not_uneven() -> None:
    image, labels = spoilt("uneven")
    flat = image - 200 * np.linspace(0, 1, image.shape[1])
    nuclei = nuclei_of(flat, labels)
    raw = measure_field(image, labels, nuclei, saturation=4095, diameter_px=22)
    corrected = measure_field(image, labels, nuclei, saturation=4095, diameter_px=22, corrected=flat)
    assert corrected["Metadata_QC_Unevenness"] < raw["Metadata_QC_Unevenness"] / 3
    assert corrected["Metadata_QC_EdgeWidth"] == raw["Metadata_QC_EdgeWidth"]


def test_a_field_full_of_nuclei_has_no_background() -> None:
    image = np.random.default_rng(0).integers(900, 1100, (64, 64))
    measured = quality_of(image, np.ones(image.shape, np.uint32))
    for name in ("Background", "Noise", "Unevenness", "DebrisFraction", "Contrast"):
        assert np.isnan(measured[f"Metadata_QC_{name}"])


def test_the_columns_are_those_that_a_commit_has() -> None:
    assert list(quality_of(*spoilt("good"))) == [column.name for column in FIELD_QUALITY]


def test_neighbours_and_confidence() -> None:
    labels = np.zeros((100, 100), np.uint32)
    for number, x in enumerate((20, 50, 80), start=1):
        labels[40:60, x - 10 : x + 10] = number  # squares of 20 px, 30 px apart: 22.57 px in diameter
    measured = quality_of(labels * np.uint32(100), labels, confidence=0.7)
    assert measured["Metadata_QC_NeighbourDistance"] == pytest.approx(30 / np.sqrt(4 / np.pi * 400))
    assert measured["Metadata_QC_MeanConfidence"] == pytest.approx(0.7)
    assert measured["Metadata_QC_LowConfidenceFraction"] == 1
