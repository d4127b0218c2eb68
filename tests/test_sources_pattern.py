"""Plates read by a regular expression of the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcs_nuclei.errors import NotAPlateError, SettingsError
from hcs_nuclei.sources import open_plate


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_folders_may_be_part_of_the_name(tmp_path: Path) -> None:
    names = [f"{well}/{ch}_{f}.png" for well in ("b3", "AF 48") for ch in ("dna", "gfp") for f in (0, 2)]
    names.remove("b3/dna_2.png")
    root = touch(tmp_path / "My plate", *names, "notes.txt", "overview.png")
    plate = open_plate(root, pattern=r"(?P<well>[^/]+)/(?P<channel>[a-z]+)_(?P<field>\d+)\.png$")
    assert (plate.vendor, plate.name, plate.acquisition) == ("pattern", "My plate", "")
    assert [w.name for w in plate] == ["B03", "AF48"]
    assert [c.token for c in plate.channels] == ["dna", "gfp"]
    assert [(w.name, s.number, p.channel) for w, s, p in plate.missing_planes()] == [("B03", 2, "dna")]
    assert plate.warnings == ("1 images do not match the pattern and are not used.",)


def test_row_and_column_and_z_and_time(tmp_path: Path) -> None:
    touch(tmp_path, *(f"r02c03_z{z}_t{t}.tif" for z in (1, 2) for t in (5, 7)))
    touch(tmp_path / "TimePoint_9", "r02c03_z1_t9.tif")
    plate = open_plate(tmp_path, pattern=r"r(?P<row>\d+)c(?P<column>\d+)_z(?P<z>\d)_t(?P<t>\d)")
    assert [w.name for w in plate] == ["B03"]
    assert plate.timepoints == 3
    planes = plate.wells[0].fields[0].planes
    assert [(p.timepoint, p.z) for p in planes] == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]
    assert planes[-1].path == "TimePoint_9/r02c03_z1_t9.tif"


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(?P<well>", "not a regular expression"),
        (r"(?P<field>\d)", r"needs a group \(\?P<well>"),
        (r"(?P<row>\w)", r"needs a group \(\?P<well>"),
        (r"(?P<well>.*)(?P<site>\d)", "group site; known are"),
        (r"(?P<well>.+)\.tif", "finds no well in B02_x"),
        (r"(?P<well>B02)_(?P<field>\w)", "field finds 'x'.*expected a number"),
        (r"(?P<row>B)(?P<column>0)", "row 2, column 0"),
    ],
)
def test_a_wrong_pattern_is_a_wrong_setting(tmp_path: Path, pattern: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        open_plate(touch(tmp_path, "B02_x.tif"), pattern=pattern)


def test_no_match_shows_an_example(tmp_path: Path) -> None:
    with pytest.raises(NotAPlateError, match=r"an example is B02_x\.tif"):
        open_plate(touch(tmp_path, "B02_x.tif"), pattern=r"plate_(?P<well>B\d\d)")


def test_two_files_of_one_plane_ask_for_the_missing_group(tmp_path: Path) -> None:
    with pytest.raises(NotAPlateError, match=r"B02_1\.tif and B02_2\.tif are the same plane"):
        open_plate(touch(tmp_path, "B02_1.tif", "B02_2.tif"), pattern=r"(?P<well>B\d\d)")
