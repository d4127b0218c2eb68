"""The ledger in, what happened last night out: a line a plate, in the order in which somebody wants to read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from flows.ledger import NOT_BEGUN, UNDER_WAY, Entry

#: Since when yesterday "last night" is counted.
_EVENING = 18
#: What a state is called, in the order of the lines: what waits for somebody comes first. ``next`` is begun, without a
#: place yet.
STATES = {
    "failed": "failed",
    "crashed": "ended from outside",
    "held": "held",
    "incomplete": "incomplete",
    "quarantined": "quarantined wells",
    "cancelled": "cancelled",
    "begun": "running",
    "next": "next",
    "starting": "starting",
    "queued": "queued",
    "writing": "being copied",
    "completed": "completed",
}
_ORDER = list(STATES)
_OPEN = NOT_BEGUN | UNDER_WAY | {"queued"}


@dataclass(frozen=True, slots=True)
class Line:
    """A plate: its entry, the state in words, how it went or why not, and how long its run took (s, if it ended)."""

    entry: Entry
    state: str
    text: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Night:
    """`recent` is what is under way or waits, and what something happened to since `evening`; `earlier` is the rest."""

    evening: datetime
    recent: tuple[Line, ...]
    earlier: tuple[Line, ...]

    @property
    def counts(self) -> str:
        """``1 failed, 2 queued, 7 completed``."""
        counts = Counter(line.state for line in self.recent)
        return ", ".join(f"{counts[state]} {state}" for state in STATES.values() if counts[state]) or "No plate"


def last_night(entries: Iterable[Entry], now: datetime) -> Night:
    """The night before `now` (with the time zone in which the evening is meant), and what was before."""
    evening = now.replace(hour=_EVENING, minute=0, second=0, microsecond=0)
    # In the evening itself the night before is still the last one.
    evening -= timedelta(days=1) if evening > now - timedelta(hours=6) else timedelta()
    latest = sorted(entries, key=_last, reverse=True)
    recent = [e for e in latest if e.state in _OPEN or moment(_last(e)) >= evening]
    told = {e.root for e in recent}
    # A sort keeps what is latest first within a state; a queue is in its own order.
    recent.sort(key=lambda e: (_ORDER.index(_shown(e)), (e.ready, e.root) if e.state == "queued" else ("", "")))
    queue = [e.root for e in recent if e.state == "queued"]
    return Night(
        evening,
        tuple(_line(e, queue.index(e.root) + 1 if e.state == "queued" else 0) for e in recent),
        tuple(_line(e, 0) for e in latest if e.root not in told),
    )


def _shown(entry: Entry) -> str:
    return "next" if entry.state == "begun" and entry.reason not in {"running", "cancelling"} else entry.state


def _line(entry: Entry, place: int) -> Line:
    # Whose line it is stands beside it.
    text = entry.reason.removeprefix(f"Plate {entry.plate}: ")
    if place:
        text = f"number {place} in the queue" + (f"; {text}" if entry.attempt > 1 else "")
    elif entry.state == "begun" and entry.reason == "running":
        text = f"{_finished_wells(entry):,} wells done"
    took = (moment(entry.ended) - moment(entry.begun)).total_seconds() if entry.ended and entry.begun else None
    return Line(entry, STATES[_shown(entry)], text, took)


def _finished_wells(entry: Entry) -> int:
    """Of a plate that is being processed: each well has its file when it is done."""
    return sum(1 for _ in Path(entry.run_dir, "nuclei").glob("[!.]*.parquet"))


def _last(entry: Entry) -> str:
    """When something happened to a plate last; all such texts are UTC, so they sort by time."""
    return max(entry.found, entry.begun, entry.ended)


def moment(text: str) -> datetime:
    """A time of an entry."""
    return datetime.fromisoformat(text or "1970-01-01T00:00:00+00:00")
