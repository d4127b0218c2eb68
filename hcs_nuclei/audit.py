"""Who did what, when and why: one JSON object a line in ``audit.jsonl``, which is only ever appended to.

::

    {"when": "2026-11-28T12:50:03Z", "who": "mia", "host": "hcs1", "what": "model.promote",
     "subject": "model store", "old": "nuclei-3 (08e3d7f1a2b4)", "new": "assay-b (5f…)", "reason": "better on U2OS"}

It lies in ``$HCS_NUCLEI_HOME``. A line is one write to a file that is opened for appending, so lines of several writers
never mix on a local file system; a share over NFS promises that for one machine at a time only.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from hcs_nuclei.errors import OutputError
from hcs_nuclei.home import home_directory
from hcs_nuclei.logs import scrub

AUDIT_FILE = "audit.jsonl"


class Entry(BaseModel):
    """One thing that was done; `old` and `new` are any JSON values."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    when: str
    who: str
    host: str
    what: str
    subject: str
    old: Any = None
    new: Any = None
    reason: str = ""


def audit_path() -> Path:
    """Where the log lies."""
    return home_directory() / AUDIT_FILE


def write_audit(what: str, subject: str, *, old: Any = None, new: Any = None, reason: str = "", by: str = "") -> Entry:
    """Append one entry, on the disk when this returns.

    Args:
        what: kind of deed, ``<thing>.<verb>``: ``model.promote``, ``run.overwrite``.
        subject: what it was done to.
        old, new: what was before and is now, JSON-able.
        reason: in the words of whoever did it.
        by: who asked for it, in their own words, where a service acts for somebody: ``mia via hcs`` stands there then.

    Raises:
        OutputError: the log cannot be written.
    """
    entry = Entry(
        when=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        who=f"{by.strip()} via {user_name()}" if by.strip() else user_name(),
        host=socket.gethostname(),
        what=what,
        subject=subject,
        old=old,
        new=new,
        reason=reason,
    )
    # What is only ever appended to would keep a secret for ever.
    entry = Entry.model_validate(_scrubbed(entry.model_dump()))
    line = json.dumps(entry.model_dump(), ensure_ascii=False).encode() + b"\n"
    path = audit_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o664)
        try:
            size = os.fstat(log).st_size
            if size and os.pread(log, 1, size - 1) != b"\n":
                line = b"\n" + line  # a full disk has cut off what was written last
            written = os.write(log, line)
            os.fsync(log)
        finally:
            os.close(log)
    except OSError as error:
        raise OutputError(f"The audit log {path} cannot be written: {error.strerror}.") from None
    if written != len(line):
        raise OutputError(f"The audit log {path} took {written} of {len(line)} bytes: the disk is full.")
    return entry


def note(what: str, subject: str, *, old: Any = None, new: Any = None, reason: str = "", by: str = "") -> str:
    """Append an entry where that can be; else why not, for what is not to end by it. Nothing where it was written."""
    try:
        write_audit(what, subject, old=old, new=new, reason=reason, by=by)
    except OutputError as error:
        return str(error)
    return ""


def read_audit() -> Iterator[Entry]:
    """Every entry in order; none where there is no log.

    A line that is no entry, such as one that a full disk cut off, is passed over: it must not hide the others.
    """
    for line in _lines():
        if (entry := _entry(line)) is not None:
            yield entry


def last_entry(subject: str, whats: Collection[str]) -> Entry | None:
    """The last entry of one of these kinds about `subject`; None where there is none."""
    marks = [json.dumps(what).encode() for what in whats]
    for line in reversed(_lines()):
        # Most lines of a long log are about something else, and need not be read whole.
        if any(mark in line for mark in marks):
            entry = _entry(line)
            if entry is not None and entry.what in whats and entry.subject == subject:
                return entry
    return None


def _lines() -> list[bytes]:
    try:
        return audit_path().read_bytes().splitlines()
    except FileNotFoundError:
        return []


def _entry(line: bytes) -> Entry | None:
    try:
        return Entry.model_validate_json(line)
    except ValidationError:
        return None


def _scrubbed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _scrubbed(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(inner) for inner in value]
    return scrub(value) if isinstance(value, str) else value


def user_name() -> str:
    """Whoever runs this process; by number where the system has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        return f"uid {os.getuid()}"
