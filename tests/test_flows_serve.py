"""The service as its users start it: real processes on loopback, a plate that is copied slowly, another, a cancel."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from waiting import copy_slowly, until

from hcs_nuclei.simulate import simulate_plate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
#: How long a machine that is busy with other things may take to get to something.
_PATIENCE_S = 600.0
#: Of the first plate: a minute's work at least, in which the second one is found, copied and queued.
_WELLS = 36
_ENDS = ("Completed", "Failed", "Crashed", "Cancelled")
_MAIN = "import sys; from hcs_nuclei.cli import main; sys.exit(main())"


class Served:
    """A running ``hcs-nuclei serve``, what its server and its ledger say."""

    def __init__(self, folder: Path) -> None:
        self.watched, self.out, self.state = (folder / name for name in ("watched", "runs", "service"))
        self.watched.mkdir(exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "HCS_NUCLEI_"))}
        command = f"serve --watch {self.watched} --out {self.out} --state {self.state} --port {self.port}"
        command += " --every 10 --quiet 6 --workers 1"
        self.process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, *command.split()],
            env={**kept, "HCS_NUCLEI_HOME": str(folder / "home")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.api = f"http://127.0.0.1:{self.port}/api"

    @property
    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    @property
    def dask_workers(self) -> list[psutil.Process]:
        """The processes that segment."""
        found = []
        for process in self.family:
            try:
                found += [process] if any("spawn_main" in word for word in process.cmdline()) else []
            except psutil.Error:
                continue
        return found

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The server's answer; asked again while its database is busy (503), as Prefect's own client and page do."""
        end = time.monotonic() + _PATIENCE_S
        while (answer := httpx.post(f"{self.api}/{path}", json=body, timeout=60)).status_code == 503:
            assert time.monotonic() < end
            time.sleep(2)
        return answer.raise_for_status().json()

    def runs(self) -> list[dict[str, Any]]:
        """The runs of plates, the oldest first."""
        asked = {"deployments": {"name": {"any_": ["plates"]}}, "sort": "START_TIME_ASC"}
        runs = self.post("flow_runs/filter", asked)
        return sorted(runs, key=lambda run: str(run["created"]))

    def runs_of(self, plate: Path) -> list[dict[str, Any]]:
        return [run for run in self.runs() if run["name"] == f"process-{plate.name}"]

    def run_of(self, plate: Path) -> dict[str, Any]:
        [run] = self.runs_of(plate)
        return run

    def ledger(self) -> dict[str, str]:
        entries = [json.loads(path.read_text()) for path in (self.state / "ledger").glob("[!.]*.json")]
        return {entry["plate"]: entry["state"] for entry in entries}

    def wells(self, plate: str) -> dict[str, tuple[int, int]]:
        """The finished wells of a plate, each with what a second writing would change."""
        paths = self.out.glob(f"{plate}*/nuclei/[!.]*.parquet")
        return {path.stem: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as made:
        yield made


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """A service in `folder`, with what of its own is there already; it ends with the block."""
    made = Served(folder)
    try:
        yield made
    finally:
        family = made.family if made.process.poll() is None else []
        made.process.kill()
        made.process.wait()
        psutil.wait_procs(family, timeout=30)
        for process in family:
            if process.is_running():
                process.kill()
        for pipe in (made.process.stdout, made.process.stderr):
            assert pipe is not None
            pipe.close()


def test_plates_are_processed_once_in_turn_cancelled_and_gone_on_with(
    served: Served, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = tmp_path_factory.mktemp("made")
    first, second = (
        simulate_plate(made, wells=wells, fields=4, size=384, name=name).directory
        for name, wells in (("First", _WELLS), ("Second", 1))
    )
    assert served.process.stdout is not None
    assert served.process.stdout.readline() == f"Prefect's web page:  http://127.0.0.1:{served.port}\n"
    metrics = served.process.stdout.readline().removeprefix("Metrics:").strip()

    # The pause is longer than the quiet time and a pass.
    copy_slowly(first, served.watched / first.name, lambda: _not_begun(served), 20)
    until(lambda: [run["state_type"] for run in served.runs()] == ["RUNNING"])
    shutil.copytree(second, served.watched / second.name)
    until(lambda: len(served.wells("First")) >= 2)
    until(lambda: len(served.runs()) == 2)
    assert served.run_of(first)["state_type"] == "RUNNING"
    until(lambda: served.run_of(second)["state_name"] == "AwaitingConcurrencySlot")
    assert served.wells("Second") == {}
    # Nothing is reachable from outside, and nothing goes out.
    connections = [c for process in served.family for c in process.net_connections("inet")]
    assert {c.laddr.ip for c in connections} == {"127.0.0.1"}
    assert {c.raddr.ip for c in connections if c.raddr} == {"127.0.0.1"}

    # A page from elsewhere that is open in a browser on this machine is not let in.
    for origin, may in ((f"http://127.0.0.1:{served.port}", True), ("http://elsewhere.example", False)):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answer = httpx.options(f"{served.api}/deployments/filter", headers=asked, timeout=60)
        assert (answer.headers.get("access-control-allow-origin") == origin) is may

    # As the web page cancels a run.
    workers = served.dask_workers
    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    run = served.run_of(first)
    served.post(f"flow_runs/{run['id']}/set_state", cancelling)
    _, alive = psutil.wait_procs(workers, timeout=15)
    assert alive == []
    until(lambda: served.run_of(first)["state_type"] == "CANCELLED")
    done = served.wells("First")
    assert 2 <= len(done) < _WELLS

    until(lambda: served.run_of(second)["state_type"] == "COMPLETED")
    # As a screen, the plates are runs of their own in turn with all others; what is there is not made again.
    screen = served.post("deployments/filter", {"deployments": {"name": {"any_": ["screen"]}}})[0]
    form = screen["parameters"]["parameters"]
    assert {name: form[name] for name in ("out", "cluster", "workers", "deployment")} == {
        "out": str(served.out),
        "cluster": "local",
        "workers": 1,
        "deployment": "process-plate/plates",
    }
    given = {**form, "plates": [str(served.watched / plate.name) for plate in (first, second)], "by": "mia"}
    asked = served.post(f"deployments/{screen['id']}/create_flow_run", {"parameters": {"parameters": given}})
    this = {"flow_runs": {"id": {"any_": [asked["id"]]}}}
    until(lambda: served.post("flow_runs/filter", this)[0]["state_name"] in _ENDS)
    [ended] = served.post("flow_runs/filter", this)
    assert (ended["state_name"], ended["state"]["message"]) == ("Completed", "2 Completed")
    [_, again] = served.runs_of(first)
    finished = served.wells("First")
    assert len(finished) == _WELLS
    assert {name: finished[name] for name in done} == done
    until(lambda: served.ledger() == {"First": "completed", "Second": "completed"})
    assert len(served.runs()) == 4
    _check_metrics(metrics, served)
    log = [json.loads(line) for line in (served.out.parent / "home" / "audit.jsonl").read_text().splitlines()]
    ends = [(entry["subject"].partition("__")[0], entry["new"]["state"]) for entry in log if entry["what"] == "run.end"]
    assert ends == [("First", "cancelled"), *[(name, "completed") for name in ("Second", "First", "Second")]]
    begun = [entry for entry in log if entry["what"] == "run.begin"]
    assert begun[-2]["new"]["flow_run"] == again["id"]
    assert [entry["who"].endswith(f"via {begun[0]['who']}") for entry in begun] == [False, False, True, True]

    family = served.family
    served.process.send_signal(signal.SIGINT)
    _, err = served.process.communicate(timeout=120)
    assert served.process.returncode == 130
    assert err == "hcs-nuclei: stopped. What is finished is kept; start the same command again to go on.\n"
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


def test_worker_or_server_that_is_killed_is_started_again_and_nothing_outlives_a_killed_service(served: Served) -> None:
    assert served.process.stdout is not None
    lines = iter(served.process.stdout.readline, "")
    assert any(line.startswith("Ctrl-C") for line in lines)
    [worker] = [p for p in served.family if "flows.service_worker" in p.cmdline()]
    worker.kill()
    assert next(lines) == "The worker ended (-9); it is started again.\n"
    until(lambda: any("flows.service_worker" in p.cmdline() for p in served.family if p.is_running()))

    until((served.state / "last-pass").exists)
    [server] = [p for p in served.family if "flows.embedded_server" in p.cmdline()]
    server.kill()
    assert next(lines) == "Prefect's server ended (-9); it is started again.\n"
    killed = time.time()
    until(lambda: (served.state / "last-pass").stat().st_mtime > killed)

    second = subprocess.run(
        [sys.executable, "-c", _MAIN, "serve", "--watch", served.watched, "--out", served.out, "--state", served.state],
        capture_output=True,
        text=True,
    )
    assert second.returncode == 2
    assert "A service runs in" in second.stderr
    family = served.family
    served.process.kill()
    served.process.wait()
    _, alive = psutil.wait_procs(family, timeout=90)
    assert alive == []


def _check_metrics(address: str, served: Served) -> None:
    """The service's one page counts what all of its runs did, those too that are gone."""
    page = httpx.get(address, timeout=60).raise_for_status()
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {
        (sample.name.removeprefix("hcs_nuclei_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
    }
    states = ("completed", "cancelled", "failed", "quarantined", "refused")
    assert [found["runs_total", state] for state in states] == [3, 1, 0, 0, 0]
    assert found["runs_started_total",] == 4
    assert {key[1]: number for key, number in found.items() if key[0] == "plates" and number} == {"completed": 2}
    # What was finished in the moment of the cancelling may have been counted by nobody.
    wells = len(served.wells("First")) + len(served.wells("Second"))
    assert wells - 2 <= found["wells_total",] <= wells
    assert found["fields_total", "ok"] == 4 * found["wells_total",]
    assert time.time() - 600 < found["last_look_timestamp_seconds",] < time.time()


def _not_begun(served: Served) -> None:
    assert not list(served.out.iterdir())
    assert set(served.ledger().values()) <= {"writing", "incomplete"}
