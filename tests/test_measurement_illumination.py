"""Illumination profiles against simulated plates whose light is known, and against the polynomials they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hcs_nuclei.errors import ProfileError
from hcs_nuclei.measurement.illumination import (
    Profile,
    average,
    correct,
    estimate_profile,
    plausible,
    profile_of_reference,
    surface,
)
from hcs_nuclei.simulate.fields import simulate_field
from hcs_nuclei.simulate.optics import CAMERA_OFFSET, Shading

VIGNETTE = Shading((1.0, 0.02, 0.0025, -0.46, 0.12, -0.57))
SIZE = 384
FULL = 41  # nuclei of an untreated well at that size


@dataclass(frozen=True)
class Scene:
    """Nuclei in field after field (as a share of a full one), and how much unevenness may be left of what was there."""

    densities: tuple[float, ...]
    left: float
    channel: str = "DAPI"


SCENES = {
    "dense": Scene((1.0,), 0.6),
    "sparse": Scene((0.08,), 0.4),
    "empty wells among full ones": Scene((1.0, 0.6, 0.3, 0.0), 0.6),
    "all empty": Scene((0.0,), 0.4),
    "a marker of the cytoplasm": Scene((0.6, 0.3, 0.0), 0.7, "FITC"),
}


def fields_of(
    scene: Scene, count: int = 32, shading: Shading = VIGNETTE, seed: int = 3
) -> list[npt.NDArray[np.uint16]]:
    channels = ("DAPI", scene.channel)[: 1 + (scene.channel != "DAPI")]
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        nuclei = int(rng.poisson(FULL * scene.densities[number % len(scene.densities)]))
        field = simulate_field(
            rng, size=SIZE, nuclei=nuclei, channels=channels, shading=dict.fromkeys(channels, shading)
        )
        made.append(field.images[scene.channel])
    return made


def unevenness(light: npt.NDArray[Any]) -> float:
    """Standard deviation over the field, relative to its average."""
    return float(light.std() / light.mean())


@pytest.mark.parametrize("name", SCENES)
def test_an_estimate_takes_out_most_of_a_known_vignette(name: str) -> None:
    scene = SCENES[name]
    profile = estimate_profile(fields_of(scene))
    truth = VIGNETTE.over((64, 64))
    left = truth / surface(profile.gain, (64, 64))
    assert unevenness(left) < scene.left * unevenness(truth)
    assert left.max() / left.min() < truth.max() / truth.min()
    # The noise tells the offset less the read noise, some 20 counts here: a little too weak, never too strong.
    assert 0.6 * CAMERA_OFFSET < profile.dark[0] < 1.05 * CAMERA_OFFSET
    assert average(profile.gain) == pytest.approx(1, abs=1e-6)


def test_an_even_plate_stays_as_it_is() -> None:
    low, high = estimate_profile(fields_of(SCENES["sparse"], shading=Shading())).gain_range
    assert 0.97 < low < high < 1.03


def test_the_same_fields_give_the_same_numbers() -> None:
    fields = fields_of(SCENES["sparse"], 16)
    assert estimate_profile(fields) == estimate_profile(iter(fields))


def test_too_few_fields_are_refused_and_blank_ones_do_not_count() -> None:
    fields = fields_of(SCENES["sparse"], 16)
    blank = [np.full((SIZE, SIZE), 7, np.uint16)] * 8
    assert estimate_profile(blank + fields) == estimate_profile(fields)
    with pytest.raises(ProfileError, match="15 fields of the sample hold an image; 16 are needed"):
        estimate_profile(blank + fields[:15])


def test_fields_that_have_no_light_in_common_are_refused() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-0.5:0.5:256j, -0.5:0.5:256j]
    slopes = rng.uniform(-0.9, 0.9, (16, 2))
    fields = [rng.poisson(200 * (1 + a * x + b * y)).astype(np.uint16) for a, b in slopes]
    with pytest.raises(ProfileError, match="two halves of the sample differ"):
        estimate_profile(fields)


def test_fields_too_small_for_their_tiles_are_refused() -> None:
    with pytest.raises(ProfileError, match="64 × 64 pixels is too small; 128 × 128"):
        estimate_profile(np.random.default_rng(0).integers(0, 9, (16, 64, 64)))


def test_a_picture_without_growing_noise_has_no_offset() -> None:
    y, x = np.mgrid[-0.5:0.5:256j, -0.5:0.5:256j]
    fields = [np.rint(level * (1 - 0.5 * (x * x + y * y))).astype(np.uint16) for level in range(1000, 1016)]
    assert estimate_profile(fields).dark == (0.0,)


def test_a_surface_is_the_polynomial_in_x_before_y() -> None:
    np.testing.assert_allclose(surface(VIGNETTE.coefficients, (33, 70)), VIGNETTE.over((33, 70)), rtol=1e-6)
    assert surface((2.5,), (2, 3)).tolist() == [[2.5] * 3] * 2
    rising = surface((0.0, 1.0, 0.0), (2, 4))
    assert rising.tolist() == [[-0.375, -0.125, 0.125, 0.375]] * 2


def test_the_average_of_a_polynomial_is_that_of_its_surface() -> None:
    coefficients = tuple(np.random.default_rng(4).normal(size=15))
    assert average(coefficients) == pytest.approx(float(surface(coefficients, (400, 400)).mean()), abs=1e-4)


def test_coefficients_that_make_no_polynomial_are_refused() -> None:
    with pytest.raises(ValueError, match="4 coefficients make no polynomial"):
        surface((1.0, 2.0, 3.0, 4.0), (8, 8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_correcting_gives_the_light_on_the_average_dark(dtype: Any) -> None:
    light = np.random.default_rng(1).uniform(20, 120, (50, 61))
    dark = (40.0, 5.0, -3.0)
    image = (surface(dark, (50, 61)) + surface(VIGNETTE.coefficients, (50, 61)) * light).astype(dtype)
    before = image.copy()
    corrected = correct(image, Profile(VIGNETTE.coefficients, dark))
    assert corrected.dtype == np.float32
    np.testing.assert_allclose(corrected, light + 40, atol=1e-3 if dtype == np.float64 else 1.5)
    assert (image == before).all()


@dataclass(frozen=True)
class Impossible:
    """A profile that no instrument has, and what is said of it."""

    profile: Profile
    message: str


IMPOSSIBLE = {
    "nothing": Impossible(Profile((0.0,)), "holds no light"),
    "below nothing": Impossible(Profile((-1.0, 0.2, 0.2)), "holds no light"),
    "no number": Impossible(Profile((float("nan"),)), "holds no light"),
    "no number in the dark": Impossible(Profile((1.0,), (float("inf"),)), "holds no light"),
    "dark corners": Impossible(Profile((1.5, 0.0, 0.0, -3.0, 0.0, -2.9)), "goes from 0.07 to"),
    "a bright side": Impossible(Profile((1.0, 3.2, 0.0)), "from 0.25 to 2.5 is believed"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_no_instrument_has_is_not_believed(name: str) -> None:
    with pytest.raises(ProfileError, match=IMPOSSIBLE[name].message):
        plausible(IMPOSSIBLE[name].profile)


def test_a_believed_gain_is_one_on_average() -> None:
    assert plausible(Profile((4.0, 1.0, 0.0), (7.0,))) == Profile((1.0, 0.25, 0.0), (7.0,))


@pytest.mark.parametrize("dark", [100.0, np.full((300, 280), 100, np.uint16)], ids=["counts", "image"])
def test_a_reference_image_gives_its_gain_without_its_dark(dark: Any) -> None:
    flat = 100 + 9000 * VIGNETTE.over((300, 280))
    flat += np.random.default_rng(2).normal(0, 60, flat.shape).astype(np.float32)
    profile = profile_of_reference(flat, dark)
    ratio = VIGNETTE.over((64, 64)) / surface(profile.gain, (64, 64))
    assert ratio.max() / ratio.min() < 1.005
    assert average(profile.dark) == pytest.approx(100, abs=0.01)


def test_a_reference_image_without_light_is_not_believed() -> None:
    with pytest.raises(ProfileError, match="holds no light"):
        profile_of_reference(np.zeros((64, 64), np.uint16))
    with pytest.raises(ProfileError, match="20 × 20 pixels is too small; 32 × 32"):
        profile_of_reference(np.ones((20, 20)))


def test_fields_whose_background_was_cut_off_have_no_profile_and_cost_the_others_nothing() -> None:
    rng = np.random.default_rng(3)
    y, x = np.indices((256, 256))

    def discs() -> npt.NDArray[np.uint16]:
        image = np.zeros((256, 256), np.uint16)
        for _ in range(6):
            image[np.hypot(y - rng.integers(20, 236), x - rng.integers(20, 236)) < 10] = 3000
        return image

    with pytest.raises(ProfileError, match="0 fields of the sample have a background above 0"):
        estimate_profile(discs() for _ in range(20))
    good = [rng.poisson(400 - 100 * ((y - 128) ** 2 + (x - 128) ** 2) / 128**2).astype(np.uint16) for _ in range(20)]
    assert estimate_profile([*good, discs()]) == estimate_profile(good)
