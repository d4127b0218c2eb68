"""Normalisation: the same picture whatever the camera, noise that stays small, and no pixel that upsets the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from segmentation_samples import disks

from hcs_nuclei.segmentation.normalise import VALUE_RANGE, noise_level, normalise, to_grey

CIRCLES = [(30, 30, 12), (60, 90, 9), (90, 40, 14), (20, 100, 7)]


@pytest.fixture
def field() -> npt.NDArray[np.uint8]:
    """128 × 128 px: nuclei of about 150 counts on a background of 20 with a little noise."""
    light = 20 + 130.0 * (disks((128, 128), CIRCLES) > 0)
    return np.round(light + np.random.default_rng(0).normal(0, 2, light.shape)).clip(0, 255).astype(np.uint8)


def test_background_is_near_0_and_nuclei_near_1(field: npt.NDArray[np.uint8]) -> None:
    inside = disks((128, 128), CIRCLES) > 0
    seen = normalise(field)

    assert seen.dtype == np.float32
    assert np.median(seen[~inside]) == pytest.approx(0, abs=0.05)
    assert np.median(seen[inside]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "uint32", "int32", "int64", "float32", "float64"])
def test_every_dtype_gives_what_uint8_gives(field: npt.NDArray[np.uint8], dtype: str) -> None:
    np.testing.assert_allclose(normalise(field.astype(dtype)), normalise(field), atol=1e-6)


@pytest.mark.parametrize(
    ("gain", "offset", "dtype"),
    [(257, 0, np.uint16), (16, 400, np.uint16), (1 / 255, 0, np.float32), (2, -60, np.int16)],
)
def test_gain_and_offset_of_the_camera_do_not_matter(
    field: npt.NDArray[np.uint8], gain: float, offset: float, dtype: Any
) -> None:
    np.testing.assert_allclose(
        normalise((field.astype(np.float64) * gain + offset).astype(dtype)), normalise(field), atol=1e-4
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("value", [0, 117])
def test_a_constant_field_is_all_zero(dtype: Any, value: int) -> None:
    seen = normalise(np.full((40, 50), value, dtype))

    assert seen.shape == (40, 50)
    assert not seen.any()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_one_nucleus_on_a_background_without_noise_is_1(dtype: Any) -> None:
    labels = disks((300, 300), [(150, 150, 6)])  # less than the 0.2 % above the upper percentile

    np.testing.assert_array_equal(normalise((labels * 90 + 10).astype(dtype)), labels)


@pytest.mark.parametrize("spread", [2.0, 15.0, 300.0])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_pure_noise_is_not_stretched_until_it_looks_like_nuclei(spread: float, dtype: Any) -> None:
    noise = np.random.default_rng(1).normal(2000, spread, (256, 256)).astype(dtype)

    assert normalise(noise).max() < 0.65  # 4.5 + 2.3 standard deviations of the twelve that would be 1


def test_one_hot_pixel_is_cut_off_and_changes_no_other(field: npt.NDArray[np.uint8]) -> None:
    hot = field.astype(np.uint16)
    hot[64, 10] = 65535

    expected, seen = normalise(field), normalise(hot)

    assert seen[64, 10] == VALUE_RANGE[1]
    others = np.arange(field.size) != 64 * 128 + 10
    np.testing.assert_allclose(seen.ravel()[others], expected.ravel()[others], atol=0.02)


def test_a_few_pixels_that_are_no_numbers_cost_themselves_only(field: npt.NDArray[np.uint8]) -> None:
    broken = field.astype(np.float32)
    broken[5, 5:8] = np.nan, np.inf, -np.inf

    seen = normalise(broken)

    assert np.isfinite(seen).all()
    np.testing.assert_allclose(seen[10:], normalise(field)[10:], atol=0.02)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", ["columns", "frame", "turned"])
def test_a_margin_without_light_changes_nothing_within_it(field: npt.NDArray[np.uint8], dtype: Any, shape: str) -> None:
    offset = field.astype(dtype) + dtype(40)  # the camera's, which a margin of zeros does not have
    margin = np.zeros(field.shape, bool)
    if shape == "columns":
        margin[:, :5] = True
    elif shape == "frame":
        margin[:4], margin[-9:], margin[:, :3] = True, True, True
    else:
        y, x = np.indices(field.shape)
        margin |= (x + y < 24) | (x - y > 110)
    seen = normalise(np.where(margin, dtype(0), offset))

    np.testing.assert_allclose(seen[~margin], normalise(offset)[~margin], atol=0.03)
    assert np.abs(seen[margin]).max() < 0.1


def test_a_background_that_was_cut_off_is_no_margin() -> None:
    labels = disks((128, 128), [(y, x, 12) for y in range(15, 128, 26) for x in range(15, 128, 26)])
    image = np.where(labels > 0, 200, 0).astype(np.uint8)  # crowded: less than half of it is background
    image[:3] = 0

    np.testing.assert_array_equal(normalise(image), labels > 0)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.42])
def test_noise_within_a_margin_is_not_stretched(share: float) -> None:
    noise = np.random.default_rng(1).normal(300, 12, (256, 256)).astype(np.uint16)
    expected = normalise(noise).std()
    noise[:, : round(256 * share)] = 0
    seen = normalise(noise)[:, round(256 * share) :]

    assert seen.std() == pytest.approx(expected, rel=0.15)
    assert seen.max() < 0.65


@pytest.mark.parametrize("tight", [False, True])
def test_one_nucleus_on_a_background_that_was_cut_off_is_no_image_within_a_margin(tight: bool) -> None:
    radius = 63 if tight else 54
    inside = disks((128, 128), [(64, 64, radius)]) > 0
    light = np.random.default_rng(0).normal(180, 12, (128, 128))
    seen = normalise(np.where(inside, light, 0).clip(0, 255).astype(np.uint8))

    assert np.median(seen[inside]) > 0.7
    assert np.abs(seen[~inside]).max() < 0.01


def test_a_field_without_a_number_is_all_zero() -> None:
    assert not normalise(np.full((20, 20), np.nan)).any()


@given(
    arrays.arrays(
        st.sampled_from([np.dtype("u1"), np.dtype("u2"), np.dtype("i4"), np.dtype("f4")]),
        arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
        elements=st.integers(0, 255).map(float) | st.just(0),
        fill=st.nothing(),
    )
)
def test_values_stay_in_their_range_and_the_input_as_it_was(image: npt.NDArray[Any]) -> None:
    before = image.copy()
    seen = normalise(image)

    assert seen.dtype == np.float32
    assert seen.shape == image.shape
    assert np.isfinite(seen).all()
    assert seen.min() >= VALUE_RANGE[0]
    assert seen.max() <= VALUE_RANGE[1]
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_percentiles_from_the_histogram_are_numpys(dtype: Any) -> None:
    # 61 × 67 px: neither percentile falls between two ranks, where NumPy's own rounding would decide.
    image = np.random.default_rng(2).gamma(2, 30, (61, 67)).clip(0, 255).astype(dtype)
    low, high = np.percentile(image, [1.0, 99.8], method="inverted_cdf")

    seen = normalise(image)

    assert not seen[image == low].any()
    np.testing.assert_allclose(seen[image == high], (high - low) / max(high - low, 12 * noise_level(image)), rtol=1e-6)


@pytest.mark.parametrize("spread", [1.0, 8.0, 50.0])
def test_noise_level_is_the_noises_whatever_the_field_shows(spread: float) -> None:
    rng = np.random.default_rng(3)
    slope = np.linspace(0, 50, 256)[None, :]
    nuclei = 2000.0 * (disks((256, 256), [(60, 60, 20), (150, 100, 20), (100, 200, 25)]) > 0)

    level = noise_level((1000 + slope + nuclei + rng.normal(0, spread, (256, 256))).astype(np.float32))

    assert level == pytest.approx(spread, rel=0.1)


def test_grey_stays_as_it_is() -> None:
    image = np.arange(12, dtype=np.uint16).reshape(3, 4)

    assert to_grey(image) is image


@pytest.mark.parametrize("channels", [1, 3])
def test_equal_colours_are_that_grey(channels: int) -> None:
    grey = np.arange(12, dtype=np.uint16).reshape(3, 4)

    np.testing.assert_array_equal(to_grey(np.stack([grey] * channels, axis=2)), grey)


@pytest.mark.parametrize("channels", [2, 4])
def test_opacity_is_left_out(channels: int) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    opaque = np.full((3, 4), 255, np.uint8)

    np.testing.assert_array_equal(to_grey(np.stack([grey] * (channels - 1) + [opaque], axis=2)), grey)


def test_rendered_fluorescence_is_its_brightest_colour() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[1, 1] = 20, 20, 90
    image[2, 2] = 50, 0, 0

    grey = to_grey(image)

    assert grey.dtype == np.uint8
    assert (grey[1, 1], grey[2, 2], grey[0, 0]) == (90, 50, 0)


def _section(dtype: type) -> np.ndarray:
    """Pink tissue with four violet nuclei, as haematoxylin and eosin stain it; light."""
    image = np.empty((64, 64, 3), dtype)
    image[:] = 220, 130, 190
    for y, x in ((10, 10), (10, 50), (50, 10), (50, 50)):
        image[y - 5 : y + 5, x - 5 : x + 5] = 90, 60, 150
    image[30:34, 30:34] = 250, 250, 250
    return image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_stained_section_is_its_red_inverted(dtype: type) -> None:
    grey = to_grey(_section(dtype))

    assert grey.dtype == dtype
    assert grey[10, 10] > grey[0, 0] > grey[31, 31] == 0
    np.testing.assert_array_equal(grey, 250 - _section(dtype)[..., 0])


def test_opacity_says_nothing_about_a_section() -> None:
    opaque = np.full((64, 64, 1), 255, np.uint8)

    np.testing.assert_array_equal(
        to_grey(np.concatenate([_section(np.uint8), opaque], axis=2)), to_grey(_section(np.uint8))
    )


def test_grey_brightfield_is_inverted() -> None:
    image = np.full((64, 64), 230, np.uint8)
    image[20:30, 20:30] = 90
    image[0, :] = 235

    np.testing.assert_array_equal(to_grey(image), 235 - image)


def test_a_fluorescence_field_full_of_nuclei_is_not_taken_for_brightfield() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(1000, 100, (128, 128))
    image[20:110, 20:125] += rng.normal(4000, 1200, (90, 105))  # more than half of the field

    assert to_grey(image.astype(np.uint16))[0, 0] < 2000


def test_whether_nuclei_are_bright_can_be_told() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(100, 3, (128, 128))
    image[14:, 10:] += 900 + rng.normal(0, 30, (114, 118))  # nine tenths are nuclei
    full = image.astype(np.uint16)

    assert to_grey(full)[0, 0] > 800  # it looks like brightfield
    assert to_grey(full, nuclei="bright") is full
    np.testing.assert_array_equal(to_grey(np.stack([full] * 3, axis=2), nuclei="bright"), full)
    dark = np.where(disks((128, 128), [(60, 60, 40)]) > 0, 100, 900)
    np.testing.assert_array_equal(to_grey(1000 - dark), 1000 - dark)
    np.testing.assert_array_equal(to_grey(1000 - dark, nuclei="dark"), dark)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_margin_without_light_does_not_make_an_image_light(dtype: Any) -> None:
    """As where images were aligned or joined: a camera's offset of 1000 lies far above what is not there."""
    labels = disks((256, 256), [(60, 60, 12), (150, 180, 12)])
    image = (1000 + 300 * (labels > 0) + np.random.default_rng(0).normal(0, 5, labels.shape)).astype(dtype)
    image[:, :4] = 0

    np.testing.assert_array_equal(to_grey(image), image)


@pytest.mark.parametrize("shape", [(5,), (4, 4, 5), (2, 4, 4, 3)])
def test_an_image_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(y, x\)"):
        to_grey(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_signed_images_with_dark_nuclei_are_inverted_within_their_range(dtype: Any) -> None:
    labels = disks((128, 128), CIRCLES)
    most, least = np.iinfo(dtype).max, np.iinfo(dtype).min
    grey = to_grey(np.where(labels > 0, least, most).astype(dtype))

    assert grey.dtype == dtype
    np.testing.assert_array_equal(grey, np.where(labels > 0, most, least))


def test_pixels_that_are_no_numbers_change_neither_the_scale_nor_the_kind_of_an_image() -> None:
    labels = disks((128, 128), CIRCLES)
    for whole in (np.where(labels > 0, 21_000.0, 20_000.0), np.where(labels > 0, 20_000.0, 21_000.0)):
        whole += np.random.default_rng(0).normal(0, 5, whole.shape)
        holed = whole.copy()
        holed[:12], holed[40, 7] = np.nan, np.inf
        seen, expected = normalise(to_grey(holed)), normalise(to_grey(whole))

        assert np.isfinite(seen).all()
        assert np.abs(seen - expected)[12:].max() < 0.06  # but for the one pixel, which becomes background
        assert np.abs(seen[:12]).max() < 0.1


def test_black_and_white_is_grey() -> None:
    np.testing.assert_array_equal(to_grey(disks((64, 64), [(30, 30, 9)]) > 0), disks((64, 64), [(30, 30, 9)]))


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="it has no pixels"):
        to_grey(np.zeros((0, 40), np.uint8))
