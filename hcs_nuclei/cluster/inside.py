"""What a shard may ask and tell while it runs on a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import distributed
from distributed.core import Status

_LEAVING = {Status.closing, Status.closed, Status.failed}
#: A fixed name, since a scheduler keeps the last 1000 events of every topic that it ever saw.
TOPIC = "hcs-nuclei"


@dataclass(frozen=True)
class _Place:
    """Where a shard runs: known inside of it alone."""

    worker: distributed.Worker
    run: str
    key: str


_PLACE: ContextVar[_Place] = ContextVar("place")
#: The same for the threads that a shard starts, which see no context of it.
_PLACES: list[_Place] = []


def run_here(function: Callable[[Any], Any], shard: Any, run: str, key: str) -> Any:
    place = _Place(distributed.get_worker(), run, key)
    token = _PLACE.set(place)
    _PLACES.append(place)
    try:
        return function(shard)
    finally:
        _PLACES.remove(place)
        _PLACE.reset(token)


def _place() -> _Place | None:
    place = _PLACE.get(None)
    return _PLACES[0] if place is None and len(_PLACES) == 1 else place


def should_stop() -> bool:
    """Whether the shard that asks was cancelled, its client is gone, or its worker leaves: another one does it then.

    Costs microseconds. Threads of a shard may ask too, where the worker runs one shard at a time.
    """
    place = _place()
    if place is None:
        return False
    task = place.worker.state.tasks.get(place.key)
    return task is None or task.state == "cancelled" or place.worker.status in _LEAVING


def emit_event(event: Mapping[str, Any]) -> None:
    """Send plain data (texts, numbers, lists, mappings) from inside a shard to the run's `on_event`; else nothing.

    Threads of a shard may send too, where the worker runs one shard at a time.
    """
    place = _place()
    if place is not None:
        place.worker.log_event(TOPIC, {"run": place.run, "event": dict(event)})
