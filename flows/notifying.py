"""What happened to plates in, a message to each configured place out, once: ``notify.yaml`` in the service's directory.

A message is written down, in ``told/``, before the ledger moves on, and sent afterwards. So a watcher that dies in
between sends it at its next pass, and one that could not be delivered is tried again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from inspect import isawaitable
from pathlib import Path
from typing import Any, Literal, cast

import httpx
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.core import Block
from prefect.client.schemas.objects import FlowRun, StateType
from pydantic import BaseModel, ValidationError

from flows.ledger import Entry
from flows.notify_settings import CONFIGURATION, Target
from flows.service_runs import STOPPED
from hcs_nuclei.files import replace_file

_TIMEOUT_S = 10.0
#: What could not be delivered for so long is of no use any more.
_KEPT = timedelta(days=3)
Kind = Literal["failed", "crashed", "heartbeat", "quarantined", "held", "none_finished", "root_missing", "no_watcher"]
_TITLES: dict[str, str] = {
    "failed": "failed",
    "crashed": "was ended from outside",
    "heartbeat": "has no heartbeat any more and was ended",
    "quarantined": "is finished, with quarantined wells",
    "held": "is held and waits for somebody",
}


class Message(BaseModel):
    """What is told; `key` is equal for what is to be told once."""

    key: str
    kind: Kind
    title: str
    text: str
    plate: str = ""
    root: str = ""
    run_dir: str = ""
    flow_run: str = ""
    time: str = ""
    #: Keys of places that got it.
    delivered: tuple[str, ...] = ()


def message_of(before: Entry | None, after: Entry) -> Message | None:
    """What is to be told of a plate that was `before` and is `after`; None where that is nothing."""
    again = before is not None and before.run_count not in {0, after.run_count}
    if (before and before.state == after.state and not again) or after.state not in _TITLES or after.reason == STOPPED:
        return None
    silent = after.state == "crashed" and "heartbeat" in after.reason
    kind = cast(Kind, "heartbeat" if silent else after.state)
    return Message(
        # A plate is held before there is a run, and for another reason anew.
        key=f"held:{after.root}:{after.reason}" if kind == "held" else f"{kind}:{after.flow_run}:{after.run_count}",
        kind=kind,
        title=f"Plate {after.plate} {_TITLES[kind]}",
        text=after.reason,
        plate=after.plate,
        root=after.root,
        run_dir=after.run_dir,
        flow_run=after.flow_run,
        time=after.ended or datetime.now(UTC).isoformat(timespec="seconds"),
    )


def message_of_run(run: FlowRun) -> Message:
    """What is to be told of a run that failed or was ended from outside, of which there is nothing in the ledger."""
    state = run.state
    text = (state.message if state else None) or ""
    crashed = state is not None and state.type is StateType.CRASHED
    kind: Kind = "failed" if not crashed else "heartbeat" if "heartbeat" in text else "crashed"
    given = run.parameters.get("parameters")
    root = given.get("plate", "") if isinstance(given, dict) else ""
    return Message(
        key=f"{kind}:{run.id}:{run.run_count}",
        kind=kind,
        title=f"{run.name} {_TITLES[kind]}",
        text=text,
        plate=Path(root).name,
        root=root,
        flow_run=str(run.id),
        time=(run.end_time or datetime.now(UTC)).isoformat(timespec="seconds"),
    )


def none_finished(entries: Iterable[Entry], finished_by: str, since: datetime, now: datetime) -> Message | None:
    """That no plate was finished in the 24 hours before the last `finished_by`, if that is so.

    Args:
        since: when the service began to look; a deadline before it is not missed.
        now: with the time zone in which `finished_by` is a time of day.
    """
    hour, minute = map(int, finished_by.split(":"))
    deadline = datetime.combine(now.date(), time(hour, minute), now.tzinfo)
    deadline -= timedelta(days=1) if deadline > now else timedelta()
    begin = deadline - timedelta(days=1)
    entries = list(entries)
    ended = [datetime.fromisoformat(e.ended) for e in entries if e.state in {"completed", "quarantined"} and e.ended]
    if since > deadline or any(begin <= moment <= deadline for moment in ended):
        return None
    return Message(
        key=f"none:{deadline.isoformat()}",
        kind="none_finished",
        title=f"No plate was finished by {deadline:%H:%M %Z on %Y-%m-%d}",
        text=f"None since {begin:%H:%M %Z on %Y-%m-%d}. {_in_words(entries)}",
        time=now.astimezone(UTC).isoformat(timespec="seconds"),
    )


def root_missing(place: Path, why: str, since: str) -> Message:
    """That plates below a watched directory cannot be seen `since` then."""
    return Message(
        key=f"root_missing:{place}:{since}",
        kind="root_missing",
        title=f"Watched directory {place} is missing",
        text=f"{why[:1].upper()}{why[1:]}. Mount its drive again, and see that the service's user may read it. What is "
        "known of its plates is kept until then, and none of them is begun.",
        root=str(place),
        time=since,
    )


class Outbox:
    """Messages below the service's directory: written down once, sent until each place has them."""

    def __init__(self, state: Path) -> None:
        self._directory = state / "told"
        self._directory.mkdir(parents=True, exist_ok=True)

    @property
    def since(self) -> datetime:
        """When the service looked for the first time."""
        path = self._directory / "since"
        if not path.exists():
            replace_file(path, datetime.now(UTC).isoformat().encode())
        return datetime.fromisoformat(path.read_text())

    def away_since(self, places: Iterable[Path]) -> dict[Path, str]:
        """Since when each place is missing; one that is back is forgotten, and told anew when it goes away again."""
        path = self._directory / "away"
        before: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        now = datetime.now(UTC).isoformat()
        since = {str(place): before.get(str(place), now) for place in places}
        if since != before:
            replace_file(path, json.dumps(since).encode())
        return {Path(place): moment for place, moment in since.items()}

    def put(self, message: Message | None) -> bool:
        """Write a message down, and whether it is new; one with a key that was there before is the same message."""
        if message is None or self._path(message).exists():
            return False
        self._write(message)
        return True

    def send(self, targets: Iterable[Target], warn: Callable[[str], None], *, only: Message | None = None) -> None:
        """Send what was not delivered, or `only` that; a place that does not answer is left alone until next time."""
        pending = []
        for path in sorted(self._directory.glob("[!.]*.json")):
            with suppress(ValidationError):  # another version wrote it
                pending.append(Message.model_validate_json(path.read_bytes()))
        pending = [message for message in pending if only is None or message.key == only.key]
        for number, target in enumerate(targets, 1):
            for message in pending:
                if target.key in message.delivered or _age(message) > _KEPT:
                    continue
                if (fault := _send(target, message)) is not None:
                    warn(f"The {target.kind} number {number} of {CONFIGURATION} was not reached: {fault}")
                    break
                message.delivered += (target.key,)
                self._write(message)

    def _write(self, message: Message) -> None:
        replace_file(self._path(message), (message.model_dump_json(indent=1) + "\n").encode())

    def _path(self, message: Message) -> Path:
        return self._directory / f"{message.kind}-{hashlib.sha256(message.key.encode()).hexdigest()[:16]}.json"


def _send(target: Target, message: Message) -> str | None:
    """Why a place could not be told, without its address, which is a secret; None where it was."""
    try:
        if target.block is not None:
            block = Block.load(target.block)
            if not isinstance(block, NotificationBlock):
                return f"the block {target.block} is none that notifies"
            with block.raise_on_failure():
                sent = block.notify(body=message.text or message.title, subject=message.title)
                if isawaitable(sent):  # as that of somebody's own block may be
                    asyncio.run(sent)
        else:
            answer = httpx.post(target.address, json=payload(target.kind, message), timeout=_TIMEOUT_S)
            answer.raise_for_status()
    except httpx.HTTPStatusError as error:
        return f"status {error.response.status_code}"
    except NotificationError:
        return "the block could not deliver it"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, RuntimeError) as error:
        return f"there is no block {target.block}" if target.block else type(error).__name__
    return None


def payload(kind: str, message: Message) -> dict[str, Any]:
    """A message in the form that a place expects."""
    text = f"{message.title}\n{message.text}"
    if kind == "slack":
        return {"text": text}
    if kind == "teams":
        lines = [
            {"type": "TextBlock", "text": message.title, "weight": "Bolder", "wrap": True},
            {"type": "TextBlock", "text": message.text, "wrap": True},
        ]
        card = {"type": "AdaptiveCard", "version": "1.4", "body": lines}
        content = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
        return {"type": "message", "attachments": [content]}
    return message.model_dump(exclude={"key", "delivered"})


def _in_words(entries: Iterable[Entry]) -> str:
    """What there is instead of finished plates: how many of which state."""
    counts = Counter(e.state for e in entries if e.state not in {"completed", "quarantined"})
    return f"There are: {', '.join(f'{n} {state}' for state, n in counts.items())}." if counts else "None was found."


def _age(message: Message) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(message.time) if message.time else timedelta()
