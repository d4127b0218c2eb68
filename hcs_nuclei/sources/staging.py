"""Files at a URL in, local copies of them out: those of a plate's metadata for good, those of images while in use.

One process has one place for all of its copies, in the directory for temporary files (``TMPDIR``)::

    hcs-nuclei-staged-<machine>-<process>-…/s3/<bucket>/<plate>/…      each file under its own name

It is bounded, so that a plate never has to fit on a worker's disk, and removed when the process ends; what a process
that was killed has left is removed by the next one of its machine. A lock says that a process lives: machines and
containers may share the directory, and numbers of processes mean nothing from one to the other.
"""

from __future__ import annotations

import atexit
import fcntl
import io
import os
import re
import shutil
import socket
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from hcs_nuclei.errors import NotAPlateError, PlaneError
from hcs_nuclei.plate import RemoteFile, RemoteFiles, safe_name
from hcs_nuclei.sources.remote import RemoteDirectory, at_once

#: Of all copies that one process holds.
CACHE_BYTES = 4 * 1024**3
_PREFIX = "hcs-nuclei-staged-"
_LOCK = ".lock"


class Staging:
    """Local copies of files at URLs, at most so many bytes of them at a time.

    Safe to use from several threads. Files in use are never dropped; the longest unused go first.
    """

    def __init__(self, *, limit: int = CACHE_BYTES, parent: Path | None = None) -> None:
        _sweep(parent or Path(tempfile.gettempdir()))
        self.root = Path(tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-", dir=parent)).resolve()
        self._alive = _locked(self.root / _LOCK, os.O_CREAT)
        self.limit = limit
        self._remotes: dict[str, RemoteDirectory] = {}
        self._held: OrderedDict[Path, tuple[RemoteFile, int]] = OrderedDict()  # copy → what it is of, number of users
        self._lock = threading.Lock()
        self._fetching = [threading.Lock() for _ in range(256)]

    def remote(self, url: str) -> RemoteDirectory:
        """The directory at `url`, opened once."""
        with self._lock:
            if url not in self._remotes:
                self._remotes[url] = RemoteDirectory(url)
            return self._remotes[url]

    def place_of(self, url: str) -> Path:
        """Where copies of what lies at `url` have their places, whether there are any or not."""
        kind, _, path = url.partition("://")
        return self.root.joinpath(kind, *path.split("/"))

    def url_of(self, place: Path) -> str:
        """The URL whose place is `place`; empty where it is none's."""
        parts = place.relative_to(self.root).parts if place.is_relative_to(self.root) else ()
        return f"{parts[0]}://{'/'.join(parts[1:])}" if len(parts) > 1 else ""

    def in_words(self, text: str) -> str:
        """`text` with URLs in the place of their places."""
        return re.sub(re.escape(f"{self.root}{os.sep}") + r"([^/]+)/", r"\1://", text)

    def open(self, remote: RemoteFiles, name: str) -> io.BufferedReader:
        """One file, to be read from in parts without a copy."""
        return self.remote(remote.url).open(name, remote.files[name].size)

    def bring(self, remote: RemoteFiles, names: Iterable[str]) -> None:
        """Copy `names`, which stay until the process ends.

        Raises:
            NotAPlateError: one of them cannot be had.
        """
        place = self.place_of(remote.url)
        try:
            at_once(lambda name: self._take(remote, name, place / name), names)
        except PlaneError as error:
            raise NotAPlateError(f"{error} Start again; what was finished is kept.") from None

    @contextmanager
    def hold(self, remote: RemoteFiles, names: Sequence[str]) -> Iterator[dict[str, PlaneError]]:
        """Copies of `names` in their places until the block is left; gives those that cannot be had, and why."""
        place = self.place_of(remote.url)
        lost: dict[str, PlaneError] = {}

        def take(name: str) -> None:
            try:
                self._take(remote, name, place / name)
                taken.append(place / name)
            except PlaneError as error:
                lost[name] = error

        taken: list[Path] = []
        try:
            at_once(take, dict.fromkeys(names))
            yield lost
        finally:
            with self._lock:
                for path in taken:
                    file, users = self._held[path]
                    self._held[path] = (file, users - 1)
                self._shrink()

    def close(self) -> None:
        """Remove every copy."""
        shutil.rmtree(self.root, ignore_errors=True)
        if self._alive is not None:
            os.close(self._alive)
            self._alive = None

    def _take(self, remote: RemoteFiles, name: str, path: Path) -> None:
        expected = remote.files[name]
        with self._fetching[hash(path) % len(self._fetching)]:  # one thread copies, the others wait for it
            with self._lock:
                file, users = self._held.get(path, (None, 0))
                if file == expected and path.exists():
                    self._held[path] = (expected, users + 1)
                    self._held.move_to_end(path)
                    return
            self.remote(remote.url).fetch(name, path, expected)
            with self._lock:
                _, users = self._held.get(path, (None, 0))
                self._held[path] = (expected, users + 1)
                self._held.move_to_end(path)
                self._shrink()

    def _shrink(self) -> None:
        total = sum(file.size for file, _ in self._held.values())
        for path, (file, users) in list(self._held.items()):
            if total <= self.limit:
                return
            if not users:
                path.unlink(missing_ok=True)
                del self._held[path]
                total -= file.size


def shared_staging() -> Staging:
    """This process's own; a forked process has another one than its parent."""
    return _staging_of(os.getpid())


@lru_cache(maxsize=1)
def _staging_of(process: int) -> Staging:
    staging = Staging()

    def close() -> None:
        if os.getpid() == process:
            staging.close()

    atexit.register(close)
    return staging


def _sweep(parent: Path) -> None:
    """Remove what processes of this machine that were killed have left."""
    for left in parent.glob(f"{_prefix()}*"):
        lock = _locked(left / _LOCK)
        if lock is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)


def _prefix() -> str:
    return f"{_PREFIX}{safe_name(socket.gethostname())}-"


def _locked(path: Path, flags: int = 0) -> int | None:
    """The open file, locked; None where a living process has its lock, or where it cannot be locked."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file
