"""``notify.yaml`` in, Prefect automations on a server out, created or brought up to date.

They are for a server that several workers share, and that has to notice when a worker, or the machine of one, is gone.
The watcher of :mod:`flows.watch_plates` tells of the same without them where it has a ``notify.yaml`` of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from prefect.blocks.core import Block
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.types import SecretDict
from pydantic import SecretStr

from flows.endings import QUARANTINED
from flows.heartbeats import HEARTBEAT, STARTS_WITHIN, patience
from flows.notify_settings import Notify, Target
from flows.notifying import Message, payload
from flows.plate_events import HELD, MISSING, NO_PLATES
from hcs_nuclei.errors import SettingsError

#: What all of ours are called, by which those that are no longer wanted are found.
PREFIX = "hcs-nuclei: "
_BLOCKS = "hcs-nuclei-"
_RUN = "prefect.flow-run."
_ENDS = {f"{_RUN}{name}" for name in ("Completed", QUARANTINED, "Failed", "Crashed", "Cancelled")}
_TAG = {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.hcs-nuclei"}
#: A plate of a screen is a run within a run, of which the screen's own end tells.
_DEPLOYED = {"prefect.resource.role": "deployment", "prefect.resource.id": "prefect.deployment.*"}


@dataclass(frozen=True)
class _Told:
    """What is said of an event: expressions of Jinja, as Prefect's server evaluates them."""

    kind: str
    title: str
    text: str
    plate: str = "''"
    root: str = "''"
    flow_run: str = "''"


def _told_of_run(kind: str, what: str) -> _Told:
    given = "(flow_run.parameters.get('parameters') or {})"
    return _Told(
        kind,
        f"flow_run.name ~ ' {what}'",
        "flow_run.state.message or ''",
        "flow_run.name | replace('process-', '')",
        f"{given}.get('plate', '')",
        "flow_run.id | string",
    )


def rules(notify: Notify) -> list[tuple[str, EventTrigger, _Told | Literal["ended"]]]:
    """Each automation: its name, when it acts, and what is told then; ``ended`` where it ends a run that is lost."""
    work = _of("process-plate", "process-screen", "train-model", "mail-digest")
    each = {"prefect.resource.id"}
    found = "event.payload['{}']".format
    watched = {f"{_RUN}Completed"}
    lost = "'heartbeat' if 'heartbeat' in (flow_run.state.message or '') else 'crashed'"
    return [
        (
            "end runs without a heartbeat",
            _silence({HEARTBEAT}, {HEARTBEAT, *_ENDS}, patience(notify.stale_minutes), [_TAG], each),
            "ended",
        ),
        (
            "end runs that do not start",
            _silence({f"{_RUN}Pending"}, {f"{_RUN}{name}" for name in _LEAVES_PENDING}, STARTS_WITHIN, [_TAG], each),
            "ended",
        ),
        ("failed", _event(f"{_RUN}Failed", work), _told_of_run("'failed'", "failed")),
        ("ended from outside", _event(f"{_RUN}Crashed", work), _told_of_run(lost, "was ended from outside")),
        (
            "quarantined wells",
            _event(f"{_RUN}{QUARANTINED}", work),
            _told_of_run("'quarantined'", "is finished, with quarantined wells"),
        ),
        (
            "held",
            _event(HELD),
            _Told("'held'", found("title"), found("text"), found("plate"), found("root")),
        ),
        ("night without plates", _event(NO_PLATES), _Told("'none_finished'", found("title"), found("text"))),
        (
            "watched place is missing",
            _event(MISSING),
            _Told("'root_missing'", found("title"), found("text"), root=found("root")),
        ),
        (
            "nobody looks for plates",
            _silence(
                watched,
                watched,
                timedelta(minutes=notify.watch_silent_minutes),
                _of("watch-plates"),
                # For nothing, it would be said again and again, and where nobody ever looked.
                {"related:deployment:prefect.resource.id"},
            ),
            _Told(
                "'no_watcher'",
                "'Nobody looks for plates'",
                f"'No pass of watch-plates has ended well for {notify.watch_silent_minutes:g} minutes: "
                "its worker is gone, or the watcher fails.'",
            ),
        ),
    ]


_LEAVES_PENDING = {
    *("Running", "Completed", QUARANTINED, "Failed", "Crashed", "Cancelled"),
    *("Cancelling", "AwaitingConcurrencySlot", "AwaitingRetry", "Scheduled", "Late", "Paused"),
}


def set_automations(notify: Notify, say: Callable[[str], None]) -> None:
    """Create what is not there, bring up to date what is, and remove what is no longer wanted; again changes nothing.

    Raises:
        SettingsError: a place that is to be told is not known; nothing was changed.
    """
    _check(notify.to)
    with get_client(sync_client=True) as client:
        places = [_place(target) for target in notify.to]
        there = {one.name: one for one in _ours(client)}
        wanted = {}
        for name, trigger, told in rules(notify):
            if told == "ended":
                message = f"The run's heartbeat stopped, or it never had one ({name}); its process is gone."
                actions: list[Any] = [
                    ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=message, force=False)
                ]
            else:
                actions = [_action(target, block, told) for target, block in zip(notify.to, places, strict=True)]
            if actions:
                wanted[PREFIX + name] = AutomationCore(name=PREFIX + name, trigger=trigger, actions=actions)
        for name, automation in wanted.items():
            if name in there:  # switched off by somebody, it stays so
                kept = automation.model_copy(update={"enabled": there[name].enabled})
                client.update_automation(there[name].id, kept)
            else:
                client.create_automation(automation)
            say(name)
        _remove(client, set(wanted), {str(block) for block in places})


def remove_automations(say: Callable[[str], None]) -> None:
    """Remove ours, and the blocks that they used; others are left alone."""
    with get_client(sync_client=True) as client:
        for one in _ours(client):
            say(one.name)
        _remove(client, set(), set())


def _ours(client: SyncPrefectClient) -> list[Any]:
    found: list[Any] = []
    while len(page := client.read_automations(limit=200, offset=len(found))) == 200:
        found += page
    return [one for one in [*found, *page] if one.name.startswith(PREFIX)]


def _remove(client: SyncPrefectClient, names: set[str], blocks: set[str]) -> None:
    for one in _ours(client):
        if one.name not in names:
            client.delete_automation(one.id)
    for block in client.read_block_documents_by_type(Webhook.get_block_type_slug()):
        if (block.name or "").startswith(_BLOCKS) and str(block.id) not in blocks:
            client.delete_block_document(block.id)


def _check(targets: Sequence[Target]) -> None:
    for number, target in enumerate(targets, 1):
        if target.block is None and not target.address.startswith(("http://", "https://")):
            raise SettingsError(
                f"The {target.kind} number {number} is no http(s) address, or names a variable that is not set."
            )


def _place(target: Target) -> Any:
    """The id of the block that tells a place: somebody's own, or one that holds its address as a secret."""
    if target.block is None:
        headers = SecretDict({"Content-Type": "application/json"})
        return Webhook(url=SecretStr(target.address), headers=headers).save(_BLOCKS + target.key, overwrite=True)
    try:
        block = Block.load(target.block)
        assert isinstance(block, Block)  # and no promise of one, as in an event loop
        return block._block_document_id
    except (ValueError, RuntimeError):
        raise SettingsError(f"Prefect's server has no block {target.block}. Make it there, or name another.") from None


def _action(target: Target, block: Any, told: _Told) -> CallWebhook | SendNotification:
    if target.block is not None:
        return SendNotification(
            block_document_id=block, subject=f"{{{{ {told.title} }}}}", body=f"{{{{ {told.text} }}}}"
        )
    return CallWebhook(block_document_id=block, payload=template(target.kind, told))


def template(kind: str, told: _Told) -> str:
    """The JSON that a place expects, with an expression of Jinja in the place of each value."""
    fields = {
        "kind": "failed",
        **{name: f"@{name}@" for name in ("title", "text", "plate", "root", "flow_run", "time")},
    }
    text = json.dumps(payload(kind, Message.model_validate({"key": "", **fields})))
    expressions = {**vars(told), "time": "event.occurred | string"}
    for name, expression in expressions.items():
        mark = '"failed"' if name == "kind" else f"@{name}@"
        escaped = f"{{{{ (({expression}) | tojson)[1:-1] }}}}"
        text = text.replace(mark, f'"{escaped}"' if name == "kind" else escaped)
    return text


def _of(*flows: str) -> list[dict[str, Any]]:
    return [_TAG, _DEPLOYED, {"prefect.resource.role": "flow", "prefect.resource.name": list(flows)}]


def _event(name: str, related: Sequence[dict[str, Any]] = ()) -> EventTrigger:
    return EventTrigger(
        expect={name}, match_related=list(related), posture=Posture.Reactive, threshold=1, within=timedelta(0)
    )


def _silence(
    after: set[str], expect: set[str], within: timedelta, related: Sequence[dict[str, Any]], each: set[str]
) -> EventTrigger:
    return EventTrigger(
        after=after,
        expect=expect,
        match={"prefect.resource.id": f"{_RUN}*"},
        match_related=list(related),
        for_each=each,
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )
