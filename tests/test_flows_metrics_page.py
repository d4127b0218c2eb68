"""The service's page for Prometheus: what it shows before and after anything happened, and where it listens."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hcs_nuclei.errors import ClusterError
from hcs_nuclei.metrics import MetricsFile


def values_of(address: str) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen(address, timeout=60) as page:
        text = page.read().decode()
    return {
        (sample.name.removeprefix("hcs_nuclei_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def served(state: Path, port: int, *, exactly: bool = True) -> AbstractContextManager[str]:
    """The page of a service's directory; flows are imported no earlier, since they set Prefect's defaults."""
    from flows.metrics_page import metrics_page

    return metrics_page(state, MetricsFile(state / "metrics.prom"), port, exactly=exactly)


def test_the_page_shows_the_totals_and_the_plates_as_they_are_now(tmp_path: Path) -> None:
    from flows.ledger import LAST_PASS, Entry, open_ledger

    totals = MetricsFile(tmp_path / "metrics.prom")
    with served(tmp_path, _free()) as address:
        before = values_of(address)
        totals.add({("wells", ()): 96, ("runs", ("completed",)): 1, ("faults", ("truncated",)): 2})
        with open_ledger(tmp_path) as ledger:
            assert ledger is not None
            for name, state in (("P1", "completed"), ("P2", "held"), ("P3", "held")):
                entry = {"root": f"/plates/{name}", "plate": name, "run": name, "state": state}
                ledger.write(Entry.model_validate(entry))
        (tmp_path / LAST_PASS).touch()
        after = values_of(address)

    # Alerts on a rise need a beginning.
    assert before["wells_total",] == before["runs_total", "failed"] == before["plates", "held"] == 0
    assert ("last_look_timestamp_seconds",) not in before
    assert after["wells_total",] == 96
    assert after["faults_total", "truncated"] == 2
    assert {key[1]: n for key, n in after.items() if key[0] == "plates" and n} == {"completed": 1, "held": 2}
    assert after["last_look_timestamp_seconds",] == pytest.approx((tmp_path / LAST_PASS).stat().st_mtime)
    assert after["service_start_timestamp_seconds",] <= after["last_look_timestamp_seconds",]
    with pytest.raises(urllib.error.URLError):
        values_of(address)


def test_it_shows_nothing_else_and_stays_on_loopback(tmp_path: Path) -> None:
    with served(tmp_path, _free()) as address:
        port = int(address.rpartition(":")[2].partition("/")[0])
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(address.replace("/metrics", "/metrics.prom"), timeout=60)
        refused.value.close()
        # Another address of this machine is free: the page has taken 127.0.0.1 alone.
        socket.create_server(("127.0.0.2", port)).close()


def test_a_port_that_is_taken_is_refused_where_it_was_asked_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ClusterError, match=f"Port {port} .* Choose another with --metrics-port"),
            served(tmp_path, port),
        ):
            pass
        with served(tmp_path, port, exactly=False) as address:
            assert f":{port}/" not in address
            assert values_of(address)["wells_total",] == 0


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
