"""The whole service as processes of this machine, started from ``deploy/compose/compose.yaml`` and ``prefect.yaml``.

PostgreSQL, a Prefect server with a password, a Prefect worker, and a Dask scheduler with two workers behind
certificates. Each has the command and the environment that compose gives it; only hosts, ports, directories and
passwords are put in. Everything listens on loopback, on ports that were free.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import httpx
import psutil
import yaml

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
BIN = Path(sys.executable).parent
#: How long a machine that is busy with other things may take to get to something.
PATIENCE_S = 600.0
#: A password that has to be written otherwise in an address would show a mistake in quoting.
PASSWORD = "hcs:correct-horse-battery"
DATABASE_PASSWORD = "6f1d0c"
_POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def has_postgres() -> bool:
    """Whether a PostgreSQL server can be started here."""
    return _POSTGRES is not None or shutil.which("initdb") is not None


@dataclass
class Topology:
    """What runs: `api` is Prefect's address, `scheduler` Dask's; plates, runs and service directories are in `data`."""

    folder: Path
    ports: Mapping[str, int]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """What is ``/data`` in compose."""
        return self.folder / "data"

    @property
    def certificates(self) -> Path:
        """What ``make-certificates.sh`` made."""
        return self.folder / "tls"

    @property
    def page(self) -> str:
        """Where a browser finds Prefect."""
        return f"http://127.0.0.1:{self.ports['prefect']}"

    @property
    def scheduler(self) -> str:
        """Where Dask's clients find the scheduler."""
        return f"tls://127.0.0.1:{self.ports['scheduler']}"

    def environ(self, service: str) -> dict[str, str]:
        """The environment that compose gives a service, without anything of Prefect or of ours from outside."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "HCS_NUCLEI_", "DASK_"))}
        # As the image sets them; its user's home is a directory of the test.
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        image = {"PATH": path, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
        own = {"PREFECT_HOME": str(self.folder / "home" / service), "HCS_NUCLEI_HOME": str(self.folder / "models")}
        given = {name: self._put_in(str(value)) for name, value in _service(service).get("environment", {}).items()}
        return {**kept, **image, **own, **given}

    def command(self, service: str) -> list[str]:
        """The command that compose gives a service."""
        words = [*_service(service)["entrypoint"], *_service(service)["command"]]
        words = [self._put_in(word) for word in words]
        return [shutil.which(words[0], path=f"{BIN}{os.pathsep}{os.environ['PATH']}") or words[0], *words[1:]]

    def start(self, service: str, *extra: str, name: str = "", **environ: str) -> subprocess.Popen[bytes]:
        """Start a service; its output goes to a file of its name."""
        name = name or service
        with (self.folder / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(
                [*self.command(service), *extra],
                env={**self.environ(service), **environ},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes[name] = started
        return started

    def log(self, name: str) -> str:
        """What a process has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def family(self, *names: str) -> list[psutil.Process]:
        """The processes of these names (all, where none is given) and those that they started."""
        found: list[psutil.Process] = []
        for name in names or self.processes:
            try:
                process = psutil.Process(self.processes[name].pid)
                found += [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        return found

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The server's answer; asked again while its database is busy (503), as Prefect's own client and page do."""
        user, _, password = PASSWORD.partition(":")
        answer = patiently(
            lambda: httpx.request(
                method, f"{self.page}/api/{path}", json=body, auth=(user, password), timeout=120, trust_env=False
            ),
            lambda answer: answer.status_code != 503,
        )
        return answer.raise_for_status().json() if answer.content else None

    def runs(self, *deployments: str) -> list[dict[str, Any]]:
        """The runs of deployments of these names, the oldest first."""
        asked = {"deployments": {"name": {"any_": list(deployments)}}, "sort": "EXPECTED_START_TIME_ASC"}
        found: list[dict[str, Any]] = self.ask("POST", "flow_runs/filter", asked)
        return sorted(found, key=lambda run: str(run["created"]))

    def begin(self, parameters: Mapping[str, Any], **others: Any) -> str:
        """Start a run of the deployment of plates, as its form does; its id."""
        deployment = self.ask("GET", "deployments/name/process-plate/plates")["id"]
        asked = {"parameters": {"parameters": dict(parameters)}, **others}
        return str(self.ask("POST", f"deployments/{deployment}/create_flow_run", asked)["id"])

    def run(self, identifier: str) -> dict[str, Any]:
        """A run as the server has it."""
        return dict(self.ask("GET", f"flow_runs/{identifier}"))

    def _put_in(self, text: str) -> str:
        """Hosts, ports, directories and passwords of this machine in the place of those of compose."""
        given = {"PREFECT_AUTH": PASSWORD, "DATABASE_PASSWORD": DATABASE_PASSWORD, "THREADS": "1"}
        text = re.sub(r"\$\{(\w+)[^}]*\}", lambda match: given[match[1]], text)
        places = {
            "database:5432": f"127.0.0.1:{self.ports['database']}",
            "prefect:4200": f"127.0.0.1:{self.ports['prefect']}",
            "127.0.0.1:4200": f"127.0.0.1:{self.ports['prefect']}",
            "scheduler:8786": f"127.0.0.1:{self.ports['scheduler']}",
            "127.0.0.1:8787": f"127.0.0.1:{self.ports['dashboard']}",
            "/tls/": f"{self.certificates}/",
            "/data/": f"{self.data}/",
            "/deploy/prefect.yaml": str(self.folder / "prefect.yaml"),
            "/deploy/work-pool.json": str(ROOT / "deploy" / "prefect" / "work-pool.json"),
            "/tmp": str(self.folder / "scratch"),
        }
        pattern = "|".join(map(re.escape, places))
        text = re.sub(rf"(?<!\w)(?:{pattern})", lambda match: places[match[0]], text)
        whole = {"0.0.0.0": "127.0.0.1", ":8787": f"127.0.0.1:{self.ports['dashboard']}"}
        whole["8786"] = str(self.ports["scheduler"])
        return whole.get(text, text)


@contextmanager
def started_topology(folder: Path, *, every: int = 10, quiet: int = 6) -> Iterator[Topology]:
    """Everything, started and deployed as the files and the guide say; it ends with the block.

    Args:
        folder: a directory of its own.
        every: seconds from one look of the watcher to the next.
        quiet: seconds without a change after which a plate can be complete.
    """
    topology = Topology(folder, _free_ports("database", "prefect", "scheduler", "dashboard"))
    for name in ("plates", "runs", "service/recipes"):
        (topology.data / name).mkdir(parents=True)
    for name in ("scratch", "models", "home"):
        (folder / name).mkdir()
    (topology.data / "service" / "recipes" / "all.yaml").write_text("match: {barcode: .*}\n")
    (folder / "prefect.yaml").write_text(_deployments(topology, every, quiet))
    script = ROOT / "deploy" / "tls" / "make-certificates.sh"
    subprocess.run(["bash", str(script), str(topology.certificates)], check=True, capture_output=True)
    with ExitStack() as stack:
        stack.enter_context(_postgres(topology))
        stack.callback(_end, topology)
        topology.start("scheduler", "--host", "127.0.0.1")
        # Compose gives each worker an address of its own; here it is said.
        for number in (1, 2):
            topology.start("worker", "--host", "127.0.0.1", name=f"worker-{number}")
        server = topology.start("prefect", PREFECT_SERVER_API_PORT=str(topology.ports["prefect"]))
        patiently(lambda: _health(topology.page), lambda status: _alive(server, topology, "prefect") and status == 200)
        deploy = topology.start("deploy")
        assert deploy.wait(PATIENCE_S) == 0, topology.log("deploy")
        del topology.processes["deploy"]
        worker = topology.start("prefect-worker")
        pool = "work_pools/plates/workers/filter"
        patiently(
            lambda: topology.ask("POST", pool, {}),
            lambda found: _alive(worker, topology, "prefect-worker") and bool(found),
        )
        yield topology


def patiently(ask: Callable[[], T], enough: Callable[[T], object] = bool, seconds: float = PATIENCE_S) -> T:
    """The first answer that is enough."""
    end = time.monotonic() + seconds
    while not enough(answer := ask()):
        assert time.monotonic() < end, answer
        time.sleep(0.5)
    return answer


def _service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"][name]
    return found


def _deployments(topology: Topology, every: int, quiet: int) -> str:
    """``prefect.yaml`` with directories put in, and quicker than anybody wants it otherwise."""
    text = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    for said, meant in {
        "/data/": f"{topology.data}/",
        "interval: 60": f"interval: {every}",
        "quiet: 60": f"quiet: {quiet}",
    }.items():
        assert said in text, said
        text = text.replace(said, meant)
    return text


def _free_ports(*names: str) -> dict[str, int]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {name: listener.getsockname()[1] for name, listener in zip(names, listeners, strict=True)}


def _health(page: str) -> int:
    try:
        return httpx.get(f"{page}/api/health", timeout=60, trust_env=False).status_code
    except httpx.TransportError:
        return 0


def _alive(process: subprocess.Popen[bytes], topology: Topology, name: str) -> bool:
    assert process.poll() is None, topology.log(name)
    return True


@contextmanager
def _postgres(topology: Topology) -> Iterator[None]:
    """A PostgreSQL server with a password, over TCP as in compose; as root it gets a user, since it refuses to be."""
    path = f"{_POSTGRES}{os.pathsep}{os.environ['PATH']}" if _POSTGRES else os.environ["PATH"]
    user: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    # Not below the test's directory, which is closed to other users.
    with TemporaryDirectory(prefix="hcs-nuclei-postgres-") as name:
        home = Path(name)
        (home / "password").write_text(DATABASE_PASSWORD)
        if user:
            for place in (home, home / "password"):
                shutil.chown(place, "postgres", "postgres")
        options: dict[str, Any] = {"env": {"PATH": path, "LC_ALL": "C.UTF-8"}, "cwd": name, **user}
        initdb = ["initdb", "-D", f"{name}/data", "-U", "prefect", "-A", "scram-sha-256", f"--pwfile={name}/password"]
        subprocess.run([*initdb, "--no-sync"], check=True, capture_output=True, **options)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": topology.ports["database"],
            "unix_socket_directories": "",
            "fsync": "off",
        }
        server = ["postgres", "-D", f"{name}/data", *(w for k, v in settings.items() for w in ("-c", f"{k}={v}"))]
        with (topology.folder / "database.log").open("ab") as log:
            database = subprocess.Popen(server, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)
        topology.processes["database"] = database
        try:
            environ = {**options["env"], "PGPASSWORD": DATABASE_PASSWORD}
            psql = ["psql", "-h", "127.0.0.1", "-p", str(topology.ports["database"]), "-U", "prefect", "-d", "postgres"]
            create = [*psql, "-qc", "CREATE DATABASE prefect"]
            patiently(
                lambda: subprocess.run(create, env=environ, cwd=name, capture_output=True).returncode,
                lambda status: _alive(database, topology, "database") and status == 0,
            )
            yield
        finally:
            database.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            _wait(database, 60)


@contextmanager
def started_postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server of its own with an empty database; its address as Prefect's server wants it."""
    topology = Topology(folder, _free_ports("database"))
    with _postgres(topology):
        yield f"postgresql+asyncpg://prefect:{DATABASE_PASSWORD}@127.0.0.1:{topology.ports['database']}/prefect"


def _end(topology: Topology) -> None:
    """End all but the database, runs first, and what they left."""
    family = topology.family(*(name for name in topology.processes if name != "database"))
    for name in ("prefect-worker", "deploy", "worker-1", "worker-2", "scheduler", "prefect"):
        if process := topology.processes.get(name):
            process.terminate()
            _wait(process, 45)
    for each in psutil.wait_procs(family, timeout=10)[1]:
        each.kill()
    psutil.wait_procs(family, timeout=30)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
