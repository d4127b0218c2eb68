"""A whole run of a simulated plate: what it leaves on disk, that its parts agree, and what a second start does."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from pipeline_runs import FinishedRun, changed, copied, files_of, hidden_in, results_of

from hcs_nuclei import read_fields, read_nuclei, read_wells
from hcs_nuclei.columns import Measured, field_columns, nucleus_columns, well_columns
from hcs_nuclei.errors import RunConflictError
from hcs_nuclei.models.card import read_card
from hcs_nuclei.models.store import SHIPPED
from hcs_nuclei.outputs import read_level
from hcs_nuclei.outputs.provenance import run_schema
from hcs_nuclei.pipeline import process_plate
from hcs_nuclei.sources import open_plate, read_image

WELLS = ["B02", "B03", "C02", "C03"]
MEASURED = Measured(("DAPI", "FITC"), "DAPI")


def test_the_output_holds_the_run_and_nothing_else(finished: FinishedRun) -> None:
    assert [path.name for path in finished.out.iterdir()] == ["SIM-0001__1001"]
    assert sorted(path.name for path in finished.run.iterdir()) == sorted(
        [
            "nuclei",
            "plate.ome.zarr",
            "fields.parquet",
            "wells.parquet",
            "wells.csv",
            "calls.json",
            "report.html",
            "run.json",
        ]
    )
    assert sorted(path.name for path in (finished.run / "nuclei").iterdir()) == [f"{name}.parquet" for name in WELLS]
    assert hidden_in(finished.run) == []


def test_the_result_says_what_the_tables_say(finished: FinishedRun) -> None:
    result = finished.result
    assert (result.exit_status, result.made, result.kept) == (0, 4, 0)
    assert (result.wells_by_status, result.fields_by_status) == ({"ok": 4}, {"ok": 8})
    assert (result.faults, result.warnings) == ((), ())
    assert result.nuclei == len(read_nuclei(finished.run))
    assert {"prepare", "calibrate", "wells", "finish", "worker network", "worker write"} <= result.seconds.keys()


def test_progress_goes_through_the_stages_and_ends_with_every_well(finished: FinishedRun) -> None:
    stages = [progress.stage for progress in finished.progress]
    assert stages == ["prepare", "calibrate", *["wells"] * 4, "finish"]
    wells = [progress for progress in finished.progress if progress.stage == "wells"]
    assert [(progress.done, progress.total) for progress in wells] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sorted(progress.well for progress in wells) == WELLS
    assert wells[-1].nuclei == finished.result.nuclei


def test_labels_rows_and_counts_agree_in_every_field(finished: FinishedRun) -> None:
    nuclei, fields = read_nuclei(finished.run), read_fields(finished.run)
    assert len(fields) == 8
    for row in fields.itertuples():
        labels = read_level(finished.run / "plate.ome.zarr", row.Metadata_Well, row.Metadata_Field, labels=True)
        numbers = [number for number in np.unique(labels) if number]
        here = nuclei[(nuclei.Metadata_Well == row.Metadata_Well) & (nuclei.Metadata_Field == row.Metadata_Field)]
        assert here.Metadata_ObjectNumber.tolist() == numbers
        assert row.Metadata_Object_Count == len(numbers)
        assert here.Nuclei_AreaShape_Area.tolist() == np.bincount(labels.ravel())[numbers].tolist()


def test_the_nuclei_are_those_that_were_simulated(finished: FinishedRun) -> None:
    truth = pd.read_csv(finished.truth / "nuclei.csv")
    nuclei = read_nuclei(finished.run)
    assert len(truth) * 0.7 < len(nuclei) < len(truth) * 1.3
    hits = 0
    for row in nuclei.itertuples():
        centre = round(row.Metadata_Center_Y), round(row.Metadata_Center_X)
        labels = _truth_labels(finished.truth, row.Metadata_Well, row.Metadata_Field)
        hits += bool(labels[centre])
    assert hits > 0.8 * len(nuclei)


def test_the_store_holds_the_nuclear_channel_as_it_was_read(finished: FinishedRun) -> None:
    plate = open_plate(finished.plate)
    for well in plate:
        for site in well.fields:
            stored = read_level(finished.run / "plate.ome.zarr", well, site.number)[0]
            np.testing.assert_array_equal(stored, read_image(plate.root, site.planes_of("w1", 0)))


def test_the_store_is_valid(finished: FinishedRun) -> None:
    import zarr
    from ome_zarr_models.v05 import HCS

    plate = HCS.from_zarr(zarr.open_group(finished.run / "plate.ome.zarr", mode="r"))
    assert [well.path for well in plate.attributes.ome.plate.wells] == ["B/02", "B/03", "C/02", "C/03"]


def test_pandas_reads_the_folder_of_nuclei_alone(finished: FinishedRun) -> None:
    table = pd.read_parquet(finished.run / "nuclei")
    assert list(table.columns) == [column.name for column in nucleus_columns(MEASURED)]
    assert len(table) == finished.result.nuclei
    assert set(table.Metadata_Plate) == {"SIM-0001"}
    assert set(table.Metadata_Acquisition) == {"1001"}
    assert set(table.Metadata_Well) <= set(WELLS)
    assert all(isinstance(well, str) for well in table.Metadata_Well)
    known = table.filter(regex="^Metadata_|_AreaShape_|_MeanIntensity_(DAPI|FITC)$").filter(regex="^(?!Nuclei_Ring)")
    assert known.shape[1] > 30
    assert not known.isna().any().any()


def test_fields_and_wells_are_the_expected_ones(finished: FinishedRun) -> None:
    fields, wells = read_fields(finished.run), read_wells(finished.run)
    assert list(fields.columns) == [column.name for column in field_columns(MEASURED)]
    assert list(wells.columns) == [column.name for column in well_columns(MEASURED)]
    places = list(zip(fields.Metadata_Well, fields.Metadata_Field, strict=True))
    assert places == [(well, number) for well in WELLS for number in (1, 2)]
    assert wells.Metadata_Well.tolist() == WELLS
    assert set(fields.Metadata_PixelSize_um) == {0.65}
    assert set(fields.Metadata_Timepoint) == {0}
    per_well = fields.groupby("Metadata_Well").Metadata_Object_Count.sum()
    assert wells.Metadata_Object_Count.tolist() == per_well.loc[WELLS].tolist()
    assert wells.Metadata_Site_Count.tolist() == [2, 2, 2, 2]
    csv = pd.read_csv(finished.run / "wells.csv", keep_default_na=False, na_values=[""])
    assert list(csv.columns) == list(wells.columns)
    assert csv.Metadata_Object_Count.tolist() == wells.Metadata_Object_Count.tolist()


def test_run_json_is_as_its_schema_says_and_tells_what_was_used(finished: FinishedRun) -> None:
    record = json.loads((finished.run / "run.json").read_text(encoding="utf-8"))
    jsonschema.validate(record, run_schema())
    assert record["source"]["directory"] == str(finished.plate)
    assert record["model"]["sha256"] == read_card(SHIPPED).sha256
    assert record["calibration"]["diameter_from"] == "estimate"
    assert len(record["calibration"]["sample"]) == 8
    assert record["outcome"] == {
        "wells_by_status": {"ok": 4},
        "fields_by_status": {"ok": 8},
        "nuclei": finished.result.nuclei,
        "faults": [],
        "warnings": [],
    }
    assert record["finished"] >= record["started"]
    assert platform.node() not in json.dumps(record)


def test_the_plate_is_only_read(finished: FinishedRun) -> None:
    assert finished.source_after == finished.source_before


def test_a_read_only_plate_is_enough(finished: FinishedRun) -> None:
    if not finished.source_was_read_only:
        pytest.skip("neither permissions nor mounts can make a directory read-only here")
    assert finished.result.exit_status == 0


def test_a_second_start_touches_no_file_and_starts_no_cluster(
    finished: FinishedRun, tmp_path: Path, opened: list[str]
) -> None:
    out, _ = copied(finished, tmp_path)
    before = files_of(out)
    result = process_plate(finished.plate, out)
    assert changed(before, files_of(out)) == set()
    assert opened == []
    assert (result.exit_status, result.made, result.kept, result.nuclei) == (0, 0, 4, finished.result.nuclei)


def remove_table(run: Path) -> None:
    (run / "nuclei" / "B03.parquet").unlink()


def remove_group(run: Path) -> None:
    shutil.rmtree(run / "plate.ome.zarr" / "B" / "03")


def leave_half_a_well(run: Path) -> None:
    """What a killed run leaves of a well that it was at."""
    remove_table(run)
    group = run / "plate.ome.zarr" / "B" / "03"
    group.rename(group.with_name(".tmp-03-0123456789ab"))
    (run / "nuclei" / ".tmp-B03.parquet-0123456789ab").write_bytes(b"PAR1")


def truncate_table(run: Path) -> None:
    table = run / "nuclei" / "B03.parquet"
    table.write_bytes(table.read_bytes()[:-9])


@pytest.mark.parametrize("damage", [remove_table, remove_group, leave_half_a_well, truncate_table])
def test_a_well_that_is_not_whole_is_made_again_and_no_other(
    damage: Callable[[Path], None], finished: FinishedRun, tmp_path: Path, opened: list[str]
) -> None:
    out, run = copied(finished, tmp_path)
    before = files_of(run)
    damage(run)
    result = process_plate(finished.plate, out)
    assert (result.exit_status, result.made, result.kept) == (0, 1, 3)
    assert opened == ["local"]
    # When it was finished, and what is called of all nuclei, is told anew.
    touched = changed(before, files_of(run)) - {"run.json", "calls.json"}
    assert touched == {name for name in before if name.startswith(("nuclei/B03.", "plate.ome.zarr/B/03/"))}
    assert results_of(run) == results_of(finished.run)
    assert hidden_in(run) == []


@pytest.mark.parametrize("name", ["report.html", "wells.csv", "wells.parquet", "fields.parquet"])
def test_a_file_of_the_plate_that_is_lost_is_made_again_from_the_wells(
    name: str, finished: FinishedRun, tmp_path: Path, opened: list[str]
) -> None:
    out, run = copied(finished, tmp_path)
    before = files_of(run)
    (run / name).unlink()
    assert process_plate(finished.plate, out).made == 0
    assert opened == []
    assert changed(before, files_of(run)) == {name}
    assert (run / name).read_bytes() == (finished.run / name).read_bytes()


def test_tables_without_their_provenance_are_not_gone_on_with(
    finished: FinishedRun, tmp_path: Path, opened: list[str]
) -> None:
    out, run = copied(finished, tmp_path)
    (run / "run.json").unlink()
    before = files_of(out)
    with pytest.raises(RunConflictError, match=r"holds tables but no run\.json.*--overwrite"):
        process_plate(finished.plate, out)
    assert changed(before, files_of(out)) == set()


def _truth_labels(truth: Path, well: str, field: int) -> np.ndarray:
    import tifffile

    return tifffile.imread(truth / "labels" / f"{well}_f{field}.tif")
