"""A pass of the watcher that hangs tells nobody, and no other is run meanwhile: ``serve`` tells in its place.

So it does where pass after pass fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.ledger import LAST_PASS
from flows.notify_settings import read_notify
from flows.notifying import Message, Outbox
from hcs_nuclei.errors import SettingsError

#: How long no pass may have ended, where that is more than so many intervals between passes.
PATIENCE = timedelta(minutes=15)
_INTERVALS = 10
_LOOK_S = 30.0


@dataclass(frozen=True, slots=True)
class PassWatch:
    """Whose passes are looked at: the service's directory, s between passes, its server; `say` is told lines."""

    state: Path
    every: float
    url: str
    say: Callable[[str], None]
    look_s: float = _LOOK_S

    @property
    def patience(self) -> timedelta:
        return max(PATIENCE, timedelta(seconds=_INTERVALS * self.every))


@contextmanager
def passes_watched(watch: PassWatch) -> Iterator[None]:
    """Say and tell it, once, when no pass has ended for too long, as long as the context lasts."""
    stop = Event()
    # A thread of its own, which is not waited for: what the passes hang on it may hang on as well.
    Thread(target=_look, args=(watch, stop), daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _look(watch: PassWatch, stop: Event) -> None:
    last, since, said = _last_pass(watch.state), time.monotonic(), set[str]()

    def say_once(line: str) -> None:
        if line not in said:
            said.add(line)
            watch.say(line)

    while not stop.wait(watch.look_s):
        # By this clock, which stands still while the machine sleeps.
        if (ended := _last_pass(watch.state)) != last:
            if said:
                watch.say("Passes of the watcher end again.")
            last, since = ended, time.monotonic()
            said.clear()
        elif time.monotonic() - since > watch.patience.total_seconds():
            message = no_watcher(last, watch.patience)
            say_once(f"{message.title}. {message.text}")
            try:
                _tell(watch, message, say_once)
            except (OSError, SettingsError) as error:
                say_once(str(error))


def no_watcher(last: datetime | None, patience: timedelta) -> Message:
    """That no pass has ended for so long since the `last` one, if there was any."""
    ended = (
        f"The last pass of watch-plates ended well at {last:%Y-%m-%d %H:%M} UTC"
        if last
        else "No pass has ended well yet"
    )
    return Message(
        key=f"no_watcher:{last.isoformat() if last else 'never'}",
        kind="no_watcher",
        title="Nobody looks for plates",
        text=f"{ended}, none for {patience.total_seconds() / 60:g} minutes. Where passes fail, Prefect's web page says "
        "why. While one hangs, no other is run: see whether each watched directory can be listed, cancel the pass "
        "there, or start the service again; logs/worker.log in its directory says more.",
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _tell(watch: PassWatch, message: Message, warn: Callable[[str], None]) -> None:
    """Tell it; what was not reached is tried again the next time."""
    outbox = Outbox(watch.state)
    outbox.put(message)
    with temporary_settings({PREFECT_API_URL: watch.url}):  # where blocks are
        outbox.send(read_notify(watch.state).to, warn, only=message)


def _last_pass(state: Path) -> datetime | None:
    """When the last pass ended well."""
    try:
        return datetime.fromtimestamp((state / LAST_PASS).stat().st_mtime, UTC)
    except OSError:
        return None
