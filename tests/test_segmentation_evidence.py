"""How far a confidence can be believed: focus and saturation of the image that a nucleus was found in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from segmentation_samples import disks

from hcs_nuclei.segmentation.evidence import IN_FOCUS, LEAST, NEAR_IN_FOCUS, evidence, outline_widths
from hcs_nuclei.simulate import simulate_field

Field = tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint32]]


def _field(diameter: float = 24, seed: int = 7) -> Field:
    made = simulate_field(np.random.default_rng(seed), size=round(diameter * 14), nuclei=45, diameter_px=diameter)
    return made.images["DAPI"], made.labels


@pytest.mark.parametrize("diameter", [9, 14, 24, 60])
def test_ordinary_fields_are_believed_whatever_the_size_of_the_nuclei(diameter: float) -> None:
    assert evidence(*_field(diameter)) == 1


@pytest.mark.parametrize("diameter", [9, 24, 60])
def test_the_width_of_outlines_is_that_of_the_blur_over_the_diameter(diameter: float) -> None:
    image, labels = _field(diameter)
    widths = [
        outline_widths(ndimage.gaussian_filter(image.astype(float), share * diameter), labels)[0]
        for share in (0.0, 0.1, 0.2, 0.35, 0.5)
    ]

    assert widths == sorted(widths)
    assert widths[0] < 0.3
    assert widths[3] == pytest.approx(0.69, abs=0.08)


def test_the_width_depends_neither_on_brightness_nor_on_the_offset_nor_on_the_order_of_labels() -> None:
    image, labels = _field()
    order = np.random.default_rng(0).permutation(np.arange(1, labels.max() + 1)).astype(np.uint32)
    shuffled = np.concatenate([[np.uint32(0)], order])[labels]

    expected = outline_widths(image, labels)

    assert outline_widths(image * np.float32(0.25) + 7, labels) == pytest.approx(expected, rel=1e-4)
    assert outline_widths(image, shuffled) == pytest.approx(expected, rel=1e-6)


def test_a_field_far_out_of_focus_is_hardly_believed() -> None:
    image, labels = _field()

    assert evidence(ndimage.gaussian_filter(image.astype(float), 12), labels) < 0.3


def test_sharp_nuclei_in_tissue_that_is_brighter_than_the_background_are_believed() -> None:
    image, labels = _field()
    tissue = ndimage.gaussian_filter((ndimage.distance_transform_edt(labels == 0) < 10).astype(float), 8)
    lit = image + 1.5 * float(np.median(image[labels > 0])) * tissue
    wide, near = outline_widths(lit, labels)

    assert wide > IN_FOCUS
    assert near < NEAR_IN_FOCUS
    assert evidence(lit, labels) == 1


def test_the_more_is_saturated_the_less_is_believed() -> None:
    image, labels = _field()
    inside = image[labels > 0]
    believed = [evidence(np.minimum(image, np.quantile(inside, 1 - share)), labels) for share in (0.1, 0.3, 0.5, 0.7)]

    assert believed == sorted(believed, reverse=True)
    assert believed[0] == 1
    assert believed[-1] == pytest.approx(LEAST)


@pytest.mark.parametrize("gap", [np.nan, np.inf, -np.inf])
def test_a_pixel_without_a_number_changes_nothing(gap: float) -> None:
    image, labels = _field()
    image = image.astype(np.float32)
    y, x = np.argwhere(labels == 0)[0]
    for spoilt in (np.minimum(image, np.quantile(image[labels > 0], 0.4)), ndimage.gaussian_filter(image, 9)):
        expected = evidence(spoilt, labels)
        spoilt[y, x] = gap
        assert evidence(spoilt, labels) == pytest.approx(expected, abs=0.01)
        assert expected < 0.7


def test_without_nuclei_and_without_a_background_there_is_an_answer() -> None:
    flat = np.full((40, 40), 9, np.uint16)

    assert evidence(flat, np.zeros((40, 40), np.uint32)) == 1
    assert outline_widths(flat, np.ones((40, 40), np.uint32)) == (0, 0)
    assert outline_widths(255 - disks((40, 40), [(20, 20, 9)]), disks((40, 40), [(20, 20, 9)]).astype(np.uint32)) == (
        0,
        0,
    )
