"""Micrometres of a recipe as pixels of a plate, with and without its pixel size; places in a well."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
from measurement_fields import blobs

from hcs_nuclei.columns import Measured, nucleus_columns
from hcs_nuclei.measurement import (
    Reach,
    measure_nuclei,
    measure_position,
    middle_of_fields,
    reach_in_pixels,
    supposed_of_reach,
)


@dataclass(frozen=True)
class Scale:
    """What is known of a plate's scale, how many pixels 1 µm then is, and a word of what the user is told."""

    pixel_size_um: float | None
    diameter_px: float | None
    pixels_per_um: float | None
    told: str


SCALES = {
    "pixel size": Scale(0.5, 31.0, 2.0, ""),
    "pixel size, no nucleus": Scale(0.5, None, 2.0, ""),
    "nuclei alone": Scale(None, 30.0, 2.0, r"median nucleus \(30.0 px\) were 15 µm wide"),
    "neither": Scale(None, None, None, "not measured"),
    "diameter of 0": Scale(None, 0.0, None, "not measured"),
}


@pytest.mark.parametrize("name", SCALES)
def test_lengths_follow_what_is_known_and_what_is_supposed_is_said(name: str) -> None:
    scale = SCALES[name]
    reach = reach_in_pixels(
        ring_gap_um=1,
        ring_width_um=4,
        neighbour_distance_um=50,
        pixel_size_um=scale.pixel_size_um,
        diameter_px=scale.diameter_px,
    )
    expected = Reach(*(um * scale.pixels_per_um for um in (1, 4, 50))) if scale.pixels_per_um else None
    assert reach == expected
    told = supposed_of_reach(pixel_size_um=scale.pixel_size_um, diameter_px=scale.diameter_px)
    assert bool(told) == (scale.pixel_size_um is None)
    if scale.told:
        assert re.search(scale.told, told)


def test_without_a_reach_rings_are_unknown_and_distances_are_not() -> None:
    labels = blobs(0)
    image = np.random.default_rng(0).integers(0, 999, labels.shape)
    table = measure_nuclei(labels, {"DAPI": image}, nuclear="DAPI", saturation=None, reach=None)
    rings = [c.name for c in nucleus_columns(Measured(("DAPI",), "DAPI")) if "_Ring_" in c.name]
    assert len(rings) == 7
    for name in (*rings, "Nuclei_Neighbors_NumberOfNeighbors_Within"):
        assert np.isnan(table[name]).all(), name
    for name in ("FirstClosestDistance", "NumberOfNeighbors", "PercentTouching"):
        assert not np.isnan(table[f"Nuclei_Neighbors_{name}_Adjacent"]).any(), name


def test_with_a_reach_every_nucleus_has_a_ring_area() -> None:
    labels = blobs(0)
    image = np.full(labels.shape, 500)
    table = measure_nuclei(labels, {"DAPI": image}, nuclear="DAPI", saturation=None, reach=Reach(1, 4, 30))
    area, ratio = table["Nuclei_Ring_Area"], table["Nuclei_Ring_NuclearRatio_DAPI"]
    assert area.max() > 50
    np.testing.assert_array_equal(ratio, np.where(area > 0, 1.0, np.nan))


def test_the_middle_of_a_well_is_between_its_outermost_fields() -> None:
    assert middle_of_fields([(100.0, -50.0), (300.0, 0.0), (140.0, 250.0)]) == (200, 100)
    assert middle_of_fields([(7.0, 8.0)]) == (7, 8)


@pytest.mark.parametrize("places", [[], [None], [(1.0, 2.0), None]], ids=["no field", "unknown", "one unknown"])
def test_where_a_field_lies_nowhere_there_is_no_middle(places: list[tuple[float, float] | None]) -> None:
    assert middle_of_fields(places) is None


def test_a_position_in_the_well_is_that_of_the_field_and_within_it() -> None:
    x, y = np.array([0.0, 49.5, 99.0]), np.array([0.0, 24.5, 49.0])
    columns = measure_position(x, y, shape=(50, 100), field_um=(1500, 200), middle_um=(1000, 500), pixel_size_um=0.5)
    # The field's centre lies 500 µm right of and 300 µm above the middle; it is 50 µm wide and 25 µm high.
    np.testing.assert_allclose(columns["Metadata_Position_Well_X_um"], [475.25, 500, 524.75])
    np.testing.assert_allclose(columns["Metadata_Position_Well_Y_um"], [-312.25, -300, -287.75])


@pytest.mark.parametrize("unknown", ["field_um", "middle_um", "pixel_size_um"])
def test_a_position_in_the_well_is_unknown_without_stage_or_pixel_size(unknown: str) -> None:
    known = {"field_um": (0.0, 0.0), "middle_um": (0.0, 0.0), "pixel_size_um": 1.0, unknown: None}
    columns = measure_position(np.ones(2), np.ones(2), shape=(9, 9), **known)  # type: ignore[arg-type]
    assert all(np.isnan(values).all() for values in columns.values())
