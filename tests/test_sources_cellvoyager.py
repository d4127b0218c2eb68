"""CellVoyager directories made for the purpose: records, errors, names without records."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.sources import open_plate

NS = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
NO_DETAIL = "MeasurementDetail.mrf is not there: pixel size, plate format and channel names are not known."


def name(well: str, field: int = 1, channel: int = 1, z: int = 1, time: int = 1, suffix: str = "tif") -> str:
    return f"P_{well}_T{time:04d}F{field:03d}L01A01Z{z:02d}C{channel:02d}.{suffix}"


def record(text: str, **values: object) -> str:
    """``record(name, Row=2, …)``: an IMG record, or Type="ERR"."""
    given = {"Type": "IMG", **values}
    attributes = " ".join(f'bts:{key}="{value}"' for key, value in given.items())
    return f"<bts:MeasurementRecord {attributes}>{text}</bts:MeasurementRecord>"


def img(well: str, row: int, column: int, field: int = 1, channel: int = 1, z: int = 1, text: str = "") -> str:
    return record(
        text or name(well, field, channel, z),
        Row=row, Column=column, TimePoint=1, FieldIndex=field, ZIndex=z, Ch=channel, X=1.5, Y=2.5,
    )  # fmt: skip


def plate_of(folder: Path, records: list[str], files: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MeasurementData.mlf").write_text(
        f'<?xml version="1.0"?><bts:MeasurementData {NS}>{"".join(records)}</bts:MeasurementData>'
    )
    for file in files:
        (folder / file).touch()
    return folder


def test_records_say_what_is_expected(tmp_path: Path) -> None:
    records = [img(w, 2, c, f, ch) for w, c in (("B02", 2), ("B03", 3)) for f in (1, 2) for ch in (1, 2)]
    files = [name(w, f, ch) for w in ("B02", "B03") for f in (1, 2) for ch in (1, 2)]
    files.remove(name("B02", 2, 2))
    plate = open_plate(plate_of(tmp_path, records, [*files, "DC_sCMOS #1_CAM1.tif", "SC_BP445_M01_CH01.tif"]))
    assert (plate.vendor, plate.expected_from, plate.warnings) == ("cellvoyager", "metadata", (NO_DETAIL,))
    assert [(w.name, s.number, p.channel) for w, s, p in plate.missing_planes()] == [("B02", 2, "C02")]
    assert plate.wells[0].fields[0].position_um == (1.5, -2.5)


def test_the_disk_may_have_png_where_the_record_says_tif(tmp_path: Path) -> None:
    plate = open_plate(plate_of(tmp_path, [img("B02", 2, 2)], [name("B02", suffix="png")]))
    assert [p.path for p in plate.wells[0].fields[0].planes] == [name("B02", suffix="png")]


def test_an_error_of_one_field_is_a_field_with_an_error(tmp_path: Path) -> None:
    records = [img("B02", 2, 2, f, ch, z) for f in (1, 2) for ch in (1, 2) for z in (1, 2)]
    records.append(record("AF Error at B03", Type="ERR", Row=2, Column=3, TimePoint=1, FieldIndex=2))
    records += [img("B03", 2, 3, 1, ch, z) for ch in (1, 2) for z in (1, 2)]
    files = [name("B02", f, ch, z) for f in (1, 2) for ch in (1, 2) for z in (1, 2)]
    files += [name("B03", 1, ch, z) for ch in (1, 2) for z in (1, 2)]
    plate = open_plate(plate_of(tmp_path, records, files))
    missing = [(w.name, s.number, p.channel, p.z, p.error) for w, s, p in plate.missing_planes()]
    assert missing == [("B03", 2, ch, z, "AF Error at B03") for ch in ("C01", "C02") for z in (1, 2)]
    assert [s.number for s in plate.well("B03").fields] == [1, 2]


def test_an_error_that_names_no_field_costs_the_whole_well(tmp_path: Path) -> None:
    records = [img("B02", 2, 2, 1), img("B02", 2, 2, 2), record("AF Error at C14", Type="ERR", Row=3, Column=14)]
    plate = open_plate(plate_of(tmp_path, records, [name("B02", 1), name("B02", 2)]))
    assert [(w.name, s.number, p.error) for w, s, p in plate.missing_planes()] == [
        ("C14", 1, "AF Error at C14"),
        ("C14", 2, "AF Error at C14"),
    ]


def test_an_error_after_which_the_image_was_taken_is_a_warning(tmp_path: Path) -> None:
    records = [
        img("B02", 2, 2),
        record("AF Error at B02", Type="ERR", Row=2, Column=2, TimePoint=1, FieldIndex=1, Ch=1),
    ]
    plate = open_plate(plate_of(tmp_path, records, [name("B02")]))
    assert list(plate.missing_planes()) == []
    assert plate.warnings == (
        "1 errors of the instrument cost no image, the first in well B02: AF Error at B02.",
        NO_DETAIL,
    )


@pytest.mark.parametrize("text", ["../secret.tif", "/etc/secret.tif", "..\\secret.tif"])
def test_a_record_that_leaves_the_plate_is_not_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret.tif").touch()
    folder = plate_of(tmp_path / "P", [img("B02", 2, 2), img("B03", 2, 3, text=text)], [name("B02")])
    ((well, _, plane),) = open_plate(folder).missing_planes()
    assert well.name == "B03"
    assert "outside the plate directory" in plane.error


def test_a_record_without_a_number_is_damaged(tmp_path: Path) -> None:
    folder = plate_of(tmp_path, [record("x.tif", Row=2, Column="?", FieldIndex=1, Ch=1)], ["x.tif"])
    with pytest.raises(NotAPlateError, match=r"record of x\.tif lacks a number"):
        open_plate(folder)


def test_detail_and_settings(tmp_path: Path) -> None:
    folder = plate_of(tmp_path, [img("B02", 2, 2)], [name("B02")])
    channels = "".join(f'<bts:MeasurementChannel bts:Ch="{n}" bts:HorizontalPixelDimension="0.3{n}"/>' for n in (1, 2))
    (folder / "MeasurementDetail.mrf").write_text(
        f'<bts:MeasurementDetail {NS} bts:BeginTime="2023-09-18T13:58:39.4+02:00" bts:ColumnCount="24" '
        f'bts:RowCount="16" bts:MeasurementSettingFileName="a.mes"><bts:MeasurementSamplePlate bts:Name="Screen 7"/>'
        f"{channels}</bts:MeasurementDetail>",
        encoding="utf-8-sig",
    )
    (folder / "a.mes").write_text(
        f'<bts:S {NS}><bts:Channel bts:Ch="1" bts:Fluorophore="Hoechst 33342"/>'
        '<bts:Channel bts:Ch="2" bts:Fluorophore=""/></bts:S>'
    )
    plate = open_plate(folder)
    assert (plate.name, plate.acquisition, plate.wells_in_format) == ("Screen 7", "20230918_135839", 384)
    assert [(c.token, c.name) for c in plate.channels] == [("C01", "Hoechst 33342")]
    assert plate.pixel_size_um == pytest.approx(0.31)
    assert plate.metadata_files == ("MeasurementData.mlf", "MeasurementDetail.mrf", "a.mes")


def test_names_alone_and_1536_wells(tmp_path: Path) -> None:
    folder = tmp_path / "P_20240102_030405" / "P"
    folder.mkdir(parents=True)
    for well in ("A01.a1", "A01.b2", "P24.b2", "AF48"):
        (folder / name(well, field=0)).touch()
    (folder / "SC_BP445-45_20x_M01_CH01.tif").touch()
    plate = open_plate(folder)
    assert [w.name for w in plate] == ["A01", "B02", "AF48"]
    assert (plate.name, plate.acquisition, plate.expected_from) == ("P", "20240102_030405", "regularity")
    assert [s.number for s in plate.wells[0].fields] == [0]


def test_1536_wells_within_those_of_a_96_well_plate(tmp_path: Path) -> None:
    for well in ("A01.a1", "A01.d4", "B07.c4"):
        (tmp_path / name(well)).touch()
    plate = open_plate(tmp_path)
    assert [w.name for w in plate] == ["A01", "D04", "G28"]
    assert plate.wells_in_format == 1536


def test_two_plates_in_one_folder_are_refused(tmp_path: Path) -> None:
    for file in (name("B02"), name("B03").replace("P_", "Q_")):
        (tmp_path / file).touch()
    with pytest.raises(NotAPlateError, match=r"holds images of 2 plates: P, Q\."):
        open_plate(tmp_path)


def test_one_lucky_name_makes_no_cellvoyager_plate(tmp_path: Path) -> None:
    for file in (name("B02"), *(f"P_B0{column}_s1_w1.tif" for column in (2, 3, 4))):
        (tmp_path / file).touch()
    plate = open_plate(tmp_path)
    assert (plate.vendor, len(plate.wells)) == ("imagexpress", 3)
    assert plate.warnings[0].endswith(f"which well and field they are of: {name('B02')}.")


def test_a_preview_does_not_stand_in_for_its_image(tmp_path: Path) -> None:
    files = [name("B02"), name("B02", suffix="png"), name("B03", suffix="png")]
    plate = open_plate(plate_of(tmp_path, [img("B02", 2, 2), img("B03", 2, 3)], files))
    assert [w.name for w, _, _ in plate.missing_planes()] == ["B03"]


def test_previews_do_not_hide_images_whose_names_have_another_case(tmp_path: Path) -> None:
    files = [file for well in ("B02", "B03") for file in (name(well, suffix="TIF"), name(well, suffix="png"))]
    plate = open_plate(plate_of(tmp_path, [img("B02", 2, 2), img("B03", 2, 3)], files))
    assert not list(plate.missing_planes())
    assert all(p.path.endswith(".TIF") for w in plate for f in w.fields for p in f.planes)


def test_shading_images_that_stayed_tiffs_do_not_hide_a_small_plate_of_pngs(tmp_path: Path) -> None:
    shading = [f"SC_BP{n}_CH0{n}.tif" for n in range(1, 9)]
    plate = open_plate(plate_of(tmp_path, [img("B02", 2, 2)], [name("B02", suffix="png"), *shading]))
    assert not list(plate.missing_planes())


# --- the CQ1 and its kin -----------------------------------------------------------------------------------------


def cq1_plate(root: Path, *names: str, detail: str = "") -> Path:
    """A measurement whose records name `names`, all of them there: of well 29 (C05 of 96) or 69 (F09)."""
    records = []
    for text in names:
        (root / text).parent.mkdir(parents=True, exist_ok=True)
        (root / text).touch()
        number, z = int(text.rpartition("/W")[2][:4]), int(text.rpartition("Z")[2][:3])
        projected = {"ZImageProcessing": "Maximum"} if z == 0 else {}
        where = {"Row": (number - 1) // 12 + 1, "Column": (number - 1) % 12 + 1, "TimePoint": 1, "FieldIndex": 1}
        records.append(record(text, **where, ZIndex=max(z, 1), X=1, Y=2, Ch=text[-5], **projected))
    if detail:
        (root / "MeasurementDetail.mrf").write_text(detail)
    return plate_of(root, records, [])


def test_records_of_a_cq1_lead_into_its_folders(tmp_path: Path) -> None:
    # Names and attributes as in the record of a real CQ3000 that kept the projections of two wells.
    detail = (
        f'<bts:MeasurementDetail {NS} bts:Title="20251201T134840_MIP" bts:BeginTime="2025-12-01T13:48:40.8+01:00" '
        'bts:ColumnCount="12" bts:RowCount="8" bts:MeasurementSettingFileName="">'
        '<bts:MeasurementSamplePlate bts:Name="NoPlateID"/></bts:MeasurementDetail>'
    )
    names = [f"Projection/W{number}F0001T0001Z000C1.tif" for number in ("0029", "0069")]
    plate = open_plate(cq1_plate(tmp_path / "P", *names, detail=detail))
    assert open_plate(tmp_path / "P" / "Projection") == plate
    assert [w.name for w in plate] == ["C05", "F09"]
    assert [(p.path, p.projection) for w in plate for s in w.fields for p in s.planes] == [(n, True) for n in names]
    assert (plate.name, plate.acquisition) == ("20251201T134840_MIP", "20251201_134840")


def test_slices_stand_beside_their_projection(tmp_path: Path) -> None:
    slices = [f"Image/W0029F0001T0001Z00{z}C1.tif" for z in (1, 2)]
    plate = open_plate(cq1_plate(tmp_path, "Projection/W0029F0001T0001Z000C1.tif", *slices))
    site = plate.wells[0].fields[0]
    assert [p.path for p in site.planes_of("C01", 0)] == ["Projection/W0029F0001T0001Z000C1.tif"]
    assert [p.path for p in site.planes_of("C01", 0, "max")] == slices


def test_names_of_a_cq1_alone_are_counted_and_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "Run 7" / "Image"
    folder.mkdir(parents=True)
    for number, channel in ((14, 1), (14, 2), (29, 1)):
        (folder / f"W{number:04d}F0001T0001Z001C{channel}.tif").touch()
    plate = open_plate(tmp_path / "Run 7")
    assert (plate.name, [w.name for w in plate], plate.expected_from) == ("Run 7", ["B02", "C05"], "regularity")
    assert plate.warnings == (
        "The images have their wells' numbers in their names. Wells are counted row by row in 12 columns, a guess: no "
        "smaller plate has them all.",
    )
    assert [(w.name, p.channel) for w, _, p in plate.missing_planes()] == [("C05", "C02")]
    (folder / "W0000F0001T0001Z001C1.tif").touch()
    assert [w.name for w in open_plate(folder)] == ["B02", "C05"]


def test_an_error_record_as_an_instrument_wrote_it(tmp_path: Path) -> None:
    # It names neither field nor channel nor z, and has numbers that images have not.
    failure = record(
        "AF Error at C14 No. 0 (SAMPLE_PLATE_000000_000000)", Type="ERR", Time="2020-01-01T11:00:00.000+01:00",
        Column=14, Row=3, TimePoint=1, PartialTileIndex=1, TimelineIndex=1, X=-20.0, Y=25.0,
    )  # fmt: skip
    records = [img("B02", 2, 2, f, ch) for f in (1, 2) for ch in (1, 2)]
    plate = open_plate(plate_of(tmp_path, [*records, failure], [name("B02", f, ch) for f in (1, 2) for ch in (1, 2)]))
    missing = {(w.name, s.number, p.channel, p.error) for w, s, p in plate.missing_planes()}
    words = "AF Error at C14 No. 0 (SAMPLE_PLATE_000000_000000)"
    assert missing == {("C14", f, ch, words) for f in (1, 2) for ch in ("C01", "C02")}
