"""What the shipped model does with fields that hold nothing, with bad ones, and with nuclei of every size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from segmentation_samples import best_overlaps, disks

from hcs_nuclei.models.loading import load_model
from hcs_nuclei.segmentation.diameter import segment_any_size, without_dust
from hcs_nuclei.segmentation.predict import Segmentation
from hcs_nuclei.simulate import simulate_field

SHAPE = (360, 420)
Field = npt.NDArray[np.uint16]


def _segment(image: npt.NDArray[Any]) -> Segmentation:
    """As ``hcs-nuclei segment`` does it: nothing is said of the size of the nuclei."""
    return segment_any_size(load_model(), image)


def _camera(light: npt.NDArray[np.float64], seed: int = 0) -> Field:
    """Shot noise on `light` electrons, read noise of 2, an offset of 100 counts."""
    rng = np.random.default_rng(seed)
    return (100 + rng.poisson(light) + rng.normal(0, 2, light.shape)).clip(0, 65535).astype(np.uint16)


def _slope() -> npt.NDArray[np.float64]:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] / 400
    return np.asarray(300 + 900 * np.exp(-((y - 0.4) ** 2 + (x - 0.6) ** 2) / 0.3))


def _dust() -> Field:
    rng = np.random.default_rng(3)
    field = _camera(np.full(SHAPE, 200.0), 3)
    for _ in range(25):
        y, x = rng.integers(2, SHAPE[0] - 4), rng.integers(2, SHAPE[1] - 4)
        field[y : y + int(rng.integers(1, 4)), x : x + int(rng.integers(1, 4))] += np.uint16(rng.integers(200, 8000))
    return field


def _specks(width: float) -> Field:
    """A dozen round specks on an even background, seen through a sharp lens."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    light = np.full(SHAPE, 200.0)
    for _ in range(12):
        far = np.hypot(y - rng.integers(10, SHAPE[0] - 10), x - rng.integers(10, SHAPE[1] - 10))
        light[far <= width / 2] += rng.uniform(300, 6000)
    return _camera(ndimage.gaussian_filter(light, 0.7), 5)


def _fibres(width: float) -> Field:
    rng = np.random.default_rng(6)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    light = np.full(SHAPE, 200.0)
    for _ in range(12):
        turn, down, right = rng.uniform(0, np.pi), y - rng.integers(SHAPE[0]), x - rng.integers(SHAPE[1])
        across, along = right * np.cos(turn) - down * np.sin(turn), right * np.sin(turn) + down * np.cos(turn)
        light[(np.abs(across) <= width / 2) & (np.abs(along) < 40)] += rng.uniform(300, 6000)
    return _camera(ndimage.gaussian_filter(light, 0.7), 6)


EMPTY: dict[str, Callable[[], npt.NDArray[Any]]] = {
    "all zero": lambda: np.zeros(SHAPE, np.uint16),
    "constant": lambda: np.full(SHAPE, 1234, np.uint16),
    "read noise alone": lambda: _camera(np.zeros(SHAPE)),
    "shot noise of 10 electrons": lambda: _camera(np.full(SHAPE, 10.0)),
    "shot noise of 100 electrons": lambda: _camera(np.full(SHAPE, 100.0)),
    "shot noise of 1,000 electrons": lambda: _camera(np.full(SHAPE, 1000.0)),
    "shot noise of 20,000 electrons": lambda: _camera(np.full(SHAPE, 20_000.0)),
    "uneven background": lambda: _camera(_slope()),
    "uneven background without noise": lambda: _slope().astype(np.uint16),
    "smooth noise of the medium": lambda: _camera(
        200 + 6 * ndimage.gaussian_filter(np.random.default_rng(1).normal(0, 30, SHAPE), 12)
    ),
    "dust and hot pixels": _dust,
    "specks of 3 px": lambda: _specks(3),
    "specks of 5 px": lambda: _specks(5),
    "specks of 7 px": lambda: _specks(7),
    "fibres of 1 px": lambda: _fibres(1),
    "fibres of 3 px": lambda: _fibres(3),
    "8-bit noise": lambda: np.random.default_rng(2).poisson(3, SHAPE).astype(np.uint8),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_field_without_nuclei_has_none(name: str) -> None:
    assert _segment(EMPTY[name]()).confidence.size == 0


def _grid(shape: tuple[int, int], diameter: float, every: int, rows: int) -> Segmentation:
    centres = [(y, x, diameter / 2) for y in range(every, every * (rows + 1), every) for x in range(every, 250, every)]
    labels = disks(shape, centres).astype(np.uint32)
    return Segmentation(labels, np.ones(labels.max(), np.float32))


@pytest.mark.parametrize(
    ("shape", "diameter", "rows", "kept"),
    [
        pytest.param((256, 256), 6, 6, False, id="specks, however many"),
        pytest.param((256, 256), 9, 1, True, id="small nuclei in a small image"),
        pytest.param((1080, 1080), 9, 1, False, id="as many in a large field"),
        pytest.param((1080, 1080), 9, 4, True, id="many small nuclei"),
        pytest.param((1080, 1080), 14, 1, True, id="few nuclei of a usual size"),
    ],
)
def test_specks_that_are_all_there_is_are_dust(shape: tuple[int, int], diameter: float, rows: int, kept: bool) -> None:
    found = _grid(shape, diameter, 30, rows)

    assert without_dust(found).confidence.size == (found.confidence.size if kept else 0)
    assert without_dust(found).labels.any() == kept


def _simulated(diameter: float, seed: int = 7, count: int = 30) -> tuple[Field, npt.NDArray[np.uint32]]:
    size = round(diameter * 16)
    field = simulate_field(np.random.default_rng(seed), size=size, nuclei=count, diameter_px=diameter)
    return field.images["DAPI"], field.labels


@pytest.mark.parametrize("diameter", [9, 14, 22, 40, 80, 140])
def test_nuclei_of_every_size_are_found_without_being_told(diameter: float) -> None:
    image, truth = _simulated(diameter)
    large = np.bincount(truth.ravel())[1:] > 0.2 * diameter**2

    found = _segment(image)

    assert np.mean(best_overlaps(truth, found.labels)[large] > 0.5) >= 0.85
    assert found.confidence.size <= 1.2 * truth.max()


def test_outlines_of_large_nuclei_are_smooth() -> None:
    image, truth = _simulated(120)
    labels = _segment(image).labels

    assert np.median(best_overlaps(truth, labels)) > 0.88
    for number in range(1, int(labels.max()) + 1):
        mask = np.pad(labels == number, 9, mode="edge")  # the image's edge is no outline
        if mask.sum() < 2000:
            continue
        smooth = ndimage.gaussian_filter(mask.astype(float), 3) > 0.5
        # The filter would cut the steps of the network's coarser grid off: with them it takes up to 4 %.
        assert (mask ^ smooth).sum() < 0.015 * mask.sum()


def _mean(found: Segmentation) -> float:
    return float(found.confidence.mean())


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda f: ndimage.gaussian_filter(f.astype(float), 9), id="out of focus"),
        pytest.param(lambda f: np.minimum((f.astype(float) - 100) * 60, 60_000), id="saturated"),
        pytest.param(
            lambda f: np.minimum((ndimage.gaussian_filter(f.astype(float), 3) - 100) * 60, 60_000),
            id="saturated, with haloes",
        ),
    ],
)
def test_spoilt_fields_are_segmented_with_little_confidence(spoil: Callable[[Field], npt.NDArray[Any]]) -> None:
    image, _ = _simulated(24, count=60)
    good, bad = _segment(image), _segment(spoil(image).clip(0).astype(np.uint16))

    assert bad.confidence.size > 5
    assert _mean(good) > 0.85
    assert _mean(bad) < 0.6


def test_a_margin_without_light_costs_no_nucleus() -> None:
    field = simulate_field(np.random.default_rng(2), size=384, nuclei=40, diameter_px=22)
    light = field.images["DAPI"] * 0.3 + 1500.0  # dim, on a high offset, to which the margin has none
    light[:, :12] = 0
    found = load_model()(light.astype(np.uint16), diameter_px=22)

    assert found.confidence.size == np.unique(field.labels[:, 12:]).size - 1
