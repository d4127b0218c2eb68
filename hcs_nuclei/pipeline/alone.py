"""A run directory in, the promise out that no other run writes there meanwhile.

Beginning a run takes away the tables of the wells that it makes again, and ending one sweeps what is half-written:
two at once would destroy each other's results. The lock is that of the file system on ``<run>/.lock``; it goes with the
process that holds it, however that ends, so a run that was killed locks nobody out.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hcs_nuclei.errors import RunConflictError

LOCK_FILE = ".lock"

logger = logging.getLogger("hcs_nuclei.run")


class RunLock:
    """The lock of one run directory, taken at once where it has been, else when there is something to write."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / LOCK_FILE
        self._file = -1

    def take(self) -> None:
        """Lock the run directory, which is there; nothing happens where this lock has it already.

        Raises:
            RunConflictError: another run writes there.
            OSError: the directory cannot be written.
        """
        while self._file < 0:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
            try:
                self._lock(file)
                # Whoever had it before removes the file when it is done: then this is a lock on nothing.
                if _is(file, self._path):
                    self._file, file = file, -1
            finally:
                if file >= 0:
                    os.close(file)
        os.truncate(self._file, 0)
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        os.pwrite(self._file, f"process {os.getpid()} on {socket.gethostname()}, since {now}".encode(), 0)

    def _lock(self, file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.pread(file, 200, 0).decode(errors="replace") or "a process that has just begun"
            raise RunConflictError(
                f"Another run is writing into {self._path.parent} ({who}). Wait until it has ended, or stop it; then "
                "start this one again: it goes on with what is left."
            ) from None
        except OSError as error:
            logger.warning(
                "%s cannot be locked (%s): see to it that no other run writes there.",
                self._path.parent,
                error.strerror,
            )

    def release(self) -> None:
        """Let others in; the directory keeps no trace."""
        if self._file >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1


@contextmanager
def alone_in(run_dir: Path) -> Iterator[RunLock]:
    """The lock of `run_dir`, given back at the end.

    It is taken here only where a lock file lies there, which is so while a run is at work and after one was killed: a
    call that is refused, or that has nothing to do, writes nothing.

    Raises:
        RunConflictError: another run writes there.
    """
    lock = RunLock(run_dir)
    if (run_dir / LOCK_FILE).exists():
        lock.take()
    try:
        yield lock
    finally:
        lock.release()


def _is(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
