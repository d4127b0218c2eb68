"""A plate with two time points: the t axis of the store, numbers over time, a gap in time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from pipeline_runs import shared_cluster

from hcs_nuclei import open_plate, read_fields, read_nuclei, read_wells
from hcs_nuclei.outputs import read_level
from hcs_nuclei.pipeline import process_plate
from hcs_nuclei.pipeline.plan import RunResult
from hcs_nuclei.settings import load_settings
from hcs_nuclei.simulate import simulate_plate


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wells B02 and B03; at the second time point the images are transposed, and B03 has no DAPI image."""
    directory = simulate_plate(tmp_path_factory.mktemp("timelapse"), wells=2, fields=1, size=192).directory
    for description in directory.rglob("*.HTD"):
        text = description.read_text(encoding="latin-1")
        description.write_text(text.replace('"TimePoints", 1', '"TimePoints", 2'), encoding="latin-1")
    second = Path(shutil.copytree(directory / "TimePoint_1", directory / "TimePoint_2"))
    for image in second.glob("*.TIF"):
        tifffile.imwrite(image, np.ascontiguousarray(tifffile.imread(image).T))
    (second / "SIM-0001_B03_w1.TIF").unlink()
    return directory


@pytest.fixture(scope="module")
def result(plate: Path, worker: Any, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    diameter = load_settings(options={"segmentation": {"diameter_px": 22}}, environ={})
    with shared_cluster(worker):
        return process_plate(plate, tmp_path_factory.mktemp("out"), diameter)


def test_every_field_has_a_row_for_each_time_point(plate: Path, result: RunResult) -> None:
    assert open_plate(plate).timepoints == 2
    fields = read_fields(result.run_dir)
    rows = zip(fields.Metadata_Well, fields.Metadata_Timepoint, fields.status, strict=True)
    assert list(rows) == [("B02", 0, "ok"), ("B02", 1, "ok"), ("B03", 0, "ok"), ("B03", 1, "missing")]
    assert fields.Metadata_Object_Count.isna().tolist() == [False, False, False, True]
    wells = read_wells(result.run_dir)
    assert list(zip(wells.Metadata_Well, wells.Metadata_Timepoint, strict=True)) == [
        ("B02", 0),
        ("B02", 1),
        ("B03", 0),
        ("B03", 1),
    ]
    assert wells.status.tolist() == ["ok", "ok", "ok", "failed"]


def test_numbers_go_on_over_time_and_are_the_labels(result: RunResult) -> None:
    nuclei = read_nuclei(result.run_dir, wells=["B02"])
    labels = read_level(result.run_dir / "plate.ome.zarr", "B02", 1, labels=True)
    assert labels.shape == (2, 192, 192)
    assert nuclei.Metadata_ObjectNumber.tolist() == list(range(1, len(nuclei) + 1))
    for timepoint in (0, 1):
        here = nuclei[nuclei.Metadata_Timepoint == timepoint]
        assert len(here) > 0
        assert here.Metadata_ObjectNumber.tolist() == [n for n in np.unique(labels[timepoint]) if n]


def test_images_and_labels_have_a_time_axis(plate: Path, result: RunResult) -> None:
    import zarr

    group = zarr.open_group(result.run_dir / "plate.ome.zarr" / "B" / "02" / "1", mode="r")
    axes = [axis["name"] for axis in group.attrs["ome"]["multiscales"][0]["axes"]]
    label_axes = [axis["name"] for axis in group["labels/nuclei"].attrs["ome"]["multiscales"][0]["axes"]]
    assert (axes, label_axes) == (["t", "c", "y", "x"], ["t", "y", "x"])
    stored = read_level(result.run_dir / "plate.ome.zarr", "B02", 1)
    np.testing.assert_array_equal(stored[1], stored[0].T)


def test_a_gap_in_time_is_named_and_empty_in_the_store(result: RunResult) -> None:
    assert result.exit_status == 3
    assert result.faults == ("B03 field 1 time point 1: missing - DAPI plane is not there",)
    for labels in (True, False):
        pixels = read_level(result.run_dir / "plate.ome.zarr", "B03", 1, labels=labels)
        assert (pixels[0].any(), pixels[1].any()) == (True, False)


def test_a_second_start_of_a_timelapse_does_nothing(plate: Path, result: RunResult, opened: list[str]) -> None:
    diameter = load_settings(options={"segmentation": {"diameter_px": 22}}, environ={})
    again = process_plate(plate, result.run_dir.parent, diameter)
    assert (again.made, again.kept, opened) == (0, 2, [])
