"""The directory that a training writes into: it can be made, and no other training writes there."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hcs_nuclei.errors import OutputError, RunConflictError

LOCK_FILE = ".lock"
#: A training whose worker was killed needs a moment to see that.
PATIENCE_S = 60.0


def check_place(out: Path) -> None:
    """Nothing is in the way of making `out`; makes nothing.

    Raises:
        OutputError: it, or what it is to lie in, is a file.
    """
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise OutputError(f"{there} is a file; a directory is expected to write the model into. Choose another --out.")


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """One training at a time in `out`, which is made; another is waited for a minute.

    Raises:
        OutputError: it cannot be made or written into.
        RunConflictError: another training writes there still.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK_FILE).open("wb")
    except OSError as error:
        raise OutputError(f"{out} cannot be written into: {error.strerror}. Choose another --out.") from None
    with file as lock:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    raise RunConflictError(
                        f"Another training writes into {out}. Wait for it, or choose another directory."
                    ) from None
                time.sleep(0.5)
        yield
