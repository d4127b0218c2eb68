"""Runs of plates on a Prefect server: asked for once, followed to their ends, given up where their heart stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from flows.endings import QUARANTINED
from flows.heartbeats import end_lost, was_cancelling, why_lost
from flows.ledger import DONE, UNDER_WAY, Entry, State, is_key
from hcs_nuclei.errors import ClusterError, RunConflictError
from hcs_nuclei.outputs.provenance import read_record

#: How often a plate is begun again whose run was ended from outside (a killed worker, a stopped service).
ATTEMPTS = 3
#: What Prefect says of the runs of a process that is told to stop.
_RUNNER_STOPPED = "Runner is shutting down."
STOPPED = "the service was stopped"
#: Flows whose runs somebody begins, or the clock.
_FLOWS = ["process-plate", "process-screen", "train-model", "mail-digest"]
_ENDS: dict[StateType, State] = {
    StateType.COMPLETED: "completed",
    StateType.FAILED: "failed",
    StateType.CANCELLED: "cancelled",
    StateType.CRASHED: "crashed",
}


class ServerAwayError(ClusterError):
    """Prefect's server does not answer for now; asked again later, it may."""


class NoDeploymentError(ClusterError):
    """Prefect's server has no such deployment."""


def now() -> str:
    """The time as entries have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def room(client: SyncPrefectClient, deployment: str) -> int:
    """How many runs can be asked for: one for each free place, or one that waits for a place, less those that wait now.

    Of runs that wait together, Prefect gives a free place to any. So never more than one waits, and that one is next.

    Raises:
        ClusterError: there is no such deployment.
    """
    try:
        found = client.read_deployment_by_name(deployment)
    except ObjectNotFound:
        raise _no_deployment(deployment) from None
    if found.global_concurrency_limit is None:
        return sys.maxsize
    if not (limit := found.global_concurrency_limit.limit):
        return 0
    unfinished = {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING", "CANCELLING"]}}}
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate(unfinished),
        deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [found.id]}}),
    )
    soon = datetime.now(UTC) + timedelta(minutes=1)
    waiting = sum(run.state_type is StateType.SCHEDULED and _due(run) <= soon for run in runs)
    taken = sum(run.state_type is not StateType.SCHEDULED for run in runs)
    return max(limit - taken, 1) - waiting


def _due(run: FlowRun) -> datetime:
    return run.next_scheduled_start_time or run.expected_start_time or datetime.now(UTC)


def begin(entry: Entry, deployment: str, keep: Callable[[Entry], None]) -> Entry:
    """Ask for the run of `entry`, which is ``starting``; asked again with the same attempt, it is the same run.

    Raises:
        ClusterError: there is no such deployment, or the server refuses what it is given; the entry stays as it is.
        ServerAwayError: the server does not answer; the entry stays as it is.
    """
    keep(entry)
    run = ask_for_run(
        deployment,
        entry.parameters,
        name=Path(entry.root).name,
        key=entry.key,
        otherwise="It is asked again.",
        as_subflow=False,
    )
    begun = entry.model_copy(update={"state": "begun", "flow_run": str(run)})
    keep(begun)
    return begun


def ask_for_run(
    deployment: str, parameters: Mapping[str, Any], *, name: str, key: str, otherwise: str, as_subflow: bool
) -> UUID:
    """The id of a run of a plate; asked for again with the same `key`, it is the same run.

    Args:
        deployment: ``flow/deployment``.
        parameters: the form of the run, as JSON has it.
        name: of the plate, by which the run is called.
        key: Prefect's idempotency key.
        otherwise: what happens, or is to be done, where the server makes no run.
        as_subflow: whether it belongs to the run that asks.

    Raises:
        ServerAwayError: the server does not answer.
        ClusterError: there is no such deployment, or the server refuses what it is given.
    """
    try:
        run = run_deployment(
            deployment,
            parameters={"parameters": dict(parameters)},
            flow_run_name=f"process-{name}",
            idempotency_key=key,
            timeout=0,
            as_subflow=as_subflow,
        )
    except ObjectNotFound:
        raise _no_deployment(deployment) from None
    except httpx.HTTPStatusError as error:
        if not is_refusal(error):
            raise ServerAwayError(_no_run(parameters, error, otherwise)) from None
        said = f"{error.response.status_code}: {error.response.text[:300]}"
        raise ClusterError(_no_run(parameters, said, "Mend what it says, or start the service again.")) from None
    except httpx.HTTPError as error:
        raise ServerAwayError(_no_run(parameters, error, otherwise)) from None
    assert isinstance(run, FlowRun)
    return run.id


def is_refusal(error: Exception) -> bool:
    """Whether the server answered, and will not answer otherwise the next time."""
    busy = {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS}
    return (
        isinstance(error, httpx.HTTPStatusError)
        and not error.response.is_server_error
        and error.response.status_code not in busy
    )


def _no_run(parameters: Mapping[str, Any], why: object, otherwise: str) -> str:
    return f"Prefect's server made no run of {parameters['plate']} ({why}). {otherwise}"


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
    if (lost := why_lost(client, run, stale)) is not None:
        state = end_lost(client, run, lost)
    became, message = _ENDS.get(state.type, "begun"), state.message or ""
    if became == "completed" and state.name == QUARANTINED:
        became = "quarantined"
    if became == "cancelled" and message == _RUNNER_STOPPED:
        became, message = "crashed", STOPPED
    # What an automation or a worker that stops ends does not ask whether somebody had cancelled it.
    if became == "crashed" and entry.state in {*UNDER_WAY, "cancelled"} and was_cancelling(client, run):
        became = "cancelled"
    if became not in {"begun", *DONE} and _finished_otherwise(entry):
        became, message = "completed", "finished by another run"
    if became == "begun":
        message = {"AwaitingConcurrencySlot": "waits its turn"}.get(state.name or "", (state.name or "").lower())
    ended = "" if became == "begun" else (entry.run_count in {0, run.run_count} and entry.ended) or now()
    return entry.model_copy(update={"state": became, "reason": message, "ended": ended, "run_count": run.run_count})


def failed_besides(client: SyncPrefectClient, since: datetime) -> list[FlowRun]:
    """The runs of deployments that failed or were ended from outside `since` then and that no watcher begins.

    Trainings, screens, the mail, and plates that somebody began by hand; a plate of a screen is told of by the screen.
    """
    ended = {
        "state": {"type": {"any_": ["FAILED", "CRASHED"]}},
        "tags": {"all_": ["hcs-nuclei"]},
        "end_time": {"after_": since},
    }
    runs = client.read_flow_runs(
        flow_filter=FlowFilter.model_validate({"name": {"any_": _FLOWS}}),
        flow_run_filter=FlowRunFilter.model_validate(ended),
        sort=FlowRunSort.END_TIME_DESC,
    )
    return [run for run in runs if run.deployment_id is not None and not is_key(run.idempotency_key)]


def again(entry: Entry) -> Entry | None:
    """The next attempt at a plate whose run was ended from outside; None where there was none, or there were enough.

    It is queued behind the others, which a plate that takes its worker with it must not hold up; where the service was
    stopped, in front.
    """
    stopped = entry.stopped + (entry.reason == STOPPED)
    if entry.state != "crashed" or entry.attempt - stopped >= ATTEMPTS:
        return None
    new = {"state": "queued", "attempt": entry.attempt + 1, "flow_run": "", "begun": "", "ended": "", "run_count": 0}
    new["stopped"] = stopped
    ready = entry.ready if entry.reason == STOPPED else now()
    return entry.model_copy(update={**new, "ready": ready, "reason": f"is begun again: {entry.reason}"})


def _no_deployment(deployment: str) -> NoDeploymentError:
    return NoDeploymentError(
        f"Prefect's server has no deployment {deployment}. Start hcs-nuclei serve, or deploy prefect.yaml."
    )


def _finished_otherwise(entry: Entry) -> bool:
    """Whether the plate's run directory says that it was finished since it was begun here."""
    try:
        record = read_record(Path(entry.run_dir))
    except (RunConflictError, OSError):
        return False
    return bool(record and record.finished and record.finished >= entry.begun)
