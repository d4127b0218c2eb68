"""Runs of plates on a Prefect server: asked for once, followed to their ends, given up where their heart stopped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.endings import QUARANTINED
from flows.ledger import DONE, UNDER_WAY, Entry, State
from hcs_nuclei.errors import ClusterError, RunConflictError
from hcs_nuclei.outputs.provenance import read_record

#: How often a plate is begun again whose run was ended from outside (a killed worker, a stopped service).
ATTEMPTS = 3
_HEARTBEAT = "prefect.flow-run.heartbeat"
#: What Prefect says of the runs of a process that is told to stop.
_STOPPED = "Runner is shutting down."
_ENDS: dict[StateType, State] = {
    StateType.COMPLETED: "completed",
    StateType.FAILED: "failed",
    StateType.CANCELLED: "cancelled",
    StateType.CRASHED: "crashed",
}


def now() -> str:
    """The time as entries have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def begin(entry: Entry, deployment: str, keep: Callable[[Entry], None]) -> Entry:
    """Ask for the run of `entry`, which is ``starting``; asked again with the same attempt, it is the same run.

    Raises:
        ClusterError: there is no such deployment, or the server does not answer; the entry stays as it is.
    """
    keep(entry)
    try:
        run = run_deployment(
            deployment,
            parameters={"parameters": entry.parameters},
            flow_run_name=f"process-{Path(entry.root).name}",
            idempotency_key=entry.key,
            timeout=0,
            as_subflow=False,
        )
    except ObjectNotFound:
        raise ClusterError(
            f"Prefect's server has no deployment {deployment}. Start hcs-nuclei serve, or deploy prefect.yaml."
        ) from None
    except httpx.HTTPError as error:
        raise ClusterError(f"Prefect's server made no run of {entry.root} ({error}). It is asked again.") from None
    assert isinstance(run, FlowRun)
    begun = entry.model_copy(update={"state": "begun", "flow_run": str(run.id)})
    keep(begun)
    return begun


def follow(client: SyncPrefectClient, entry: Entry, *, stale: timedelta) -> Entry:
    """`entry` with what became of its run; one without a heartbeat for `stale` is ended, and gives its place free."""
    if entry.state in DONE or not entry.flow_run:
        return entry
    try:
        run = client.read_flow_run(UUID(entry.flow_run))
    except ObjectNotFound:
        gone = {"state": "crashed", "reason": "the server does not know its run any more"}
        return entry.model_copy(update={**gone, "ended": now()}) if entry.state in UNDER_WAY else entry
    state = run.state
    if state is None:
        return entry
    if state.type is StateType.RUNNING and (silent := _silent_since(client, run)) and _age(silent) > stale:
        state = Crashed(message=f"The run's heartbeat stopped at {silent:%Y-%m-%d %H:%M} UTC; its worker is gone.")
        client.set_flow_run_state(run.id, state, force=True)
    became, message = _ENDS.get(state.type, "begun"), state.message or ""
    if became == "completed" and state.name == QUARANTINED:
        became = "quarantined"
    if became == "cancelled" and message == _STOPPED:
        became, message = "crashed", "the service was stopped"
    if became not in {"begun", *DONE} and _finished_otherwise(entry):
        became, message = "completed", "finished by another run"
    if became == "begun":
        message = {"AwaitingConcurrencySlot": "waits its turn"}.get(state.name or "", (state.name or "").lower())
    ended = "" if became == "begun" else entry.ended or now()
    return entry.model_copy(update={"state": became, "reason": message, "ended": ended})


def again(entry: Entry) -> Entry | None:
    """The next attempt at a plate whose run was ended from outside; None where there was none, or there were enough."""
    if entry.state != "crashed" or entry.attempt >= ATTEMPTS:
        return None
    return entry.model_copy(
        update={"state": "starting", "attempt": entry.attempt + 1, "flow_run": "", "begun": now(), "ended": ""}
    )


def _silent_since(client: SyncPrefectClient, run: FlowRun) -> datetime | None:
    """The last heartbeat of a run; None where it never had one."""
    query = {
        "filter": {
            "event": {"name": [_HEARTBEAT]},
            "resource": {"id": [f"prefect.flow-run.{run.id}"]},
            "order": "DESC",
        },
        "limit": 1,
    }
    with suppress(httpx.HTTPError, ValueError):
        events = client.request("POST", "/events/filter", json=query).json()["events"]
        if events:
            return datetime.fromisoformat(events[0]["occurred"])
    return None


def _age(moment: datetime) -> timedelta:
    return datetime.now(UTC) - moment


def _finished_otherwise(entry: Entry) -> bool:
    """Whether the plate's run directory says that it was finished since it was begun here."""
    try:
        record = read_record(Path(entry.run_dir))
    except (RunConflictError, OSError):
        return False
    return bool(record and record.finished and record.finished >= entry.begun)
