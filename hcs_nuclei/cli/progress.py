"""Progress for people: a bar on a terminal, a plain line now and then otherwise; always on stderr."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hcs_nuclei.cli.messages import tell
from hcs_nuclei.logs import json_wanted
from hcs_nuclei.pipeline.run import Progress

#: Seconds between plain lines: enough to see that it goes on, few on a 1536-well plate.
PLAIN_EVERY_S = 15.0
_STAGES = {
    "prepare": "starting workers",
    "calibrate": "calibrated on a sample of its fields; processing wells",
    "finish": "checking tables and report",
}


@contextmanager
def show_progress() -> Iterator[Callable[[Progress], None]]:
    """A function that shows what it is told; the bar is gone when the context ends."""
    if sys.stderr.isatty() and not json_wanted():
        with _bar() as show:
            yield show
    else:
        yield _plain()


def _plain() -> Callable[[Progress], None]:
    began: dict[str, float] = {}
    last = 0.0

    def show(progress: Progress) -> None:
        nonlocal last
        if progress.remark:
            tell(f"{progress.plate}: {progress.remark}", level=logging.WARNING, plate=progress.plate)
            return
        if progress.stage != "wells":
            tell(f"{progress.plate}: {_words(progress)}", plate=progress.plate)
            return
        now = time.monotonic()
        start = began.setdefault(progress.plate, now)
        if now - last < PLAIN_EVERY_S and progress.done < progress.total:
            return
        last = now
        faults = f", {progress.faults} fields with faults" if progress.faults else ""
        tell(
            f"{progress.plate}: {progress.done} of {progress.total} wells, {progress.nuclei:,} nuclei{faults}, "
            f"{now - start:.0f} s",
            plate=progress.plate,
        )

    return show


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("wells  {task.fields[nuclei]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    tasks: dict[str, object] = {}

    def show(progress: Progress) -> None:
        if progress.remark:
            bars.console.print(f"{progress.plate}: {progress.remark}", markup=False, highlight=False)
            return
        if progress.plate not in tasks:
            tasks[progress.plate] = bars.add_task(progress.plate, total=progress.total or None, nuclei="")
        nuclei = f"{progress.nuclei:,} nuclei" if progress.stage == "wells" else _words(progress)
        if progress.faults:
            nuclei += f", {progress.faults} faults"
        bars.update(tasks[progress.plate], completed=progress.done, total=progress.total or None, nuclei=nuclei)  # type: ignore[arg-type]

    with bars:
        yield show


def _words(progress: Progress) -> str:
    """What a stage other than the wells is, in words."""
    if progress.stage != "prepare":
        return _STAGES[progress.stage]
    if progress.done == progress.total:
        return f"all {progress.total} wells are done"
    before = f", {progress.done} of them done before" if progress.done else ""
    return f"{progress.total} wells{before}; {_STAGES['prepare']}"


@contextmanager
def show_images(total: int, what: str = "images") -> Iterator[Callable[[int], None]]:
    """A function that shows how many of `total` images are done; the bar is gone when the context ends."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn(what.capitalize()), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bars(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bars:
            task = bars.add_task("", total=total)
            yield lambda images: bars.update(task, completed=images)
        return
    start = last = time.monotonic()

    def show(images: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_EVERY_S and images < total:
            last = now
            print(f"{images} of {total} {what}, {now - start:.0f} s", file=sys.stderr, flush=True)

    yield show
