"""Density and who counts: each nucleus once, whatever the fields' size and overlap; a plain count would be biased."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from hcs_nuclei.screening.density import Frame, area_mm2, counted_once

PIXEL = 0.5
RADIUS = 9.0


@dataclass(frozen=True)
class Seen:
    """A field, and the nuclei that it shows: (n,) last column and row, px, and which ones of the well they are."""

    frame: Frame
    right: npt.NDArray[np.float64]
    bottom: npt.NDArray[np.float64]
    which: npt.NDArray[np.int64]


def seen_in(x: np.ndarray, y: np.ndarray, left: float, top: float, size: int, positioned: bool = True) -> Seen:
    """What a field of `size` px at (left, top) px sees of round nuclei at (x, y) px of the well."""
    seen = (x + RADIUS > left) & (x - RADIUS < left + size) & (y + RADIUS > top) & (y - RADIUS < top + size)
    right = np.minimum(np.floor(x[seen] + RADIUS - left), size - 1)
    bottom = np.minimum(np.floor(y[seen] + RADIUS - top), size - 1)
    centre = ((left + size / 2) * PIXEL, (top + size / 2) * PIXEL)
    return Seen(Frame((size, size), PIXEL, centre if positioned else None), right, bottom, np.flatnonzero(seen))


def count(fields: list[Seen]) -> npt.NDArray[np.bool_]:
    """(n,) who counts of the nuclei of all fields, one field after another."""
    where = np.repeat(np.arange(len(fields)), [field.right.size for field in fields])
    right, bottom = (np.concatenate([getattr(field, side) for field in fields]) for side in ("right", "bottom"))
    return counted_once([field.frame for field in fields], where, right, bottom)


def density(fields: list[Seen]) -> float:
    area = area_mm2([field.frame for field in fields])
    assert area is not None
    return np.count_nonzero(count(fields)) / area


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
    fields = [seen_in(x, y, left, top, size, positioned) for left in corners for top in corners]
    found = density(fields)
    assert found == pytest.approx(truth, rel=0.02)
    plain = sum(field.right.size for field in fields) / (len(fields) * (size * PIXEL / 1000) ** 2)
    assert plain > (1 + 2 * RADIUS / size) * truth  # every cut nucleus counted whole


@pytest.mark.parametrize("step", [1000, 995, 900, 500])
def test_fields_that_overlap_count_each_nucleus_once(well: tuple[np.ndarray, np.ndarray, float], step: int) -> None:
    x, y, truth = well
    fields = [seen_in(x, y, left, top, 1000) for left in range(0, 3000, step) for top in range(0, 3000, step)]
    reversed_order = density(fields[::-1])
    assert density(fields) == pytest.approx(truth, rel=0.02)
    assert reversed_order == pytest.approx(truth, rel=0.02)


def test_an_empty_field_is_area_and_no_field_is_nothing() -> None:
    nobody = np.empty(0)
    fields = [seen_in(nobody, nobody, 0, 0, 1000)]
    assert density(fields) == 0
    assert density([*fields, seen_in(np.array([500.0]), np.array([2500.0]), 0, 2000, 1000)]) == 1 / 0.5
    assert area_mm2([]) is None


@dataclass(frozen=True)
class Case:
    """Nuclei at x px of a row of fields of 200 px, and in which field each of them counts."""

    name: str
    lefts: tuple[float, ...]
    x: tuple[float, ...]
    counts_in: tuple[tuple[int, ...], ...]
    positioned: bool = True


CASES = [
    Case("one field", (0,), (50, 150), ((0,), (0,))),
    Case("in the overlap of two, whole in both", (0, 150), (50, 175, 300), ((0,), (0,), (1,))),
    Case("cut by the edge of the first", (0, 150), (195,), ((1,),)),
    Case("cut by the edge of the second", (0, 150), (155,), ((0,),)),
    Case("in the overlap of three", (0, 60, 120), (150,), ((0,),)),
    Case("the later field shows it whole", (150, 0), (50, 155, 175, 300), ((1,), (1,), (1,), (0,))),
    Case("at the far edge of a later field", (150, 0), (195,), ((0,),)),
    Case("the same place twice", (0, 0), (50, 150), ((0,), (0,))),
    Case("side by side", (0, 200), (50, 200, 250), ((0,), (1,), (1,))),
    Case("apart", (0, 500), (50, 550), ((0,), (1,))),
    Case("overlap within what a stage is exact to", (0, 199), (50, 250), ((0,), (1,))),
    Case("without positions each field is by itself", (0, 150), (50, 175, 300), ((0,), (0, 1), (1,)), False),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_each_nucleus_counts_in_one_field(case: Case) -> None:
    x, y = np.array(case.x), np.full(len(case.x), 100.0)
    fields = [seen_in(x, y, left, 0, 200, case.positioned) for left in case.lefts]
    counted = np.split(count(fields), np.cumsum([field.right.size for field in fields])[:-1])
    found = [set(field.which[of_field].tolist()) for field, of_field in zip(fields, counted, strict=True)]
    assert [tuple(i for i, here in enumerate(found) if n in here) for n in range(len(x))] == list(case.counts_in)


def test_without_a_pixel_size_fields_are_by_themselves_and_have_no_area() -> None:
    frames = [Frame((200, 200), None, (0.0, 0.0)), Frame((200, 200), None, (0.0, 0.0))]
    where, right = np.array([0, 1, 1, -1]), np.array([50.0, 50.0, 199.0, 50.0])
    assert counted_once(frames, where, right, np.full(4, 50.0)).tolist() == [True, True, False, False]
    assert area_mm2(frames) is None
