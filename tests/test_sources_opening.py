"""Which directory is a plate, which is not, and what is said of it."""

from __future__ import annotations

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
