"""Flows on a real Prefect server and a real Dask cluster: what they end in, show, log and leave behind."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from flow_server import server

from hcs_nuclei.errors import ChannelError, SettingsError
from hcs_nuclei.outputs import read_nuclei
from hcs_nuclei.pipeline import Progress, RunResult
from hcs_nuclei.simulate import simulate_plate

__all__ = ["server"]
#: A server that starts and workers that import TensorFlow: seconds on an idle machine, minutes on a busy one.
pytestmark = pytest.mark.timeout(900)
WELLS = ["B02", "B03", "C02", "C03"]


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four wells of one field, two channels."""
    return simulate_plate(tmp_path_factory.mktemp("plates"), wells=4, size=256, seed=3, name="SIM-4").directory


def run_flow(plate: Path | str, out: Path, **settings: Any) -> tuple[RunResult, list[Progress]]:
    """The flow's result, and what the listener in this process was told."""
    from flows.parameters import ProcessPlateParameters
    from flows.process_plate import run_process_plate

    told: list[Progress] = []
    parameters = ProcessPlateParameters(plate=str(plate), out=str(out), workers=1, settings=settings)
    return run_process_plate(parameters, on_progress=told.append), told


class Seen:
    """The flow run that was begun last, as the server has it: its state, artifacts, logs and task runs."""

    def __init__(self) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter, LogFilter
        from prefect.client.schemas.sorting import FlowRunSort
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogHandler

        # Both are sent in the background.
        APILogHandler().flush()
        EventsWorker.drain_all()
        with get_client(sync_client=True) as client:
            self.run = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)[0]
            only = {"flow_run_id": {"any_": [self.run.id]}}
            artifacts = client.read_artifacts(artifact_filter=ArtifactFilter.model_validate(only))
            self.artifacts = {a.key: json.loads(a.data) if a.type == "table" else a.data for a in artifacts}
            self.logs = [(log.level, log.message) for log in client.read_logs(LogFilter.model_validate(only))]
            this = FlowRunFilter.model_validate({"id": {"any_": [self.run.id]}})
            self.tasks = {task.name: task.state_name for task in client.read_task_runs(flow_run_filter=this)}

    @property
    def ending(self) -> tuple[str, str]:
        return self.run.state.type.value, self.run.state.name


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_whole_plate_is_completed_and_shown(plate: Path, tmp_path: Path) -> None:
    result, told = run_flow(plate, tmp_path)
    seen = Seen()

    assert result.exit_status == 0
    assert result.nuclei == len(read_nuclei(result.run_dir)) > 0
    assert [p.stage for p in told] == ["prepare", "calibrate", *["wells"] * 4, "finish"]
    assert sorted(p.well for p in told if p.well) == WELLS

    assert seen.run.name == "process-SIM-4_Plate_1001"
    assert seen.ending == ("COMPLETED", "Completed")
    assert f"{result.nuclei:,} nuclei" in seen.run.state.message
    assert seen.tasks == dict.fromkeys(["Prepare", "Calibrate", "Process wells", "Finish"], "Completed")
    assert seen.run.parameters["parameters"]["settings"]["segmentation"]["minimum_area_px"] == 20

    assert set(seen.artifacts) == {f"sim-4-{what}" for what in ("progress", "dask", "summary", "wells", "provenance")}
    assert "](http://127.0.0.1:" in seen.artifacts["sim-4-dask"]
    assert seen.artifacts["sim-4-summary"].count("](data:image/svg+xml;base64,") == 1
    assert str(result.run_dir / "run.json") in seen.artifacts["sim-4-provenance"]
    assert seen.artifacts["sim-4-progress"] == 100
    assert [row["Well"] for row in seen.artifacts["sim-4-wells"]] == WELLS
    assert sum(row["Nuclei"] for row in seen.artifacts["sim-4-wells"]) == result.nuclei
    assert (result.run_dir / "report.html").as_uri() in seen.artifacts["sim-4-summary"]
    assert [text for level, text in seen.logs if level >= logging.WARNING] == []
    assert any("4 of 4 wells, last" in text for _, text in seen.logs)

    # Started again there is nothing to do, so no cluster is opened; the run is completed all the same.
    again, told = run_flow(plate, tmp_path)
    assert (again.made, again.kept, again.nuclei) == (0, 4, result.nuclei)
    assert [p.stage for p in told] == ["prepare", "finish"]
    seen = Seen()
    assert seen.ending == ("COMPLETED", "Completed")
    assert seen.tasks == dict.fromkeys(["Prepare", "Finish"], "Completed")

    # In a screen a plate that fails stops none that comes after it.
    from flows.parameters import ProcessScreenParameters
    from flows.process_screen import process_screen

    screen = {"plates": [str(tmp_path / "none"), str(plate)], "out": str(tmp_path), "workers": 1}
    state = process_screen(ProcessScreenParameters.model_validate(screen), return_state=True)
    assert (state.type.value, state.name) == ("FAILED", "Failed")
    assert state.message.startswith(f"1 Failed, 1 Completed. {tmp_path}/none: There is no directory")
    from flows.result_display import result_line

    one = process_screen(ProcessScreenParameters.model_validate({**screen, "plates": [str(plate)] * 2}))
    assert one == {str(plate): f"Completed: {result_line(again)}"}


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_missing_image_ends_in_completed_with_quarantined_wells_that_are_named(plate: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(plate, tmp_path / "damaged"))
    [image] = damaged.rglob("*_B03_w1*.[tT][iI][fF]")
    image.unlink()
    result, _ = run_flow(damaged, tmp_path / "out")
    seen = Seen()

    assert result.exit_status == 3
    assert seen.ending == ("COMPLETED", "CompletedWithQuarantinedWells")
    assert "; 1 field with a fault in B03" in seen.run.state.message
    assert {row["Well"]: row["Nuclei"] for row in seen.artifacts["sim-4-wells"]}["B03"] is None
    [fault] = seen.artifacts["sim-4-faults"]
    assert (fault["Well"], fault["Field"], fault["Status"]) == ("B03", 1, "missing")
    assert fault["Reason"]
    warnings = [text for level, text in seen.logs if level == logging.WARNING]
    assert "Well B03: 1 field with a fault" in warnings
    assert any(text.startswith("B03 field 1: missing - ") for text in warnings)


@pytest.mark.usefixtures("server")
def test_refused_call_ends_in_failed_with_the_reason_in_one_line(plate: Path, tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match=r"no channel 'Cy5'; found DAPI \(w1\), FITC \(w2\)") as refused:
        run_flow(plate, tmp_path / "out", channel="Cy5")
    seen = Seen()
    assert seen.ending == ("FAILED", "Failed")
    assert seen.run.state.message == str(refused.value)
    assert seen.tasks == {"Prepare": "Failed"}
    assert [text for level, text in seen.logs if level >= logging.WARNING] == [f"Finished in state {seen.run.state}"]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("server")
def test_place_outside_the_allowed_roots_is_refused(
    plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HCS_NUCLEI_ALLOWED_ROOTS", str(tmp_path / "runs"))
    with pytest.raises(SettingsError, match="outside the allowed roots") as refused:
        run_flow(plate, tmp_path / "runs")
    seen = Seen()
    assert seen.ending == ("FAILED", "Failed")
    assert seen.run.state.message == str(refused.value)
    assert seen.tasks == {}
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_plate_at_a_url_is_processed_below_an_allowed_one_and_refused_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("moto", reason="needs moto, an S3 server for tests: pip install 'hcs-nuclei[dev]'")
    from remote_samples import s3_endpoint, upload

    made = simulate_plate(tmp_path / "made", wells=1, size=128, seed=3, name="SIM-1").directory
    out = tmp_path / "runs"
    monkeypatch.setenv("HCS_NUCLEI_ALLOWED_ROOTS", f"s3://screens/plates:{out}")
    with s3_endpoint(monkeypatch) as endpoint:
        upload(endpoint, made, "screens", "plates/SIM-1/")
        with pytest.raises(SettingsError, match=r"outside the allowed roots .*s3://screens/plates"):
            run_flow("s3://screens/private/SIM-1", out)
        assert Seen().ending == ("FAILED", "Failed")
        result, _ = run_flow("s3://screens/plates/SIM-1", out)
    assert (result.exit_status, result.made) == (0, 1)
    assert Seen().ending == ("COMPLETED", "Completed")


@pytest.mark.slow
def test_ctrl_c_cancels_the_run_and_leaves_no_process(server: str, plate: Path, tmp_path: Path) -> None:
    started = _start(_RUN, plate, tmp_path, PREFECT_API_URL=server)
    assert started.stdout is not None
    assert started.stdout.readline() == "prepare\n"
    family = psutil.Process(started.pid)
    _until(lambda: len(family.children(recursive=True)) >= 2)  # a resource tracker and a nanny's worker
    processes = family.children(recursive=True)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=120)
    assert (out.splitlines()[-1], err) == ("KeyboardInterrupt", "")
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []
    assert Seen().ending == ("CANCELLED", "Cancelled")


@pytest.mark.slow
def test_embedded_server_answers_nobody_else_and_goes_with_its_process(plate: Path, tmp_path: Path) -> None:
    """A refused call: the quickest run there is. A second one, killed outright, must not leave a server either."""
    home = tmp_path / "home"
    ended = _start(_RUN, plate, tmp_path / "out", HCS_NUCLEI_HOME=str(home), CHANNEL="Cy5")
    out, err = ended.communicate(timeout=300)
    assert (out, err) == ("ChannelError\n", "")
    assert (home / "prefect" / "prefect.db").is_file()

    killed = _start(_HOLD, HCS_NUCLEI_HOME=str(home))
    assert killed.stdout is not None
    url = killed.stdout.readline().strip()
    [embedded] = psutil.Process(killed.pid).children()
    try:
        assert _status(f"{url}/health") == 200
        assert _status(f"{url}/admin/version") == 401
        others = [c.laddr.ip for c in embedded.net_connections() if c.status == psutil.CONN_LISTEN]
        assert others == ["127.0.0.1"]
    finally:
        killed.kill()
        killed.communicate()
    psutil.wait_procs([embedded], timeout=30)
    assert not embedded.is_running()


def test_an_address_where_no_server_answers_is_said_at_once(plate: Path, tmp_path: Path) -> None:
    environ = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "HCS_NUCLEI_HOME": str(tmp_path / "home")}
    out, err = _start(_RUN, plate, tmp_path / "out", **environ).communicate(timeout=300)
    assert (out, err) == ("ClusterError\n", "")


@pytest.mark.usefixtures("server")
def test_long_run_logs_few_lines_and_every_well_with_a_fault() -> None:
    from prefect import flow

    from flows.display import ProgressDisplay

    @flow
    def long_run() -> None:
        show = ProgressDisplay(lambda _: None)
        for done in range(1, 385):
            show(Progress("wells", "P 12/b", done, 384, done * 100, f"W{done}", faults=(done > 7) + 2 * (done > 300)))

    long_run()
    seen = Seen()
    progress = [text for _, text in seen.logs if text.startswith("Plate P 12/b:")]
    assert 2 <= len(progress) <= 4
    assert progress[-1] == "Plate P 12/b: 384 of 384 wells, last W384; 38,400 nuclei; 3 fields with a fault"
    assert [text for level, text in seen.logs if level == logging.WARNING] == [
        "Well W8: 1 field with a fault",
        "Well W301: 2 fields with a fault",
    ]
    assert list(seen.artifacts) == ["p-12-b-progress"]


@pytest.mark.usefixtures("server")
def test_artifact_that_cannot_be_made_costs_nothing_but_itself() -> None:
    from prefect import flow

    from flows.result_display import show_result

    @flow
    def without_files() -> None:
        show_result(RunResult(Path("/nowhere"), "P1", 1, 0, 5, {"ok": 1}, {"ok": 1}))

    without_files()
    seen = Seen()
    assert seen.ending == ("COMPLETED", "Completed")
    assert set(seen.artifacts) == {"p1-summary"}
    assert any(text.startswith("An artifact could not be shown: /nowhere") for _, text in seen.logs)


@pytest.mark.usefixtures("server")
def test_form_in_the_ui_has_titles_descriptions_and_choices() -> None:
    from prefect.client.orchestration import get_client

    from flows.process_plate import process_plate

    deployment = UUID(str(process_plate.to_deployment("form").apply()))
    with get_client(sync_client=True) as client:
        schema = client.read_deployment(deployment).parameter_openapi_schema
    forms = schema["definitions"]
    assert forms["ProcessPlateParameters"]["required"] == ["plate", "out"]
    for form in forms.values():
        for name, entry in form["properties"].items():
            assert entry.get("title") or "$ref" in entry, name
            assert entry.get("description") or "$ref" in entry, name
    assert forms["Settings"]["properties"]["z"]["anyOf"][0]["enum"] == ["auto", "max"]
    assert forms["SegmentationSettings"]["properties"]["diameter_px"]["title"] == "Nucleus diameter (px)"


@pytest.mark.parametrize(
    ("set_before", "made_before", "home"),
    [
        pytest.param({}, "", "data/prefect", id="nothing set: beside the models"),
        pytest.param({"PREFECT_HOME": "mine"}, "", "mine", id="PREFECT_HOME is kept"),
        pytest.param({}, "user/.prefect/profiles.toml", None, id="a profile of the user's is kept"),
        pytest.param({}, "data", "tmp/", id="no place to write to: a directory for the while"),
    ],
)
def test_defaults_leave_what_the_user_set(
    set_before: dict[str, str], made_before: str, home: str | None, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    if made_before:
        (tmp_path / made_before).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / made_before).touch()
    script = "import flows, os, json; print(json.dumps(dict(os.environ)))"
    environ = {
        "HOME": f"{tmp_path}/user",
        "HCS_NUCLEI_HOME": f"{tmp_path}/data",
        "TMPDIR": f"{tmp_path}/tmp",
        "DO_NOT_TRACK": "0",
        **set_before,
    }
    run = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    assert found["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert found["DO_NOT_TRACK"] == "0"
    place = found.get("PREFECT_HOME", "").removeprefix(f"{tmp_path}/")
    assert place.startswith(home) if home else place == ""


_RUN = """
import os, sys
if __name__ == "__main__":
    from flows.parameters import ProcessPlateParameters
    from flows.process_plate import run_process_plate
    from hcs_nuclei.errors import UserError
    plate, out = sys.argv[1:]
    settings = {"channel": os.environ.get("CHANNEL")}
    parameters = ProcessPlateParameters(plate=plate, out=out, workers=1, settings=settings)
    try:
        run_process_plate(parameters, on_progress=lambda told: print(told.stage, flush=True))
    except (UserError, KeyboardInterrupt) as error:
        print(type(error).__name__)
"""
_HOLD = """
import time
from flows.server import prefect_server
with prefect_server() as url:
    print(url, flush=True)
    time.sleep(600)
"""


def _start(script: str, *arguments: Path, **environ: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**kept, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _status(url: str) -> int:
    import httpx

    return httpx.get(url, timeout=30).status_code


def _until(condition: Any, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
