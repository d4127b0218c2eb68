"""Simulated fields: true truth, what is hard for a segmentation, and the same field from the same generator."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from hcs_nuclei.errors import SettingsError
from hcs_nuclei.simulate import Phenotype, simulate_field
from hcs_nuclei.simulate.optics import CAMERA_MAX, Shading, enlarge


def test_same_generator_state_gives_the_same_field_and_another_does_not() -> None:
    first, again, other = (simulate_field(np.random.default_rng(seed), size=128, nuclei=9) for seed in (3, 3, 4))
    for channel in ("DAPI", "FITC"):
        np.testing.assert_array_equal(first.images[channel], again.images[channel])
    np.testing.assert_array_equal(first.labels, again.labels)
    assert first.nuclei == again.nuclei
    assert not np.array_equal(first.images["DAPI"], other.images["DAPI"])


def test_nuclear_channel_does_not_depend_on_further_channels() -> None:
    alone = simulate_field(np.random.default_rng(1), size=128, nuclei=9, channels=("DAPI",))
    both = simulate_field(np.random.default_rng(1), size=128, nuclei=9)
    np.testing.assert_array_equal(alone.images["DAPI"], both.images["DAPI"])


@pytest.mark.parametrize("size", [(97, 211), (128, 128), (515, 64)], ids=str)
def test_field_has_the_shape_depth_and_number_that_were_asked_for(size: tuple[int, int]) -> None:
    field = simulate_field(np.random.default_rng(0), size=size, nuclei=10, diameter_px=14)
    assert {name: (i.shape, i.dtype) for name, i in field.images.items()} == {
        "DAPI": (size, np.uint16),
        "FITC": (size, np.uint16),
    }
    assert max(int(image.max()) for image in field.images.values()) <= CAMERA_MAX
    assert field.labels.shape == size
    assert field.labels.dtype == np.uint32
    assert len(field.nuclei) == 10


@pytest.mark.parametrize("seed", range(4))
def test_truth_table_is_that_of_the_label_image(seed: int) -> None:
    field = simulate_field(np.random.default_rng(seed), size=(300, 260), nuclei=60)
    numbers = [n.label for n in field.nuclei]
    assert numbers == list(range(1, len(numbers) + 1)) == np.unique(field.labels)[1:].tolist()
    index = np.array(numbers)
    np.testing.assert_array_equal(
        [n.area for n in field.nuclei], ndimage.sum_labels(field.labels > 0, field.labels, index)
    )
    centres = ndimage.center_of_mass(field.labels > 0, field.labels, index)
    np.testing.assert_allclose([(n.y, n.x) for n in field.nuclei], centres, atol=1e-9)


def test_a_field_without_nuclei_is_background_and_dust_only() -> None:
    field = simulate_field(np.random.default_rng(0), size=128, nuclei=0, debris_per_megapixel=0)
    assert field.nuclei == ()
    assert not field.labels.any()
    for image in field.images.values():
        assert 120 < image.mean() < 200
        assert 0 < image.std() < 15


def test_nuclei_that_find_no_room_are_left_out() -> None:
    field = simulate_field(np.random.default_rng(0), size=64, nuclei=500)
    assert 3 < len(field.nuclei) < 60


def test_outline_of_the_truth_lies_at_half_of_a_nucleus_height() -> None:
    lonely = Phenotype(sociable=0, mitotic=0, dying=0)
    field = simulate_field(
        np.random.default_rng(5), size=512, nuclei=50, channels=("DAPI",), phenotype=lonely, shading={"DAPI": Shading()}
    )
    image = ndimage.gaussian_filter(field.images["DAPI"].astype(float), 0.7)
    background = np.median(image[field.labels == 0])
    overlaps = []
    for label, box in enumerate(ndimage.find_objects(field.labels), start=1):
        wide = tuple(slice(max(s.start - 3, 0), s.stop + 3) for s in box)
        alone = np.isin(field.labels[wide], (0, label))
        truth = field.labels[wide] == label
        bright = alone & (image[wide] - background > 0.5 * (np.median(image[wide][truth]) - background))
        overlaps.append(np.sum(bright & truth) / np.sum(bright | truth))
    assert np.median(overlaps) > 0.93
    assert np.min(overlaps) > 0.75


def test_field_holds_what_is_hard_for_a_segmentation() -> None:
    field = simulate_field(np.random.default_rng(2), size=700, nuclei=170)
    truth = field.labels > 0
    assert ndimage.label(truth)[1] < 0.85 * len(field.nuclei), "touching nuclei"
    rim = np.concatenate([field.labels[0], field.labels[-1], field.labels[:, 0], field.labels[:, -1]])
    assert len(np.unique(rim[rim > 0])) >= 4, "nuclei that the edge cuts"
    means = np.array(ndimage.mean(field.images["DAPI"], field.labels, np.arange(1, len(field.nuclei) + 1))) - 160.0
    assert np.percentile(means, 98) > 5 * np.percentile(means, 2), "dim nuclei beside bright ones"
    assert {n.kind for n in field.nuclei} == {"interphase", "mitotic", "dying"}


def test_mitotic_and_dying_nuclei_are_smaller_and_brighter() -> None:
    phenotype = Phenotype(mitotic=0.3, dying=0.3, sociable=0.0)
    field = simulate_field(np.random.default_rng(0), size=800, nuclei=150, phenotype=phenotype)
    brightness = np.array(ndimage.mean(field.images["DAPI"], field.labels, np.arange(1, len(field.nuclei) + 1)))
    area = np.array([n.area for n in field.nuclei])
    kind = np.array([n.kind for n in field.nuclei])
    for condensed in ("mitotic", "dying"):
        assert np.median(area[kind == condensed]) < 0.7 * np.median(area[kind == "interphase"])
        assert np.median(brightness[kind == condensed]) > 1.5 * np.median(brightness[kind == "interphase"])


def test_integrated_stain_follows_dna_content() -> None:
    phenotype = Phenotype(mitotic=0, dying=0, sociable=0, g2=0.4)
    flat = {"DAPI": Shading()}
    field = simulate_field(
        np.random.default_rng(0), size=900, nuclei=150, channels=("DAPI",), phenotype=phenotype, shading=flat
    )
    image = field.images["DAPI"].astype(float)
    light = np.array(ndimage.sum(image - np.median(image), field.labels, np.arange(1, len(field.nuclei) + 1)))
    inside = np.array([30 < n.y < 870 and 30 < n.x < 870 for n in field.nuclei])
    dna = np.array([n.dna_content for n in field.nuclei])
    ratio = np.median(light[inside & (dna == 4)]) / np.median(light[inside & (dna == 2)])
    assert ratio == pytest.approx(2, rel=0.12)


def test_marker_is_in_the_nucleus_of_positive_cells_only() -> None:
    phenotype = Phenotype(mitotic=0, dying=0, sociable=0, positive=0.5)
    field = simulate_field(np.random.default_rng(0), size=900, nuclei=120, phenotype=phenotype)
    marker = field.images["FITC"].astype(float)
    spread = ndimage.grey_dilation(field.labels, size=(9, 9))
    numbers = np.arange(1, len(field.nuclei) + 1)
    inside = np.array(ndimage.mean(marker, field.labels, numbers))
    around = np.array(ndimage.mean(marker, np.where(field.labels == 0, spread, 0), numbers))
    positive = np.array([n.positive for n in field.nuclei])
    assert 0.3 < positive.mean() < 0.7
    assert np.mean((inside > around) == positive) > 0.97


def test_illumination_falls_off_as_the_shading_says() -> None:
    shading = Shading((1.0, 0.1, 0.0, -0.8, 0.0, -0.4))
    field = simulate_field(
        np.random.default_rng(0),
        size=256,
        nuclei=0,
        channels=("DAPI",),
        shading={"DAPI": shading},
        debris_per_megapixel=0,
    )
    background = field.images["DAPI"].astype(float) - 100
    expected = shading.over((256, 256))
    blocks = (background / expected).reshape(8, 32, 8, 32).mean(axis=(1, 3))
    assert blocks.std() / blocks.mean() < 0.02
    assert background[:, :32].mean() < 0.9 * background[:, 112:144].mean()


@pytest.mark.parametrize("factor", [2, 4])
def test_enlarge_agrees_with_scipy(factor: int) -> None:
    coarse = np.random.default_rng(0).random((9, 13)).astype(np.float32)
    shape = (9 * factor - 1, 13 * factor)
    grid = np.meshgrid(*((np.arange(edge) - (factor - 1) / 2) / factor for edge in shape), indexing="ij")
    expected = ndimage.map_coordinates(coarse, grid, order=1, mode="nearest")
    np.testing.assert_allclose(enlarge(coarse, shape, factor), expected, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [{"size": 8}, {"nuclei": -1}, {"diameter_px": 1.0}, {"channels": ()}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_field_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    settings: dict[str, object] = {"size": 64, "nuclei": 1} | wrong
    with pytest.raises(SettingsError, match="cannot simulate a field"):
        simulate_field(np.random.default_rng(0), **settings)  # type: ignore[arg-type]
