"""What the watcher knows of each plate, from one pass to the next: small files that it alone writes.

One JSON file a plate, each whole or absent, below ``ledger/`` in the service's directory. A plate that is complete is
``queued`` until there is room for its run. It is entered as ``starting`` before its run is asked for, with the key
under which it is; a watcher that dies in between asks again with the same key, for which the server makes no second
run.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hcs_nuclei.files import replace_file, sweep
from hcs_nuclei.plate import safe_name
from hcs_nuclei.sources.completeness import Completeness, Look

logger = logging.getLogger("hcs_nuclei.flows")

#: In the service's directory, touched at the end of each pass that did all that it had to do.
LAST_PASS = "last-pass"

#: Before there is a run; while there is one; how it ended.
State = Literal[
    "writing",
    "incomplete",
    "held",
    "queued",
    "starting",
    "begun",
    "completed",
    "quarantined",
    "failed",
    "cancelled",
    "crashed",
]
#: Not ready for a run: what is found next time decides.
NOT_BEGUN: frozenset[State] = frozenset({"writing", "incomplete", "held"})
#: A run is under way, as far as is known.
UNDER_WAY: frozenset[State] = frozenset({"starting", "begun"})
#: Nothing more is to be done.
DONE: frozenset[State] = frozenset({"completed", "quarantined"})


class Entry(BaseModel):
    """One plate. Times are UTC, ISO 8601; empty texts are not known (yet)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    root: str
    plate: str
    run: str
    state: State
    reason: str = ""
    recipe: str = ""
    run_dir: str = ""
    found: str = ""
    #: How often its run was begun: again in Prefect's page is the same run.
    run_count: int = 0
    #: Since when it could be begun; the oldest is begun first.
    ready: str = ""
    #: The last look at it, as long as it was not begun.
    look: dict[str, Any] | None = None
    #: What the flow was given when it was begun: a recipe that changes later does not change a second attempt.
    parameters: dict[str, Any] = {}
    attempt: int = 0
    #: How many attempts a stop of the service ended: they are not the plate's fault.
    stopped: int = 0
    flow_run: str = ""
    begun: str = ""
    ended: str = ""

    @property
    def key(self) -> str:
        """Under which a run is asked for: equal for the same attempt at the same plate, as it was found then.

        A plate that was forgotten and is found anew is another, and so is that of another service of the same server.
        """
        return f"{_short_name(self.root, self.found, self.run_dir)}-{self.attempt}"


class Ledger:
    """The entries, by the plate's directory; each change is on the disk when the call returns."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.entries = {entry.root: entry for entry in _read(directory)}

    def write(self, entry: Entry) -> None:
        """Keep `entry` in the place of what was known of its plate."""
        text = entry.model_dump_json(indent=1, exclude_defaults=True) + "\n"
        replace_file(self._path(entry.root), text.encode())
        self.entries[entry.root] = entry

    def drop(self, root: str) -> None:
        """Forget a plate."""
        self._path(root).unlink(missing_ok=True)
        self.entries.pop(root, None)

    def _path(self, root: str) -> Path:
        return self._directory / f"{entry_name(root)}.json"


def _read(directory: Path) -> Iterator[Entry]:
    for path in sorted(directory.glob("[!.]*.json")):
        with suppress(OSError, ValidationError):
            yield Entry.model_validate_json(path.read_bytes())


def read_entries(state: Path) -> list[Entry]:
    """What is known of each plate, to be looked at only; a watcher may be at work meanwhile."""
    return list(_read(state / "ledger"))


def entry_name(root: str) -> str:
    """The plate's directory in a short name that tells it from all others."""
    return _short_name(root)


def _short_name(root: str, *others: str) -> str:
    digest = hashlib.sha256("\n".join((root, *others)).encode(errors="surrogateescape")).hexdigest()
    return f"{safe_name(Path(root).name)[:60]}-{digest[:12]}"


def is_key(text: str | None) -> bool:
    """Whether a run with this key was asked for by a watcher, whichever it was."""
    return re.search(r"-[0-9a-f]{12}-\d+$", text or "") is not None


@contextmanager
def open_ledger(state: Path) -> Iterator[Ledger | None]:
    """The ledger below `state`; None while another watcher has it."""
    directory = state / "ledger"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        except OSError as error:  # a share that knows no locks
            logger.warning("%s cannot be locked (%s): run no second service there.", directory, error.strerror)
        sweep(directory)
        yield Ledger(directory)


def look_to_plain(found: Completeness) -> dict[str, Any]:
    """A look as plain data."""
    plain = asdict(found)
    plain["look"]["root"] = str(found.look.root)
    return plain


def look_from_plain(plain: dict[str, Any] | None) -> Completeness | None:
    """The look that was made plain; None where there is none, or another version wrote it."""
    try:
        look = dict((plain or {})["look"])
        look.update(root=Path(look["root"]), unfinished=tuple(look["unfinished"]))
        return Completeness(**{**(plain or {}), "look": Look(**look)})
    except (KeyError, TypeError):
        return None
