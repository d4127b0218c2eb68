"""The Prefect server for flows that run in this process: the one the user has, else one of our own for the while."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler, PrefectConsoleHandler
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
    temporary_settings,
)

from hcs_nuclei.errors import ClusterError, RunFailedError
from hcs_nuclei.logs import JsonHandler

_DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_LOG = "embedded-server.log"
_SEND_S = 60.0
#: Loggers of what a run says, which goes to the server, and of what sends it, which is of no use to anybody.
_UNSEEN = ("prefect.flow_runs", "prefect.task_runs", "EventsWorker", "APILogWorker")


@contextmanager
def prefect_server() -> Iterator[str]:
    """The address of a server that answers; a second one inside is the same server.

    Without ``PREFECT_API_URL`` it is started on loopback, open to this process alone, and stopped at the end.

    Raises:
        ClusterError: the server does not answer or does not start; says what to do.
        RunFailedError: it answers no more.
    """
    _quiet_console()
    with ExitStack() as stack:
        url = get_current_settings().api.url
        if url is None:
            url = stack.enter_context(_own_server())
        else:
            check_server(url)
        # The last logs and states are sent while there is a server, and not at the interpreter's exit.
        stack.callback(EventsWorker.drain_all, timeout=_SEND_S)
        stack.callback(APILogHandler().flush)
        try:
            yield url
        except httpx.HTTPError as error:
            raise RunFailedError(
                f"Prefect's server at {url} does not answer any more ({error!r}). What is finished is kept; start the "
                "same command again to go on."
            ) from error


@contextmanager
def _own_server() -> Iterator[str]:
    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    secret = f"hcs-nuclei:{secrets.token_urlsafe(16)}"
    with ExitStack() as stack:
        environ = {
            **os.environ,
            **get_current_settings().to_environment_variables(exclude_unset=True),
            **stack.enter_context(_database(home)),
            # Other users of this machine reach its loopback as well.
            "PREFECT_SERVER_API_AUTH_STRING": secret,
            # As Prefect starts its own: no UI, no schedules.
            "PREFECT__SERVER_EPHEMERAL": "1",
        }
        url = stack.enter_context(server_process(environ, home / _LOG)).url
        stack.enter_context(temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: secret}))
        yield url


class ServerProcess:
    """A Prefect server on loopback, as a process of this one."""

    def __init__(self, environ: dict[str, str], log: Path, port: int = 0) -> None:
        self._environ, self._log, self._port = environ, log, port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, once it was started; started again it has the same."""
        return f"http://127.0.0.1:{self._port}/api"

    @property
    def log(self) -> Path:
        """Where it says what it does."""
        return self._log

    def poll(self) -> int | None:
        """The status that its process ended with; None while it lives, or before it was started."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            ClusterError: it does not start, or the port is taken.
        """
        timeout = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
        with _listener(self._port) as listener, self._log.open("ab") as sink:
            self._port = listener.getsockname()[1]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.embedded_server", str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                env=self._environ,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        try:
            # The socket listens already, so one request waits until the server is up, and fails at once where it dies.
            httpx.get(f"{self.url}/health", timeout=timeout, trust_env=False).raise_for_status()
        except httpx.HTTPError as error:
            raise ClusterError(
                f"Prefect's embedded server did not start within {timeout:.0f} s ({error!r}); {self._log} says why. "
                "Start one (prefect server start) and name it in PREFECT_API_URL, or process without Prefect "
                "(--no-prefect)."
            ) from None

    def stop(self) -> None:
        """End it, if it lives."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def server_process(environ: dict[str, str], log: Path, port: int = 0) -> Iterator[ServerProcess]:
    """A server that was started on loopback, and is stopped at the end.

    Raises:
        ClusterError: it does not start, or the port is taken.
    """
    server = ServerProcess(environ, log, port)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _listener(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise ClusterError(
            f"Port {port} of this machine cannot be listened on ({error.strerror}). Choose another with --port."
        ) from None


@contextmanager
def _database(home: Path) -> Iterator[dict[str, str]]:
    """What tells a server its database: SQLite in `home` holds one of our servers, another gets one for the while."""
    if _DATABASE in os.environ:
        yield {}
        return
    with ExitStack() as stack:
        lock = stack.enter_context((home / "embedded-server.lock").open("wb"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            home = Path(stack.enter_context(TemporaryDirectory(prefix="hcs-nuclei-prefect-")))
        yield {_DATABASE: f"sqlite+aiosqlite:///{home / 'prefect.db'}"}


def check_server(url: str) -> None:
    """Make sure that a server answers at `url`, which Prefect's settings name, and lets us in.

    Raises:
        ClusterError: it does not; says what to do.
    """
    refused = False
    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
        if error is None:
            # Its health is everybody's; of the rest, this is the least.
            try:
                client.request("GET", "/admin/version")
            except httpx.HTTPStatusError as answer:
                refused = answer.response.status_code in {401, 403}
    if refused:
        held = "another one" if PREFECT_API_AUTH_STRING.value() else "none"
        raise ClusterError(
            f"Prefect's server at {url} wants a password, and PREFECT_API_AUTH_STRING holds {held}. Set it to what the "
            "server has in PREFECT_SERVER_API_AUTH_STRING (user:password), or process without Prefect (--no-prefect)."
        )
    if error is not None:
        raise ClusterError(
            f"Prefect's server at {url} does not answer ({error}). Start it (prefect server start), correct or unset "
            "PREFECT_API_URL, or process without Prefect (--no-prefect)."
        )


def check_named_server() -> None:
    """Make sure that Prefect's settings name a server, and that it answers.

    Raises:
        ClusterError: they do not, or it does not.
    """
    url = get_current_settings().api.url
    if url is None:
        raise ClusterError("No Prefect server is named. Set PREFECT_API_URL to the address of the one that is shared.")
    check_server(url)


def web_page() -> str:
    """Address of Prefect's web page, for links; empty where there is no server that stays."""
    settings = get_current_settings()
    return (settings.ui_url or (settings.api.url or "").removesuffix("/api")).rstrip("/")


def _quiet_console() -> None:
    """Keep runs off stderr: who called shows progress and says the reason. Prefect's own warnings pass.

    For as long as this process lives, since what it stops at its end has something to say as well.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler | JsonHandler):
            handler.addFilter(_passes)


def _passes(record: logging.LogRecord) -> bool:
    ours = record.name.startswith("hcs_nuclei.")
    return ours or (record.levelno >= logging.WARNING and not record.name.startswith(_UNSEEN))
