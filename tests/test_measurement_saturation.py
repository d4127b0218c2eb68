"""The camera's limit as a sample of a plate's images, or one image alone, shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from quality_fields import field_of
from quality_fields import noisy_field as field

from hcs_nuclei.measurement import own_saturation_level, saturated_fraction, saturation_level

SHAPE = (100, 200)
Image = npt.NDArray[Any]


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
    Camera("a full mask of 8 bits", [np.where(np.arange(20000) > 400, 255, 0).astype(np.uint8).reshape(SHAPE)], None),
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


def nuclei_up_to(peak: float, seed: int = 3) -> Image:
    """A simulated field, float64: its background at 100, the brightest of its pixels at `peak`."""
    light = field_of(seed).images["DAPI"].astype(np.float64)
    light -= light.min()
    return 100 + light * (peak - 100) / light.max()


def clipped(limit: int, times: float, offset: int = 0) -> Image:
    """A field whose brightest nuclei are `times` too bright for a camera that ends at `limit`; uint16."""
    return (np.minimum(nuclei_up_to(limit * times), limit) + offset).astype(np.uint16)


def unsaturated(limit: int, offset: int = 0) -> Image:
    """A field whose one brightest pixel happens to be what a camera of that limit ends at; uint16."""
    image = np.round(nuclei_up_to(limit)).astype(np.int64)
    return (image - image.max() + limit + offset).astype(np.uint16)


def filled(image: Image, value: int, size: tuple[int, int] = (100, 150)) -> Image:
    """`image` with a corner of `size` px that has but one value."""
    image = image.copy()
    image[: size[0], : size[1]] = value
    return image


def noise(top: int, spread: float, seed: int) -> Image:
    """A field without cells in which the brightest pixel of the noise happens to be `top`; uint16."""
    light = np.random.default_rng(seed).normal(0, spread, (512, 512)).round()
    return (light - light.max() + top).astype(np.uint16)


@dataclass(frozen=True)
class One:
    name: str
    image: Callable[[], Image]
    expected: int | None


ONE = [
    *(
        One(f"{bits} bits, 1.5 times too bright", lambda b=bits: clipped(2**b - 1, 1.5), 2**bits - 1)
        for bits in (8, 10)
    ),
    *(One(f"{bits} bits, 4 times too bright", lambda b=bits: clipped(2**b - 1, 4), 2**bits - 1) for bits in (8, 12)),
    *(One(f"{bits} bits, hardly too bright", lambda b=bits: clipped(2**b - 1, 1.1), 2**bits - 1) for bits in (14, 16)),
    One("8 bits stored in 8", lambda: clipped(255, 2).astype(np.uint8), 255),
    One("12 bits shifted to the top", lambda: clipped(4095, 2) * 16, 65520),
    One("12 bits above 2**15, scanR", lambda: clipped(4095, 2, 2**15), 2**15 + 4095),
    One("in floats", lambda: clipped(4095, 2).astype(np.float32), 4095),
    One("half of the field", lambda: np.minimum(clipped(4095, 1.0) * 30, 4095).astype(np.uint16), 4095),
    One("a dozen pixels of one nucleus", lambda: filled(unsaturated(1500), 4095, (3, 4)), 4095),
    One("a corner masked with 0", lambda: filled(clipped(4095, 2), 0), 4095),
    *(One(f"nothing, {bits} bits", lambda b=bits: unsaturated(2**b - 1), None) for bits in (8, 10, 12, 14, 16)),
    One("nothing, 8 bits stored in 8", lambda: unsaturated(255).astype(np.uint8), None),
    One("nothing, scanR", lambda: unsaturated(4095, 2**15), None),
    One("nothing, a corner masked with 0", lambda: filled(unsaturated(4095), 0), None),
    One("nothing, a corner masked with 65535", lambda: filled(unsaturated(4095), 65535), None),
    One("clipped where no camera ends", lambda: clipped(3901, 2), None),
    One(
        "a few stuck pixels on a dark field",
        lambda: np.where(np.arange(40000) < 20, 4095, noise(160, 5, 0)[:200, :200].reshape(-1)).reshape(200, 200),
        None,
    ),
    *(
        One(f"a mask of {top}", lambda t=top: (nuclei_up_to(1000) > 400) * np.uint16(t), None)
        for top in (1, 255, 65535)
    ),
    *(One(f"dead at {value}", lambda v=value: np.full(SHAPE, v, np.uint16), None) for value in (0, 255, 4095, 65535)),
    One("no pixel", lambda: np.empty((0, 5), np.uint16), None),
    *(
        One(f"empty, noise of {spread} up to {top}, {seed}", lambda a=(top, spread, seed): noise(*a), None)
        for top in (255, 1023, 2**15 + 255)
        for spread in (0.5, 2, 20)
        for seed in range(3)
    ),
]


@pytest.mark.parametrize("one", ONE, ids=[one.name for one in ONE])
def test_what_one_image_shows(one: One) -> None:
    assert own_saturation_level(one.image()) == one.expected


def test_share_of_pixels_at_the_limit() -> None:
    image = np.array([[4095, 4095, 4096], [7, 7, 4094]], np.uint16)
    assert saturated_fraction(image, 4095) == 0.5
    assert saturated_fraction(image, 70_000) == 0
    assert saturated_fraction(image, None) == 0
