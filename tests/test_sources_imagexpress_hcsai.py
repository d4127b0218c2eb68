"""HCS.ai directories made for the purpose, after the metadata of one real well: no real plate was at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.simulate import simulate_plate
from hcs_nuclei.sources import open_plate

COLUMNS = (
    "Row,Column,Field,Wavelength,Timepoint,ZIndex,ImageSizeXPx,ImageSizeYPx,ImageSubFolderPath,ImageFileName,"
    "FieldOffsetPointX,FieldOffsetPointY,PositionXUm"
)
DESCRIPTION = {
    "Version": "1.0",
    "ImageStack": {
        "PlateId": "Screen 3",
        "Uuid": "8f0e-11",
        "AutoLeadAcquisitionProtocol": {
            "ObjectiveCalibration": {"Unit": "um", "PixelWidth": 0.34, "PixelHeight": 0.34},
            "Wavelengths": [
                {"Index": 0, "EmissionFilter": {"Name": "DAPI", "Wavelength": 452}},
                {"Index": 1, "EmissionFilter": {"Name": "Cy5", "Wavelength": 692}},
            ],
        },
    },
}


def name(field: int, wave: int, time: int = 0, z: int = 0, infix: str = "") -> str:
    return f"assay{infix}_t{time}_C05_s{field}_w{wave}_z{z}.tif"


def row(file: str, field: int, wave: int, time: int = 0, z: int = 0) -> str:
    return f"3,5,{field},{wave},{time},{z},2048,2048,timepoint{time},{file},{340.5 * field},-12.5,100"


def write_plate(root: Path, rows: list[str], files: list[str]) -> Path:
    folder = root / "experiment"
    (folder / "timepoint0").mkdir(parents=True)
    (folder / "timepoint1").mkdir()
    (root / "assay.mxprotocol").write_text("{}")
    (folder / "Screen 3.jdce").write_text(json.dumps(DESCRIPTION))
    (folder / "image_metadata_1.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    for file in files:
        (folder / f"timepoint{1 if '_t1_' in file else 0}" / file).touch()
    return root


def test_the_table_says_what_is_expected(tmp_path: Path) -> None:
    planes = [(f, w, t) for t in (0, 1) for f in (0, 1) for w in (0, 1)]
    rows = [row(name(f, w, t), f, w, t) for f, w, t in planes]
    files = [name(f, w, t) for f, w, t in planes if (f, w, t) != (1, 1, 0)]
    root = write_plate(tmp_path / "P", rows, files)
    plate = open_plate(root)
    assert all(open_plate(root / inner) == plate for inner in ("experiment", "experiment/timepoint1"))
    assert (plate.vendor, plate.name, plate.acquisition) == ("imagexpress", "Screen 3", "8f0e-11")
    assert "HCS.ai" in plate.reason
    assert [(c.token, c.name) for c in plate.channels] == [("w0", "DAPI"), ("w1", "Cy5")]
    assert (plate.timepoints, plate.pixel_size_um, plate.expected_from) == (2, 0.34, "metadata")
    assert [(w.name, [s.number for s in w.fields]) for w in plate] == [("C05", [0, 1])]
    assert [s.position_um for s in plate.wells[0].fields] == [(0.0, -12.5), (340.5, -12.5)]
    missing = [(s.number, p.channel, p.timepoint) for _, s, p in plate.missing_planes()]
    assert (missing, plate.warnings) == ([(1, "w1", 0)], ())


def test_what_the_table_promises_or_leaves_out_is_said(tmp_path: Path) -> None:
    rows = [row(name(f, w), f, w) for f in (0, 1) for w in (0, 1)]
    plate = open_plate(write_plate(tmp_path, rows, [name(0, 0), name(1, 0), name(2, 0), name(0, 0, z=7)]))
    assert plate.warnings == (
        "Channel Cy5 (w1): promised by image_metadata_1.csv, but no image of it is there.",
        "2 images are not named by image_metadata_1.csv and are not used: timepoint0/assay_t0_C05_s0_w0_z7.tif, "
        "timepoint0/assay_t0_C05_s2_w0_z0.tif.",
    )
    assert [(a.channel, a.name, a.planes) for a in plate.absent] == [("w1", "Cy5", 2)]
    assert [(e.well, e.field, e.channel, e.z, e.used) for e in plate.extra] == [
        ("C05", 0, "w0", 7, False),
        ("C05", 2, "w0", 0, False),
    ]


def test_projections_are_told_by_their_names(tmp_path: Path) -> None:
    file = name(0, 0, infix="_projection")
    plate = open_plate(write_plate(tmp_path, [row(file, 0, 0)], [file]))
    assert [p.projection for p in plate.wells[0].fields[0].planes] == [True]


def test_a_stack_beside_its_projections_asks_to_choose(tmp_path: Path) -> None:
    write_plate(tmp_path, [row(name(0, 0), 0, 0)], [name(0, 0)])
    write_plate(tmp_path / "x", [row(name(0, 0), 0, 0)], [name(0, 0)])
    (tmp_path / "x" / "experiment").rename(tmp_path / "experiment_z_stack")
    with pytest.raises(NotAPlateError, match="2 plates: experiment, experiment_z_stack"):
        open_plate(tmp_path)


def test_a_name_that_leaves_the_plate_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.tif").touch()
    root = write_plate(tmp_path / "P", [row(name(0, 0), 0, 0), row("../../../secret.tif", 1, 0)], [name(0, 0)])
    ((_, _, plane),) = open_plate(root).missing_planes()
    assert "outside the plate directory" in plane.error


@pytest.mark.parametrize(
    "bad", ["3,5,0,zero,0,0,9,9,timepoint0,a.tif,0,0,0", "3,5", "3,5,0,0,0,0,9,9,timepoint0,a.tif,left,0,0"]
)
def test_a_damaged_table_names_file_and_line(tmp_path: Path, bad: str) -> None:
    root = write_plate(
        tmp_path, [row(name(0, 0), 0, 0), bad.replace("a.tif", name(1, 0)).replace("3,5,0", "3,5,1")], []
    )
    with pytest.raises(NotAPlateError, match=r"image_metadata_1\.csv, line 3"):
        open_plate(root)


#: The first line of the table of a real acquisition (MetaXpress Acquire 2025.2).
REAL_COLUMNS = (
    "FovUuid,Well,Row,Column,Field,Wavelength,Timepoint,ZIndex,ImageStartXPx,ImageStartYPx,ImageSizeXPx,ImageSizeYPx,"
    "ImageSubFolderPath,ImageFileName,TimeStampSec,ExposureTimeMs,ExcitationEmissionFilter,MinIntensity,MaxIntensity,"
    "MeanIntensity,PositionXUm,PositionYUm,PositionZUm,FieldOffsetPointX,FieldOffsetPointY,TemperatureC,CO2,"
    "Annotations,Checksum,O2Level"
)


def test_a_plate_is_called_by_its_barcode_or_by_its_id_without_the_time(tmp_path: Path) -> None:
    root = write_plate(tmp_path, [row(name(0, 0), 0, 0)], [name(0, 0)])
    described = json.loads(json.dumps(DESCRIPTION))
    stack = described["ImageStack"]
    stack["Creation"] = {"Date": "2026-03-02", "Time": "13:57:52"}
    stack["PlateId"] = "1w1s1t1c1z 2026-03-02, 13:57:52"
    stack["AutoLeadAcquisitionProtocol"]["Plate"] = {"Rows": 16, "Columns": 24}
    (root / "experiment" / "Screen 3.jdce").write_text(json.dumps(described))
    plate = open_plate(root)
    assert (plate.name, plate.wells_in_format) == ("1w1s1t1c1z", 384)
    stack["SpecimenHolder"] = {"Barcode": "BC0042"}
    (root / "experiment" / "Screen 3.jdce").write_text(json.dumps(described))
    assert open_plate(root).name == "BC0042"


def test_a_simulated_plate_has_the_columns_of_a_real_one_and_its_axes(tmp_path: Path) -> None:
    made = simulate_plate(tmp_path, format="imagexpress-hcsai", wells=2, fields=4, size=64)
    lines = (made.directory / "experiment" / "image_metadata_1.csv").read_text().splitlines()
    assert lines[0] == REAL_COLUMNS
    first = dict(zip(REAL_COLUMNS.split(","), lines[1].split(","), strict=True))
    # Of the real well C05: offset (-372.67, 745.34) µm in row 2 of the sites, at (50027.34, 30045.34) on the plate.
    assert float(first["PositionXUm"]) == 14400 + 9000 + float(first["FieldOffsetPointX"])
    assert float(first["PositionYUm"]) == 11300 + 9000 + float(first["FieldOffsetPointY"])
    assert float(first["FieldOffsetPointY"]) < 0


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"ImageStack": []}', b"\xff\xfe"])
def test_a_damaged_description_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    root = write_plate(tmp_path, [row(name(0, 0), 0, 0)], [name(0, 0)])
    (root / "experiment" / "Screen 3.jdce").write_bytes(content)
    with pytest.raises(NotAPlateError, match=r"Screen 3\.jdce is not a description"):
        open_plate(root)
