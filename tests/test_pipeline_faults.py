"""Plates with faults and runs that are disturbed: what one fault costs, what is said of it, and how it is mended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from pipeline_runs import (
    FinishedRun,
    changed,
    files_of,
    hidden_in,
    mounted,
    other_model,
    results_of,
    shared_cluster,
)

from hcs_nuclei import read_fields, read_nuclei, read_wells
from hcs_nuclei.cli import main
from hcs_nuclei.columns import NUCLEUS_CALLS
from hcs_nuclei.errors import ModelError, RunConflictError, RunFailedError
from hcs_nuclei.outputs import level_count, read_level
from hcs_nuclei.pipeline import Progress, begin_run, end_run, prepare_plate, process_plate, process_wells
from hcs_nuclei.pipeline.plan import RunResult
from hcs_nuclei.settings import Settings, load_settings
from hcs_nuclei.simulate import simulate_plate

#: Given, so that no run has to look for it.
DIAMETER = load_settings(options={"segmentation": {"diameter_px": 22}}, environ={})


def plane(plate: Path, well: str, field: int, channel: int = 1) -> Path:
    return plate / "TimePoint_1" / f"SIM-0001_{well}_s{field}_w{channel}.TIF"


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def write_text(path: Path) -> None:
    path.write_text("the image was moved to the archive\n")


def blank(path: Path) -> None:
    tifffile.imwrite(path, np.full((192, 192), 7, np.uint16))


@dataclass(frozen=True)
class Fault:
    """What is done to a plane of field 2 (`both`: and of field 1) of a well, and what the field's row then says."""

    damage: Callable[[Path], None]
    status: str
    error: str
    channel: int = 1
    both: bool = False


FAULTS = {
    "B02": Fault(delete, "missing", "DAPI plane is not there"),
    "B03": Fault(truncate, "unreadable", "SIM-0001_B03_s2_w1.TIF is truncated"),
    "B04": Fault(empty, "unreadable", "SIM-0001_B04_s2_w1.TIF is empty (0 bytes)"),
    "B05": Fault(write_text, "unreadable", "SIM-0001_B05_s2_w1.TIF cannot be read as an image"),
    "C02": Fault(delete, "incomplete", "FITC plane is not there", channel=2),
    "C03": Fault(delete, "missing", "DAPI plane is not there", both=True),
    "C04": Fault(blank, "ok", "", both=True),
}
UNTOUCHED = "C05"
MEASURED = {"ok", "incomplete"}


@dataclass(frozen=True)
class FaultyRun:
    """A plate with a fault of each kind, the images as they were before, and what was made from it."""

    plate: Path
    whole: Path
    out: Path
    run: Path
    result: RunResult


@pytest.fixture(scope="module")
def faulty(worker: Any, tmp_path_factory: pytest.TempPathFactory) -> FaultyRun:
    folder = tmp_path_factory.mktemp("faulty")
    plate = simulate_plate(folder, wells=8, fields=2, size=192).directory
    whole = Path(shutil.copytree(plate, folder / "whole" / plate.name))
    for well, fault in FAULTS.items():
        for field in (1, 2) if fault.both else (2,):
            fault.damage(plane(plate, well, field, fault.channel))
    with shared_cluster(worker):
        result = process_plate(plate, folder / "out", DIAMETER)
    return FaultyRun(plate, whole, folder / "out", result.run_dir, result)


def row_of(run: Path, well: str, field: int) -> Any:
    fields = read_fields(run)
    (row,) = fields[(fields.Metadata_Well == well) & (fields.Metadata_Field == field)].itertuples()
    return row


@pytest.mark.parametrize("well", FAULTS)
def test_a_fault_costs_its_field_and_is_named(well: str, faulty: FaultyRun) -> None:
    fault = FAULTS[well]
    row = row_of(faulty.run, well, 2)
    assert row.status == fault.status
    assert fault.error in row.error
    assert bool(row.error) == (fault.status != "ok")
    nuclei = read_nuclei(faulty.run)
    here = nuclei[(nuclei.Metadata_Well == well) & (nuclei.Metadata_Field == 2)]
    if fault.status in MEASURED:
        assert row.Metadata_Object_Count == len(here)
        assert level_count(faulty.run / "plate.ome.zarr", well, 2) >= 1
    else:
        assert np.isnan(row.Metadata_Object_Count)
        assert len(here) == 0
        with pytest.raises(FileNotFoundError):
            level_count(faulty.run / "plate.ome.zarr", well, 2)


@pytest.mark.parametrize("well", [well for well, fault in FAULTS.items() if not fault.both] + [UNTOUCHED])
def test_the_other_field_of_the_well_is_measured(well: str, faulty: FaultyRun) -> None:
    row = row_of(faulty.run, well, 1)
    labels = read_level(faulty.run / "plate.ome.zarr", well, 1, labels=True)
    assert (row.status, row.error, row.Metadata_Object_Count) == ("ok", "", labels.max())


def test_a_missing_channel_leaves_its_columns_empty_and_no_others(faulty: FaultyRun) -> None:
    # So small a plate gives no reference to call nuclei by.
    nuclei = read_nuclei(faulty.run, wells=["C02"]).drop(columns=[column.name for column in NUCLEUS_CALLS])
    second = nuclei[nuclei.Metadata_Field == 2]
    assert len(second) > 0
    empty_columns = {name for name in second if second[name].isna().all()}
    assert empty_columns == {name for name in second if name.endswith("_FITC")}
    assert not nuclei[nuclei.Metadata_Field == 1].isna().any().any()


def test_none_measured_is_null_and_none_found_is_zero(faulty: FaultyRun) -> None:
    wells = read_wells(faulty.run).set_index("Metadata_Well")
    assert wells.loc["C03", "status"] == "failed"
    assert np.isnan(wells.loc["C03", "Metadata_Object_Count"])
    assert wells.loc["C03", "Metadata_Site_Count"] == 0
    assert wells.loc["C04", "status"] == "ok"
    assert wells.loc["C04", "Metadata_Object_Count"] == 0
    assert wells.loc["C04", "Metadata_QC_Blank_Fields"] == 2
    assert wells.loc["B02", "status"] == "incomplete"
    assert wells.loc["B02", "Metadata_Site_Count"] == 1
    assert wells.loc[UNTOUCHED, "error"] == ""


def test_the_result_counts_the_faults_and_is_not_a_success(faulty: FaultyRun) -> None:
    result = faulty.result
    assert result.exit_status == 3
    assert result.fields_by_status == {"incomplete": 1, "missing": 3, "ok": 9, "unreadable": 3}
    assert result.wells_by_status == {"failed": 1, "incomplete": 5, "ok": 2}
    assert len(result.faults) == 7
    assert result.faults[0] == "B02 field 2: missing - DAPI plane is not there"


def test_the_command_names_each_fault_and_exits_3(
    faulty: FaultyRun, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = faulty.out.parent / "recipe.yaml"
    recipe.write_text(DIAMETER.to_yaml())
    arguments = ["process", str(faulty.plate), "--out", str(faulty.out), "--assay", str(recipe), "--no-prefect"]
    before = files_of(faulty.out)
    assert main(arguments) == 3
    assert changed(before, files_of(faulty.out)) == set()
    assert opened == []
    out, err = capsys.readouterr()
    assert out == f"{faulty.run}\n"
    for well, fault in FAULTS.items():
        for field in (1, 2) if fault.both else (2,):
            lines = [line for line in err.splitlines() if line.strip().startswith(f"{well} field {field}: ")]
            assert len(lines) == (fault.status != "ok"), (well, field, err)
            assert all(fault.error in line for line in lines)
    assert "8 of them from before" in err


def test_mended_files_are_done_again_on_request_and_wells_without_faults_stay(
    faulty: FaultyRun, tmp_path: Path, opened: list[str]
) -> None:
    out = Path(shutil.copytree(faulty.out, tmp_path / "out"))
    plate = Path(shutil.copytree(faulty.plate, tmp_path / faulty.plate.name))
    mended = [well for well, fault in FAULTS.items() if fault.status != "ok" and well != "B05"]
    for well in mended:
        for field in (1, 2):
            for channel in (1, 2):
                shutil.copy2(plane(faulty.whole, well, field, channel), plane(plate, well, field, channel))
    before = files_of(out)
    with pytest.raises(RunConflictError, match=r"B02, B03, B04, C02, C03\).*--retry-failed"):
        process_plate(plate, out, DIAMETER)
    assert changed(before, files_of(out)) == set()
    assert opened == []

    result = process_plate(plate, out, DIAMETER, retry_failed=True)
    assert (result.made, result.kept, result.exit_status) == (6, 2, 3)
    assert result.fields_by_status == {"ok": 15, "unreadable": 1}
    (left,) = result.faults
    assert left.startswith("B05 field 2: unreadable")
    names = {name.split("/", 1)[1] for name in changed(before, files_of(out))}
    assert not [name for name in names if "C04" in name or "C05" in name or "C/04" in name or "C/05" in name]
    assert process_plate(plate, out, DIAMETER).made == 0


def test_a_plate_without_one_readable_image_is_finished_all_the_same(tmp_path: Path, opened: list[str]) -> None:
    plate = simulate_plate(tmp_path, wells=2, fields=1, size=64, channels=("DAPI",)).directory
    for image in plate.rglob("*.TIF"):
        write_text(image)
    result = process_plate(plate, tmp_path / "out")
    assert (result.exit_status, result.nuclei) == (3, 0)
    assert result.wells_by_status == {"failed": 2}
    assert read_wells(result.run_dir).Metadata_Object_Count.isna().all()
    assert len(read_nuclei(result.run_dir)) == 0
    record = json.loads((result.run_dir / "run.json").read_text(encoding="utf-8"))
    calibration = record["calibration"]
    assert [calibration[k] for k in ("diameter_px", "diameter_from", "saturation", "sample")] == [
        None,
        "none",
        None,
        [],
    ]
    assert [channel["gain"] for channel in calibration["illumination"]["channels"]] == [[]]


def test_a_model_that_changes_while_a_run_is_under_way_stops_it(
    finished: FinishedRun, worker: Any, tmp_path: Path
) -> None:
    model = other_model(tmp_path / "model")
    weights = model / "weights.safetensors"
    whole = weights.read_bytes()
    settings = DIAMETER.model_copy(update={"model": str(model)})
    plan, card = prepare_plate(finished.plate, tmp_path / "out", settings)
    plan = begin_run(worker, plan, card)
    weights.write_bytes(whole[:-1] + b"?")
    with pytest.raises(RunFailedError, match="do not match their card"):
        process_wells(worker, plan)
    weights.write_bytes(whole)
    plan, _ = prepare_plate(finished.plate, tmp_path / "out", settings)
    assert end_run(plan, process_wells(worker, plan)).exit_status == 0


def test_a_model_that_changes_before_anything_is_written_is_refused(
    finished: FinishedRun, worker: Any, tmp_path: Path
) -> None:
    # One that no worker has loaded before: what is loaded is known by its hash.
    model = other_model(tmp_path / "model", by=0.002)
    plan, card = prepare_plate(finished.plate, tmp_path / "out", Settings(model=str(model)))
    card_file = model / "card.json"
    card_file.write_text(card_file.read_text().replace(card.weights.sha256, "0" * 64))
    with pytest.raises(ModelError, match="do not match their card"):
        begin_run(worker, plan, card)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_stops_the_run_and_a_second_start_finishes_it(
    finished: FinishedRun, worker: Any, tmp_path: Path, opened: list[str]
) -> None:
    needed = sum(-(-path.stat().st_size // 4096) * 4096 for path in finished.run.rglob("*") if path.is_file())
    out = tmp_path / "out"
    out.mkdir()
    with mounted("-t", "tmpfs", "-o", f"size={needed // 2}", "tmpfs", at=out) as small:
        if not small:
            pytest.skip("only root can mount a small file system")
        with pytest.raises(RunFailedError, match=r"No space left on device.*Free space.*finished wells are kept"):
            process_plate(finished.plate, out)
        run = out / finished.run.name
        done = [path.name for path in (run / "nuclei").glob("[!.]*")]
        assert 0 < len(done) < 4, "the file system was to be full in the middle"
        subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
        result = process_plate(finished.plate, out)
        assert (result.exit_status, result.kept, result.made) == (0, len(done), 4 - len(done))
        assert results_of(run) == results_of(finished.run)
        assert hidden_in(run) == []


def worker_processes(client: Any) -> list[psutil.Process]:
    return [psutil.Process(pid) for pid in client.run(os.getpid).values()]


def test_a_worker_that_is_killed_costs_nothing_but_time(faulty: FaultyRun, worker: Any, tmp_path: Path) -> None:
    told: list[Progress] = []

    def kill_once(progress: Progress) -> None:
        if progress.stage == "wells" and not any(before.stage == "wells" for before in told):
            for process in worker_processes(worker):
                process.kill()
        told.append(progress)

    with shared_cluster(worker):
        result = process_plate(faulty.plate, tmp_path / "out", DIAMETER, on_progress=kill_once)
    assert results_of(result.run_dir) == results_of(faulty.run)
    assert hidden_in(result.run_dir) == []
    assert (result.made, result.nuclei, result.faults) == (8, faulty.result.nuclei, faulty.result.faults)
    wells = [progress for progress in told if progress.stage == "wells"]
    assert max(progress.done for progress in wells) == wells[-1].done == wells[-1].total == 8
    assert wells[-1].nuclei == result.nuclei


@pytest.mark.slow
def test_a_well_that_kills_its_worker_each_time_is_given_up_alone(
    finished: FinishedRun, worker: Any, tmp_path: Path
) -> None:
    """As an image that crashes a decoder would: whoever begins with well B03 is killed, three times."""
    row = tmp_path / "out" / finished.run.name / "plate.ome.zarr" / "B"
    begun: set[str] = set()
    enough = threading.Event()

    def kill_whoever_begins() -> None:
        while len(begun) < 3 and not enough.wait(0.005):
            new = {path.name for path in row.glob(".tmp-03-*")} - begun
            begun.update(new)
            for process in psutil.Process().children(recursive=True) if new else ():
                with contextlib.suppress(psutil.NoSuchProcess):  # it ends while we look
                    if any("spawn_main" in word for word in process.cmdline()):
                        process.kill()

    killer = threading.Thread(target=kill_whoever_begins)
    killer.start()
    try:
        with shared_cluster(worker):
            result = process_plate(finished.plate, tmp_path / "out")
    finally:
        enough.set()
        killer.join()
    assert len(begun) == 3
    assert (result.exit_status, result.wells_by_status) == (3, {"failed": 1, "ok": 3})
    assert [fault.split(":")[0] for fault in result.faults] == ["B03 field 1", "B03 field 2"]
    assert all("its worker process died each time" in fault for fault in result.faults)
    assert hidden_in(result.run_dir) == []
    others = {name: digest for name, digest in results_of(finished.run).items() if name.startswith("nuclei/")}
    del others["nuclei/B03.parquet"]
    assert others.items() <= results_of(result.run_dir).items()

    with shared_cluster(worker):
        again = process_plate(finished.plate, tmp_path / "out", retry_failed=True)
    assert (again.exit_status, again.made) == (0, 1)
    assert results_of(again.run_dir) == results_of(finished.run)
