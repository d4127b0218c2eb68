"""Crops for training: the same from the same seed, true to their targets, and as varied as they claim."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from segmentation_samples import crowded_scene, disks
from skimage.measure import label

from hcs_nuclei.segmentation.diameter import median_diameter
from hcs_nuclei.segmentation.normalise import normalise
from hcs_nuclei.segmentation.scale import viewing_scale
from hcs_nuclei.segmentation.targets import BORDER, NUCLEUS, TARGETS, make_targets
from hcs_nuclei.training import dataset, empty_crops
from hcs_nuclei.training.annotations import AnnotatedImage
from hcs_nuclei.training.dataset import (
    Pair,
    Source,
    fixed_crops,
    make_dataset,
    make_source,
    random_crop,
    sampling_weights,
)
from hcs_nuclei.training.empty_crops import empty_crop

WEIGHTS = np.ones(1)


def _pair(shape: tuple[int, int] = (96, 96), seed: int = 0) -> Pair:
    """A normalised image whose nuclei are bright where the labels are."""
    rng = np.random.default_rng(seed)
    labels = crowded_scene(rng, shape, (4, 9), 20)
    light = 100 + 900.0 * ndimage.gaussian_filter((labels > 0).astype(float), 0.7) + rng.normal(0, 5, shape)
    return normalise(light.astype(np.uint16)), labels


def _annotated(count: int = 2) -> list[AnnotatedImage]:
    scenes = [_pair(seed=seed) for seed in range(count)]
    return [
        AnnotatedImage(f"i{n}", (image * 100 + 50).astype(np.uint8), labels, "train", "")
        for n, (image, labels) in enumerate(scenes)
    ]


def _crops(count: int, size: int = 64, pair: Pair | None = None) -> list[Pair]:
    rng = np.random.default_rng(11)
    image, labels = pair or _pair()
    return [random_crop([_source(labels, image)], WEIGHTS, size, rng) for _ in range(count)]


def _source(labels: npt.NDArray[np.int32], image: npt.NDArray[np.float32] | None = None) -> Source:
    image = labels.astype(np.float32) if image is None else image
    return Source(image, labels, viewing_scale(median_diameter(labels.astype(np.uint32))[0]) if labels.any() else 1.0)


def test_crops_have_their_shape_dtype_and_range() -> None:
    for image, labels in _crops(30):
        assert image.shape == labels.shape == (64, 64)
        assert (image.dtype, labels.dtype) == (np.float32, np.int32)
        assert np.isfinite(image).all()
        assert image.min() >= -1
        assert image.max() <= 4


def test_labels_go_where_the_pixels_go() -> None:
    bright = [
        image[labels > 0].mean() - image[labels == 0].mean()
        for image, labels in _crops(60)
        if 0.1 < (labels > 0).mean() < 0.9
    ]

    assert len(bright) > 30
    assert min(bright) > 0.05


def test_the_scale_goes_from_half_to_nearly_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "EMPTY_SHARE", 0.0)
    labels = disks((400, 400), [(y, x, 9) for y in range(20, 400, 40) for x in range(20, 400, 40)])
    whole = (labels == 1).sum()
    crops = _crops(80, 128, (labels.astype(np.float32), labels))
    scales = np.sqrt([np.max(np.bincount(crop.ravel())[1:]) / whole for _, crop in crops])

    assert 0.5 < scales.min() < 0.65
    assert 1.5 < scales.max() < 1.85


def test_every_region_of_a_crop_has_a_number_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crop larger than its image shows nuclei and their mirror images: two nuclei to look at, so two numbers."""
    monkeypatch.setattr(dataset, "EMPTY_SHARE", 0.0)
    small = disks((40, 40), [(20, 12, 6), (20, 30, 7)])
    mirrored = 0
    for _, labels in _crops(40, 128, (small.astype(np.float32), small)):
        regions = label(labels, connectivity=2)
        assert regions.max() == np.unique(labels).size - 1
        mirrored += int(regions.max()) > 2
    assert mirrored > 30


def test_touching_nuclei_stay_two() -> None:
    touching = disks((128, 128), [(64, 52, 12), (64, 76, 12)])
    crops = _crops(20, 64, (touching.astype(np.float32), touching))

    assert any(make_targets(labels)[..., 1].any() for _, labels in crops)


def test_crops_without_a_nucleus_are_noise_that_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "EMPTY_SHARE", 1.0)
    crops = _crops(20)

    assert not any(labels.any() for _, labels in crops)
    assert all(image.std() > 0 for image, _ in crops)
    assert all(image.dtype == np.float32 and image.min() >= -1 and image.max() <= 4 for image, _ in crops)


def test_a_glow_is_wider_than_any_nucleus_of_a_crop() -> None:
    rng = np.random.default_rng(5)
    for _ in range(10):
        glow = empty_crops._glow(256, rng)
        # Light that changes over less than an eighth of the crop would be taken away by this filter.
        assert np.abs(glow - ndimage.gaussian_filter(glow, 8))[32:-32, 32:-32].max() < 0.1 * glow.max()


def test_spoilt_crops_have_lost_their_edges_or_their_brightness() -> None:
    image, labels = _pair((256, 256))
    rng = np.random.default_rng(6)
    spoilt = [dataset.spoil(image.astype(float), rng) for _ in range(40)]
    steepest = [np.abs(np.gradient(s)[0]).max() / np.ptp(s) for s in spoilt]
    at_its_cap = [float((s >= s.max() - 1e-9)[labels > 0].mean()) for s in spoilt]
    sharp = np.abs(np.gradient(image)[0]).max() / np.ptp(image)

    assert all(g < 0.6 * sharp or capped > 0.5 for g, capped in zip(steepest, at_its_cap, strict=True))
    assert 10 < sum(capped > 0.5 for capped in at_its_cap) < 30


def test_a_few_crops_in_a_hundred_are_empty() -> None:
    full = np.ones((64, 64), np.int32)
    empty = sum(not labels.any() for _, labels in _crops(400, 16, (full.astype(np.float32), full)))

    assert 0 < empty < 40


def test_empty_crops_are_of_the_size_asked_for_whatever_they_show() -> None:
    crops = [empty_crop(96, np.random.default_rng(seed)) for seed in range(60)]

    assert {crop.shape for crop in crops} == {(96, 96)}
    assert {crop.dtype for crop in crops} == {np.dtype(np.float32)}
    assert all(np.isfinite(crop).all() and crop.min() >= -1 and crop.max() <= 4 for crop in crops)


def test_dust_is_narrower_than_any_nucleus() -> None:
    for seed in range(40):
        dust = empty_crops._dust(256, np.random.default_rng(seed))
        narrow = ndimage.minimum_filter(dust, footprint=disks((9, 9), [(4, 4, 4)]) > 0)  # what is as wide as 8 px

        assert dust.max() > 0.08
        assert narrow.max() < 0.2 * dust.max()


def test_batches_are_the_same_from_the_same_seed_and_differ_by_seed_epoch_and_batch() -> None:
    def batch(seed: int, epoch: int, index: int) -> bytes:
        crops = make_dataset(_annotated(), size=32, batch=2, batches=3, seed=seed)
        crops.epoch = epoch
        images, targets = crops[index]
        return bytes(images.tobytes() + targets.tobytes())

    assert batch(1, 0, 0) == batch(1, 0, 0)
    assert len({batch(1, 0, 0), batch(2, 0, 0), batch(1, 1, 0), batch(1, 0, 1)}) == 4


def test_a_batch_holds_images_and_the_targets_of_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Pair] = []

    def draw(*arguments: object) -> Pair:
        drawn.append(random_crop(*arguments))  # type: ignore[arg-type]
        return drawn[-1]

    monkeypatch.setattr(dataset, "random_crop", draw)
    crops = make_dataset(_annotated(), size=32, batch=3, batches=2, seed=5)
    images, targets = crops[1]

    assert len(crops) == 2
    assert (images.shape, images.dtype) == ((3, 32, 32, 1), np.float32)
    assert (targets.shape, targets.dtype) == ((3, 32, 32, TARGETS), np.float32)
    for i, (image, labels) in enumerate(drawn):
        np.testing.assert_array_equal(images[i, ..., 0], image)
        np.testing.assert_array_equal(targets[i], make_targets(labels))


def test_larger_images_are_drawn_more_often() -> None:
    sources = [Source(np.zeros((n, n), np.float32), np.zeros((n, n), np.int32), 1.0) for n in (32, 96)]

    assert sampling_weights(sources, ["", ""]) == pytest.approx([0.25, 0.75])


def test_sections_and_brightfield_are_drawn_by_their_share_however_large() -> None:
    sources = [Source(np.zeros((n, n), np.float32), np.zeros((n, n), np.int32), 1.0) for n in (32, 32, 320, 640)]

    weights = sampling_weights(sources, ["fluorescence", "", "histology", "brightfield"])

    assert weights == pytest.approx([0.41, 0.41, 0.13, 0.05])
    assert sampling_weights(sources[:1], ["histology"]) == pytest.approx([1])


def test_the_image_that_is_drawn_is_the_one_of_that_weight() -> None:
    sources = [_source(np.full((64, 64), n, np.int32)) for n in (0, 1)]
    rng = np.random.default_rng(0)
    drawn = [random_crop(sources, np.array([0.25, 0.75]), 16, rng)[1].any() for _ in range(1000)]

    assert np.mean(drawn) == pytest.approx(0.75 * (1 - dataset.EMPTY_SHARE), abs=0.04)


def test_a_crop_that_is_only_mirrored_and_turned_keeps_every_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "EMPTY_SHARE", 0.0)
    rng = np.random.default_rng(0)
    labels = crowded_scene(rng, (80, 90), (7, 12), 8)
    image = rng.random((80, 90)).astype(np.float32)
    known = set(image.ravel().tolist())
    for _ in range(4):
        crop, _ = random_crop([Source(image, labels, 1.0)], WEIGHTS, 32, rng, strength=0.0)
        # Gain and offset alone are left: two values of the crop say what they are.
        matches = [p for p in np.ndindex(49, 59) if _same_up_to_gain(image[p[0] : p[0] + 32, p[1] : p[1] + 32], crop)]
        assert len(matches) == 1
    assert len(known) > 7000


def _same_up_to_gain(window: npt.NDArray[np.float32], crop: npt.NDArray[np.float32]) -> bool:
    """Whether sorted pixels are the same but for a factor and a shift, which no turn or mirror changes."""
    a, b = (np.sort(v.ravel()).astype(float) for v in (window, crop))
    return bool(np.corrcoef(a, b)[0, 1] > 1 - 1e-9)


def test_very_large_nuclei_are_shrunk_and_other_images_left() -> None:
    large = disks((400, 500), [(120, 120, 75), (280, 380, 75)])
    small = disks((100, 100), [(30, 30, 5)])

    shrunk = make_source(AnnotatedImage("l", (large > 0) * np.uint8(200), large, "", ""))
    same = make_source(AnnotatedImage("s", (small > 0) * np.uint8(200), small, "", ""))

    assert shrunk.scale == 1
    assert shrunk.image.shape == shrunk.labels.shape == pytest.approx((107, 133), abs=1)
    assert np.sqrt(np.bincount(shrunk.labels.ravel())[1:] * 4 / np.pi) == pytest.approx([40, 40], rel=0.03)
    assert shrunk.image[shrunk.labels > 0].mean() > 0.9 > 0.1 > shrunk.image[shrunk.labels == 0].mean()
    assert same.scale == 2.5
    np.testing.assert_array_equal(same.labels, small)


@pytest.mark.parametrize(("radius", "scale"), [(6, 28 / 12), (10, 1.0), (25, 40 / 50)])
def test_half_of_the_crops_are_made_as_the_image_will_be_looked_at(
    radius: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "EMPTY_SHARE", 0.0)
    step = 4 * radius
    places = range(step // 2, 10 * step, step)
    labels = disks((10 * step, 10 * step), [(y, x, radius) for y in places for x in places])
    source, rng = _source(labels), np.random.default_rng(3)
    sizes = []
    for _ in range(40):
        _, crop = random_crop([source], WEIGHTS, 192, rng, strength=0.0)
        sizes.append(np.sqrt(np.max(np.bincount(crop.ravel())[1:]) / (np.pi * radius**2)))
    viewed = np.isclose(sizes, scale, rtol=0.1)

    assert np.all(viewed | np.isclose(sizes, 1, rtol=0.1))
    assert 10 < viewed.sum() <= (40 if scale == 1 else 30)


def test_pasted_nuclei_lie_across_and_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "EMPTY_SHARE", 0.0)
    sparse = disks((200, 200), [(y, x, 9) for y in range(20, 200, 36) for x in range(20, 200, 36)])
    pair = (sparse.astype(bool).astype(np.float32), sparse)

    def touching(share: float) -> int:
        monkeypatch.setattr(dataset, "PASTE_SHARE", share)
        return sum(int(make_targets(labels)[..., BORDER].any()) for _, labels in _crops(30, 128, pair))

    assert touching(0.0) < 3  # some come near when shrunk
    assert touching(1.0) > 20


def test_nothing_small_is_left_of_a_nucleus_under_a_pasted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "PASTE_SHARE", 1.0)
    monkeypatch.setattr(dataset, "EMPTY_SHARE", 0.0)
    grid = disks((200, 200), [(y, x, 9) for y in range(20, 200, 24) for x in range(20, 200, 24)])

    for _, labels in _crops(60, 128, (grid.astype(bool).astype(np.float32), grid)):
        areas = np.bincount(labels.ravel())[1:]
        assert areas[areas > 0].min(initial=12) >= 12


def test_an_image_a_pixel_wide_that_is_shrunk_stays_one() -> None:
    source = make_source(AnnotatedImage("a", np.ones((1, 20000), np.uint8), np.ones((1, 20000), np.int32), "", ""))

    assert source.image.shape == source.labels.shape
    assert source.image.shape[0] == 1


def test_a_pasted_nucleus_is_as_bright_as_its_label_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "PASTE_SHARE", 1.0)
    monkeypatch.setattr(dataset, "EMPTY_SHARE", 0.0)
    monkeypatch.setattr(dataset, "_recolour", lambda image, rng, strength: image)
    sparse = disks((200, 200), [(y, x, 9) for y in range(20, 200, 36) for x in range(20, 200, 36)])

    for image, labels in _crops(20, 128, (sparse.astype(bool).astype(np.float32), sparse)):
        inside = ndimage.binary_erosion(labels > 0, iterations=3)
        outside = ndimage.binary_erosion(labels == 0, iterations=3)
        assert image[inside].min() > 0.5
        assert np.abs(image[outside]).max(initial=0) < 0.1


@pytest.mark.parametrize("shape", [(96, 96), (40, 120), (30, 33)])
def test_fixed_crops_are_the_middle_of_every_image(shape: tuple[int, int]) -> None:
    image, labels = _pair(shape)
    pair = AnnotatedImage("a", (image * 100 + 50).astype(np.uint8), labels, "val", "")
    images, targets = fixed_crops([pair], size=64)

    assert images.shape == (1, 64, 64, 1)
    assert targets.shape == (1, 64, 64, TARGETS)
    padding = [(0, max(0, 64 - n)) for n in shape]
    top, left = ((max(n, 64) - 64) // 2 for n in shape)
    window = (slice(top, top + 64), slice(left, left + 64))
    np.testing.assert_array_equal(images[0, ..., 0], np.pad(normalise(pair.image), padding, "symmetric")[window])
    np.testing.assert_array_equal(targets[0, ..., NUCLEUS], np.pad(labels > 0, padding, "symmetric")[window])
