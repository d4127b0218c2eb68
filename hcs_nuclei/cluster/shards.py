"""Shards in, each one's result or the reason why it is lost out, whatever happens to workers on the way.

A run owns its futures and cancels them however it ends. A worker process that dies takes the shards down that waited on
it, so they are tried again in ever smaller company and only what kills its worker alone is given up.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from distributed import CancelledError, Client, Future, KilledWorker

from hcs_nuclei.cluster.fitting import ADVICE, Needs, Roster, Tell
from hcs_nuclei.cluster.inside import TOPIC, run_here
from hcs_nuclei.errors import ClusterError, UserError

Shard = TypeVar("Shard")
Result = TypeVar("Result")

#: How long a run waits while it has work and no worker: a nanny's restart takes seconds, a preempted node longer.
_PATIENCE_S = 120.0
_REFRESH_S = 1.0
#: How long the small result of an ended shard may be on its way.
_RESULT_S = 5.0
#: How often a shard goes to other workers because all that it was given to went away; as Dask does with a dead one's.
_MOST_MOVES = 3
#: What a client says of a shard that is to be done, or done again since its result went away with its worker.
_UNDER_WAY = frozenset({"pending", "lost"})

logger = logging.getLogger(__name__)


def run_shards(
    client: Client,
    function: Callable[[Shard], Result],
    shards: Iterable[Shard],
    *,
    on_result: Callable[[Shard, Result], None],
    on_lost: Callable[[Shard, str], None],
    split: Callable[[Shard], Sequence[Shard]] | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    needs: Needs | None = None,
    on_unfit: Tell = logger.warning,
    window: int = 2,
) -> None:
    """Give every shard to `function` on some worker, `window` to a worker at a time, and report each as it ends.

    A shard whose worker died, or that raised, is split into its single items. Those are tried once the others are
    done, one to a worker; what then loses its worker again is tried with the whole cluster to itself, since a dying
    worker takes innocent shards with it. What fails after that is lost, and the rest goes on. So `function` may see a
    shard again, whole or split, and must replace what it wrote before. One call at a time on one client.

    Args:
        function: importable on the workers; may call `emit_event` and `should_stop`. Its result should be small.
        shards: asked for as workers have room, so a generator may make them late.
        on_result: called in this thread with a shard and its result.
        on_lost: called in this thread with a single item and the reason in words.
        split: a shard into shards of one item, None where each is one already.
        on_event: called in this thread with what `emit_event` was given, before its shard's result.
        needs: called on each worker before it is given its first shard: what it lacks for them, in words.
        on_unfit: called in this thread with a line for each worker that is given none, for that or other versions.
        window: shards on a worker at a time, the running one included.

    Raises:
        UserError: what `function` raised of that kind; all other work is cancelled.
        ClusterError: the scheduler is gone, or no worker that fits came for two minutes.
    """
    todo: Iterable[Shard] = shards
    companies: list[Callable[[int], int]] = [lambda workers: window * workers, lambda workers: workers, lambda _: 1]
    with _Run(client, function, on_event, Roster(client, needs, on_unfit)) as run:
        for company in companies:
            failed: list[Shard] = []
            for shard, result, error in run.outcomes(todo, company):
                if error is None:
                    on_result(shard, result)
                elif company is companies[0]:
                    failed.extend([shard] if split is None else split(shard))
                elif isinstance(error, _LOST) and company is not companies[-1]:
                    failed.append(shard)
                else:
                    on_lost(shard, _reason(error))
            todo = failed


def call(
    client: Client,
    function: Callable[..., Result],
    *args: Any,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    needs: Needs | None = None,
) -> Result:
    """What `function(*args)` returns on one worker that has what it `needs`; cancelled however the wait for it ends.

    Raises:
        Exception: what `function` raised.
        ClusterError: the worker process died, the scheduler is gone, or no worker that fits came for two minutes.
    """
    with _Run(client, partial(_apply, function), on_event, Roster(client, needs, logger.warning)) as run:
        [(_, result, error)] = run.outcomes([args], lambda _: 1)
    if isinstance(error, _LOST):
        raise ClusterError(f"{getattr(function, '__name__', function)} was lost: {_reason(error)}.")
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _apply(function: Callable[..., Result], args: tuple[Any, ...]) -> Result:
    return function(*args)


class _StrandedError(Exception):
    """A shard that was given to workers all of which went away, several times."""


#: The worker was lost, and the shard with it.
_LOST = (KilledWorker, _StrandedError)


def _reason(error: Exception) -> str:
    if isinstance(error, _StrandedError):
        return f"its workers went away {_MOST_MOVES + 1} times before it was done"
    if isinstance(error, KilledWorker):
        return (
            "its worker process died each time, out of memory (fewer workers have more each) or in a crash of a "
            "native library"
        )
    logger.debug("a shard failed", exc_info=error)
    if isinstance(error, OSError) and error.strerror:
        # Without the path: what is said here stands in tables, which are the same wherever a plate is processed.
        return f"{type(error).__name__}: {error.strerror}"
    return f"{type(error).__name__}: {error}"


@dataclass(frozen=True, slots=True)
class _Pending:
    """A shard under way: the workers that it may be done by, and how often others had it before."""

    shard: Any
    workers: frozenset[str]
    moves: int


class _Run:
    """One run's futures and events; leaving it cancels what is not done."""

    def __init__(
        self,
        client: Client,
        function: Callable[[Any], Any],
        on_event: Callable[[dict[str, Any]], None] | None,
        roster: Roster,
    ) -> None:
        self._client = client
        self._function = function
        self._on_event = on_event
        self._roster = roster
        self._id = uuid.uuid4().hex
        self._inbox: SimpleQueue[Future[Any] | dict[str, Any]] = SimpleQueue()  # events and ends, in their true order
        self._pending: dict[Future[Any], _Pending] = {}
        self._stranded: dict[Future[Any], float] = {}
        self._submitted = 0

    def __enter__(self) -> _Run:
        if self._on_event is not None:
            self._client.subscribe_topic(TOPIC, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):  # a scheduler that is gone must not hide why we leave
            if self._pending:
                self._client.cancel(list(self._pending), force=True)
            if self._on_event is not None:
                self._client.unsubscribe_topic(TOPIC)

    def outcomes(
        self, shards: Iterable[Any], company: Callable[[int], int]
    ) -> Iterator[tuple[Any, Any, Exception | None]]:
        """Each shard with its result or error, as they end; at most `company(workers)` of them under way."""
        waiting = iter(shards)
        for workers in self._refreshed():
            self._open_to(workers)
            for lost in self._moved(workers):
                yield lost.shard, None, _StrandedError()
            for shard in islice(waiting, max(0, company(len(workers)) - len(self._pending)) if workers else 0):
                self._submit(_Pending(shard, workers, 0))
            if workers and not self._pending:
                return
            try:
                message = self._inbox.get(timeout=_REFRESH_S)
            except Empty:
                continue
            if not isinstance(message, Future):
                if self._on_event is not None:
                    self._on_event(message)
            elif message in self._pending:  # else it was moved
                outcome = _outcome(message)
                if outcome is None:
                    self._inbox.put(message)
                    continue
                yield self._pending.pop(message).shard, *outcome

    def _refreshed(self) -> Iterator[frozenset[str]]:
        """The workers that serve this run, for ever, looked up at most once a second."""
        looked = seen = -float("inf")
        workers: frozenset[str] = frozenset()
        while True:
            now = time.monotonic()
            if now - looked > _REFRESH_S:
                workers = frozenset(self._roster.fitting())
                looked = time.monotonic()
            if workers or seen < 0:
                seen = now
            elif now - seen > _PATIENCE_S:
                why = self._roster.in_words()
                raise ClusterError(
                    f"No worker{' with a GPU' if self._roster.resources else ''} has taken work for {_PATIENCE_S:.0f} "
                    f"s.{why + chr(10) + ADVICE if why else ''} Start some, then run again: what is finished is kept."
                )
            yield workers

    def _open_to(self, workers: frozenset[str]) -> None:
        """Let shards that wait go to workers that came since: those that they were meant for may be busy for hours.

        Not those whose workers are all gone: Dask looks for a place for them only when a worker comes, and to open them
        to one that is there already would leave them waiting for ever. They are moved.
        """
        wider = {
            future: replace(pending, workers=pending.workers | workers)
            for future, pending in self._pending.items()
            if future.status in _UNDER_WAY and pending.workers & self._roster.known and not workers <= pending.workers
        }
        if not wider:
            return
        scheduler: Any = self._client.scheduler
        # It may not have heard of one yet, or be gone, which whoever looks for workers says: once more in a second.
        with suppress(KeyError, OSError, RuntimeError):
            opened = {future.key: sorted(pending.workers) for future, pending in wider.items()}
            self._client.sync(scheduler.set_restrictions, worker=opened)
            # Asked afterwards: a worker that went away in between left its shards without a place all the same.
            states = self._client.sync(scheduler.get_task_status, keys=list(opened))
            self._pending |= {future: pending for future, pending in wider.items() if states[future.key] != "no-worker"}

    def _moved(self, workers: frozenset[str]) -> list[_Pending]:
        """Give shards whose workers are all gone to those that came; those that were moved too often are given up."""
        now = time.monotonic()
        waiting = (future for future, pending in self._pending.items() if not pending.workers & self._roster.known)
        self._stranded = {future: self._stranded.get(future, now) for future in waiting}
        # That its worker died with it is said by another way than that the worker is gone, and may come a little later.
        long = [f for f, since in self._stranded.items() if f.status in _UNDER_WAY and now - since > _REFRESH_S]
        if not long or not workers:
            return []
        stranded = {future: self._pending.pop(future) for future in long}
        self._client.cancel(long, force=True)
        for pending in stranded.values():
            if pending.moves < _MOST_MOVES:
                self._submit(_Pending(pending.shard, workers, pending.moves + 1))
        return [pending for pending in stranded.values() if pending.moves >= _MOST_MOVES]

    def _submit(self, pending: _Pending) -> None:
        self._submitted += 1
        key = f"shard-{self._id}-{self._submitted}"
        # In a partial, so that Dask does not search a shard for futures.
        work = partial(run_here, self._function, pending.shard, self._id, key)
        future = self._client.submit(
            work, key=key, pure=False, workers=sorted(pending.workers), resources=self._roster.resources
        )
        self._pending[future] = pending
        future.add_done_callback(self._inbox.put)

    def _receive(self, event: tuple[float, dict[str, Any]]) -> None:
        if event[1]["run"] == self._id:
            self._inbox.put(event[1]["event"])


def _outcome(future: Future[Any]) -> tuple[Any, Exception | None] | None:
    """An ended future's result and error; None where its worker died with the result, which is made again."""
    try:
        return future.result(timeout=_RESULT_S), None
    except UserError:
        raise
    except CancelledError as error:
        raise ClusterError(
            f"The Dask scheduler was lost, restarted or told to drop this run's work ({error}). Run again: what is "
            "finished is kept."
        ) from None
    except Exception as error:
        return None if isinstance(error, TimeoutError) and future.status != "error" else (None, error)
