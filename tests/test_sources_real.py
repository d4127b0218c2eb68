"""Every real sample opens as its instrument wrote it; skipped where the samples are absent."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.sources import first_shape, inspection, open_plate, read_image, render_inspection

CV = "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack"


@dataclass(frozen=True)
class Sample:
    folders: tuple[str, ...]  # every one of them names the same plate
    vendor: str
    name: str
    acquisition: str
    wells: str
    fields: tuple[int, ...]
    channels: str
    planes: int
    pixel_size_um: float | None
    shape: tuple[int, int]
    wells_in_format: int
    expected_from: str
    timepoints: int = 1
    warned: tuple[str, ...] = ()


SAMPLES = {
    "exported, incomplete": Sample(
        folders=(
            "imagexpress-exported/9987_Plate_3434",
            "imagexpress-exported/9987_Plate_3434/TimePoint_1",
            "imagexpress-exported/9987_Plate_3434/TimePoint_1/ZStep_2",
        ),
        vendor="imagexpress",
        name="9987",
        acquisition="3434",
        wells="B02 B03",
        fields=(1, 2),
        channels="w1=DAPI w2=FITC w3=Texas Red",
        planes=36,
        pixel_size_um=1.3672,
        shape=(256, 256),
        wells_in_format=96,
        expected_from="metadata",
        warned=("Channel Cy5 (w4)", "Z plane 3 of DAPI, FITC, Texas Red"),
    ),
    "exported, one image": Sample(
        folders=("imagexpress-exported/9987_Plate_3420", "imagexpress-exported/9987_Plate_3420/TimePoint_1"),
        vendor="imagexpress",
        name="9987",
        acquisition="3420",
        wells="B02",
        fields=(1,),
        channels="=DAPI",
        planes=1,
        pixel_size_um=1.3672,
        shape=(256, 256),
        wells_in_format=96,
        expected_from="metadata",
    ),
    "raw, time points": Sample(
        folders=(
            "imagexpress/1well-3C-2S-Zmix-T",
            "imagexpress/1well-3C-2S-Zmix-T/2024-04-22",
            "imagexpress/1well-3C-2S-Zmix-T/2024-04-22/1697",
            "imagexpress/1well-3C-2S-Zmix-T/2024-04-22/1697/TimePoint_2",
        ),
        vendor="imagexpress",
        name="1well-3C-2S-Zmix-T",
        acquisition="1697",
        wells="C07",
        fields=(1, 2),
        channels="w1=FITC w2=Cy3 w3=Texas Red",
        planes=12,
        pixel_size_um=13.5504,
        shape=(256, 256),
        wells_in_format=96,
        expected_from="regularity",
        timepoints=2,
    ),
    "raw, thumbnails and projection": Sample(
        folders=("imagexpress/SingleChannel", "imagexpress/SingleChannel/2023-02-21/1334/ZStep_1"),
        vendor="imagexpress",
        name="Projection-Mix",
        acquisition="1334",
        wells="E07 E08",
        fields=(1, 2),
        channels="=FITC_05",
        planes=12,
        pixel_size_um=1.3668,
        shape=(512, 512),
        wells_in_format=96,
        expected_from="regularity",
    ),
    "CellVoyager": Sample(
        folders=("cellvoyager", f"cellvoyager/{CV}_20230918_135839", f"cellvoyager/{CV}_20230918_135839/{CV}"),
        vendor="cellvoyager",
        name=CV,
        acquisition="20230918_135839",
        wells="D08 E03 F08",
        fields=(1, 2, 3, 4),
        channels="C01=C01 C02=C02",
        planes=96,
        pixel_size_um=0.325,
        shape=(2000, 2000),
        wells_in_format=96,
        expected_from="metadata",
    ),
    "Operetta": Sample(
        folders=("operetta", "operetta/operetta_plate", "operetta/operetta_plate/Images"),
        vendor="operetta",
        name="Test_Sample_BALL",
        acquisition="6f2adb32-6c4b-4583-b792-9aefb0aa3cf0",
        wells="C03",
        fields=(1, 2),
        channels="ch1=Fluorescein (FITC)",
        planes=2,
        pixel_size_um=1.1959521619135234,
        shape=(1080, 1080),
        wells_in_format=384,
        expected_from="metadata",
    ),
    "Cellomics": Sample(
        folders=("cellomics",),
        vendor="cellomics",
        name="AS_09125_050116030001",
        acquisition="",
        wells="D03",
        fields=(0,),
        channels="d0=d0 d1=d1 d2=d2",
        planes=3,
        pixel_size_um=None,
        shape=(512, 512),
        wells_in_format=96,
        expected_from="regularity",
    ),
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_a_real_sample_is_described_as_it_is(sample: Sample, shared_data: Path) -> None:
    plates = [open_plate(shared_data / "plates" / folder) for folder in sample.folders]
    plate = plates[0]
    assert all(other == plate for other in plates)
    assert (plate.vendor, plate.name, plate.acquisition) == (sample.vendor, sample.name, sample.acquisition)
    assert " ".join(well.name for well in plate) == sample.wells
    assert {tuple(site.number for site in well.fields) for well in plate} == {sample.fields}
    assert " ".join(f"{c.token}={c.name}" for c in plate.channels) == sample.channels
    assert plate.timepoints == sample.timepoints
    assert plate.pixel_size_um == pytest.approx(sample.pixel_size_um)
    assert (plate.wells_in_format, plate.expected_from) == (sample.wells_in_format, sample.expected_from)
    assert len(plate.warnings) == len(sample.warned)
    assert all(part in warning for part, warning in zip(sample.warned, plate.warnings, strict=True))
    seen = inspection(plate)
    assert (seen["expected_planes"], seen["found_planes"], seen["missing"]) == (sample.planes, sample.planes, [])
    assert json.loads(json.dumps(seen)) == seen
    assert sample.name in render_inspection(seen)
    for well in plate:
        for site in well.fields:
            planes = site.planes_of(plate.channels[0].token, 0)
            assert first_shape(plate.root, planes)[0] == sample.shape


def test_the_projection_is_the_instruments_and_not_a_slice(shared_data: Path) -> None:
    plate = open_plate(shared_data / "plates" / "imagexpress-exported" / "9987_Plate_3434")
    site = plate.well("B03").fields[1]
    assert [p.path for p in site.planes_of("w1", 0)] == ["TimePoint_1/ZStep_0/9987_B03_s2_w1.TIF"]
    assert [p.z for p in site.planes_of("w1", 0, "max")] == [1, 2]
    raw = open_plate(shared_data / "plates" / "imagexpress" / "SingleChannel")
    projection = raw.well("E08").fields[1].planes_of("", 0)
    assert [p.path for p in projection] == ["Projection-Mix_E08_s2B38C01F5-0D36-4A29-9F5A-BE62B6F7F73F.tif"]


def test_pixels_of_every_compression_are_read(shared_data: Path) -> None:
    for folder, dtype in [("operetta", np.uint16), ("cellomics", np.uint8), ("imagexpress/SingleChannel", np.uint16)]:
        plate = open_plate(shared_data / "plates" / folder)
        planes = plate.wells[0].fields[0].planes_of(plate.channels[0].token, 0)
        image = read_image(plate.root, planes)
        assert first_shape(plate.root, planes) == (image.shape, np.dtype(dtype))
        assert image.max() > image.min()


def test_the_maximum_of_slices_is_the_instruments_projection_or_more(shared_data: Path) -> None:
    plate = open_plate(shared_data / "plates" / "imagexpress-exported" / "9987_Plate_3434")
    site = plate.well("B02").fields[0]
    slices = [read_image(plate.root, [plane]) for plane in site.planes_of("w1", 0, "max")]
    np.testing.assert_array_equal(
        read_image(plate.root, site.planes_of("w1", 0, "max")), np.maximum(slices[0], slices[1])
    )


def test_all_pixels_of_the_cellvoyager_sample_are_zero(shared_data: Path) -> None:
    plate = open_plate(shared_data / "plates" / "cellvoyager")
    planes = plate.well("E03").fields[2].planes_of("C02", 0)
    assert [p.z for p in planes] == [1, 2, 3, 4]
    assert not read_image(plate.root, planes[:1]).any()


def test_a_directory_of_two_plates_asks_to_choose(shared_data: Path) -> None:
    with pytest.raises(NotAPlateError, match=r"2 plates: 9987_Plate_3420, 9987_Plate_3434\. Name one"):
        open_plate(shared_data / "plates" / "imagexpress-exported")


def test_positions_are_micrometres_with_y_down(shared_data: Path) -> None:
    first, second = open_plate(shared_data / "plates" / "operetta").wells[0].fields
    assert first.position_um == pytest.approx((-645.814, -645.814))
    assert second.position_um == pytest.approx((645.814, -645.814))
    cellvoyager = open_plate(shared_data / "plates" / "cellvoyager")
    assert cellvoyager.well("D08").fields[0].position_um == pytest.approx((-567.1, -402.9))


def test_opening_changes_nothing_below_the_plate(shared_data: Path) -> None:
    folder = shared_data / "plates"
    before = {(path, os.stat(path).st_mtime_ns) for path in folder.rglob("*")}
    for sample in SAMPLES.values():
        open_plate(folder / sample.folders[0])
    assert {(path, os.stat(path).st_mtime_ns) for path in folder.rglob("*")} == before
