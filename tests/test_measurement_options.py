"""Groups of features from the recipe to the table: asked for, measured in every channel, no other run's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

from hcs_nuclei.columns import Measured, nucleus_columns
from hcs_nuclei.errors import RunConflictError
from hcs_nuclei.measurement import measure_nuclei
from hcs_nuclei.measurement.options import full_scale_of
from hcs_nuclei.pipeline import process_plate
from hcs_nuclei.settings import FeatureGroup, MeasurementSettings, Settings
from hcs_nuclei.simulate import simulate_plate

GROUPS = frozenset(get_args(FeatureGroup))


@pytest.mark.usefixtures("opened")
def test_what_the_recipe_asks_for_is_in_the_table_and_in_the_runs_identity(tmp_path: Path) -> None:
    plate = simulate_plate(tmp_path / "plates", wells=1, fields=1, size=192).directory
    settings = Settings(measurement=MeasurementSettings(features=tuple(GROUPS), texture_full_scale=4095))
    run = process_plate(plate, tmp_path / "out", settings).run_dir
    file = next((run / "nuclei").glob("*.parquet"))
    table = pq.read_table(file)
    channels = tuple(
        name.removeprefix("Nuclei_Granularity_1_") for name in table.column_names if "Granularity_1_" in name
    )
    nuclear = next(name for name in channels if name.upper() in ("DAPI", "HOECHST"))
    assert table.column_names == [c.name for c in nucleus_columns(Measured(channels, nuclear, GROUPS))]
    place = run / "plate.ome.zarr" / file.stem[0] / file.stem[1:]
    field: Any = next(zarr.open_group(place, mode="r").groups())[1]
    labels, image = (np.asarray(field[name]).squeeze() for name in ("labels/nuclei/0", "0"))
    measured = measure_nuclei(
        labels, {nuclear: image}, nuclear=nuclear, saturation=None, groups=GROUPS, full_scale=4095
    )
    assert len(measured["Metadata_ObjectNumber"]) > 3
    features = [n for n in measured if n.startswith("Nuclei_") and not n.startswith(("Nuclei_Ring", "Nuclei_Neigh"))]
    assert len(features) > 190
    for name in features:
        np.testing.assert_array_equal(table[name].to_numpy(), measured[name], err_msg=name)
    other = settings.model_copy(update={"measurement": MeasurementSettings(features=tuple(GROUPS))})
    with pytest.raises(RunConflictError, match="settings differ"):
        process_plate(plate, tmp_path / "out", other)


@pytest.mark.parametrize(("dtype", "expected"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 65535)])
def test_the_full_scale_is_that_of_the_images_type(dtype: type, expected: float) -> None:
    assert full_scale_of(np.zeros((2, 2), dtype)) == expected


def test_corrected_images_have_the_full_scale_of_the_cameras() -> None:
    labels = np.zeros((20, 20), np.uint32)
    labels[4:16, 4:16] = 1
    raw = np.random.default_rng(0).integers(100, 255, labels.shape).astype(np.uint8)
    corrected = raw.astype(np.float32)
    once, twice = (
        measure_nuclei(labels, {"DAPI": image}, nuclear="DAPI", saturation=None, groups={"texture"}, raw={"DAPI": raw})
        for image in (raw, corrected)
    )
    names = [name for name in once if "Texture" in name]
    assert {name: once[name].item() for name in names} == {name: twice[name].item() for name in names}
