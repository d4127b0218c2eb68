"""The service's totals and its ledger in, one page for Prometheus out, on loopback: ``/metrics``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, get_args

from flows.ledger import LAST_PASS, Ledger, State
from hcs_nuclei.errors import ClusterError
from hcs_nuclei.metrics import PREFIX, MetricsFile, as_text, families_of

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_PATH = "/metrics"
_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@contextmanager
def metrics_page(state: Path, totals: MetricsFile, port: int, *, exactly: bool) -> Iterator[str]:
    """The address of the page, for as long as the context lasts.

    Args:
        state: the service's directory.
        totals: what its runs add to.
        port: on loopback; another one, where it is taken and not `exactly` that one is wanted.

    Raises:
        ClusterError: the port is taken.
    """
    started = time.time()
    server = _listening(_handler(lambda: as_text(service_families(state, totals, started))), port, exactly)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{_PATH}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def service_families(state: Path, totals: MetricsFile, started: float) -> Sequence[Metric]:
    """What the runs added up, and how the service's plates stand now."""
    counted = Counter(entry.state for entry in Ledger(state / "ledger").entries.values())
    plates: dict[tuple[str, ...], float] = {(str(name),): counted[name] for name in get_args(State)}
    families = [
        *families_of(totals.read()),
        _gauge("plates", "Plates that the watcher knows, by what it knows of them.", plates, ("state",)),
        _gauge("service_start_timestamp_seconds", "When the service was started, Unix time.", {(): started}),
    ]
    with suppress(OSError):  # before the first pass
        looked = (state / LAST_PASS).stat().st_mtime
        families.append(_gauge("last_look_timestamp_seconds", "When it was last looked for plates.", {(): looked}))
    return families


def _gauge(name: str, meaning: str, values: Mapping[tuple[str, ...], float], labels: Sequence[str] = ()) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"{PREFIX}{name}", meaning, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def _listening(handler: type[BaseHTTPRequestHandler], port: int, exactly: bool) -> ThreadingHTTPServer:
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        if exactly:
            raise ClusterError(
                f"Port {port} of this machine cannot be listened on ({error.strerror}). Choose another with "
                "--metrics-port."
            ) from None
    return ThreadingHTTPServer(("127.0.0.1", 0), handler)


def _handler(page: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path.partition("?")[0] == _PATH
            content = page() if known else f"There is {_PATH} alone.\n".encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", _TYPE if known else "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: Prometheus asks every few seconds."""

    return Handler
