"""Simulated fields spoilt in known ways, for the tests of a field's quality."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hcs_nuclei.measurement import FieldNuclei, measure_field, measure_nuclei
from hcs_nuclei.simulate import SimulatedField, simulate_field
from hcs_nuclei.simulate.optics import CAMERA_MAX, CAMERA_OFFSET

DIAMETER_PX = 22.0
Image = npt.NDArray[Any]
Labels = npt.NDArray[np.uint32]


def field_of(seed: int, nuclei: int = 60, size: int = 400) -> SimulatedField:
    """One field of nuclei of 22 px."""
    return simulate_field(np.random.default_rng(seed), size=size, nuclei=nuclei, channels=("DAPI",))


def noisy_field(
    seed: int, brightness: float, limit: int | None = None, offset: int = 0, shape: tuple[int, int] = (100, 200)
) -> npt.NDArray[np.uint16]:
    """Noise around 100 counts and a few nuclei of `brightness`, clipped at `limit`, raised by `offset`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    signal = np.full(shape, 100.0)
    for cy, cx, scale in rng.uniform((0, 0, 0.2), (*shape, 1), size=(12, 3)):
        signal += brightness * scale * np.exp(-((((y - cy) ** 2 + (x - cx) ** 2) / 60) ** 2))
    image = rng.poisson(signal)
    return (np.minimum(image, 65535 if limit is None else limit) + offset).astype(np.uint16)


def defocused(image: Image, sigma_px: float, seed: int = 0) -> Image:
    """`image` (12-bit counts) as the camera would have seen it so far out of focus.

    The noise that was in the image is blurred with its light; the new noise is that of the simulated camera.
    """
    if not sigma_px:
        return image
    light = ndimage.gaussian_filter(image.astype(np.float32), sigma_px)
    noise = np.random.default_rng(seed).standard_normal(light.shape, dtype=np.float32)
    light += noise * np.sqrt(np.maximum(light - CAMERA_OFFSET, 0) * 0.45 + 9)
    return np.clip(light + 0.5, 0, CAMERA_MAX).astype(np.uint16)


def quality_of(
    image: Image,
    labels: Labels,
    *,
    confidence: float = 0.95,
    saturation: float | None = CAMERA_MAX,
    diameter_px: float | None = DIAMETER_PX,
) -> dict[str, float | bool]:
    """The measured quality of a field whose nuclei are all of one confidence."""
    table = measure_nuclei(labels, {"DAPI": image}, nuclear="DAPI", saturation={"DAPI": saturation})
    count = table["Metadata_ObjectNumber"].size
    nuclei = FieldNuclei(
        area=table["Nuclei_AreaShape_Area"],
        x=table["Metadata_Center_X"],
        y=table["Metadata_Center_Y"],
        mean=table["Nuclei_Intensity_MeanIntensity_DAPI"],
        confidence=np.full(count, confidence, np.float32),
    )
    return measure_field(image, labels, nuclei, saturation=saturation, diameter_px=diameter_px)
