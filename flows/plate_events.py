"""What happened to plates in, events on Prefect's server out, on which somebody's own automations can be built.

``hcs-nuclei.plate.completed``, ``.quarantined``, ``.failed``, ``.crashed`` and ``.cancelled`` when a run ends,
``.held`` when the watcher holds a plate, ``hcs-nuclei.night.without-plates`` once for a night,
``hcs-nuclei.root.missing`` when a watched place cannot be seen. The resource of a plate is ``hcs-nuclei.plate.<name>``;
its run, flow, deployment and tags are related.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events import emit_event
from prefect.flows import Flow

from flows.endings import QUARANTINED
from flows.notifying import Message

PLATE = "hcs-nuclei.plate"
HELD = f"{PLATE}.held"
NO_PLATES = "hcs-nuclei.night.without-plates"
MISSING = "hcs-nuclei.root.missing"
#: Event and kind of resource of each kind of message that is no end of a run, and so no event of Prefect's own.
TOLD_BY_WATCHER = {
    "held": (HELD, PLATE),
    "none_finished": (NO_PLATES, "hcs-nuclei.night"),
    "root_missing": (MISSING, "hcs-nuclei.root"),
}
_ENDS = {
    StateType.COMPLETED: "completed",
    StateType.FAILED: "failed",
    StateType.CRASHED: "crashed",
    StateType.CANCELLED: "cancelled",
    StateType.CANCELLING: "cancelled",
}


def emit_end(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Say how the run of a plate ended; a hook of its flow, which the worker calls where the process is gone."""
    given = flow_run.parameters.get("parameters", {})
    given = given if isinstance(given, dict) else given.model_dump(mode="json")
    plate = given.get("settings", {}).get("plate_name") or Path(given.get("plate", "")).name
    end = "quarantined" if state.name == QUARANTINED else _ENDS[state.type]
    emit_event(
        f"{PLATE}.{end}",
        {"prefect.resource.id": f"{PLATE}.{plate}", "prefect.resource.name": plate},
        related=_related(flow, flow_run),
        payload={
            "plate": plate,
            "text": state.message or "",
            "root": given.get("plate", ""),
            "out": given.get("out", ""),
            "flow_run": str(flow_run.id),
        },
    )


def emit_message(message: Message) -> None:
    """Say what the watcher found, which is no end of a run; the same message is the same event."""
    event, resource = TOLD_BY_WATCHER[message.kind]
    name = message.plate or message.root or "night"
    emit_event(
        event,
        {"prefect.resource.id": f"{resource}.{name}", "prefect.resource.name": name},
        payload=message.model_dump(include={"plate", "title", "text", "root"}),
        id=uuid5(NAMESPACE_URL, message.key),
    )


def _related(flow: Flow[Any, Any], run: FlowRun) -> list[dict[str, str]]:
    ids = {
        "flow-run": (f"prefect.flow-run.{run.id}", run.name),
        "flow": (f"prefect.flow.{run.flow_id}", flow.name),
        **({"deployment": (f"prefect.deployment.{run.deployment_id}", "")} if run.deployment_id else {}),
    }
    tags = [(f"prefect.tag.{tag}", "") for tag in sorted(run.tags)]
    return [
        {"prefect.resource.id": identifier, "prefect.resource.role": role, "prefect.resource.name": name}
        for role, (identifier, name) in [*ids.items(), *(("tag", tag) for tag in tags)]
    ]
