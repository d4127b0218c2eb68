"""Density: each nucleus once, whatever the fields' size and overlap; the plain count over the area would be biased."""

from __future__ import annotations

import numpy as np
import pytest

from hcs_nuclei.screening.density import Frame, density_per_mm2

PIXEL = 0.5
RADIUS = 9.0


def frame_of(x: np.ndarray, y: np.ndarray, left: float, top: float, size: int, positioned: bool = True) -> Frame:
    """What a field of `size` px at (left, top) px sees of round nuclei at (x, y) px of the well."""
    seen = (x + RADIUS > left) & (x - RADIUS < left + size) & (y + RADIUS > top) & (y - RADIUS < top + size)
    right = np.minimum(np.floor(x[seen] + RADIUS - left), size - 1)
    bottom = np.minimum(np.floor(y[seen] + RADIUS - top), size - 1)
    centre = ((left + size / 2) * PIXEL, (top + size / 2) * PIXEL)
    return Frame((size, size), PIXEL, centre if positioned else None, right, bottom)


@pytest.fixture(scope="module")
def well() -> tuple[np.ndarray, np.ndarray, float]:
    """Nuclei all over a well of 4000 px, and how many there are per mm²."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-100, 4100, (2, 30_000))
    return x, y, 30_000 / (4200 * PIXEL / 1000) ** 2


@pytest.mark.parametrize("size", [250, 1000])
@pytest.mark.parametrize("positioned", [True, False])
def test_density_does_not_depend_on_the_size_of_a_field(
    well: tuple[np.ndarray, np.ndarray, float], size: int, positioned: bool
) -> None:
    x, y, truth = well
    corners = range(0, 4000, size)
    frames = [frame_of(x, y, left, top, size, positioned) for left in corners for top in corners]
    found = density_per_mm2(frames)
    assert found == pytest.approx(truth, rel=0.02)
    plain = sum(frame.right.size for frame in frames) / (len(frames) * (size * PIXEL / 1000) ** 2)
    assert plain > (1 + 2 * RADIUS / size) * truth  # every cut nucleus counted whole


@pytest.mark.parametrize("step", [1000, 995, 900, 500])
def test_fields_that_overlap_count_each_nucleus_once(well: tuple[np.ndarray, np.ndarray, float], step: int) -> None:
    x, y, truth = well
    frames = [frame_of(x, y, left, top, 1000) for left in range(0, 3000, step) for top in range(0, 3000, step)]
    reversed_order = density_per_mm2(frames[::-1])
    assert density_per_mm2(frames) == pytest.approx(truth, rel=0.02)
    assert reversed_order == pytest.approx(truth, rel=0.02)


def test_an_empty_field_is_area_and_no_field_is_nothing() -> None:
    nobody = np.empty(0)
    frames = [frame_of(nobody, nobody, 0, 0, 1000)]
    assert density_per_mm2(frames) == 0
    assert density_per_mm2([*frames, frame_of(np.array([500.0]), np.array([2500.0]), 0, 2000, 1000)]) == 1 / 0.5
    assert density_per_mm2([]) is None
