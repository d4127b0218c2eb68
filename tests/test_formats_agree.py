"""One and the same simulated plate in every format, processed: the same label images, and the same nuclei."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import tifffile
from PIL import Image

from hcs_nuclei import read_fields, read_nuclei
from hcs_nuclei.outputs import read_level
from hcs_nuclei.pipeline import process_plate
from hcs_nuclei.settings import Settings
from hcs_nuclei.simulate import PLATE_LAYOUTS, simulate_plate

REFERENCE = "imagexpress"
#: A directory that no reader is made for, and images that are no TIFFs.
BY_PATTERN, AS_PNG = "imagexpress by a pattern", "cellvoyager as PNG"
FORMATS = [name for name in (*PLATE_LAYOUTS, BY_PATTERN, AS_PNG) if name != REFERENCE]
PATTERN = r"_(?P<well>[A-Z]\d\d)_s(?P<field>\d)_(?P<channel>w\d)\.TIF$"
#: What says neither that a channel shows DAPI nor that another shows FITC: token of each.
NAMELESS = {"cellomics": ("d0", "d1"), "cq1": ("C01", "C02"), BY_PATTERN: ("w1", "w2")}
WITHOUT_PIXEL_SIZE = {"cellomics", BY_PATTERN}
IN_WELL = ["Metadata_Position_Well_X_um", "Metadata_Position_Well_Y_um"]
WITHOUT_POSITIONS = {"cellomics", "scanr", "ome-tiff", BY_PATTERN}


@dataclass(frozen=True)
class Run:
    """What was made of the plate in one format; fields count from 0 whatever the format does."""

    labels: dict[tuple[str, int], npt.NDArray[np.uint32]]
    nuclei: pd.DataFrame
    fields: pd.DataFrame


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory, worker: object) -> Callable[[str], Run]:
    """The run of the same 2 wells with 2 fields in the format asked for, made with the shipped model."""
    from pipeline_runs import shared_cluster

    folder = tmp_path_factory.mktemp("agree")

    @cache
    def make(name: str) -> Run:
        vendor = {BY_PATTERN: "imagexpress", AS_PNG: "cellvoyager"}.get(name, name)
        plate = simulate_plate(folder / "plates" / name, format=vendor, wells=2, fields=2, size=256, seed=5).directory
        if name == AS_PNG:
            _as_png(plate)
        elif name == BY_PATTERN:
            for described in plate.rglob("*.HTD"):
                described.unlink()
        # The vendors' own profiles differ, and change intensities: each is tested by itself.
        settings = Settings(
            channel=NAMELESS.get(name, (None,))[0],
            pattern=PATTERN if name == BY_PATTERN else None,
            plate_name="SIM-0001",
            layout="none",
            illumination={"method": "off"},
        )
        with shared_cluster(worker):
            result = process_plate(plate, folder / "runs" / name, settings)
        assert (result.exit_status, result.faults) == (0, ())
        return _read(result.run_dir, NAMELESS.get(name, ("DAPI", "FITC")))

    return make


def _as_png(plate: Path) -> None:
    for path in plate.rglob("*_T0001F*.tif"):
        Image.fromarray(tifffile.imread(path)).save(path.with_suffix(".png"))
        path.unlink()


def _read(run: Path, channels: tuple[str, ...]) -> Run:
    fields, nuclei = read_fields(run), read_nuclei(run)
    labels = {}
    first = fields.Metadata_Field.min()
    for row in fields.itertuples():
        where = row.Metadata_Well, row.Metadata_Field
        labels[row.Metadata_Well, row.Metadata_Field - first] = read_level(run / "plate.ome.zarr", *where, labels=True)
    fields, nuclei = (
        table.assign(Metadata_Field=table.Metadata_Field - first).drop(columns="Metadata_Acquisition")
        for table in (fields, nuclei)
    )
    ends = dict(zip(channels, ("DAPI", "FITC"), strict=True))
    parts = {name: name.rpartition("_") for name in (*nuclei, *fields)}
    renamed = {name: f"{start}_{ends[end]}" for name, (start, _, end) in parts.items() if end in ends}
    return Run(labels, nuclei.rename(columns=renamed), fields.rename(columns=renamed))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_nuclei(name: str, run_of: Callable[[str], Run]) -> None:
    reference, run = run_of(REFERENCE), run_of(name)
    assert reference.labels.keys() == run.labels.keys()
    assert len(reference.labels) == 4
    for where, labels in reference.labels.items():
        assert labels.dtype == np.uint32
        np.testing.assert_array_equal(run.labels[where], labels, err_msg=f"{name} {where}")
    assert len(reference.nuclei) > 10, "fields without nuclei would show nothing"
    same = [column for column in reference.nuclei if not _follows_metadata(column, name)]
    pd.testing.assert_frame_equal(run.nuclei[same], reference.nuclei[same], check_exact=True, obj=f"nuclei of {name}")
    assert set(run.nuclei) == set(reference.nuclei)
    assert any(column.endswith("_FITC") for column in same)
    for column in IN_WELL:
        if name in {*WITHOUT_POSITIONS, *WITHOUT_PIXEL_SIZE}:
            assert run.nuclei[column].isna().all()
        else:  # as exact as the vendors write positions
            np.testing.assert_allclose(run.nuclei[column], reference.nuclei[column], atol=0.06)


def _follows_metadata(column: str, name: str) -> bool:
    """Whether values of `column` hang on what a format says of the stage, or on the size of its pixels.

    Without that size, what is around a nucleus is looked for as far as its diameter supposes.
    """
    around = column.startswith(("Nuclei_Ring_", "Nuclei_Neighbors_"))
    return column in IN_WELL or (around and name in WITHOUT_PIXEL_SIZE)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_fields(name: str, run_of: Callable[[str], Run]) -> None:
    reference, run = run_of(REFERENCE).fields, run_of(name).fields
    if name in WITHOUT_PIXEL_SIZE:
        assert run.Metadata_PixelSize_um.isna().all()
    else:
        np.testing.assert_allclose(run.Metadata_PixelSize_um, reference.Metadata_PixelSize_um, rtol=1e-9)
    axes = ["Metadata_Position_X", "Metadata_Position_Y"]
    if name in WITHOUT_POSITIONS:
        assert run[axes].isna().all(axis=None)
    else:  # IN Cell says where a field lies on the plate, others where it lies in its well
        np.testing.assert_allclose(_from_first(run, axes), _from_first(reference, axes), atol=0.06)
        assert np.ptp(_from_first(run, axes)) > 100
    same = [column for column in reference if column not in {*axes, "Metadata_PixelSize_um"}]
    pd.testing.assert_frame_equal(run[same], reference[same], check_exact=True, obj=f"fields of {name}")


def _from_first(fields: pd.DataFrame, axes: list[str]) -> npt.NDArray[np.float64]:
    """Positions from that of the first field of the well."""
    return np.asarray(fields[axes] - fields.groupby("Metadata_Well")[axes].transform("first"), dtype=np.float64)
