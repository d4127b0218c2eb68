"""Saturation in a run: found where the plate's sample does not show it, in every channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import tifffile
from pipeline_runs import shared_cluster

from hcs_nuclei import read_fields, read_nuclei, read_wells
from hcs_nuclei.outputs import read_level
from hcs_nuclei.outputs.provenance import read_record
from hcs_nuclei.pipeline import process_plate
from hcs_nuclei.pipeline.calibrate import sample_fields
from hcs_nuclei.settings import Settings
from hcs_nuclei.simulate import simulate_plate
from hcs_nuclei.simulate.optics import CAMERA_MAX
from hcs_nuclei.sources import open_plate

Image = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Run:
    """A run, and its plate's images as they were written, by (well, field, channel)."""

    run: Path
    images: dict[tuple[str, int, str], Image]
    odd: dict[str, tuple[str, int]]


def brighter(image: Image) -> Image:
    """Exposed too long for the camera of 12 bits."""
    return np.minimum(100 + (image - 100.0) * 12, CAMERA_MAX).astype(np.uint16)


@pytest.fixture(scope="module")
def saturated(worker: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A plate of 18 fields, none of the 8 of its sample saturated; of the others one is, in DAPI, and one in FITC."""
    folder = tmp_path_factory.mktemp("saturated")
    plate = open_plate(simulate_plate(folder, wells=6, fields=3, size=192, seed=4).directory)
    tokens = {channel.name: channel.token for channel in plate.channels}
    sampled = {(well, site.number) for well, site in sample_fields(plate, tokens["DAPI"], "auto")}
    free = {
        (well.name, site.number): tifffile.imread(plate.root / site.planes_of(tokens["DAPI"], 0)[0].path).mean()
        for well in plate
        for site in well.fields
        if (well.name, site.number) not in sampled
    }
    # The brightest have the most nuclei.
    odd = dict(zip(("DAPI", "FITC", "lost"), sorted(free, key=lambda place: -free[place]), strict=False))
    images = {}
    for well in plate:
        for site in well.fields:
            for name, token in tokens.items():
                (plane,) = site.planes_of(token, 0)
                here = well.name, site.number
                if here == odd["lost"] and name == "FITC":
                    (plate.root / plane.path).unlink()
                    continue
                image = tifffile.imread(plate.root / plane.path)
                assert image.max() < CAMERA_MAX
                images[(*here, name)] = brighter(image) if odd[name] == here else image
                tifffile.imwrite(plate.root / plane.path, images[(*here, name)])
    settings = Settings.model_validate({"segmentation": {"diameter_px": 22}})
    with shared_cluster(worker):
        return Run(process_plate(plate.root, folder / "out", settings).run_dir, images, odd)


def row_of(table: pd.DataFrame, place: tuple[str, int]) -> pd.DataFrame:
    return table[(table.Metadata_Well == place[0]) & (table.Metadata_Field == place[1])]


def test_a_saturated_field_outside_of_the_sample_is_found(saturated: Run) -> None:
    record = read_record(saturated.run)
    assert record is not None
    assert record.calibration.saturation is None
    place = saturated.odd["DAPI"]
    row = row_of(read_fields(saturated.run), place).iloc[0]
    share = np.mean(saturated.images[(*place, "DAPI")] == CAMERA_MAX)
    assert row.Metadata_QC_SaturatedFraction == row.Metadata_QC_SaturatedFraction_DAPI == share > 0.01
    assert row.Metadata_QC_Saturated
    wells = read_wells(saturated.run).set_index("Metadata_Well").Metadata_QC_Saturated_Fields
    assert wells.to_dict() == {well: int(well == place[0]) for well in wells.index}


def test_every_channel_has_its_share_and_no_other_field_is_called_saturated(saturated: Run) -> None:
    fields = read_fields(saturated.run)
    for name in ("DAPI", "FITC"):
        column = f"Metadata_QC_SaturatedFraction_{name}"
        rest = fields.drop(row_of(fields, saturated.odd[name]).index)
        assert set(rest[column].dropna()) == {0.0}
    place = saturated.odd["FITC"]
    row = row_of(fields, place).iloc[0]
    share = np.mean(saturated.images[(*place, "FITC")] == CAMERA_MAX)
    assert row.Metadata_QC_SaturatedFraction_FITC == share > 0.001
    assert (row.Metadata_QC_SaturatedFraction, row.Metadata_QC_Saturated) == (0, False)  # of the nuclear channel


@pytest.mark.parametrize("name", ["DAPI", "FITC"])
def test_nuclei_with_a_pixel_at_the_limit_are_flagged(saturated: Run, name: str) -> None:
    nuclei, place = read_nuclei(saturated.run), saturated.odd[name]
    labels = read_level(saturated.run / "plate.ome.zarr", *place, labels=True)[0]
    at_limit = set(np.unique(labels[saturated.images[(*place, name)] == CAMERA_MAX])) - {0}
    here = row_of(nuclei, place)
    flags = here[f"Metadata_QC_Saturated_{name}"].astype(bool)
    assert set(here.Metadata_ObjectNumber[flags]) == at_limit != set()
    elsewhere = nuclei.drop(here.index)[f"Metadata_QC_Saturated_{name}"].dropna()
    assert not elsewhere.astype(bool).any()
    assert nuclei.Metadata_QC_Saturated.tolist() == nuclei.Metadata_QC_Saturated_DAPI.tolist()


def test_a_channel_that_a_field_lacks_is_not_judged(saturated: Run) -> None:
    place = saturated.odd["lost"]
    assert row_of(read_fields(saturated.run), place).Metadata_QC_SaturatedFraction_FITC.isna().all()
    nuclei = row_of(read_nuclei(saturated.run), place)
    assert len(nuclei)
    assert nuclei.Metadata_QC_Saturated_FITC.isna().all()
    assert nuclei.Metadata_QC_Saturated_DAPI.notna().all()
