"""What happened to plates in, a message to each configured place out, once: ``notify.yaml`` in the service's directory.

A message is written down, in ``told/``, before the ledger moves on, and sent afterwards. So a watcher that dies in
between sends it at its next pass, and one that could not be delivered is tried again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal

import httpx
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flows.ledger import Entry
from hcs_nuclei.errors import SettingsError
from hcs_nuclei.files import replace_file

CONFIGURATION = "notify.yaml"
_TIMEOUT_S = 10.0
#: What could not be delivered for so long is of no use any more.
_KEPT = timedelta(days=3)


class Target(BaseModel):
    """One place that is told: exactly one of the three, an address or ``$NAME`` of a variable that holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    webhook: str | None = None
    slack: str | None = None
    teams: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Target:
        if sum(address is not None for address in (self.webhook, self.slack, self.teams)) != 1:
            raise ValueError("give one of webhook, slack and teams")
        return self

    @property
    def kind(self) -> str:
        return "webhook" if self.webhook else "slack" if self.slack else "teams"

    @property
    def address(self) -> str:
        """Where to; empty where the variable is not set."""
        given = self.webhook or self.slack or self.teams or ""
        return os.environ.get(given[1:], "") if given.startswith("$") else given


class Notify(BaseModel):
    """The content of ``notify.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: tuple[Target, ...] = ()
    finished_by: str | None = Field(default=None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    stale_minutes: float = Field(default=10.0, gt=0)


class Message(BaseModel):
    """What is told; `key` is equal for what is to be told once."""

    key: str
    kind: Literal["failed", "crashed", "heartbeat", "quarantined", "none_finished"]
    title: str
    text: str
    plate: str = ""
    root: str = ""
    run_dir: str = ""
    flow_run: str = ""
    time: str = ""
    #: Places that got it.
    delivered: tuple[int, ...] = ()


def read_notify(state: Path) -> Notify:
    """What the service's directory says; nobody is told where it says nothing.

    Raises:
        SettingsError: the file is not valid; its content, which may be secret, is not repeated.
    """
    path = state / CONFIGURATION
    try:
        return Notify.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except FileNotFoundError:
        return Notify()
    except (OSError, ValueError, yaml.YAMLError) as error:
        faults = error.errors(include_input=False) if isinstance(error, ValidationError) else []
        what = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
        raise SettingsError(
            f"{path} is not valid ({what or type(error).__name__}). Nobody is told until it is."
        ) from None


def message_of(before: Entry, after: Entry) -> Message | None:
    """What is to be told of a plate that was `before` and is `after`; None where that is nothing."""
    if before.state == after.state or after.state not in {"failed", "crashed", "quarantined"}:
        return None
    stopped = after.state == "crashed" and "heartbeat" in after.reason
    kind = "heartbeat" if stopped else after.state
    if after.reason == "the service was stopped":
        return None
    titles = {
        "failed": "failed",
        "crashed": "was ended from outside",
        "heartbeat": "has no heartbeat any more and was ended",
        "quarantined": "is finished, with quarantined wells",
    }
    return Message(
        key=f"{kind}:{after.flow_run}:{after.attempt}",
        kind=kind,
        title=f"Plate {after.plate} {titles[kind]}",
        text=after.reason,
        plate=after.plate,
        root=after.root,
        run_dir=after.run_dir,
        flow_run=after.flow_run,
        time=after.ended,
    )


def none_finished(entries: Iterable[Entry], finished_by: str, since: datetime, now: datetime) -> Message | None:
    """That no plate was finished in the 24 hours before the last `finished_by` (local time), if that is so.

    Args:
        since: when the service began to look; a deadline before it is not missed.
        now: with a time zone, the local one.
    """
    hour, minute = map(int, finished_by.split(":"))
    deadline = datetime.combine(now.date(), time(hour, minute), now.tzinfo)
    deadline -= timedelta(days=1) if deadline > now else timedelta()
    begin = deadline - timedelta(days=1)
    ended = [datetime.fromisoformat(e.ended) for e in entries if e.state in {"completed", "quarantined"} and e.ended]
    if since > deadline or any(begin <= moment <= deadline for moment in ended):
        return None
    return Message(
        key=f"none:{deadline.isoformat()}",
        kind="none_finished",
        title=f"No plate was finished by {deadline:%H:%M on %Y-%m-%d}",
        text=f"None since {begin:%H:%M on %Y-%m-%d}.",
        time=now.astimezone(UTC).isoformat(timespec="seconds"),
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

    def put(self, message: Message | None) -> None:
        """Write a message down; one with a key that was there before is the same message."""
        if message is not None and not self._path(message).exists():
            self._write(message)

    def send(self, targets: Iterable[Target], warn: Callable[[str], None]) -> None:
        """Send what was not delivered; a place that does not answer is left alone until the next pass."""
        pending = [
            Message.model_validate_json(path.read_bytes()) for path in sorted(self._directory.glob("[!.]*.json"))
        ]
        for index, target in enumerate(targets):
            for message in pending:
                if index in message.delivered or _age(message) > _KEPT:
                    continue
                try:
                    httpx.post(
                        target.address, json=payload(target.kind, message), timeout=_TIMEOUT_S
                    ).raise_for_status()
                except (httpx.HTTPError, httpx.InvalidURL) as error:  # neither names the address, which is a secret
                    reason = f"status {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else ""
                    reason = reason or type(error).__name__
                    warn(f"The {target.kind} number {index + 1} of {CONFIGURATION} was not reached: {reason}")
                    break
                message.delivered += (index,)
                self._write(message)

    def _write(self, message: Message) -> None:
        replace_file(self._path(message), (message.model_dump_json(indent=1) + "\n").encode())

    def _path(self, message: Message) -> Path:
        return self._directory / f"{message.kind}-{hashlib.sha256(message.key.encode()).hexdigest()[:16]}.json"


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


def _age(message: Message) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(message.time) if message.time else timedelta()
