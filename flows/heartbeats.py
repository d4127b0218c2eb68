"""Runs that are under way in, those whose process is gone out: by the heartbeat that each one sends while it lives."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Crashed

HEARTBEAT = "prefect.flow-run.heartbeat"
#: So many may be missed: a busy server or a short fault of the network is no death.
_MISSED = 3
_LEAST = timedelta(minutes=3)
#: A run that has a place and does not start: longer than a process or a pod takes, and than Prefect keeps the place.
STARTS_WITHIN = timedelta(minutes=10)


def patience(minutes: float | None = None) -> timedelta:
    """How long a run may be silent: so many `minutes`, else three of the heartbeats that runs send here."""
    if minutes is not None:
        return timedelta(minutes=minutes)
    every = get_current_settings().flows.heartbeat_frequency
    return max(_LEAST, timedelta(seconds=_MISSED * (every or 0)))


def why_lost(client: SyncPrefectClient, run: FlowRun, silent: timedelta) -> str | None:
    """Why a run is given up, in words; None where it lives, or where nothing tells.

    A run whose worker sends no heartbeats (``PREFECT_FLOWS_HEARTBEAT_FREQUENCY`` is empty) is never given up, unless
    somebody cancelled it: that takes a living worker seconds.
    """
    state = run.state
    if state is None or state.type not in {StateType.RUNNING, StateType.PENDING, StateType.CANCELLING}:
        return None
    if state.type is StateType.PENDING:
        if _age(state.timestamp) <= max(silent, STARTS_WITHIN):
            return None
        return f"The run has not started since {state.timestamp:%Y-%m-%d %H:%M} UTC, without a heartbeat; it was lost."
    last = _last_heartbeat(client, run)
    if last is None and state.type is StateType.CANCELLING and _age(state.timestamp) > max(silent, STARTS_WITHIN):
        return (
            f"The run has been cancelling since {state.timestamp:%Y-%m-%d %H:%M} UTC, without a heartbeat; it is gone."
        )
    # A run that is begun again has sent none yet, and the last one is of its former attempt.
    if last is None or _age(max(last, state.timestamp) if run.run_count > 1 else last) <= silent:
        return None
    return f"The run's heartbeat stopped at {last:%Y-%m-%d %H:%M} UTC; its process is gone."


def end_lost(client: SyncPrefectClient, run: FlowRun, why: str) -> State[Any]:
    """End a run whose process is gone, and the state that it has then: what was to be cancelled is cancelled."""
    cancelling = run.state is not None and run.state.type is StateType.CANCELLING
    state: State[Any] = Cancelled(message=why) if cancelling else Crashed(message=why)
    client.set_flow_run_state(run.id, state, force=True)
    return state


def was_cancelling(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether somebody had cancelled a run that has ended; who ended it may have said something else."""
    before = [state for state in client.read_flow_run_states(run.id) if not state.is_final()]
    return bool(before) and max(before, key=lambda state: state.timestamp).type is StateType.CANCELLING


def _last_heartbeat(client: SyncPrefectClient, run: FlowRun) -> datetime | None:
    query = {
        "filter": {
            "event": {"name": [HEARTBEAT]},
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
