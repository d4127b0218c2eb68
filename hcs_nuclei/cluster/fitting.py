"""Workers in, those of them that may be given work out: each is asked before, those that join later as well.

A worker fits that has the same versions of what results depend on, and that reaches what a run needs. The others are
left out and named; a run is refused where none fits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from distributed import Client

from hcs_nuclei.cluster.workers import facts, known_workers, takes_work
from hcs_nuclei.errors import ClusterError, listed

#: Called on a worker, in a thread: what it lacks for a run, each in words; importable there, comparable here.
Needs = Callable[[], Sequence[str]]
Tell = Callable[[str], None]

#: A share that hangs hangs for ever; an object store is tried again for half a minute.
_ANSWER_S = 60.0
#: A share may be mounted, a permission mended, while a run goes on.
_AGAIN_S = 60.0
_SILENT_AGAIN_S = 5.0
#: For the first worker to answer: it may just be starting again.
_PATIENCE_S = 60.0
#: For more than the first of workers that were asked of a queue, where those that came do not fit.
_QUEUE_S = 600.0
ADVICE = (
    "Workers need the packages of the same requirements.lock, and what is read and written (plate, output, model) "
    "under the paths that they have here."
)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a worker lacks (None: it gave no answer), and from when on it is asked again."""

    lacks: tuple[str, ...] | None
    again: float


@dataclass(slots=True)
class _Memory:
    """What is remembered of a client as long as it lives: the resources of its work, the workers that were told of."""

    resources: dict[str, float] | None = None
    told: set[str] = field(default_factory=set)


_MEMORIES: WeakKeyDictionary[Client, _Memory] = WeakKeyDictionary()


def resources_of(client: Client) -> dict[str, float] | None:
    """What work of `client` asks of a worker: a GPU where any has one when it is first asked for, else nothing.

    Decided once: a run that began on GPUs does not end on processors, whose results differ.
    """
    memory = _MEMORIES.get(client)
    if memory is None:
        workers = [worker for worker in known_workers(client).values() if takes_work(worker)]
        has_gpu = any(worker["resources"].get("GPU") for worker in workers)
        memory = _MEMORIES[client] = _Memory({"GPU": 1.0} if has_gpu else None)
    return memory.resources


class Roster:
    """The workers of one run: looked up anew each time, each asked once, and again now and then as long as it lacks
    anything. Of those that do not fit `tell` hears a line each, as long as there are others that do the work.
    """

    def __init__(self, client: Client, needs: Needs | None = None, tell: Tell | None = None) -> None:
        self._client = client
        self._needs = needs
        self._tell = tell
        self._verdicts: dict[str, _Verdict] = {}
        self.resources = resources_of(client)
        self.known: frozenset[str] = frozenset()

    def fitting(self) -> list[str]:
        """Addresses of the workers that take work now, have the resources, and fit; `known` has those of all."""
        known = known_workers(self._client)
        self.known = frozenset(known)
        running = [address for address, worker in known.items() if takes_work(worker, self.resources)]
        self._ask([address for address in running if self._is_due(address)])
        fitting = [address for address in running if self._verdicts[address].lacks == ()]
        if fitting and self._tell is not None:
            self._say(known, self._tell)
        return fitting

    def lacking(self) -> dict[str, tuple[str, ...]]:
        """What each worker lacks that is there and does not fit."""
        found = {address: self._verdicts[address].lacks for address in self.known if address in self._verdicts}
        return {address: lacks for address, lacks in sorted(found.items()) if lacks}

    def in_words(self) -> str:
        """A line for each reason, with the workers that it is true of; empty where there is none."""
        workers: dict[str, list[str]] = {}
        for address, lacks in self.lacking().items():
            for lack in lacks:
                workers.setdefault(lack, []).append(address)
        return "".join(f"\n  {lack} ({listed(addresses, 4)})" for lack, addresses in sorted(workers.items()))

    def _is_due(self, address: str) -> bool:
        verdict = self._verdicts.get(address)
        return verdict is None or (verdict.lacks != () and time.monotonic() >= verdict.again)

    def _ask(self, addresses: list[str]) -> None:
        if not addresses:
            return
        found = self._client.run(examine, self._needs, workers=addresses, on_error="return")
        for address in addresses:
            lacks = _lacks(found.get(address, TimeoutError("it is gone")))
            pause = _SILENT_AGAIN_S if lacks is None else _AGAIN_S
            self._verdicts[address] = _Verdict(lacks, time.monotonic() + pause)

    def _say(self, known: Mapping[str, Any], tell: Tell) -> None:
        told = _MEMORIES[self._client].told
        for address, lacks in self.lacking().items():
            if address in told:
                continue
            told.add(address)
            name = known[address].get("name", address)
            called = address if name == address else f"{name} ({address})"
            tell(f"Worker {called} gets no work: {'; '.join(lacks)}.")


def check_workers(
    client: Client, needs: Needs | None = None, *, tell: Tell | None = None, where: str = "this cluster"
) -> None:
    """Make sure that a worker fits.

    Args:
        needs: what a run needs, beside the same packages.
        tell: called with a line for each worker that does not fit, where others do.
        where: what the cluster is called in the message.

    Raises:
        ClusterError: none fits; says what each lacks and what to do.
    """
    roster = Roster(client, needs, tell)
    began = time.monotonic()
    while not roster.fitting():
        waited = time.monotonic() - began
        more = _are_asked_for(client) > len(roster.known) and waited < _QUEUE_S
        if not more and (roster.lacking() or waited > _PATIENCE_S):
            why = roster.in_words() or "\n  none takes work"
            raise ClusterError(f"No worker of {where} can do this work:{why}\n{ADVICE}")
        time.sleep(0.2)


def _are_asked_for(client: Client) -> int:
    """How many workers a cluster that was made for the run is to have, those in a queue included; else 0."""
    return len(getattr(client.cluster, "worker_spec", ()))


async def examine(needs: Needs | None) -> dict[str, Any]:
    """What this worker is, and what it lacks; the answer comes though a share hangs."""
    try:
        lacks = [] if needs is None else await asyncio.wait_for(asyncio.to_thread(needs), _ANSWER_S)
    except TimeoutError:
        lacks = [f"does not answer for {_ANSWER_S:.0f} s when it looks at the plate and the output: a share hangs"]
    return {"versions": facts()["versions"], "lacks": list(lacks)}


def _lacks(found: Any) -> tuple[str, ...] | None:
    if isinstance(found, OSError):  # the line, not the worker
        return None
    if isinstance(found, BaseException):
        return (f"cannot use this package ({found})",)
    there, here = found["versions"], facts()["versions"]
    other = [
        f"{name} is {there.get(name, 'missing')} on a worker and {version} here"
        for name, version in here.items()
        if there.get(name) != version
    ]
    return (*other, *found["lacks"])
