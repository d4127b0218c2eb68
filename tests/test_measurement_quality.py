"""Quality flags of a field, and the camera's limit as a sample of images shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hcs_nuclei.measurement import FieldNuclei, measure_field, saturation_level

SHAPE = (100, 200)


def field(seed: int, brightness: float, limit: int | None = None, offset: int = 0) -> npt.NDArray[np.uint16]:
    """Noise around 100 counts and a few nuclei of `brightness`, clipped at `limit`, raised by `offset`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    signal = np.full(SHAPE, 100.0)
    for cy, cx, scale in rng.uniform((0, 0, 0.2), (*SHAPE, 1), size=(12, 3)):
        signal += brightness * scale * np.exp(-((((y - cy) ** 2 + (x - cx) ** 2) / 60) ** 2))
    image = rng.poisson(signal)
    return (np.minimum(image, 65535 if limit is None else limit) + offset).astype(np.uint16)


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


@dataclass(frozen=True)
class Camera:
    name: str
    images: list[npt.NDArray[np.generic]]
    expected: int | None


CAMERAS = [
    *(
        Camera(f"{bits} bits", [field(s, 2.0**bits, 2**bits - 1) for s in range(3)], 2**bits - 1)
        for bits in (8, 10, 12)
    ),
    Camera("14 bits", [field(s, 30000, 16383) for s in range(3)], 16383),
    Camera("16 bits", [np.clip(field(s, 30000).astype(int) * 4, 0, 65535).astype(np.uint16) for s in range(3)], 65535),
    Camera("8 bits stored in 8", [field(s, 400, 255).astype(np.uint8) for s in range(3)], 255),
    Camera("12 bits shifted to the top", [field(s, 6000, 4095) * 16 for s in range(3)], 65520),
    Camera("scanR, 12 bits above 2**15", [field(s, 6000, 4095, 2**15) for s in range(3)], 2**15 + 4095),
    Camera("background subtracted", [field(s, 6000, 3901) for s in range(3)], 3901),
    Camera("in floats", [field(s, 6000, 4095).astype(np.float32) for s in range(3)], 4095),
    Camera("beside a blank field", [np.full(SHAPE, 65535, np.uint16), field(0, 6000, 4095)], 4095),
    Camera("nothing saturated", [field(s, 2000) for s in range(3)], None),
    Camera("nothing saturated in 8 bits", [field(s, 100).astype(np.uint8) for s in range(3)], None),
    Camera("nothing saturated above 2**15", [field(s, 2000, None, 2**15) for s in range(3)], None),
    Camera("brightest pixel happens to be 4095", [np.where(field(0, 2000) == field(0, 2000).max(), 4095, 90)], None),
    Camera("empty fields of noise", [field(s, 0) for s in range(3)], None),
    Camera("all zero", [np.zeros(SHAPE, np.uint16)] * 3, None),
    Camera("as many at the maximum as just below", [np.arange(20000).reshape(SHAPE) % 3000 + 90], None),
    Camera("as many at a camera's limit as just below", [np.arange(20000).reshape(SHAPE) % 256], None),
    Camera("an almost full mask", [(np.arange(20000) > 400).astype(np.uint8).reshape(SHAPE)], None),
    Camera("no image", [], None),
]


@pytest.mark.parametrize("camera", CAMERAS, ids=[camera.name for camera in CAMERAS])
def test_saturation_level(camera: Camera) -> None:
    assert saturation_level(iter(camera.images)) == camera.expected


@pytest.mark.parametrize(
    ("limit", "offset", "factor", "expected"),
    [
        pytest.param(4095, 0, 1, 4095, id="where a camera can end"),
        pytest.param(4095, 2**15, 1, 2**15 + 4095, id="the same on scanR"),
        pytest.param(2**15 - 1, 2**15, 1, 65535, id="the end of 16 bits above 2**15"),
        pytest.param(4095, 0, 16, 65520, id="the same shifted to the top"),
        pytest.param(4000, 0, 1, None, id="elsewhere too few to tell"),
    ],
)
def test_a_dozen_saturated_pixels_on_a_plate(limit: int, offset: int, factor: int, expected: int | None) -> None:
    images = [field(s, 1500) for s in range(6)]
    images[4][20:23, 30:34] = limit
    assert saturation_level([image * np.uint16(factor) + np.uint16(offset) for image in images]) == expected


def test_field_with_nuclei() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint32)
    labels[:50, :40] = 7
    image = field(0, 1000)
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
