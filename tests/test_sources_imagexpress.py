"""ImageXpress directories made for the purpose: names, promises, gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.sources import open_plate
from hcs_nuclei.sources.metaseries import parse_description

GUID = "281928711-999D-41F6-B88C-999513D4C092"[1:]


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def htd(
    folder: Path, wells: dict[int, str], *, sites: str = "TRUE", waves: tuple[str, ...] = ("DAPI",), extra: str = ""
) -> None:
    """`wells` are selections by row, such as {2: "FTT"}; `sites` a row of the grid."""
    flags = {"T": "TRUE", "F": "FALSE"}
    rows = [f'"WellsSelection{row}", ' + ", ".join(flags[c] for c in chosen) for row, chosen in wells.items()]
    several = sites != "TRUE"
    lines = [
        '"HTSInfoFile", Version 1.0',
        '"Description", "Pr\x82fung \x81 of 3z, mixed"',
        f'"XWells", {max(map(len, wells.values()))}',
        f'"YWells", {max(wells)}',
        *rows,
        f'"Sites", {str(several).upper()}',
        f'"XSites", {sites.count(",") + 1}',
        '"YSites", 1',
        *([f'"SiteSelection1", {sites}'] if several else []),
        f'"NWavelengths", {len(waves)}',
        *(f'"WaveName{n}", "{name}"' for n, name in enumerate(waves, start=1)),
        extra,
        '"EndFile"',
    ]
    (folder / "P.HTD").write_bytes("\r\n".join(lines).encode("latin-1"))


@pytest.mark.parametrize(
    ("name", "well", "field", "token"),
    [
        ("Projection-Mix_E08_s2_w281928711-999D-41F6-B88C-999513D4C092.tif", "E08", 2, "w2"),
        ("Projection-Mix_E08_s2B38C01F5-0D36-4A29-9F5A-BE62B6F7F73F.tif", "E08", 2, ""),
        ("Projection-Mix_E07_s189A35A04-20E3-47AD-A1F9-8065B2840EFD.tif", "E07", 1, ""),
        ("P_B02_s1_w12F6580B3E-0AC4-4968-81C5-BB26AA5F6981.tif", "B02", 1, "w12"),
        ("9987_B02.TIF", "B02", 1, ""),
        ("9987_B02_s1_w1.TIF", "B02", 1, "w1"),
        (
            "1649_1109_0003_Amp5-1_B_20070424_C01_w1_10E01AFB-34C4-416E-A9D3-51B90AB53728.tif",
            "C01",
            1,
            "w1",
        ),
        ("101210OranePlt1_C16_w1_[9AA4D9EA-18E4-4354-8C7D-0202029A8048].tif", "C16", 1, "w1"),
        ("screen_AF48_s12_w3.tif", "AF48", 12, "w3"),
        ("screen_AA01_s0_w1.tiff", "AA01", 0, "w1"),
    ],
)
def test_names_that_were_seen(tmp_path: Path, name: str, well: str, field: int, token: str) -> None:
    plate = open_plate(touch(tmp_path, name))
    assert plate.vendor == "imagexpress"
    assert [(w.name, s.number, p.channel) for w in plate for s in w.fields for p in s.planes] == [(well, field, token)]


def test_thumbnails_are_no_images(tmp_path: Path) -> None:
    plate = open_plate(touch(tmp_path, f"P_B02_s1_w1{GUID}.tif", f"P_B02_s1_w1_thumb{GUID}.tif"))
    assert [p.path for p in plate.wells[0].fields[0].planes] == [f"P_B02_s1_w1{GUID}.tif"]


def test_a_missing_plane_keeps_its_field_and_moves_no_other(tmp_path: Path) -> None:
    names = [f"P_{well}_s{s}_w{w}.TIF" for well in ("B02", "B03") for s in (1, 2, 3) for w in (1, 2)]
    names.remove("P_B03_s2_w1.TIF")
    plate = open_plate(touch(tmp_path, *names))
    assert [(w.name, s.number, p.channel) for w, s, p in plate.missing_planes()] == [("B03", 2, "w1")]
    assert plate.well("B03").fields[2].planes_of("w1", 0)[0].path == "P_B03_s3_w1.TIF"
    assert plate.warnings == ()


def test_a_field_of_which_nothing_is_there_is_expected_as_in_the_other_wells(tmp_path: Path) -> None:
    names = [f"P_{well}_s{s}.TIF" for well in ("B02", "B03", "B04") for s in (1, 2)]
    names.remove("P_B04_s2.TIF")
    plate = open_plate(touch(tmp_path, *names))
    assert [(w.name, s.number) for w, s, _ in plate.missing_planes()] == [("B04", 2)]


def test_one_stray_field_is_not_expected_everywhere(tmp_path: Path) -> None:
    names = [f"P_{well}_s1.TIF" for well in ("B02", "B03", "B04")]
    plate = open_plate(touch(tmp_path, *names, "P_B03_s99.TIF"))
    assert [[s.number for s in w.fields] for w in plate] == [[1], [1, 99], [1]]
    assert list(plate.missing_planes()) == []


def test_each_channel_has_its_own_z_planes(tmp_path: Path) -> None:
    touch(tmp_path, *(f"P_{w}_s1_w{c}.tif" for w in ("B02", "B03") for c in (1, 2)))  # projections
    touch(tmp_path / "ZStep_1", "P_B02_s1_w1.tif", "P_B03_s1_w1.tif", "P_B02_s1_w3.tif", "P_B03_s1_w3.tif")
    touch(tmp_path / "ZStep_2", "P_B02_s1_w1.tif")
    plate = open_plate(tmp_path)
    planes = [(p.channel, p.z, p.projection) for p in plate.well("B02").fields[0].planes]
    assert planes == [("w1", 0, True), ("w1", 1, False), ("w1", 2, False), ("w2", 0, True), ("w3", 1, False)]
    assert [(w.name, p.channel, p.z) for w, _, p in plate.missing_planes()] == [("B03", "w1", 2)]


def test_what_the_htd_promises_and_the_disk_lacks(tmp_path: Path) -> None:
    root = tmp_path / "P_Plate_77"
    touch(root, *(f"TimePoint_{t}/P_{w}_s{s}_w1.TIF" for t in (1, 3) for w in ("B02", "B03") for s in (1, 2)))
    (root / "TimePoint_3" / "P_B03_s2_w1.TIF").unlink()
    htd(
        root,
        {2: "FTTT"},
        sites="TRUE, TRUE",
        waves=("DAPI", "Cy5"),
        extra='"TimePoints", 4\r\n"ZSeries", TRUE\r\n"ZSteps", 2',
    )
    plate = open_plate(root / "TimePoint_3")
    assert (plate.name, plate.acquisition, plate.expected_from) == ("P", "77", "metadata")
    assert [w.name for w in plate] == ["B02", "B03", "B04"]
    missing = [(w.name, s.number, p.channel, p.timepoint) for w, s, p in plate.missing_planes()]
    assert missing == [("B03", 2, "w1", 1), *(("B04", s, "w1", t) for s in (1, 2) for t in (0, 1))]
    assert [c.name for c in plate.channels] == ["DAPI"]
    assert plate.timepoints == 2
    channel, time, z = plate.warnings
    assert "Cy5 (w2)" in channel
    assert "Time point 2, 4" in time
    assert "counts those that are there" in time
    assert "Z plane 1-2 of DAPI" in z


def test_sites_count_the_chosen_ones_unless_the_names_say_otherwise(tmp_path: Path) -> None:
    htd(touch(tmp_path / "a", "P_A01_s1.tif", "P_A01_s2.tif"), {1: "T"}, sites="TRUE, FALSE, TRUE")
    htd(touch(tmp_path / "b", "P_A01_s1.tif", "P_A01_s3.tif"), {1: "T"}, sites="TRUE, FALSE, TRUE")
    assert [s.number for s in open_plate(tmp_path / "a").wells[0].fields] == [1, 2]
    assert [s.number for s in open_plate(tmp_path / "b").wells[0].fields] == [1, 3]


@pytest.mark.parametrize("content", ["", '"TimePoints", 999999999', '"TimePoints", "many"'])
def test_an_htd_that_says_nothing_is_said(tmp_path: Path, content: str) -> None:
    touch(tmp_path, "P_A01_s1_w1.tif", "P.HTD")
    if content:
        htd(tmp_path, {1: "T"}, extra=content)
    plate = open_plate(tmp_path)
    assert plate.expected_from == "regularity"
    assert "P.HTD says nothing" in plate.warnings[0]


def test_names_and_pixel_size_come_from_the_tags(tmp_path: Path) -> None:
    description = (
        '<MetaData><PlaneInfo><prop id="spatial-calibration-state" type="bool" value="on"/>'
        '<prop id="spatial-calibration-x" type="float" value="0.65"/>'
        '<prop id="spatial-calibration-units" type="string" value="um"/>'
        '<prop id="_IllumSetting_" type="string" value="Cy3"/></PlaneInfo></MetaData>'
    )
    image = np.zeros((4, 5), np.uint16)
    tifffile.imwrite(tmp_path / "P_A01_s1_w1.tif", image, description=description, metadata=None)
    (tmp_path / "P_A01_s1_w2.tif").write_bytes(b"II*\x00 not really")
    plate = open_plate(tmp_path)
    assert [c.name for c in plate.channels] == ["Cy3", "w2"]
    assert plate.pixel_size_um == 0.65


@pytest.mark.parametrize(
    "description",
    ["", "plain words", "<MetaData>", '<!DOCTYPE a [<!ENTITY b "c">]><MetaData>&b;</MetaData>', "<a>\x01</a>"],
)
def test_a_description_of_another_kind_says_nothing(description: str) -> None:
    assert parse_description(description).pixel_size_um is None


@pytest.mark.parametrize(("value", "unit"), [("nan", "um"), ("-1", "um"), ("x", "um"), ("1.3", "pixel"), ("inf", "um")])
def test_a_pixel_size_that_is_none(value: str, unit: str) -> None:
    text = (
        f'<MetaData><prop id="spatial-calibration-x" value="{value}"/>'
        f'<prop id="spatial-calibration-units" value="{unit}"/></MetaData>'
    )
    assert parse_description(text).pixel_size_um is None


def test_images_of_two_plates_in_one_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAPlateError, match="2 plates: P, Q"):
        open_plate(touch(tmp_path, "P_A01_s1_w1.tif", "Q_A01_s1_w1.tif"))


def test_a_plane_that_is_there_twice_is_said(tmp_path: Path) -> None:
    other = "9" + GUID[1:]
    plate = open_plate(touch(tmp_path, f"P_A01_s1_w1{other}.tif", f"P_A01_s1_w1{GUID}.tif"))
    assert len(plate.wells[0].fields[0].planes) == 1
    assert "more than once" in plate.warnings[0]
    assert "A01 field 1" in plate.warnings[0]


def test_a_link_out_of_the_plate_is_a_missing_plane_with_a_reason(tmp_path: Path) -> None:
    outside = touch(tmp_path / "elsewhere", "secret.tif")
    root = touch(tmp_path / "plate", "P_A01_s1_w1.tif", "P_A02_s1_w1.tif", "inside.dat")
    (root / "P_A03_s1_w1.tif").symlink_to(outside / "secret.tif")
    (root / "P_A04_s1_w1.tif").symlink_to(root / "nowhere")
    (root / "P_A05_s1_w1.tif").symlink_to(root / "inside.dat")
    (root / "TimePoint_2").symlink_to(outside)
    plate = open_plate(root)
    errors = {w.name: p.error for w, _, p in plate.missing_planes()}
    assert errors.keys() == {"A03", "A04"}
    assert "leaves the plate directory" in errors["A03"]
    assert "link to nothing" in errors["A04"]
    assert plate.warnings == ("The directory TimePoint_2 is a link and is not entered.",)


def place(folder: Path, well: str, site: int, x: float, y: float) -> None:
    description = (
        f'<MetaData><PlaneInfo><custom-prop id="OffsetFromWellCenterUmX" type="float" value="{x}"/>'
        f'<custom-prop id="OffsetFromWellCenterUmY" type="float" value="{y}"/></PlaneInfo></MetaData>'
    )
    image = np.zeros((4, 5), np.uint16)
    tifffile.imwrite(folder / f"P_{well}_s{site}_w1.tif", image, description=description, metadata=None)


def test_sites_lie_in_every_well_where_they_lie_in_the_first(tmp_path: Path) -> None:
    for well in ("B02", "B04"):
        place(tmp_path, well, 1, -315.02, -314.98)
        place(tmp_path, well, 2, 0.04, -314.98 + 0.1 * (well == "B04"))
    touch(tmp_path, "P_B03_s1_w1.tif", "P_B03_s2_w1.tif")  # what is not read needs no tags
    plate = open_plate(tmp_path)
    assert plate.warnings == ()
    assert [[f.position_um for f in w.fields] for w in plate] == [[(-315.02, -314.98), (0.04, -314.98)]] * 3


def test_sites_that_lie_elsewhere_in_another_well_have_no_position(tmp_path: Path) -> None:
    place(tmp_path, "B02", 1, 0, 0)
    place(tmp_path, "B03", 1, 0, 2.5)
    plate = open_plate(tmp_path)
    assert [f.position_um for w in plate for f in w.fields] == [None, None]
    assert "Field 1 lies elsewhere in well B03 than in B02" in plate.warnings[0]


@pytest.mark.parametrize(("x", "y"), [("nan", 1), (1, "inf"), ("far", 1)])
def test_a_place_that_is_none(tmp_path: Path, x: object, y: object) -> None:
    place(tmp_path, "B02", 1, x, y)  # type: ignore[arg-type]
    assert open_plate(tmp_path).wells[0].fields[0].position_um is None


def test_images_whose_names_tell_nothing_are_counted_and_said(tmp_path: Path) -> None:
    plate = open_plate(touch(tmp_path, "P_B02_s1_w1.tif", "P_B03_s1_w1.tif", "P_c02_s1_w1.tif", "P_B04_s1_w1 (2).tif"))
    assert [well.name for well in plate] == ["B02", "B03"]
    assert plate.warnings == (
        "2 images are not used, for their names do not say which well and field they are of: P_B04_s1_w1 (2).tif, "
        "P_c02_s1_w1.tif.",
    )
