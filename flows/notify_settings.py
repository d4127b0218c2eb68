"""Who is told of what, and when a night has gone wrong: ``notify.yaml`` in the service's directory."""

from __future__ import annotations

import hashlib
import os
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hcs_nuclei.errors import SettingsError

CONFIGURATION = "notify.yaml"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
ClockTime = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class Target(BaseModel):
    """One place that is told, exactly one of the four.

    An address or ``$NAME`` of a variable that holds it; or a notification block on Prefect's server, ``type/name``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    webhook: str | None = None
    slack: str | None = None
    teams: str | None = None
    block: str | None = Field(default=None, pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")

    @model_validator(mode="after")
    def _is_one(self) -> Target:
        if sum(place is not None for place in (self.webhook, self.slack, self.teams, self.block)) != 1:
            raise ValueError("give one of webhook, slack, teams and block")
        return self

    @property
    def kind(self) -> str:
        return next(kind for kind in Target.model_fields if getattr(self, kind) is not None)

    @property
    def address(self) -> str:
        """Where to; empty where the variable is not set."""
        return in_variable(getattr(self, self.kind))

    @property
    def key(self) -> str:
        """Tells places apart that stand in another order the next time, without saying where they are."""
        return hashlib.sha256(f"{self.kind} {getattr(self, self.kind)}".encode()).hexdigest()[:12]


class Mail(BaseModel):
    """The digest of each night: by which server, from whom to whom, and when."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65535)
    #: ``starttls`` after a plain greeting (587), ``tls`` from the first byte (465).
    tls: Literal["starttls", "tls", "none"] = "starttls"
    sender: str = Field(alias="from", pattern=r"^[^@\s]+@[^@\s]+$")
    to: tuple[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")], ...] = Field(min_length=1)
    at: ClockTime = "07:00"
    user: str | None = None
    password: str | None = None

    @field_validator("password")
    @classmethod
    def _is_elsewhere(cls, password: str | None) -> str | None:
        if password is not None and not password.startswith(("$", "secret/")):
            raise ValueError("name a variable ($SMTP_PASSWORD) or a secret on Prefect's server (secret/NAME)")
        return password

    @model_validator(mode="after")
    def _is_safe(self) -> Mail:
        if (self.user is None) != (self.password is None):
            raise ValueError("give user and password, or neither")
        if self.password is not None and self.tls == "none" and self.host not in _LOOPBACK:
            raise ValueError("a password goes to another host by starttls or tls only")
        return self


class Notify(BaseModel):
    """The content of ``notify.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: tuple[Target, ...] = ()
    mail: Mail | None = None
    finished_by: ClockTime | None = None
    #: IANA name (``Europe/Berlin``) of where the times of day above and those of the pages are; else this machine's.
    time_zone: str | None = None
    stale_minutes: float | None = Field(default=None, gt=0)
    #: Of automations only: a watcher that is gone cannot tell.
    watch_silent_minutes: float = Field(default=15.0, ge=0.2)

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        try:
            ZoneInfo(name or "UTC")
        except (OSError, ValueError, KeyError):
            raise ValueError("no time zone of that name; they are called as Europe/Berlin is") from None
        return name

    @property
    def zone(self) -> tzinfo | None:
        """In which times are said; without a name, what this machine has at the moment."""
        return ZoneInfo(self.time_zone) if self.time_zone else datetime.now().astimezone().tzinfo

    @property
    def zone_name(self) -> str:
        """The same as a name, for a schedule; a machine that does not say its zone by name is taken to have UTC."""
        local = Path("/etc/localtime").resolve()
        own = str(local).rpartition("zoneinfo/")[2] if "zoneinfo/" in str(local) else "UTC"
        return self.time_zone or os.environ.get("TZ", "").lstrip(":") or own


def in_variable(given: str) -> str:
    """What is meant: the text itself, or the value of the variable that it names (``$NAME``), empty if that is not set.

    Addresses of webhooks and passwords are secrets, and need not stand in a file.
    """
    return os.environ.get(given[1:], "") if given.startswith("$") else given


def read_notify(state: Path) -> Notify:
    """What the service's directory says; nobody is told where it says nothing.

    Raises:
        SettingsError: the file is not valid; its content, which may be secret, is not repeated.
    """
    return read_notify_file(state / CONFIGURATION) if (state / CONFIGURATION).exists() else Notify()


def read_notify_file(path: Path) -> Notify:
    """The content of a file as ``notify.yaml``.

    Raises:
        SettingsError: it is not there or not valid; its content, which may be secret, is not repeated.
    """
    try:
        return Notify.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, ValueError, yaml.YAMLError) as error:
        faults = error.errors(include_input=False) if isinstance(error, ValidationError) else []
        what = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
        raise SettingsError(
            f"{path} is not valid ({what or type(error).__name__}). Nobody is told until it is."
        ) from None
