"""A limit that processing and training share, where somebody made one on the Prefect server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger

#: Name of the global concurrency limit: ``prefect gcl create hcs-nuclei --limit 2``.
SHARED_LIMIT = "hcs-nuclei"


@contextmanager
def place_on_machine() -> Iterator[None]:
    """Hold one place of the shared limit while a cluster works; where there is no such limit, all may at once.

    The limit of a deployment knows nothing of the others': a plate, a plate of a screen and a training on one machine
    have its cores and its memory in common. A run that dies gives its place back within minutes, when its lease ends.
    """
    if not _is_set():
        yield
        return
    get_run_logger().info("Takes its turn under the limit %s, which plates and trainings share.", SHARED_LIMIT)
    # A server that is away for a while is outlasted by the work, so it must be by the lease.
    with concurrency(SHARED_LIMIT, raise_on_lease_renewal_failure=False):
        yield


def _is_set() -> bool:
    with get_client(sync_client=True) as client:
        try:
            return bool(client.read_global_concurrency_limit_by_name(SHARED_LIMIT).active)
        except ObjectNotFound:
            return False
