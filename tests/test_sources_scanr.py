"""scanR directories made for the purpose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from damaged_metadata import change_bytes, check_plate_or_reason
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.plate import row_name
from hcs_nuclei.sources import inspection, open_plate


def name(label: str, number: int, field: int = 1, channel: str = "DAPI", z: int = 0, t: int = 0) -> str:
    return f"{label}--W{number:05d}--P{field:05d}--Z{z:05d}--T{t:05d}--{channel}.tif"


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file in names:
        (folder / file).touch()
    return folder


def val(key: str, value: object) -> str:
    return f"<X><Name>{key}</Name><Val>{value}</Val></X>"


def write_descriptor(
    plate: Path,
    wells: dict[int, str],
    *,
    fields: int = 1,
    channels: Sequence[tuple[str, int]] = (("DAPI", 0),),
    size: tuple[int, int] = (8, 12),
    times: int = 1,
    more: str = "",
) -> Path:
    """As scanR writes it; `channels` are (name, idle)."""
    table = "".join(val("", number) + val("", label) for number, label in wells.items())
    text = (
        f"<LVData><Cluster><Name>experiment</Name>{val('plate name', 'Screen 7')}"
        f"<Cluster><Name>format typedef</Name>{val('Rows', size[0])}{val('Columns', size[1])}</Cluster>"
        f"{val('conversion factor um/pixel', '0.645')}{val('comment', 'in µm')}{val('timeloop real', times)}{more}"
        f"<Array><Name>channels</Name>{''.join(val('name', c) + val('idle', idle) for c, idle in channels)}</Array>"
        f"<Array><Name>well selection table + cDNA</Name><Dimsize>{len(wells)}</Dimsize>{table}</Array>"
        f"<Array><Name>subposition list</Name><Dimsize>{fields}</Dimsize>{val('', '0.5') * 2 * min(fields, 9)}</Array>"
        "</Cluster></LVData>"
    )
    plate.mkdir(parents=True, exist_ok=True)
    path = plate / "experiment_descriptor.xml"
    path.write_bytes(text.encode("latin-1"))
    return path


def missing(folder: Path) -> list[tuple[str, int, str, int, int]]:
    return [(w.name, s.number, p.channel, p.timepoint, p.z) for w, s, p in open_plate(folder).missing_planes()]


@pytest.mark.parametrize("inner", ["", "data"])
def test_a_plate_with_its_descriptor(tmp_path: Path, inner: str) -> None:
    plate_folder = tmp_path / "2024-01-09"
    write_descriptor(
        plate_folder, {14: "B2", 15: "B3"}, fields=2, channels=[("GFP", 0), ("DAPI", 0), ("Autofocus", 0), ("Cy5", 1)]
    )
    names = [name(w, n, f, c) for w, n in (("B2", 14), ("B3", 15)) for f in (1, 2) for c in ("DAPI", "GFP")]
    touch(plate_folder / "data", *names)
    (plate_folder / "experiment_descriptor.dat").touch()
    plate = open_plate(plate_folder / inner)
    assert plate.root == plate_folder
    assert (plate.vendor, plate.name, plate.expected_from) == ("scanr", "Screen 7", "metadata")
    assert [w.name for w in plate] == ["B02", "B03"]
    assert [c.name for c in plate.channels] == ["GFP", "DAPI"]
    assert plate.pixel_size_um == pytest.approx(0.645)
    assert (plate.warnings, list(plate.missing_planes())) == ((), [])
    assert plate.metadata_files == ("experiment_descriptor.xml",)
    (plane,) = plate.wells[0].fields[1].planes_of("GFP", 0)
    assert plane.path == "data/" + name("B2", 14, 2, "GFP")


@pytest.mark.parametrize("size", [(2, 3), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48)], ids=lambda s: str(s[0] * s[1]))
def test_every_plate_format(tmp_path: Path, size: tuple[int, int]) -> None:
    last = size[0] * size[1]
    label = f"{row_name(size[0])}{size[1]}"
    write_descriptor(tmp_path, {1: "A1", last: label}, size=size)
    touch(tmp_path / "data", name("A1", 1), name(label, last))
    plate = open_plate(tmp_path)
    assert plate.wells_in_format == last
    assert [(w.row, w.column) for w in plate] == [(1, 1), size]


def test_wells_and_positions_that_the_descriptor_promises_are_missed(tmp_path: Path) -> None:
    write_descriptor(tmp_path, {1: "A1", 2: "A2", 3: "A3"}, fields=2)
    touch(tmp_path / "data", name("A1", 1, 1), name("A1", 1, 2), name("A2", 2, 2))
    assert missing(tmp_path) == [("A02", 1, "DAPI", 0, 0), ("A03", 1, "DAPI", 0, 0), ("A03", 2, "DAPI", 0, 0)]
    assert inspection(open_plate(tmp_path))["well_status"] == {"A01": "complete", "A02": "incomplete", "A03": "empty"}


def test_planes_are_expected_where_another_field_has_them(tmp_path: Path) -> None:
    names = [name("C4", 28, f, c, z, t) for f in (1, 2) for c in ("DAPI", "GFP") for z in (0, 1, 2) for t in (0, 1)]
    touch(tmp_path / "data", *names)
    (tmp_path / "data" / name("C4", 28, 2, "GFP", 1, 1)).unlink()
    assert missing(tmp_path) == [("C04", 2, "GFP", 1, 1)]
    plate = open_plate(tmp_path)
    assert (plate.timepoints, plate.name, plate.expected_from) == (2, tmp_path.name, "regularity")


def test_the_name_of_a_well_counts_and_not_its_number(tmp_path: Path) -> None:
    touch(tmp_path / "data", name("B2", 1), name("AF48", 2))
    plate = open_plate(tmp_path)
    assert [w.name for w in plate] == ["B02", "AF48"]
    assert plate.warnings == ()


def test_a_number_alone_is_found_in_the_descriptor(tmp_path: Path) -> None:
    write_descriptor(tmp_path, {1: "C3", 2: "H12"})
    touch(tmp_path / "data", name("", 1), name("", 2))
    plate = open_plate(tmp_path)
    assert [w.name for w in plate] == ["C03", "H12"]
    assert plate.warnings == ()


@pytest.mark.parametrize(
    ("number", "wells", "said"),
    [(14, ["A01", "B02"], "12 columns"), (26, ["A01", "C02"], "12 columns"), (97, ["A01", "E01"], "24 columns")],
)
def test_a_number_alone_is_counted_row_by_row_and_said(
    tmp_path: Path, number: int, wells: list[str], said: str
) -> None:
    touch(tmp_path / "data", name("", 1), name("", number))
    plate = open_plate(tmp_path)
    assert [w.name for w in plate] == wells
    assert said in plate.warnings[0]
    assert "a guess" in plate.warnings[0]


def test_a_number_beyond_any_plate_is_said(tmp_path: Path) -> None:
    touch(tmp_path / "data", name("", 1), name("", 5000))
    assert "1 images have a well's number that is on no plate" in open_plate(tmp_path).warnings[1]
    (tmp_path / "data" / name("", 1)).unlink()
    with pytest.raises(NotAPlateError, match="well that is on a plate"):
        open_plate(tmp_path)


def test_a_channel_and_a_time_point_of_which_nothing_is_there_are_said_once(tmp_path: Path) -> None:
    write_descriptor(tmp_path, {1: "A1"}, channels=[("DAPI", 0), ("GFP", 0)], times=3)
    touch(tmp_path / "data", name("A1", 1))
    plate = open_plate(tmp_path)
    assert list(plate.missing_planes()) == []
    assert plate.warnings[0] == "Channel GFP: promised by experiment_descriptor.xml, but no image of it is there."
    assert plate.warnings[1].startswith("Time point 1-2: promised by experiment_descriptor.xml")
    assert [(a.channel, a.planes) for a in plate.absent] == [("GFP", 1)]


def test_an_image_beyond_the_descriptor_is_used_and_marked(tmp_path: Path) -> None:
    write_descriptor(tmp_path, {1: "A1"})
    touch(tmp_path / "data", name("A1", 1), name("A1", 1, 2), name("H12", 96))
    plate = open_plate(tmp_path)
    assert [w.name for w in plate] == ["A01", "H12"]
    assert [(e.well, e.field, e.used) for e in plate.extra] == [("A01", 2, True), ("H12", 1, True)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<LVData><Name>plate", "is not complete XML"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><LVData/>', "document type or entities"),
        (b"<a><Name># slices</Name><Val>many</Val></a>", "# slices holds no number"),
        (b"\xff\xfe<\x00a\x00", "is not complete XML"),
    ],
    ids=["empty", "cut", "entities", "no number", "encoding"],
)
def test_a_damaged_descriptor_is_said_and_done_without(tmp_path: Path, content: bytes, said: str) -> None:
    write_descriptor(tmp_path, {1: "A1"}).write_bytes(content)
    touch(tmp_path / "data", name("A1", 1))
    plate = open_plate(tmp_path)
    assert (plate.expected_from, plate.metadata_files) == ("regularity", ())
    assert plate.warnings[0].startswith("experiment_descriptor.xml is not used")
    assert said in plate.warnings[0]


def test_a_descriptor_of_billions_of_fields_is_not_believed(tmp_path: Path) -> None:
    write_descriptor(tmp_path, {1: "A1"}, fields=10**9, times=10**9)
    touch(tmp_path / "data", name("A1", 1))
    plate = open_plate(tmp_path)
    assert "1,000,000,000 positions" in plate.warnings[0]
    assert len(plate.wells[0].fields) == 1


def test_billions_of_time_points_are_said_in_one_line(tmp_path: Path) -> None:
    write_descriptor(tmp_path, {1: "A1"}, times=10**9)
    touch(tmp_path / "data", name("A1", 1))
    (warning,) = open_plate(tmp_path).warnings
    assert warning.startswith("Time point 1-")


def test_a_folder_called_data_does_not_reach_beside_itself(tmp_path: Path) -> None:
    touch(tmp_path, "P_A01_s1_w1.tif")
    touch(tmp_path / "data", name("A1", 1))
    assert open_plate(tmp_path / "data").vendor == "scanr"
    assert open_plate(tmp_path).vendor == "imagexpress"


def test_a_link_that_leaves_the_plate_is_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "secret.tif")
    write_descriptor(tmp_path / "plate", {1: "A1", 2: "A2"})
    data = touch(tmp_path / "plate" / "data", name("A1", 1))
    (data / name("A2", 2)).symlink_to(tmp_path / "secret.tif")
    ((well, _, plane),) = open_plate(tmp_path / "plate").missing_planes()
    assert (well.name, "is a link that leaves the plate" in plane.error) == ("A02", True)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_of_any_kind_is_a_plate_or_a_reason(tmp_path: Path, data: st.DataObject) -> None:
    path = write_descriptor(tmp_path, {1: "A1", 2: "A2"}, fields=2, times=2)
    touch(tmp_path / "data", name("A1", 1), name("", 2))
    change_bytes(path, data)
    check_plate_or_reason(tmp_path)


def test_a_well_counted_from_nought_is_on_no_plate_and_takes_no_others_place(tmp_path: Path) -> None:
    plate = open_plate(touch(tmp_path, *(name("", number) for number in (0, 1, 2))))
    assert [well.name for well in plate] == ["A01", "A02"]
    assert "1 images have a well's number that is on no plate; not used." in plate.warnings
