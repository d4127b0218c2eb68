"""The service on somebody's Prefect server, which goes away for a minute while a plate is processed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import waiting

from hcs_nuclei.simulate import simulate_plate

pytestmark = pytest.mark.timeout(2400)
_PATIENCE_S = 900.0
#: Long enough that Prefect's own client gives up (five tries within a minute).
_AWAY_S = 75.0
#: By looking every ten seconds, and on a busy machine.
_CANCELLED_S = 240.0
_MAIN = "import sys; from hcs_nuclei.cli import main; sys.exit(main())"
until = partial(waiting.until, seconds=_PATIENCE_S)


@contextmanager
def started(command: list[str], log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process, ended at the end with all that it started."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "HCS_NUCLEI_"))}
    with log.open("ab") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, env={**kept, **environ})
    try:
        yield process
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _, alive = psutil.wait_procs(family, timeout=60)
        for each in alive:
            each.kill()


class Server:
    """A Prefect server that can be killed and started again on the same port and database."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self._folder = folder
        self._stack = ExitStack()

    def start(self) -> None:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        environ = {
            "PREFECT_HOME": str(self._folder / "server"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        }
        self.process = self._stack.enter_context(started(command, self._folder / "server.log", **environ))
        until(self.answers)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=30).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for each in family:
            each.kill()
        self._stack.close()

    def runs(self) -> dict[str, dict[str, Any]]:
        """The last run of each plate, by its name."""
        found = self._post("flow_runs/filter", {"deployments": {"name": {"any_": ["plates"]}}})
        return {run["name"]: run for run in sorted(found, key=lambda run: str(run["created"]))}

    def cancel(self, name: str) -> None:
        """As the web page does."""
        cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        self._post(f"flow_runs/{self.runs()[name]['id']}/set_state", cancelling)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer, asked for again while the database is busy (503), as Prefect's own client and page do."""
        end = time.monotonic() + _PATIENCE_S
        while (answer := httpx.post(f"{self.url}/{path}", json=body, timeout=120)).status_code == 503:
            assert time.monotonic() < end
            time.sleep(2)
        return answer.raise_for_status().json()

    def close(self) -> None:
        self._stack.close()


def wells(out: Path, plate: str) -> dict[str, tuple[int, int]]:
    """The finished wells of a plate, each with what a second writing would change."""
    paths = out.glob(f"{plate}*/nuclei/[!.]*.parquet")
    return {path.stem: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def ledger(state: Path) -> dict[str, str]:
    entries = [json.loads(path.read_text()) for path in (state / "ledger").glob("[!.]*.json")]
    return {entry["plate"]: entry["state"] for entry in entries}


def test_loop_outlasts_a_server_that_is_away_and_no_other_error() -> None:
    from flows.outages import patient_loop

    refused = httpx.Request("POST", "http://127.0.0.1/api")
    busy, wrong = (
        httpx.HTTPStatusError(str(status), request=refused, response=httpx.Response(status, request=refused))
        for status in (503, 422)
    )
    ends: list[Exception | None] = [httpx.ConnectError("away"), httpx.ReadTimeout("away"), busy, busy, None, wrong]
    left = list(ends)

    async def look() -> None:
        if (error := left.pop(0)) is not None:
            raise error

    with pytest.raises(httpx.HTTPStatusError, match="422"):
        asyncio.run(patient_loop(look, 0.01, jitter_range=0.3))
    assert left == []


def test_loops_of_the_runner_are_those_that_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect._internal import observers
    from prefect.runner import _scheduled_run_poller
    from prefect.utilities import services

    from flows.outages import outlast_outages

    for module in (observers, _scheduled_run_poller):
        assert module.critical_service_loop is services.critical_service_loop
        monkeypatch.setattr(module, "critical_service_loop", services.critical_service_loop)  # put back at the end
    outlast_outages()
    for module in (observers, _scheduled_run_poller):
        assert module.critical_service_loop is not services.critical_service_loop


@pytest.mark.endurance
def test_plate_goes_on_while_the_server_is_away_and_the_next_one_can_be_cancelled(tmp_path: Path) -> None:
    watched, out, state = (tmp_path / name for name in ("watched", "runs", "service"))
    watched.mkdir()
    first = simulate_plate(tmp_path / "made", wells=18, fields=4, size=384, name="First").directory
    second = simulate_plate(tmp_path / "made", wells=24, fields=4, size=384, name="Second").directory
    shutil.copytree(first, watched / "First")
    server = Server(tmp_path)
    server.start()
    command = f"serve --watch {watched} --out {out} --state {state} --every 10 --quiet 2 --workers 1"
    log = tmp_path / "serve.log"
    environ = {"PREFECT_API_URL": server.url, "PREFECT_HOME": str(tmp_path / "client")}
    environ |= {"HCS_NUCLEI_HOME": str(tmp_path / "home")}
    try:
        with started([sys.executable, "-c", _MAIN, *command.split()], log, **environ) as service:
            until(lambda: len(wells(out, "First")) >= 2)
            before = wells(out, "First")
            server.kill()
            until(lambda: len(wells(out, "First")) > len(before))
            time.sleep(_AWAY_S)  # no wait for anything: this is the outage
            done = wells(out, "First")
            assert before.items() <= done.items()
            server.start()
            shutil.copytree(second, watched / "Second")
            # Prefect itself ends a run whose lease of its place ran out meanwhile (five minutes, renewed every four):
            # then it is begun again, and goes on.
            until(lambda: ledger(state).get("First") == "completed")
            finished = wells(out, "First")
            assert len(finished) == 18
            assert done.items() <= finished.items(), "a finished well was made again"

            # Who looks for cancelled runs has not given up either.
            until(lambda: len(wells(out, "Second")) >= 1)
            server.cancel("process-Second")
            until(lambda: server.runs()["process-Second"]["state_type"] == "CANCELLED", seconds=_CANCELLED_S)
            until(lambda: ledger(state)["Second"] == "cancelled")
            assert len(wells(out, "Second")) < 24
            assert service.poll() is None
            assert server.runs()["process-First"]["state_type"] == "COMPLETED"
    finally:
        server.close()
    assert "Traceback" not in log.read_text()
