"""Which directory is a plate, which is not, and what is said of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.sources import inspection, open_plate, render_inspection


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(NotAPlateError, match="There is no directory"):
        open_plate(tmp_path / "absent")


def test_a_file(tmp_path: Path) -> None:
    with pytest.raises(NotAPlateError, match="is a file; a plate is a directory"):
        open_plate(touch(tmp_path, "P_A01_s1_w1.tif") / "P_A01_s1_w1.tif")


@pytest.mark.parametrize("folders", ["", "a/b"])
def test_an_empty_directory(tmp_path: Path, folders: str) -> None:
    (tmp_path / folders).mkdir(parents=True, exist_ok=True)
    with pytest.raises(NotAPlateError, match="is empty"):
        open_plate(tmp_path)


def test_an_unknown_format_lists_what_was_tried_and_an_example(tmp_path: Path) -> None:
    with pytest.raises(
        NotAPlateError, match=r"(?s)called cells-17\.tif.*CellVoyager.*Operetta.*Cellomics.*ImageXpress"
    ):
        open_plate(touch(tmp_path, "cells-17.tif", "cells-18.tif"))


def test_a_directory_without_images_names_one_of_its_files(tmp_path: Path) -> None:
    with pytest.raises(NotAPlateError, match=r"no \.tif, \.tiff or \.png file; one of its files is table\.csv"):
        open_plate(touch(tmp_path, "table.csv"))


def test_a_few_lucky_names_among_many_make_no_plate(tmp_path: Path) -> None:
    with pytest.raises(NotAPlateError, match="not recognised"):
        open_plate(touch(tmp_path, "figure_A01.tif", "one.tif", "two.tif"))


def test_folders_that_are_not_entered_are_said_though_nothing_of_them_is_seen(tmp_path: Path) -> None:
    plate, elsewhere = touch(tmp_path / "plate", "B02/f1.tif", "B03/f1.tif"), touch(tmp_path / "elsewhere", "f1.tif")
    (plate / "B04").symlink_to(elsewhere)
    pattern = r"(?P<well>[A-P]\d\d)/f(?P<field>\d)\.tif"
    assert "The directory B04 is a link and is not entered." in open_plate(plate, pattern=pattern).warnings

    only = tmp_path / "only"
    only.mkdir()
    (only / "TimePoint_1").symlink_to(elsewhere)
    with pytest.raises(NotAPlateError, match=r"no file is seen in it .* The directory TimePoint_1 is a link"):
        open_plate(only)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads every directory")
def test_a_folder_of_the_plate_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    plate = touch(tmp_path, "TimePoint_1/P_B02_s1_w1.tif", "TimePoint_2/P_B02_s1_w1.tif")
    (plate / "TimePoint_2").chmod(0)
    try:
        assert "TimePoint_2 cannot be read" in " ".join(open_plate(plate).warnings)
    finally:
        (plate / "TimePoint_2").chmod(0o755)


def test_a_link_to_itself_costs_nothing_but_itself(tmp_path: Path) -> None:
    plate = touch(tmp_path, "P_B02_s1_w1.tif")
    (plate / "latest").symlink_to("latest")
    assert [well.name for well in open_plate(plate)] == ["B02"]
    assert "latest is a link to nothing." in open_plate(plate).warnings


def test_a_directory_that_is_no_plate_may_hold_folders_that_are_not_entered(tmp_path: Path) -> None:
    touch(tmp_path, "sub/notes.txt")
    (tmp_path / "latest").symlink_to(touch(tmp_path.parent / "elsewhere", "a.tif"))
    with pytest.raises(NotAPlateError, match=r"is not recognised as a plate\. .*one of its files is sub/notes\.txt"):
        open_plate(tmp_path)


def test_names_that_are_no_text_are_passed_over_and_said(tmp_path: Path) -> None:
    plate = touch(tmp_path, "P_B02_s1_w1.tif")
    with open(os.fsencode(tmp_path) + b"/Pl\xb5_B03_s1_w1.tif", "wb"):
        pass
    opened = open_plate(plate)
    assert [well.name for well in opened] == ["B02"]
    assert opened.warnings == (
        r"1 names are not UTF-8 and are passed over, such as Pl\xb5_B03_s1_w1.tif; give them other names.",
    )


def test_the_home_of_a_user_that_there_is_not_is_a_missing_directory() -> None:
    with pytest.raises(NotAPlateError, match="There is no directory ~nobody-of-that-name/plate"):
        open_plate("~nobody-of-that-name/plate")


def test_two_plates_ask_to_choose(tmp_path: Path) -> None:
    touch(tmp_path, "monday/P_A01_s1_w1.tif", "tuesday/Images/r01c01f01p01-ch01t01.tiff")
    with pytest.raises(NotAPlateError, match="2 plates: monday, tuesday"):
        open_plate(tmp_path)
    assert open_plate(tmp_path / "tuesday").vendor == "operetta"


def test_pictures_made_of_a_plate_inside_it_are_no_second_plate(tmp_path: Path) -> None:
    plate = open_plate(touch(tmp_path, "P_A01_s1_w1.tif", "masks/P_A01_s1_w1.tif"))
    assert [p.path for p in plate.wells[0].fields[0].planes] == ["P_A01_s1_w1.tif"]


def test_a_folder_called_images_does_not_reach_beside_itself(tmp_path: Path) -> None:
    touch(tmp_path, "images/P_A01_s1_w1.tif", "other/Q_A01_s1_w1.tif")
    assert open_plate(tmp_path / "images").name == "P"


def test_stores_hidden_folders_and_deep_trees_are_not_entered(tmp_path: Path) -> None:
    touch(tmp_path, "P_A01_s1_w1.tif", ".cache/P_A02_s1_w1.tif", "out.zarr/Q_A01_s1_w1.tif")
    touch(tmp_path, "/".join("abcdefghijkl") + "/Q_A02_s1_w1.tif")
    assert [w.name for w in open_plate(tmp_path)] == ["A01"]


def test_a_name_may_be_given(tmp_path: Path) -> None:
    touch(tmp_path, "P_A01_s1_w1.tif")
    assert open_plate(str(tmp_path), plate_name="Screen 1").name == "Screen 1"


METADATA = {
    "P.HTD": b'"XWells", 2\n"YWells", 1\n"WellsSelection1", TRUE, TRUE\n"Sites", TRUE\n"XSites", 2\n"YSites", 1\n'
    b'"SiteSelection1", TRUE, TRUE\n"TimePoints", 2\n"ZSeries", TRUE\n"ZSteps", 2\n'
    b'"NWavelengths", 1\n"WaveName1", "A"\n',
    "MeasurementData.mlf": b'<b:D xmlns:b="u"><b:MeasurementRecord b:Type="IMG" b:Row="1" b:Column="1" '
    b'b:FieldIndex="1" b:TimePoint="1" b:ZIndex="1" b:Ch="1" b:X="1" b:Y="2">P_A01_s1_w1.tif</b:MeasurementRecord>'
    b'<b:MeasurementRecord b:Type="ERR" b:Row="1" b:Column="2">AF</b:MeasurementRecord></b:D>',
    "MeasurementDetail.mrf": b'<b:MeasurementDetail xmlns:b="u" b:RowCount="8" b:ColumnCount="12" '
    b'b:MeasurementSettingFileName="a.mes"><b:MeasurementChannel b:Ch="1" b:HorizontalPixelDimension="0.3"/>'
    b"</b:MeasurementDetail>",
    "Index.xml": b'<E xmlns="http://www.perkinelmer.com/PEHH/HarmonyV6"><Plate><PlateID>P</PlateID><PlateRows>8</PlateRows>'
    b'<PlateColumns>12</PlateColumns></Plate><Entry ChannelID="1"><ChannelName>A</ChannelName></Entry><Image>'
    b"<URL>P_A01_s1_w1.tif</URL><Row>1</Row><Col>1</Col><FieldID>1</FieldID><ChannelID>1</ChannelID>"
    b"<ImageResolutionX>1E-6</ImageResolutionX><PositionX>1</PositionX><PositionY>1</PositionY></Image></E>",
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_metadata_give_a_plate_or_a_reason(tmp_path: Path, data: st.DataObject) -> None:
    for name in METADATA:
        (tmp_path / name).unlink(missing_ok=True)
    touch(tmp_path, "P_A01_s1_w1.tif")
    chosen = data.draw(st.sampled_from(sorted(METADATA)))
    if chosen.endswith("mrf"):
        (tmp_path / "MeasurementData.mlf").write_bytes(METADATA["MeasurementData.mlf"])
    content = bytearray(METADATA[chosen])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.sampled_from([*b'0123456789<>/"-. eETRUx', 0, 130, 255]))
    (tmp_path / chosen).write_bytes(bytes(content))
    try:
        plate = open_plate(tmp_path)
    except NotAPlateError:
        return
    assert render_inspection(inspection(plate))
    assert plate.wells[0].fields[0].planes


def test_the_import_is_light() -> None:
    code = (
        "import sys, hcs_nuclei.sources; "
        "print(sorted({'numpy', 'tifffile', 'imagecodecs', 'pandas', 'dask', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
