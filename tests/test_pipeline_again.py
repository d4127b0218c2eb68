"""Runs that are made again or gone on with: what was there before is kept, put back, or left alone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from pipeline_runs import FinishedRun, changed, copied, files_of, results_of

from hcs_nuclei import read_nuclei, read_wells
from hcs_nuclei.errors import OutputError, RunConflictError
from hcs_nuclei.pipeline import begin_run, prepare_plate, process_plate
from hcs_nuclei.settings import Settings, load_settings

#: Given, so that no run has to look for it.
DIAMETER = load_settings(options={"segmentation": {"diameter_px": 22}}, environ={})


def test_overwriting_keeps_the_former_tables(finished: FinishedRun, tmp_path: Path, opened: list[str]) -> None:
    out, run = copied(finished, tmp_path)
    before = results_of(run)
    result = process_plate(finished.plate, out, DIAMETER, overwrite=True)
    assert (result.made, result.kept, result.exit_status) == (4, 0, 0)
    former = results_of(run / ".previous")
    assert former == {name: digest for name, digest in before.items() if not name.startswith("plate.ome.zarr")}
    assert (run / ".previous" / "report.html").read_bytes() == (finished.run / "report.html").read_bytes()
    assert (run / ".previous" / "run.json").read_bytes() == (finished.run / "run.json").read_bytes()
    assert json.loads((run / "run.json").read_text())["settings"]["segmentation"]["diameter_px"] == 22
    assert [path.name for path in out.iterdir()] == [run.name]
    assert process_plate(finished.plate, out, DIAMETER).made == 0


def test_an_overwriting_that_was_interrupted_keeps_the_former_tables_however_often(
    finished: FinishedRun, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, run = copied(finished, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("hcs_nuclei.pipeline.run.process_wells", _interrupted)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                process_plate(finished.plate, out, DIAMETER, overwrite=True)
            assert json.loads((run / "run.json").read_text())["finished"] is None
            assert (run / ".previous" / "run.json").read_bytes() == (finished.run / "run.json").read_bytes()
            assert len(list((run / ".previous" / "nuclei").iterdir())) == 4
    assert process_plate(finished.plate, out, DIAMETER, overwrite=True).made == 4
    assert (run / ".previous" / "run.json").read_bytes() == (finished.run / "run.json").read_bytes()
    assert process_plate(finished.plate, out, Settings(), overwrite=True).made == 4
    assert json.loads((run / ".previous" / "run.json").read_text())["settings"]["segmentation"]["diameter_px"] == 22


def test_former_tables_that_were_half_put_aside_are_kept_by_the_next_start(
    finished: FinishedRun, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, run = copied(finished, tmp_path)
    rename, left = os.rename, [2]

    def twice(source: Path, target: Path) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("hcs_nuclei.pipeline.prepare.os.rename", twice)
        with pytest.raises(KeyboardInterrupt):
            process_plate(finished.plate, out, DIAMETER, overwrite=True)
    process_plate(finished.plate, out, DIAMETER, overwrite=True)
    former = {path.name for path in (run / ".previous").iterdir()}
    assert {"nuclei", "fields.parquet", "wells.csv", "report.html", "run.json"} <= former
    assert [path.name for path in run.glob(".previous*")] == [".previous"]


def test_results_that_were_half_put_aside_are_put_back_for_a_start_that_goes_on_with_them(
    finished: FinishedRun, tmp_path: Path, opened: list[str]
) -> None:
    out, run = copied(finished, tmp_path)
    (run / ".previous").mkdir()
    (run / ".previous" / "run.json").write_text("{}")
    (run / ".previous-gathered").mkdir()
    for name in ("nuclei", "fields.parquet"):
        (run / name).rename(run / ".previous-gathered" / name)
    (run / "plate.ome.zarr" / "B" / "03").rename(run / "gone")
    shutil.rmtree(run / "gone")
    assert process_plate(finished.plate, out).exit_status == 0
    assert results_of(run) == results_of(finished.run)
    assert [path.name for path in (run / ".previous").iterdir()] == ["run.json"]
    assert not (run / ".previous-gathered").exists()


def test_a_run_that_another_finished_while_it_waited_for_workers_is_left_alone(
    finished: FinishedRun, tmp_path: Path, worker: Any
) -> None:
    plan, card = prepare_plate(finished.plate, tmp_path, DIAMETER)
    run = Path(shutil.copytree(finished.run, tmp_path / finished.run.name))
    before = files_of(run)
    with pytest.raises(RunConflictError, match=r"has written into .* since this one was planned"):
        begin_run(worker, plan, card)
    assert changed(before, files_of(run)) == set()


def test_nuclei_of_a_run_that_goes_on_are_read_without_what_was_called_of_them(
    finished: FinishedRun, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, run = copied(finished, tmp_path)
    (run / "nuclei" / "B03.parquet").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("hcs_nuclei.pipeline.run.process_wells", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            process_plate(finished.plate, out)
    nuclei = read_nuclei(run)
    assert set(nuclei.Metadata_Well) == {"B02", "C02", "C03"}
    assert "Metadata_Counted" not in nuclei
    with pytest.raises(OutputError, match="wells are made again there"):
        read_wells(run)
    process_plate(finished.plate, out)
    assert read_nuclei(run).equals(read_nuclei(finished.run))


def _interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
