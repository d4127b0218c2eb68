"""The whole service on one machine: a Prefect server and a worker as processes of this one, for as long as it lives."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prefect.settings import get_current_settings

from flows.metrics_page import metrics_page
from flows.parameters import WatchPlatesParameters
from flows.roots import ALLOWED_ROOTS
from flows.server import ServerProcess, check_server, server_process
from flows.silent_passes import PassWatch, passes_watched
from hcs_nuclei.errors import ClusterError, OutputError, RunConflictError, RunFailedError
from hcs_nuclei.metrics import METRICS_FILE, MetricsFile

_DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
#: A worker gives its runs 30 s to stop; what is left then kills itself.
_STOP_S = 45.0
_KILLED_S = 5.0
_START_S = 180.0
_ASK_AGAIN_S = 5.0
_LARGEST_LOG = 10_000_000
_LOOK_S = 5.0
#: A process that dies is started again, but not for ever: what kills it so often within so long is no accident.
_MOST_DEATHS, _LATELY_S = 5, 3600.0


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What the service does; `watch.state` is its directory.

    `port` of the web page, `every` seconds between looks, `plates` at a time; `metrics_port` None for the next port, or
    any that is free.
    """

    watch: WatchPlatesParameters
    port: int = 4200
    every: float = 60.0
    plates: int = 1
    metrics_port: int | None = None


def run_service(options: ServiceOptions, say: Callable[[str], None]) -> None:
    """Serve until this process is interrupted, and leave no process behind.

    Args:
        options: what is watched, and how.
        say: told each line for the user, the web page's address among them.

    Raises:
        UserError: the service cannot be started as asked.
        RunFailedError: the server or the worker ended and cannot be started again.
        KeyboardInterrupt: Ctrl-C; everything was stopped.
    """
    state = Path(options.watch.state)
    with ExitStack() as stack:
        _own(state, stack)
        server, url = None, get_current_settings().api.url
        if url is None:
            environ = _server_environ(state, options.port)
            server = stack.enter_context(server_process(environ, _log(state, "server"), options.port))
            url = server.url
        else:
            check_server(url)
        # Where the service's own user keeps them elsewhere, they are shown from there.
        os.environ.setdefault(METRICS_FILE, str(state.absolute() / "metrics.prom"))
        totals = MetricsFile(Path(os.environ[METRICS_FILE]))
        port = options.metrics_port or min(options.port + 1, 65535)
        exactly = options.metrics_port is not None
        metrics = stack.enter_context(metrics_page(state, totals, port, exactly=exactly))
        worker = stack.enter_context(_worker(options, url, server))
        say(f"Prefect's web page:  {url.removesuffix('/api')}")
        say(f"Metrics:             {metrics}")
        say(f"Status page:         {(state / 'status.html').absolute().as_uri()}")
        say(f"Watched:             {', '.join(options.watch.roots)}")
        say(f"Runs:                {options.watch.out}")
        say(f"Recipes:             {options.watch.recipes or 'none, so every plate gets the default settings'}")
        say(f"Service directory:   {state} (logs in logs/)")
        say("Ctrl-C stops it; a plate that is being processed goes on at the next start.")
        stack.enter_context(passes_watched(PassWatch(state, options.every, url, say)))
        worker.supervise(say)


class _Deaths:
    """How often a process ended of late."""

    def __init__(self) -> None:
        self._moments: list[float] = []

    def count(self) -> None:
        """It ended."""
        self._moments = [moment for moment in self._moments if time.monotonic() - moment < _LATELY_S]
        self._moments.append(time.monotonic())

    @property
    def too_many(self) -> bool:
        """Whether it is no accident any more."""
        return len(self._moments) >= _MOST_DEATHS


class _Worker:
    """The process that runs flows, in a group of its own with everything that it starts."""

    def __init__(self, options: ServiceOptions, url: str, server: ServerProcess | None) -> None:
        self._options, self._server = options, server
        self._state = Path(options.watch.state)
        self._environ = {**os.environ, "PREFECT_API_URL": url, ALLOWED_ROOTS: _roots(options.watch)}
        self._environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
        # A run that ends while the server is away tells it within two minutes, instead of one.
        self._environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "6")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until its deployments are there.

        Raises:
            RunFailedError: it ended instead.
        """
        log = _log(self._state, "worker")
        reading, writing = os.pipe()
        with log.open("ab") as sink, os.fdopen(reading) as ready:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.service_worker"],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                env=self._environ,
                pass_fds=[writing],
                start_new_session=True,
            )
            os.close(writing)
            assert self._process.stdin is not None
            configuration = {
                "watch": self._options.watch.model_dump(mode="json"),
                "every": self._options.every,
                "plates": self._options.plates,
                "own_server": self._server is not None,
                "ends_within": _STOP_S,
                "ready": writing,
            }
            with suppress(BrokenPipeError):
                self._process.stdin.write(f"{json.dumps(configuration)}\n".encode())
                self._process.stdin.flush()
            if not ready.readline():
                raise RunFailedError(f"The service's worker ended at its start; {log} says why.")

    def stop(self) -> None:
        """Let it stop its runs, then end what is left of its group."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S + _KILLED_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def supervise(self, say: Callable[[str], None]) -> None:
        """Start it, and a server of our own, again whenever they end; returns never. Somebody's server is waited for.

        Raises:
            RunFailedError: one of them ends again and again.
        """
        assert self._process is not None
        deaths = {"worker": _Deaths(), "server": _Deaths()}
        while True:
            if self._server is not None and (status := self._server.poll()) is not None:
                deaths["server"].count()
                self._check(deaths["server"], "Prefect server", self._server.log)
                say(f"Prefect's server ended ({status}); it is started again.")
                self._start_server(self._server, say)
                continue
            try:
                status = self._process.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                continue
            self.stop()
            if self._server is not None or self._server_answers():
                deaths["worker"].count()
                self._check(deaths["worker"], "worker", _log(self._state, "worker"))
                say(f"The worker ended ({status}); it is started again.")
                time.sleep(1.0)
            else:
                self._await_server(say)
            try:
                self.start()
            except RunFailedError:
                if self._server is not None and self._server.poll() is not None:
                    continue  # for want of a server, which comes first
                if self._server is not None or self._server_answers():
                    raise

    def _start_server(self, server: ServerProcess, say: Callable[[str], None]) -> None:
        """The worker waits for it meanwhile, and what it processes goes on. One that does not start is begun again."""
        server.stop()
        time.sleep(1.0)
        try:
            server.start()
        except ClusterError as error:
            say(str(error))
            server.stop()

    def _check(self, deaths: _Deaths, what: str, log: Path) -> None:
        if deaths.too_many:
            raise RunFailedError(f"The service's {what} ended {_MOST_DEATHS} times within an hour; {log} says why.")

    def _server_answers(self) -> bool:
        try:
            check_server(self._environ["PREFECT_API_URL"])
        except ClusterError:
            return False
        return True

    def _await_server(self, say: Callable[[str], None]) -> None:
        url = self._environ["PREFECT_API_URL"]
        say(f"Prefect's server at {url} does not answer any more; it is waited for. Finished wells are kept.")
        while not self._server_answers():
            time.sleep(_ASK_AGAIN_S)
        say(f"Prefect's server at {url} answers again; the worker is started again.")


@contextmanager
def _worker(options: ServiceOptions, url: str, server: ServerProcess | None) -> Iterator[_Worker]:
    worker = _Worker(options, url, server)
    try:
        worker.start()
        yield worker
    finally:
        worker.stop()


def _own(state: Path, stack: ExitStack) -> None:
    """Make the service's directory, for this process alone as long as it lives."""
    try:
        (state / "logs").mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context((state / ".lock").open("wb"))
    except OSError as error:
        raise OutputError(
            f"The service directory {state} cannot be used ({error.strerror}). Choose another --state."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunConflictError(f"A service runs in {state} already. Stop it, or choose another --state.") from None
    except OSError as error:
        raise OutputError(
            f"The service directory {state} cannot be locked ({error.strerror}). Choose another --state, on a disk of "
            "this machine."
        ) from None


def _server_environ(state: Path, port: int) -> dict[str, str]:
    own = {
        _DATABASE: f"sqlite+aiosqlite:///{state.absolute() / 'prefect.db'}",
        # In memory, a server that is started again would count runs that are gone against the limit for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "10",
        # A pass a minute is half a million runs a year: those older than 90 days go.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "true",
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
        # By default any page that is open in a browser here may call the server, which starts what it is told to.
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port},http://localhost:{port}",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
    return {**own, **os.environ}


def _roots(watch: WatchPlatesParameters) -> str:
    """What runs may read and write: what the service was told of, and what its user allows besides."""
    places = [*watch.roots, watch.out, watch.state, *([watch.recipes] if watch.recipes else [])]
    allowed = os.environ.get(ALLOWED_ROOTS, "")  # whole: a URL in it has colons of its own
    return os.pathsep.join(dict.fromkeys(place for place in [*places, allowed] if place))


def _log(state: Path, name: str) -> Path:
    """The log of that name; a large one is put aside first."""
    path = state / "logs" / f"{name}.log"
    with suppress(OSError):
        if path.stat().st_size > _LARGEST_LOG:
            path.replace(path.with_suffix(".log.1"))
    return path
