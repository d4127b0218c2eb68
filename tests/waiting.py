"""Waiting in tests: for a condition instead of a time, and for a plate that is copied slowly."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path


def until(condition: Callable[[], object], seconds: float = 600.0) -> None:
    """Wait until it holds; a machine that is busy with other things may take long to get to something."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.5)


def copy_slowly(plate: Path, to: Path, check: Callable[[], None], pause_s: float) -> float:
    """Copy file by file, after `check` each, with one long pause in the middle; the time when it ended."""
    files = sorted(path for path in plate.rglob("*") if path.is_file())
    for index, path in enumerate(files):
        target = to / path.relative_to(plate)
        target.parent.mkdir(parents=True, exist_ok=True)
        if index == len(files) // 2:
            time.sleep(pause_s)
        check()
        shutil.copy(path, target)
        time.sleep(0.05)
    return time.time()
