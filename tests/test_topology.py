"""The whole service as real processes: plates that come slowly and wait, a cancel, the web page, who stays out.

What runs is started from ``deploy/compose/compose.yaml`` and deployed from ``prefect.yaml`` (`topology`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from chromium import PROGRAM, Tab, chromium
from pipeline_runs import results_of
from topology import PASSWORD, PATIENCE_S, Topology, has_postgres, patiently, started_topology
from waiting import copy_slowly

from hcs_nuclei.simulate import simulate_plate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.postgres,
    pytest.mark.skipif(not has_postgres(), reason="PostgreSQL is not installed"),
    pytest.mark.timeout(2400),
]
EVERY_S, QUIET_S = 15, 6
STRACE, SS = shutil.which("strace"), shutil.which("ss")
WELLS = 30
#: Of the plate with a fault: the image that was cut off.
BAD_WELL = "B05"


@dataclass(frozen=True)
class Plates:
    """Simulated plates: one to watch, one that waits, and one with a truncated image."""

    first: Path
    second: Path
    faulty: Path


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    with started_topology(tmp_path_factory.mktemp("topology"), every=EVERY_S, quiet=QUIET_S) as started:
        yield started


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Plates:
    made = tmp_path_factory.mktemp("made")
    sizes = {"First": (12, 3), "Second": (2, 1), "Faulty": (WELLS, 2)}
    first, second, faulty = (
        simulate_plate(made, wells=wells, fields=fields, size=384, name=name, seed=wells).directory
        for name, (wells, fields) in sizes.items()
    )
    [image] = faulty.rglob(f"*_{BAD_WELL}_s2_w1.*")
    image.write_bytes(image.read_bytes()[:100_000])
    return Plates(first, second, faulty)


def test_plates_are_begun_when_they_are_complete_once_and_in_turn(topology: Topology, plates: Plates) -> None:
    there = topology.data / "plates"
    changed = copy_slowly(plates.first, there / plates.first.name, lambda: _not_begun(topology), QUIET_S + EVERY_S)
    [run] = patiently(lambda: topology.runs("plates"))
    assert run["name"] == f"process-{plates.first.name}"
    shutil.copytree(plates.second, there / plates.second.name)
    patiently(lambda: _wells(topology, "First"))
    # However quick the machine is, the first plate is not finished before the second is asked for.
    with _held(topology.family("worker-1", "worker-2")):
        _, waiting = patiently(lambda: topology.runs("plates"), lambda runs: len(runs) == 2)
        patiently(lambda: topology.run(waiting["id"])["state_name"], lambda name: name == "AwaitingConcurrencySlot")
        assert topology.run(run["id"])["state_type"] == "RUNNING"
        assert not list((topology.data / "runs").glob("Second*"))
    for each in (run, waiting):
        patiently(lambda each=each: topology.run(each["id"])["state_name"], lambda name: name == "Completed")
    patiently(lambda: _ledger(topology), lambda known: set(known.values()) == {"completed"})
    assert len(topology.runs("plates")) == 2
    # Before the second began the first had ended.
    first, second = (topology.run(each["id"]) for each in (run, waiting))
    assert _moment(second["start_time"]) >= _moment(first["end_time"])

    # One pass saw the last change; the first that came a quiet time later is the one that asked for its run.
    passes = [p for p in topology.runs("watch") if p["state_type"] == "COMPLETED"]
    times = sorted((_moment(p["start_time"]), _moment(p["end_time"])) for p in passes)
    saw = next(end for start, end in times if start >= changed)
    knew = next(end for start, end in times if start >= saw + QUIET_S)
    assert _moment(run["created"]) <= knew
    watcher = topology.ask("GET", "deployments/name/watch-plates/watch")["id"]
    topology.ask("POST", f"deployments/{watcher}/pause_deployment")


@pytest.fixture(scope="module")
def cancelled(topology: Topology, plates: Plates) -> tuple[str, str]:
    """A run that was cancelled, and the run that went on with it."""
    plate = Path(shutil.copytree(plates.faulty, topology.data / "service" / "by-hand" / plates.faulty.name))
    given = {"plate": str(plate), "out": str(topology.data / "runs"), "cluster": topology.scheduler}
    stopped = topology.begin(given)
    patiently(lambda: len(_wells(topology, "Faulty")), lambda number: number >= 2)
    assert _work_of(topology) != [{}, {}]
    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    topology.ask("POST", f"flow_runs/{stopped}/set_state", cancelling)
    # On a machine that has something else to do as well it takes so much longer.
    allowed = 15 * max(1.0, psutil.getloadavg()[0] / (psutil.cpu_count() or 1))
    patiently(lambda: _work_of(topology), lambda work: work == [{}, {}], seconds=allowed)
    patiently(lambda: topology.run(stopped)["state_type"], lambda state: state == "CANCELLED")
    done = _wells(topology, "Faulty")
    assert 2 <= len(done) < WELLS
    continued = topology.begin(given)
    patiently(lambda: topology.run(continued)["state_type"], lambda state: state == "COMPLETED")
    made = _wells(topology, "Faulty")
    assert len(made) == WELLS
    assert {well: made[well] for well in done} == done
    return stopped, continued


def test_cancelled_run_stops_within_15_s_and_is_gone_on_with(topology: Topology, cancelled: tuple[str, str]) -> None:
    stopped, continued = (topology.run(each) for each in cancelled)
    assert stopped["state_name"] == "Cancelled"
    assert continued["state_name"] == "CompletedWithQuarantinedWells"
    assert f"1 field with a fault in {BAD_WELL}" in continued["state"]["message"]
    for run in cancelled:
        tasks = topology.ask("POST", "task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        assert 2 <= len(tasks) <= 20


@pytest.fixture(scope="module")
def embedded(plates: Plates, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[str]]:
    """A run with the embedded server: its directory, its lines on stderr, and where it connected to (with strace)."""
    folder = tmp_path_factory.mktemp("embedded")
    calls = folder / "calls"
    # A busy machine takes longer than its user would wait.
    environ = {"HCS_NUCLEI_HOME": str(folder), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "900"}
    trace = [STRACE, "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto", "-o", calls] if STRACE else []
    done = _process(plates.faulty, folder, "--prefect", "--workers", "2", before=trace, **environ)
    assert done.returncode == 3, done.stderr
    asked = re.findall(r"AF_INET6?,.*?inet_(?:addr\(|pton\(AF_INET6, )\"([^\"]+)\"", calls.read_text() if trace else "")
    return Path(done.stdout.splitlines()[-1]), done.stderr.splitlines(), asked


def test_same_bytes_from_a_shell_the_embedded_server_and_the_topology(
    topology: Topology,
    plates: Plates,
    cancelled: tuple[str, str],
    embedded: tuple[Path, list[str], list[str]],
    tmp_path: Path,
) -> None:
    plain = _process(plates.faulty, tmp_path / "plain", "--no-prefect", "--workers", "2")
    assert plain.returncode == 3, plain.stderr
    undisturbed = results_of(Path(plain.stdout.splitlines()[-1]))
    assert len([name for name in undisturbed if name.startswith("nuclei/")]) == WELLS
    assert len([name for name in undisturbed if "/labels/" in name]) > WELLS
    [run] = (topology.data / "runs").glob("Faulty*")
    assert results_of(embedded[0]) == undisturbed
    # All but the provenance (run.json) and the report, which tell when and where; after a cancel as without.
    assert results_of(run) == undisturbed


def test_embedded_server_is_silent_and_nothing_leaves_the_machine(embedded: tuple[Path, list[str], list[str]]) -> None:
    _, lines, asked = embedded
    odd = [line for line in lines if not line.startswith(("Faulty: ", "  report: ", f"  {BAD_WELL} field 2: "))]
    assert odd == []
    if STRACE is None:
        pytest.skip("strace is not installed: where it connects to was not looked at")
    assert asked
    assert set(asked) <= {"127.0.0.1", "::1"}


def test_places_outside_the_roots_are_refused_in_one_line(topology: Topology, plates: Plates) -> None:
    given = {"plate": str(plates.first), "out": str(topology.data / "runs"), "cluster": topology.scheduler}
    refused = topology.begin(given)
    patiently(lambda: topology.run(refused)["state_type"], lambda state: state == "FAILED")
    message = topology.run(refused)["state"]["message"]
    assert message.startswith(f"Plate directory '{plates.first}' lies outside the allowed roots (")
    assert "\n" not in message
    # The pool of the worker lets nobody say otherwise.
    with pytest.raises(httpx.HTTPStatusError) as answer:
        topology.begin(given, job_variables={"env": {"HCS_NUCLEI_ALLOWED_ROOTS": "/"}})
    assert 400 <= answer.value.response.status_code < 500


def test_without_the_password_nobody_comes_in(topology: Topology, plates: Plates, tmp_path: Path) -> None:
    asked = f"{topology.page}/api/flow_runs/filter"
    for auth in (None, ("hcs", "guessed")):
        assert httpx.post(asked, json={}, auth=auth, timeout=60, trust_env=False).status_code == 401
    serve = ["serve", "--watch", str(plates.first.parent), "--out", str(tmp_path / "runs"), "--state", str(tmp_path)]
    process = ["process", str(plates.second), "--out", str(tmp_path / "runs")]
    url = f"{topology.page}/api"
    for command, held in ((process, {}), (process, {"PREFECT_API_AUTH_STRING": "hcs:guessed"}), (serve, {})):
        done = _hcs_nuclei(*command, PREFECT_API_URL=url, HCS_NUCLEI_HOME=str(tmp_path / "home"), **held)
        assert done.returncode in {1, 2}, done.stderr
        [line] = done.stderr.splitlines()
        assert "wants a password" in line
        assert "PREFECT_API_AUTH_STRING" in line
    assert not list(tmp_path.glob("runs/*"))


def test_without_a_certificate_nobody_reaches_the_workers(topology: Topology, plates: Plates, tmp_path: Path) -> None:
    done = _process(plates.second, tmp_path, "--no-prefect", "--cluster", topology.scheduler)
    assert done.returncode == 2
    assert f"No Dask scheduler answers at {topology.scheduler}" in done.stderr
    assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" in done.stderr


@pytest.mark.skipif(SS is None, reason="ss (of iproute2) is not installed")
def test_documented_ports_are_listened_on_alone_and_on_loopback(topology: Topology) -> None:
    said = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    listening: dict[str, set[int]] = {}
    owners = {process.pid: name for name in topology.processes for process in topology.family(name)}
    for line in said.splitlines():
        host, _, port = line.split()[3].rpartition(":")
        for name in {owners[int(pid)] for pid in re.findall(r"pid=(\d+)", line) if int(pid) in owners}:
            assert host == "127.0.0.1", line
            listening.setdefault(name, set()).add(int(port))
    ports = topology.ports
    assert listening.pop("database") == {ports["database"]}
    assert listening.pop("prefect") == {ports["prefect"]}
    assert listening.pop("scheduler") == {ports["scheduler"], ports["dashboard"]}
    # Of each Dask worker: its own, its nanny's, that of its page; of Prefect's: where the processes of its runs report.
    numbers = {name: len(found) for name, found in listening.items()}
    assert numbers == {"worker-1": 3, "worker-2": 3, "prefect-worker": 1}
    there = [c for process in topology.family() for c in process.net_connections("inet") if c.raddr]
    assert {c.raddr.ip for c in there} == {"127.0.0.1"}


class Page:
    """Prefect's web page in a browser, logged in."""

    def __init__(self, tab: Tab, topology: Topology) -> None:
        self.tab, self._address = tab, topology.page
        tab.look(1400, 1000)
        tab.ask("Page.navigate", url=self._address)
        self.until("document.querySelector('input[type=password]')")
        tab.run("document.querySelector('input[type=password]').focus()")
        tab.ask("Input.insertText", text=PASSWORD)
        tab.key("Enter")
        self.until("!document.querySelector('input[type=password]')")

    def open(self, path: str, text: str) -> None:
        """Go there, and wait until that text is seen."""
        self.tab.ask("Page.navigate", url=f"{self._address}/{path}")
        self.until(f"document.body.innerText.includes({json.dumps(text)})")

    def until(self, script: str) -> None:
        """Until the expression is true; while a page is being changed there is nothing to ask."""

        def ask() -> bool:
            try:
                return bool(self.tab.run(f"!!document.body && !!({script})"))
            except AssertionError:
                return False

        patiently(ask)

    def press(self, text: str) -> None:
        """Click on what has that text."""
        words = json.dumps(text)
        leaf = f"[...document.querySelectorAll('*')].find(e => !e.children.length && e.textContent.trim() === {words})"
        self.until(leaf)
        self.tab.run(f"{leaf}.click()")

    def texts(self, selector: str) -> list[str]:
        """The texts of elements."""
        found: list[str] = self.tab.run(f"[...document.querySelectorAll('{selector}')].map(e => e.innerText.trim())")
        return found


@pytest.mark.browser
@pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed")
def test_web_page_shows_the_run_and_its_artifacts(
    topology: Topology, cancelled: tuple[str, str], tmp_path: Path
) -> None:
    run = cancelled[1]
    found = topology.ask("POST", "artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}})
    artifacts = {artifact["key"].removeprefix("faulty-"): artifact["id"] for artifact in found}
    assert set(artifacts) == {"progress", "dask", "summary", "faults", "wells", "provenance"}
    [out] = (topology.data / "runs").glob("Faulty*")
    with chromium(tmp_path / "profile") as tab:
        page = Page(tab, topology)
        page.open(f"runs/flow-run/{run}", "Artifacts")
        page.until("document.body.innerText.includes('CompletedWithQuarantinedWells')")
        assert "process-Faulty_Plate_1001" in tab.run("document.body.innerText")
        page.press("Artifacts")
        for key in artifacts:
            page.until(f"document.body.innerText.includes('faulty-{key}')")
        # What is said on the cards leads on.
        links = tab.run("[...document.querySelectorAll('a')].map(a => a.href)")
        dashboard = f"http://127.0.0.1:{topology.ports['dashboard']}/status"
        assert {dashboard, (out / "report.html").as_uri()} <= set(links)
        assert httpx.get(dashboard, timeout=60, trust_env=False).status_code == 200
        tab.photograph(tmp_path / "artifacts.png")

        page.open(f"artifacts/artifact/{artifacts['progress']}", "100")
        page.open(f"artifacts/artifact/{artifacts['summary']}", "Nuclei in every well")
        page.until("document.querySelector('img[alt^=\"Nuclei in every well\"]')?.naturalWidth > 300")
        assert "29 ok, 1 incomplete" in tab.run("document.body.innerText")
        tab.photograph(tmp_path / "summary.png")
        page.open(f"artifacts/artifact/{artifacts['faults']}", "unreadable")
        assert page.texts("tbody td")[:3] == [BAD_WELL, "2", "unreadable"]
        tab.photograph(tmp_path / "faults.png")
        page.open(f"artifacts/artifact/{artifacts['wells']}", "2 of 2")
        page.open(f"artifacts/artifact/{artifacts['provenance']}", "sha256")
        record = json.loads((out / "run.json").read_text())
        assert record["model"]["sha256"] in tab.run("document.body.innerText")
        tab.photograph(tmp_path / "provenance.png")
        # Neither does the browser ask anybody else.
        asked = {httpx.URL(url).host for url in tab.requests if url.startswith("http")}
        assert asked == {"127.0.0.1"}


def _not_begun(topology: Topology) -> None:
    assert not list((topology.data / "runs").iterdir())
    assert set(_ledger(topology).values()) <= {"writing", "incomplete"}


def _ledger(topology: Topology) -> dict[str, str]:
    entries = [json.loads(path.read_text()) for path in (topology.data / "service" / "ledger").glob("[!.]*.json")]
    return {entry["plate"]: entry["state"] for entry in entries}


def _wells(topology: Topology, plate: str) -> dict[str, tuple[int, int]]:
    """The finished wells of a plate, each with what a second writing would change."""
    paths = (topology.data / "runs").glob(f"{plate}*/nuclei/[!.]*.parquet")
    return {path.stem: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


@contextmanager
def _held(processes: list[psutil.Process]) -> Iterator[None]:
    """These processes do nothing for the while."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def _work_of(topology: Topology) -> list[dict[str, int]]:
    """What each Dask worker says that it is busy with, tasks by their state; those cancelled and still running too."""
    page = f"http://127.0.0.1:{topology.ports['dashboard']}/json/identity.json"
    # The page fails where a worker goes or comes while it is made.
    answer = patiently(lambda: httpx.get(page, timeout=60, trust_env=False), lambda answer: answer.status_code == 200)
    workers = answer.json()["workers"].values()
    return [worker["metrics"]["task_counts"] for worker in workers]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _process(
    plate: Path, out: Path, *options: str, before: list[Any] | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    # As the workers of compose have it: the same bytes are promised for the same threads.
    return _hcs_nuclei(
        "process", str(plate), "--out", str(out), *options, before=before, TF_NUM_INTRAOP_THREADS="1", **environ
    )


def _hcs_nuclei(*words: str, before: list[Any] | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "HCS_NUCLEI_", "DASK_"))}
    return subprocess.run(
        [*(before or []), str(Path(sys.executable).with_name("hcs-nuclei")), *words],
        env={**kept, **environ},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )
