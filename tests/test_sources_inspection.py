"""What a plate looks like in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcs_nuclei.plate import Channel, Field, Plane, Plate, Well
from hcs_nuclei.sources import inspection, render_inspection


def plate_of(wells: list[Well], wells_in_format: int = 96, warnings: tuple[str, ...] = ()) -> Plate:
    return Plate(
        root=Path("/data/P"),
        vendor="imagexpress",
        reason="it holds P.HTD",
        name="P",
        acquisition="77",
        wells=tuple(wells),
        channels=(Channel("w1", "DAPI"), Channel("w2", "FITC")),
        wells_in_format=wells_in_format,
        warnings=warnings,
    )


def well(row: int, column: int, *paths: str, error: str = "") -> Well:
    """A well of one field for each two paths: DAPI, FITC."""
    planes = [Plane(f"w{1 + i % 2}", path, error="" if path else error) for i, path in enumerate(paths)]
    return Well(row, column, tuple(Field(1 + i // 2, tuple(planes[i : i + 2])) for i in range(0, len(planes), 2)))


def test_the_map_shows_each_state() -> None:
    plate = plate_of([well(1, 1, "a", "b"), well(1, 2, "a", ""), well(2, 3, "", "")], warnings=("No Cy5.",))
    text = render_inspection(inspection(plate))
    rows = {line[:2].strip(): line[4:].split() for line in text.splitlines() if line.startswith((" A ", " B ", " C "))}
    assert rows["A"] == ["●", "◐", *"·" * 10]
    assert rows["B"] == ["·", "·", "○", *"·" * 9]
    assert "A02  field 1 FITC" in text
    assert "B03  field 1: nothing is there" in text
    assert "P, acquisition 77" in text
    assert "3 of 6 expected" in text
    assert text.endswith("Warnings\n  No Cy5.")


def test_fields_with_the_same_gap_are_one_line_with_the_instruments_words() -> None:
    plate = plate_of([well(1, 1, "", "b", "", "b", "a", "b", error="AF Error at A01")])
    assert "A01  field 1-2 DAPI: AF Error at A01" in render_inspection(inspection(plate))


def test_many_gaps_are_cut_short() -> None:
    plate = plate_of([well(row, column, "a", "") for row in range(1, 9) for column in range(1, 13)])
    text = render_inspection(inspection(plate))
    assert "Missing: 96 planes" in text
    assert "… and 76 more wells" in text
    assert len(text.splitlines()) < 50


@pytest.mark.parametrize("wells", [6, 12, 24, 48, 96, 384, 1536])
def test_every_format_fits_its_width(wells: int) -> None:
    plate = plate_of([well(1, 1, "a", "b")], wells)
    lines = render_inspection(inspection(plate), width=80).splitlines()
    map_lines = [line for line in lines if line.startswith("  ") or line[:3].strip().isalpha()]
    assert all(len(line) <= 80 for line in map_lines)
    assert (" AF  " in "\n".join(lines)) == (wells == 1536) or "AF  " in "\n".join(lines)


def test_the_data_name_every_missing_plane() -> None:
    seen = inspection(plate_of([well(27, 48, "a", "")], 1536))
    assert seen["missing"] == [
        {
            "well": "AA48",
            "field": 1,
            "channel": "w2",
            "timepoint": 0,
            "z": 0,
            "projection": False,
            "error": "",
            "file": "",
        }
    ]
    assert (seen["expected_planes"], seen["found_planes"]) == (2, 1)
    assert (seen["rows"], seen["columns"], seen["format"]) == (32, 48, 1536)
