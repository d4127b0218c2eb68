"""Plates as values: names of wells, choice of planes, formats, names that every file system takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_nuclei.plate import (
    PLATE_FORMATS,
    Channel,
    Field,
    Plane,
    Plate,
    Well,
    parse_well,
    row_name,
    row_number,
    safe_name,
    smallest_format,
    well_name,
)

EVERY_WELL = [(row, column) for row in range(1, 33) for column in range(1, 49)]


def test_names_and_indices_of_all_1536_wells_lead_to_each_other() -> None:
    names = [well_name(*position) for position in EVERY_WELL]

    assert len(set(names)) == 1536
    assert [parse_well(name) for name in names] == EVERY_WELL
    assert sorted(names, key=lambda name: (len(name), name)) == names  # A01 … Z48, then AA01 … AF48


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("A01", (1, 1)),
        ("H12", (8, 12)),
        ("P24", (16, 24)),
        ("Z48", (26, 48)),
        ("AA1", (27, 1)),
        ("AF48", (32, 48)),
        ("b3", (2, 3)),
        ("B 3", (2, 3)),
        (" B-03 ", (2, 3)),
        ("af_48", (32, 48)),
    ],
)
def test_wells_are_read_as_people_write_them(name: str, position: tuple[int, int]) -> None:
    assert parse_well(name) == position


@pytest.mark.parametrize("name", ["", "B", "03", "B00", "B49", "B003", "AG01", "BA01", "B03x", "3B", "B03 B04", "Ä1"])
def test_what_is_no_well_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not a well; expected a name such as B03") as caught:
        parse_well(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(("row", "column"), [(0, 1), (33, 1), (1, 0), (1, 49)])
def test_indices_beyond_the_largest_plate_have_no_name(row: int, column: int) -> None:
    with pytest.raises(ValueError, match="is not on a plate"):
        well_name(row, column)


def test_letters_of_rows_go_on_after_z() -> None:
    assert [row_name(n) for n in (1, 26, 27, 32)] == ["A", "Z", "AA", "AF"]
    assert [row_number(letters) for letters in ("a", "z", "aa", "Af")] == [1, 26, 27, 32]


@pytest.mark.parametrize("letters", ["", "AG", "BA", "AAA", "1", "ß"])
def test_letters_of_no_row_are_refused(letters: str) -> None:
    with pytest.raises(ValueError, match="is not a plate row"):
        row_number(letters)


SLICES = tuple(Plane("w1", f"z{z}.tif", z=z) for z in (1, 2, 3))
PROJECTION = Plane("w1", "projection.tif", projection=True)
LOST_PROJECTION = Plane("w1", "", projection=True)
OTHERS = (Plane("w2", "other.tif", z=1), Plane("w1", "later.tif", z=1, timepoint=1))


@pytest.mark.parametrize(
    ("planes", "z", "expected"),
    [
        pytest.param((*SLICES, PROJECTION), "auto", (PROJECTION,), id="auto-takes-the-projection"),
        pytest.param(SLICES, "auto", SLICES, id="auto-without-projection-takes-all"),
        pytest.param((*SLICES, LOST_PROJECTION), "auto", SLICES, id="auto-with-lost-projection-takes-all"),
        pytest.param((LOST_PROJECTION,), "auto", (LOST_PROJECTION,), id="auto-names-the-lost-projection"),
        pytest.param((*SLICES, PROJECTION), "max", SLICES, id="max-takes-all-slices"),
        pytest.param((PROJECTION,), "max", (PROJECTION,), id="max-of-a-projection-alone"),
        pytest.param((*SLICES, PROJECTION), 2, SLICES[1:2], id="a-number-takes-that-slice"),
        pytest.param((*SLICES, PROJECTION), 0, (), id="a-number-is-never-the-projection"),
        pytest.param((), "auto", (), id="nothing-expected"),
    ],
)
def test_planes_of_a_channel(planes: tuple[Plane, ...], z: str | int, expected: tuple[Plane, ...]) -> None:
    assert Field(1, (*OTHERS, *planes)).planes_of("w1", 0, z) == expected  # type: ignore[arg-type]


def test_a_missing_slice_is_named_and_not_left_out() -> None:
    gap = Plane("w1", "", z=2)

    assert Field(1, (SLICES[0], gap, SLICES[2])).planes_of("w1", 0) == (SLICES[0], gap, SLICES[2])


@pytest.mark.parametrize("wanted", ["DAPI 405", "dapi 405", "w1", "W1", "DAPI405"])
def test_a_channel_answers_to_its_name_and_its_token(wanted: str) -> None:
    assert Channel("w1", "DAPI 405").matches(wanted)
    assert not Channel("w1", "DAPI 405").matches("DAPI")


@pytest.mark.parametrize(
    ("channel", "column"),
    [
        (Channel("w2", "Texas Red"), "TexasRed"),
        (Channel("ch1", "Fluorescein (FITC)"), "FluoresceinFITC"),
        (Channel("C01", "µ"), "C01"),
        (Channel("", "–"), "Channel"),
    ],
)
def test_a_channel_ends_a_column_in_letters_and_digits(channel: Channel, column: str) -> None:
    assert channel.column_name == column


def _plate() -> Plate:
    wells = (
        Well(1, 1, (Field(1, (Plane("w1", "a.tif"), Plane("w2", ""))),)),
        Well(27, 2, (Field(1, (Plane("w1", ""),)), Field(2, (Plane("w1", "b.tif"),)))),
    )
    return Plate(Path("plates/P12"), "imagexpress", "its names", "P12", "", wells, (Channel("w1", "DAPI"),))


def test_a_plate_gives_its_wells_by_any_spelling() -> None:
    plate = _plate()

    assert [well.name for well in plate] == ["A01", "AA02"]
    assert plate.well("aa2") is plate.wells[1]
    with pytest.raises(KeyError, match="plate P12 has no well B03"):
        plate.well("B03")


def test_a_plate_says_which_planes_are_missing_in_order() -> None:
    missing = [(well.name, field.number, plane.channel) for well, field, plane in _plate().missing_planes()]

    assert missing == [("A01", 1, "w2"), ("AA02", 1, "w1")]


@pytest.mark.parametrize(
    ("rows", "columns", "wells"),
    [
        (1, 1, 6),
        (2, 3, 6),
        (3, 3, 12),
        (2, 4, 12),
        (8, 12, 96),
        (9, 1, 384),
        (1, 13, 384),
        (17, 1, 1536),
        (32, 48, 1536),
    ],
)
def test_the_smallest_plate_that_holds_the_wells(rows: int, columns: int, wells: int) -> None:
    assert smallest_format(rows, columns) == wells


def test_every_format_holds_as_many_wells_as_it_says() -> None:
    assert all(wells == rows * columns for wells, (rows, columns) in PLATE_FORMATS.items())


@pytest.mark.parametrize(("rows", "columns"), [(33, 1), (1, 49)])
def test_no_plate_is_larger_than_1536_wells(rows: int, columns: int) -> None:
    with pytest.raises(ValueError, match="fit no plate"):
        smallest_format(rows, columns)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("9987_Plate_3420", "9987_Plate_3420"),
        ("Plate 1 (copy)", "Plate 1 (copy)"),
        ("a/b\\c:d", "a_b_c_d"),
        ('<">|?*', "_"),
        ("..", "plate"),
        ("", "plate"),
        (".hidden. ", "hidden"),
        ("new\nline\x00", "new_line_"),
        ("CON", "_CON"),
        ("com1.2024", "_com1.2024"),
        ("nul .txt", "_nul .txt"),
        ("LPT²", "_LPT²"),
        ("console", "console"),
        ("x" * 119 + ". tail", "x" * 119),
        ("細" * 100, "細" * 40),
        ("broken\udcff", "broken"),
    ],
)
def test_names_are_made_safe_for_any_file_system(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text(max_size=300))
def test_any_name_becomes_one_that_windows_and_linux_take(name: str) -> None:
    safe = safe_name(name)

    assert 0 < len(safe.encode()) <= 121
    assert not set(safe) & set('<>:"/\\|?*')
    assert not any(ord(letter) < 32 for letter in safe)
    assert safe == safe.strip(" ").rstrip(".")
    assert not safe.startswith(".")
    assert safe_name(safe) == safe
