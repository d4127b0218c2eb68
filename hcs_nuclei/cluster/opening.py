"""A cluster's name in, a client of it out; what was started for it is stopped at the end."""

from __future__ import annotations

import gc
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client
from distributed.versions import VersionMismatchWarning

from hcs_nuclei.cluster.address import scheduler_address
from hcs_nuclei.cluster.elastic import elastic_cluster, is_elastic
from hcs_nuclei.cluster.local import own_cluster, visible_gpus
from hcs_nuclei.cluster.workers import facts, running_workers
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
        ClusterError: no such form, an open door (plain tcp to another host), nobody answers, no worker, no GPU,
            or other versions there than here.
    """
    if workers is not None and workers < 1:
        raise ClusterError(f"{workers} workers were asked for; expected 1 or more.")
    with _quiet():
        if spec in {"local", "local-gpu"}:
            with own_cluster(visible_gpus(), workers, gpu_required=spec == "local-gpu") as client:
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
                _wait_for_worker(client, address, wait_s)
                _check_versions(client, address)
                yield client
            return
        client = _connect(address)
        try:
            _wait_for_worker(client, address, _FIRST_WORKER_S)
            _check_versions(client, address)
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # ours names more packages, and is an error
            return Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        why = str(error)
    # The half-made client ends here: collected while the next one starts, it would wait for a lock of its own thread.
    gc.collect()
    raise ClusterError(f"No Dask scheduler answers at {address} ({why}). {advice}")


def _wait_for_worker(client: Client, address: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    advice = f"Start one where this package is installed: dask worker {address} --nthreads 1"
    if is_elastic(address):
        advice = "Look at the jobs or pods that were asked for and at their logs, or raise wait_minutes in that file."
    while not running_workers(client):
        if time.monotonic() > end:
            raise ClusterError(
                f"The Dask scheduler at {address} has no worker that takes work, after {seconds:.0f} s. {advice}"
            )
        time.sleep(0.2)


def _check_versions(client: Client, address: str) -> None:
    here = facts()["versions"]
    faults = set()
    for found in client.run(facts, on_error="return").values():
        if isinstance(found, BaseException):
            faults.add(f"a worker cannot import this package ({found})")
            continue
        there = found["versions"]
        faults |= {
            f"{name} is {there.get(name, 'missing')} on a worker and {version} here"
            for name, version in here.items()
            if there.get(name) != version
        }
    if faults:
        raise ClusterError(
            f"The workers at {address} differ from this machine, so their results could too:\n  "
            + "\n  ".join(sorted(faults))
            + "\nInstall the same requirements.lock in both places."
        )


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
