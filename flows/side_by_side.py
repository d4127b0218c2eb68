"""Plates in, a run of its own for each out: asked for in their order, followed to their ends, stopped together."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed

from flows.heartbeats import end_lost, patience, why_lost
from flows.parameters import ProcessPlateParameters
from flows.service_runs import ServerAwayError, ask_for_run, is_refusal, room

_ASK_AGAIN_S = 5.0


def process_side_by_side(
    plates: Sequence[ProcessPlateParameters],
    deployment: str,
    at_once: int | None,
    keys: Sequence[str],
    say: Callable[[str], object],
) -> dict[str, State[Any]]:
    """Each plate as a run of `deployment`, as many at a time as it has room for; the state in which each ended.

    A run whose process is gone ends as *Crashed*, one that somebody cancels as *Cancelled*; neither stops the others.
    A server that does not answer is asked again until it does. Whatever ends this function before they are done, a
    cancelling of the screen above all, cancels them.

    Args:
        plates: in the order in which they are begun.
        deployment: ``flow/deployment``; of its runs that wait for a place, never more than one is ours.
        at_once: at most so many, though there be more room; None for as many as there is room for.
        keys: of the whole, one for each time that it was begun, the first one first. A plate's run of an earlier time
            is gone on with, unless it came to no good end: then the plate gets another.
        say: told when a plate is begun and when it ended.

    Raises:
        ClusterError: there is no such deployment, or the server refuses to make a run of a plate.
    """
    waiting, ends = deque(enumerate(plates)), dict[str, State[Any]]()
    under_way: dict[str, UUID] = {}
    away = False
    with get_client(sync_client=True) as client:

        def take_a_look() -> None:
            for plate, run in list(under_way.items()):
                if (state := _end(client, run)) is not None:
                    del under_way[plate]
                    ends[plate] = state
                    say(f"{plate}: {state.name}. {state.message or ''}".rstrip(". ") + ".")
            free = min(room(client, deployment), (at_once or sys.maxsize) - len(under_way)) if waiting else 0
            for _ in range(min(free, len(waiting))):
                number, parameters = waiting[0]
                run = _run_of(client, parameters, deployment, [f"{key}-{number}" for key in keys])
                waiting.popleft()
                under_way[parameters.plate] = run
                say(f"{parameters.plate}: begun as run {run}.")

        try:
            while waiting or under_way:
                try:
                    take_a_look()
                    if away:
                        say("Prefect's server answers again.")
                    away = False
                except (httpx.HTTPError, ServerAwayError) as error:
                    if is_refusal(error):
                        raise
                    if not away:
                        say(f"Prefect's server does not answer ({error}); it is waited for.")
                    away = True
                if under_way or waiting:
                    time.sleep(_ASK_AGAIN_S)
        finally:
            for run in under_way.values():
                with suppress(ObjectNotFound, httpx.HTTPError):  # of one it must not keep the others going
                    client.set_flow_run_state(run, Cancelling(message="The screen that it belongs to was stopped."))
    return {parameters.plate: ends[parameters.plate] for parameters in plates}


def _run_of(
    client: SyncPrefectClient, parameters: ProcessPlateParameters, deployment: str, keys: Sequence[str]
) -> UUID:
    """The run of a plate: the first of those with `keys` that did not come to a bad end, or a new one for the last."""
    asked = FlowRunFilter.model_validate({"idempotency_key": {"any_": list(keys[:-1])}})
    former = {run.idempotency_key: run for run in client.read_flow_runs(flow_run_filter=asked)} if keys[1:] else {}
    for run in (former[key] for key in keys if key in former):
        if run.state is None or not run.state.is_final() or run.state.is_completed():
            return run.id
    return ask_for_run(
        deployment,
        parameters.model_dump(mode="json"),
        name=parameters.name,
        key=keys[-1],
        otherwise="It is asked again.",
        as_subflow=True,
    )


def _end(client: SyncPrefectClient, run_id: UUID) -> State[Any] | None:
    """The state in which a run ended; None while it is under way. One whose process is gone is ended here."""
    try:
        run = client.read_flow_run(run_id)
    except ObjectNotFound:
        return Crashed(message="the server does not know its run any more")
    if run.state is None:
        return None
    if (lost := why_lost(client, run, patience())) is not None:
        return end_lost(client, run, lost)
    return run.state if run.state.is_final() else None
