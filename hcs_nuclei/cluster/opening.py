"""A cluster's name in, a client of it out; what was started for it is stopped at the end."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client

from hcs_nuclei.cluster.address import GPU, scheduler_address
from hcs_nuclei.cluster.elastic import elastic_cluster, is_elastic
from hcs_nuclei.cluster.fitting import check_workers
from hcs_nuclei.cluster.local import own_cluster, visible_gpus
from hcs_nuclei.cluster.workers import connect, known_workers, takes_work
from hcs_nuclei.errors import ClusterError

_CONNECT_S = 10.0
_FIRST_WORKER_S = 30.0


@contextmanager
def open_cluster(spec: str = "local", *, workers: int | None = None) -> Iterator[Client]:
    """A client of the cluster that `spec` names; what was started for it is stopped at the end.

    Args:
        spec: one of `hcs_nuclei.cluster.address.FORMS`; a path to an existing file counts as ``file:PATH``.
        workers: number of processes on this machine, None for one to each core that has memory for it (to each GPU
            where there are any). A running cluster has workers of its own, so it is refused with one.

    Raises:
        ClusterError: no such form, an open door (plain tcp to another host), nobody answers, no worker, no GPU
            where one was asked for, or none with the versions that are here.
    """
    if workers is not None and workers < 1:
        raise ClusterError(f"{workers} workers were asked for; expected 1 or more.")
    gpu = spec == "local-gpu" or spec.startswith(GPU)
    spec = spec.removeprefix(GPU)
    with _quiet():
        if spec in {"local", "local-gpu"}:
            with own_cluster(visible_gpus(), workers, gpu_required=gpu) as client:
                yield client
            return
        elastic = is_elastic(spec)
        address = spec if elastic else scheduler_address(spec)
        if workers is not None:
            raise ClusterError(
                f"{workers} workers were asked for, but the cluster at {address} brings its own. Leave --workers out, "
                "or start them there."
            )
        if elastic:
            with elastic_cluster(spec) as (client, wait_s):
                _wait_for_worker(client, address, wait_s, gpu=gpu)
                yield client
            return
        client = _connect(address)
        try:
            _wait_for_worker(client, address, _FIRST_WORKER_S, gpu=gpu)
            yield client
        finally:
            client.close()


def _connect(address: str) -> Client:
    advice = "Is the scheduler running, and does that address reach it from here?"
    if address.startswith("tls:"):
        advice += (
            " The certificates come from Dask's configuration: DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY."
        )
    try:
        return connect(address, _CONNECT_S)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        why = str(error)
    # The half-made client ends here: collected while the next one starts, it would wait for a lock of its own thread.
    gc.collect()
    raise ClusterError(f"No Dask scheduler answers at {address} ({why}). {advice}")


def _wait_for_worker(client: Client, address: str, seconds: float, *, gpu: bool) -> None:
    """Wait for a worker, and where a GPU was asked for for one that has it; refuse where none comes or none fits."""
    end = time.monotonic() + seconds
    wanted = {"GPU": 1.0} if gpu else None
    while True:
        known = known_workers(client)
        if any(takes_work(worker, wanted) for worker in known.values()):
            break
        if time.monotonic() > end:
            raise ClusterError(_no_worker(address, seconds, without_gpu=len(known) if gpu else 0))
        time.sleep(0.2)
    check_workers(client, where=address)


def _no_worker(address: str, seconds: float, *, without_gpu: int) -> str:
    if without_gpu:
        return (
            f"A GPU was asked for, but none of the {without_gpu} workers at {address} has one, after {seconds:.0f} s. "
            'Start a worker for each GPU with CUDA_VISIBLE_DEVICES=… and --resources "GPU=1", or leave gpu: out.'
        )
    advice = f"Start one where this package is installed: dask worker {address} --nthreads 1"
    if is_elastic(address):
        advice = "Look at the jobs or pods that were asked for and at their logs, or raise wait_minutes in that file."
    return f"The Dask scheduler at {address} has no worker that takes work, after {seconds:.0f} s. {advice}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask's own logging off: what matters comes as an exception or through `on_lost`."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "distributed.gc")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(_not_from_dask)
    try:
        yield
    finally:
        logging.getLogger("asyncio").removeFilter(_not_from_dask)
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _not_from_dask(record: logging.LogRecord) -> bool:
    """False for tasks that Dask abandons with an error of its own, as it does when a worker dies with a result."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not kind.__module__.startswith("distributed")
