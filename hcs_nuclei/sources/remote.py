"""A URL in (``s3://``, ``gs://``, ``https://`` …), the names of its files and local copies of them out.

Listing costs one request for some thousand names. A file is copied whole, checked against the size and, where the store
tells one, the checksum of its content, and tried again with growing pauses when the connection fails. Copies lie in a
bounded cache of the process that reads them, so that a plate never has to fit on a worker's disk.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import random
import re
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcs_nuclei.errors import NotAPlateError, PlaneError

#: Package, and extra of this one, that each kind of URL needs.
_NEEDS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gs"), "gcs": ("gcsfs", "gs"), "http": ("aiohttp", "https")}
_NEEDS["https"] = _NEEDS["http"]
#: Seven tries over some 15 s: a switch that restarts is waited for, a night is not.
ATTEMPTS, FIRST_PAUSE_S = 7, 0.25
#: Of all copies that one process holds.
CACHE_BYTES = 4 * 1024**3
_PREFIX = "hcs-nuclei-staged-"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file: its size in bytes, the store's word for its content (ETag, time of change), and its MD5 where told."""

    size: int
    version: str
    md5: str = ""


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether `place` is a URL and not a path."""
    return isinstance(place, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", place) is not None


class RemoteDirectory:
    """The files below one URL; knows nothing of plates. Credentials come from the environment, as the store's tools do.

    Raises:
        NotAPlateError: the kind of URL is not known, or the package for it is not installed.
    """

    def __init__(self, url: str, *, attempts: int = ATTEMPTS, first_pause_s: float = FIRST_PAUSE_S) -> None:
        self.url = url.rstrip("/")
        self._attempts, self._pause = attempts, first_pause_s
        kind = self.url.partition("://")[0].lower()
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url, **_OPTIONS.get(kind, {}))
        except (ImportError, ValueError) as error:
            package, extra = _NEEDS.get(kind, ("", ""))
            advice = f"Install {package}: pip install 'hcs-nuclei[{extra}]'." if package else "Use s3, gs or https."
            raise NotAPlateError(f"{self.url} cannot be opened: {error}. {advice}") from None

    def list_files(self) -> dict[str, RemoteFile]:
        """Every file below the URL, by its name relative to it, sorted.

        Raises:
            NotAPlateError: there is nothing, it may not be listed, or the connection fails again and again.
        """
        try:
            found = self._again(lambda: self._files.find(self._root, detail=True))
        except Exception as error:
            raise NotAPlateError(
                f"{self.url} cannot be listed: {_words(error)}. Check the address and your credentials."
            ) from None
        cut = len(self._root.rstrip("/")) + 1
        names = {path[cut:]: _described(entry) for path, entry in found.items() if entry.get("type") != "directory"}
        if not names:
            raise NotAPlateError(f"There is nothing at {self.url}. Check the address: names are case-sensitive.")
        return dict(sorted(names.items()))

    def fetch(self, name: str, target: Path, expected: RemoteFile | None = None) -> None:
        """Copy one file to `target`, which is whole or absent.

        Raises:
            PlaneError: it cannot be had, or what arrives is not what the store says that it has.
        """
        unfinished = target.with_name(f".{target.name}.{threading.get_ident()}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        digests: list[str] = []

        def copy() -> None:
            self._files.get_file(f"{self._root}/{name}", str(unfinished))
            _check(unfinished, expected, digests)

        try:
            self._again(copy)
            os.replace(unfinished, target)
        except FileNotFoundError:
            raise PlaneError(f"{name} is not at {self.url} any more.", fault="missing") from None
        except _DifferentError as error:
            raise PlaneError(f"{name} arrives damaged from {self.url}: {error}.", fault="truncated") from None
        except Exception as error:
            raise PlaneError(f"{name} cannot be copied from {self.url}: {_words(error)}.") from None
        finally:
            unfinished.unlink(missing_ok=True)

    def _again(self, action: Any) -> Any:
        """What `action` returns, tried again after what may pass."""
        for attempt in range(self._attempts):
            try:
                return action()
            except (FileNotFoundError, PermissionError):
                raise
            except Exception:
                if attempt + 1 == self._attempts:
                    raise
                # Workers that failed together must not come back together.
                time.sleep(self._pause * 2**attempt * random.uniform(0.5, 1.5))
                self._files.invalidate_cache()
        raise AssertionError("no attempt was made")


#: s3fs would try five times of its own before it says a word: counted together that is minutes.
_OPTIONS: dict[str, dict[str, Any]] = {"s3": {"config_kwargs": {"retries": {"max_attempts": 1}}}}


class _DifferentError(Exception):
    """The copy is not what the store promised."""


def _check(path: Path, expected: RemoteFile | None, digests: list[str]) -> None:
    if expected is None:
        return
    size = path.stat().st_size
    if size != expected.size:
        raise _DifferentError(f"{size:,} bytes instead of {expected.size:,}")
    if not expected.md5:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    # Encrypted buckets have ETags that look like digests and are none: then every copy differs from it in the same way.
    if digest != expected.md5 and digest not in digests:
        digests.append(digest)
        raise _DifferentError(f"checksum {digest} instead of {expected.md5}")


def _described(entry: dict[str, Any]) -> RemoteFile:
    tag = str(entry.get("ETag") or entry.get("etag") or "").strip('"').removeprefix("W/").strip('"')
    changed = entry.get("LastModified") or entry.get("mtime") or entry.get("updated") or ""
    md5 = tag.lower() if re.fullmatch(r"[0-9a-fA-F]{32}", tag) else ""
    if entry.get("md5Hash"):
        with contextlib.suppress(binascii.Error):
            md5 = base64.b64decode(entry["md5Hash"]).hex()
    return RemoteFile(int(entry.get("size") or 0), tag or str(changed), md5)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class Staging:
    """Local copies of the files of one :class:`RemoteDirectory`, at most so many bytes of them at a time.

    Safe to use from several threads. Files in use are never dropped; the longest unused go first.
    """

    def __init__(self, remote: RemoteDirectory, *, limit: int = CACHE_BYTES, parent: Path | None = None) -> None:
        _sweep(parent or Path(tempfile.gettempdir()))
        self.root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
        self._remote, self._limit = remote, limit
        self._held: OrderedDict[str, tuple[int, int]] = OrderedDict()  # name → bytes, number of users
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}

    @contextlib.contextmanager
    def hold(self, files: Sequence[tuple[str, RemoteFile | None]]) -> Iterator[Path]:
        """The directory in which copies of `files` lie, under their names, until the block is left.

        Raises:
            PlaneError: one of them cannot be had.
        """
        taken: list[str] = []
        try:
            for name, expected in files:
                self._take(name, expected)
                taken.append(name)
            yield self.root
        finally:
            with self._lock:
                for name in taken:
                    size, users = self._held[name]
                    self._held[name] = (size, users - 1)
                self._shrink()

    def close(self) -> None:
        """Remove every copy."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _take(self, name: str, expected: RemoteFile | None) -> None:
        with self._lock:
            own = self._fetching.setdefault(name, threading.Lock())
        with own:  # one thread copies, the others wait for it
            with self._lock:
                if name in self._held:
                    size, users = self._held[name]
                    self._held[name] = (size, users + 1)
                    self._held.move_to_end(name)
                    return
            target = self.root / name
            self._remote.fetch(name, target, expected)
            with self._lock:
                self._held[name] = (target.stat().st_size, 1)
                self._shrink()

    def _shrink(self) -> None:
        total = sum(size for size, _ in self._held.values())
        for name, (size, users) in list(self._held.items()):
            if total <= self._limit:
                return
            if not users:
                (self.root / name).unlink(missing_ok=True)
                del self._held[name]
                total -= size


def _sweep(parent: Path) -> None:
    """Remove what processes that were killed have left."""
    for left in parent.glob(f"{_PREFIX}*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
