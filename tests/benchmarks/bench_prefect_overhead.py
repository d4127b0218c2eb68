"""What Prefect adds to a plate: the same plate with and without it, in turn, on one cluster and one running server.

    python tests/benchmarks/bench_prefect_overhead.py [--wells 96] [--size 1080] [--workers N] [--repeats 3]

Simulates the plate first. One cluster serves all runs and is warm before the first that counts; each run writes to a
directory of its own. The order is plain, Prefect, Prefect, plain and so on, so that a machine that gets slower counts
for both. What Prefect costs besides, to be imported and to find its server, is told apart.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from hcs_nuclei.cluster import open_cluster
from hcs_nuclei.simulate import simulate_plate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wells", type=int, default=96)
    parser.add_argument("--size", type=int, default=1080)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--repeats", type=int, default=3, help="of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ["PREFECT_HOME"] = str(place / "prefect")  # before Prefect is imported
        (place / "prefect").mkdir()
        plate = simulate_plate(place / "plates", wells=arguments.wells, size=arguments.size, name="BENCH").directory
        with open_cluster("local", workers=arguments.workers) as client, _shared(client), _server(place):
            _plain(plate, place / "warm")
            seconds: dict[str, list[float]] = {"plain": [], "prefect": []}
            for number in range(arguments.repeats):
                for kind in ("plain", "prefect") if number % 2 == 0 else ("prefect", "plain"):
                    run = _plain if kind == "plain" else _with_prefect
                    started = time.perf_counter()
                    run(plate, place / f"{kind}-{number}")
                    seconds[kind].append(time.perf_counter() - started)
                    print(f"{kind:8} {seconds[kind][-1]:7.2f} s", flush=True)
    plain, prefect = (statistics.median(seconds[kind]) for kind in ("plain", "prefect"))
    load = psutil.getloadavg()[0]
    print(f"{arguments.wells} wells of {arguments.size} px, {psutil.cpu_count()} cores, load at the end {load:.1f}")
    print(f"median without Prefect {plain:.2f} s, with it {prefect:.2f} s: {100 * (prefect / plain - 1):+.1f} %")


def _plain(plate: Path, out: Path) -> None:
    from hcs_nuclei.pipeline.run import process_plate

    assert process_plate(plate, out).exit_status == 0


def _with_prefect(plate: Path, out: Path) -> None:
    from flows.parameters import ProcessPlateParameters
    from flows.process_plate import run_process_plate

    assert run_process_plate(ProcessPlateParameters(plate=str(plate), out=str(out))).exit_status == 0


@contextmanager
def _shared(client: Any) -> Iterator[None]:
    """Every run of this process goes to `client`, whatever cluster it asks for."""

    @contextmanager
    def open_shared(spec: str = "local", *, workers: int | None = None) -> Iterator[Any]:
        yield client

    import flows.process_plate  # noqa: F401 - it has the name of its own

    with patch("hcs_nuclei.cluster.open_cluster", open_shared), patch("flows.process_plate.open_cluster", open_shared):
        yield


@contextmanager
def _server(place: Path) -> Iterator[None]:
    """A server that stays for all runs, which they find as those of a user do."""
    started = time.perf_counter()
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.server import server_process

    imported = time.perf_counter()
    database = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{place / 'prefect.db'}"}
    with server_process({**os.environ, **database}, place / "server.log") as server:
        up = time.perf_counter() - imported
        print(f"Prefect imported in {imported - started:.1f} s, its server up {up:.1f} s later")
        with temporary_settings({PREFECT_API_URL: server.url}):
            yield


if __name__ == "__main__":
    main()
