"""Shards for the tests of the cluster: what a worker process is told to do, importable there."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import threading
import time
from pathlib import Path

from hcs_nuclei.cluster import emit_event, open_cluster, run_shards, should_stop
from hcs_nuclei.errors import ModelError


def square(number: int) -> int:
    return number * number


def slow_square(number: int) -> int:
    time.sleep(0.5)
    return number * number


def process_number(_: int) -> int:
    time.sleep(0.2)
    return os.getpid()


def process_and_version(_: int) -> tuple[int, str]:
    time.sleep(0.2)
    return os.getpid(), importlib.metadata.version("numpy")


def environment(name: str) -> str | None:
    return os.environ.get(name)


def total(numbers: list[int]) -> int:
    """Kills its process where 13 is among the numbers, raises where 99 is."""
    if 13 in numbers:
        os.kill(os.getpid(), signal.SIGKILL)
    if 99 in numbers:
        raise KeyError("ninety-nine")
    time.sleep(0.05)
    return sum(numbers)


def tell_and_square(number: int) -> int:
    emit_event({"number": number})
    helper = threading.Thread(target=emit_event, args=({"from a thread": number},))
    helper.start()
    helper.join()
    return square(number)


def refuse(_: int) -> None:
    raise ModelError("the model is not what its card says")


def write_once(folder: Path) -> str:
    """Fails the first time in `folder`, succeeds the second."""
    if not (folder / "seen").exists():
        (folder / "seen").touch()
        raise OSError("the disk hiccuped")
    return "written"


def until_stopped(folder: Path) -> None:
    """Runs for a minute unless it is told to stop, and leaves word of it in `folder`."""
    (folder / f"started-{os.getpid()}").touch()
    emit_event({"started": True})
    for _ in range(1200):
        if should_stop():
            (folder / f"stopped-{os.getpid()}").touch()
            return
        time.sleep(0.05)


def until_there(path: Path) -> None:
    """Holds its worker until the file is there."""
    while not path.exists() and not should_stop():
        time.sleep(0.05)


def stop_or_square(shard: Path | int) -> object:
    return until_stopped(shard) if isinstance(shard, Path) else square(shard)


def run_in(spec: str, workers: int | None, shards: list[Path] | list[int]) -> None:
    """A program of its own: prints ``running`` with the first event, ``done`` at the end, ``interrupted`` at Ctrl-C."""
    try:
        with open_cluster(spec, workers=workers) as client:
            run_shards(
                client,
                stop_or_square,
                shards,
                on_result=lambda shard, result: None,
                on_lost=lambda shard, reason: print("lost", shard, reason, flush=True),
                on_event=lambda event: print("running", flush=True),
            )
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    else:
        print("done", flush=True)
