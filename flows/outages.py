"""A Prefect server that is away for a while is no reason for a worker to give up what it does.

Prefect's own loops end with the third failure in a row. The one that picks runs up takes the worker and all of its runs
with it; the one that looks for cancelled runs leaves runs behind that nobody can cancel any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import httpx
from prefect._internal import observers
from prefect.logging import get_logger
from prefect.runner import _scheduled_run_poller
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

_REPLACED = "critical_service_loop"


def outlast_outages() -> None:
    """Let the loops of this process's runner go on until the server answers again, however long that takes."""
    setattr(_scheduled_run_poller, _REPLACED, patient_loop)
    setattr(observers, _REPLACED, _look_for_cancelled)


async def patient_loop(
    workload: Callable[[], Awaitable[None]], interval: float, *, run_once: bool = False, jitter_range: float = 0.0
) -> None:
    """Call `workload` every `interval` seconds; that the server does not answer is said once, and when it does again.

    Takes the arguments of the loop of Prefect that it stands in for; several workers of one kind, for which
    `jitter_range` is meant, there are none.
    """
    away = False
    while True:
        try:
            await workload()
            if away:
                get_logger("runner").info("Prefect's server answers again.")
            away = False
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500:
                raise
            if not away:
                get_logger("runner").warning("Prefect's server does not answer (%s); it is waited for.", error)
            away = True
        if run_once:
            return
        await anyio.sleep(interval)


async def _look_for_cancelled(
    workload: Callable[[], Awaitable[None]], interval: float, *, jitter_range: float = 0.0
) -> None:
    # Asked again at the next turn and not by Prefect's client, which pauses longer each time: a run that is cancelled
    # after an outage has to stop soon.
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        await patient_loop(workload, interval, jitter_range=jitter_range)
