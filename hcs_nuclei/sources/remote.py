"""A URL in (``s3://``, ``gs://``, ``https://`` …), the names of its files, whole copies and parts of them out.

Listing costs one request for some thousand names; a web server gives names alone, and is asked for each file's size.
A copy is checked against the size and, where the store tells one, the checksum of its content. What fails is tried
again with growing pauses; what no second try can mend (no such bucket, no permission) is said at once.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import hashlib
import io
import os
import posixpath
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from hcs_nuclei.errors import NotAPlateError, OutputError, PlaneError
from hcs_nuclei.plate import RemoteFile, RemoteFiles

T = TypeVar("T")
S = TypeVar("S")

#: Package, and extra of this one, that each kind of URL needs.
_NEEDS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gs"), "gcs": ("gcsfs", "gs"), "http": ("aiohttp", "https")}
_NEEDS["https"] = _NEEDS["http"]
#: Seven tries over some 15 s: a switch that restarts is waited for, a night is not.
ATTEMPTS, FIRST_PAUSE_S = 7, 0.25
#: Once a place does not answer, the next files wait for it no longer than this: a plate has thousands of them.
_ATTEMPTS_AFTER = 2
#: Requests at the same time: each waits for its answer far longer than it takes.
AT_ONCE = 16
#: Of a part of a file: the tags of an image and their values lie within a few of these.
_BLOCK = 1 << 16
#: botocore and s3fs would try five times each before they say a word: multiplied by ours that is minutes.
_OPTIONS: dict[str, dict[str, Any]] = {"s3": {"config_kwargs": {"retries": {"max_attempts": 1}}}}
#: What the clients of the stores raise where nobody told them who asks.
_PAGE = re.compile(r"(?:^|/)[^/]+\.(?:php|html?|aspx?|jsp|md|txt)$", re.IGNORECASE)
_NOBODY = re.compile(r"NoCredentials|PartialCredentials|ProfileNotFound|Token|SSO|DefaultCredentials")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether `place` is a URL and not a path."""
    return isinstance(place, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", place) is not None


def address_of(text: str | os.PathLike[str]) -> Path | str:
    """`text` as the URL or the path that it is; a ``file://`` URL is a path.

    Raises:
        NotAPlateError: the URL holds a password or a signature, which would stand in every record of the run, or
            goes upwards.
    """
    if not is_url(text):
        return Path(text)
    url = str(text)
    parts = urlsplit(url)
    if parts.scheme.lower() in {"file", "local"}:
        return Path(unquote(parts.path))
    web = parts.scheme.lower() in {"http", "https"}
    if "@" in parts.netloc or (web and (parts.query or parts.fragment)):
        raise NotAPlateError(
            f"The address {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path} holds a password, a signature "
            "or a query, which would stand in run.json and in logs. Give the bare address, and the credentials in "
            "the environment, a profile or fsspec's configuration."
        )
    if {".", ".."} & set(parts.path.split("/")):
        raise NotAPlateError(f"The address {url} goes upwards with dots. Give it without them.")
    return url.rstrip("/")


class RemoteDirectory:
    """The files below one URL; knows nothing of plates. Credentials come from the environment, as the store's tools do.

    Raises:
        NotAPlateError: the kind of URL is not known, or the package for it is not installed.
    """

    def __init__(self, url: str, *, attempts: int = ATTEMPTS, first_pause_s: float = FIRST_PAUSE_S) -> None:
        self.url = url.rstrip("/")
        self._attempts, self._pause = attempts, first_pause_s
        self._silent = False
        self._checksums = True
        kind = self.url.partition("://")[0].lower()
        self._web = kind in {"http", "https"}
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url, **_OPTIONS.get(kind, {}))
        except (ImportError, ValueError) as error:
            package, extra = _NEEDS.get(kind, ("", ""))
            advice = f"Install {package}: pip install 'hcs-nuclei[{extra}]'." if package else "Use s3, gs or https."
            raise NotAPlateError(f"{self.url} cannot be opened: {error}. {advice}") from None
        if kind == "s3":
            self._files.retries = 1

    def list_files(self) -> RemoteFiles:
        """Every file below the URL; names that lead out of it, as only a hostile store has them, are left out.

        Raises:
            NotAPlateError: there is nothing, it may not be listed, or the connection fails again and again.
        """
        try:
            self._files.invalidate_cache()
            found = self._again(lambda: self._files.find(self._root, detail=True))
            above = f"{self._root.rstrip('/')}/"
            entries = {
                path.removeprefix(above): entry
                for path, entry in found.items()
                if path.startswith(above) and entry.get("type") != "directory"
            }
            if self._web:
                entries = self._asked(entries)
        except FileNotFoundError:
            entries = {}
        except Exception as error:
            raise NotAPlateError(self._why_not(error)) from None
        entries = {name: entry for name, entry in entries.items() if _stays_inside(name)}
        unsized = [name for name, entry in entries.items() if entry.get("size") is None]
        for page in filter(_PAGE.search, unsized):  # what a web server makes on the way has no size, and is no image
            del entries[page]
        if lacking := next((name for name in unsized if name in entries), None):
            raise NotAPlateError(
                f"{self.url} does not tell the size of {lacking}, so it cannot be told whether a file is whole. Let "
                "the server send Content-Length, or copy the plate here."
            )
        names = {name: _described(entry) for name, entry in entries.items()}
        if not names:
            raise NotAPlateError(f"There is nothing at {self.url}. {self._where_to_look()}")
        return RemoteFiles(self.url, dict(sorted(names.items())))

    def has(self, name: str) -> bool:
        """Whether there is such a file; one that may not be seen is not there."""
        try:
            return bool(self._again(lambda: self._files.isfile(self._path(name))))
        except Exception:
            return False

    def fetch(self, name: str, target: Path, expected: RemoteFile | None = None) -> None:
        """Copy one file to `target`, which is whole or absent.

        Raises:
            PlaneError: it cannot be had, or what arrives is not what the store says that it has.
            OutputError: this machine has no room for it.
        """
        unfinished = target.with_name(f".{threading.get_ident()}.part")
        digests: list[str] = []

        def copy() -> None:
            self._files.get_file(self._path(name), str(unfinished))
            if expected is not None:
                _check(unfinished, expected if self._checksums else replace(expected, md5=""), digests)

        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._again(copy)
            os.replace(unfinished, target)
            # Encrypted buckets have ETags that look like digests and are none: that is found out once, with two copies.
            self._checksums &= not digests
        except FileNotFoundError:
            raise PlaneError(f"{name} is not at {self.url} any more.", fault="missing") from None
        except _DifferentError as error:
            raise PlaneError(f"{name} arrives damaged from {self.url}: {error}.", fault="truncated") from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise OutputError(
                    f"{target.parent}, where files of {self.url} are kept while they are read, cannot be written to "
                    f"({error.strerror}). Name a larger disk with TMPDIR, or lower staging.limit_gib."
                ) from None
            raise PlaneError(
                f"{name} cannot be copied from {self.url}: {_words(error)}.", fault="unreachable"
            ) from None
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)

    def open(self, name: str, size: int) -> io.BufferedReader:
        """The file to be read from in parts; each that is asked for is fetched.

        Its methods raise :class:`~hcs_nuclei.errors.PlaneError` where a part cannot be had.
        """
        return io.BufferedReader(_Parts(lambda start, end: self._part(name, size, start, end), size), _BLOCK)

    def _part(self, name: str, size: int, start: int, end: int) -> bytes:
        try:
            content: bytes = self._again(lambda: self._files.cat_file(self._path(name), start=start, end=end))
        except FileNotFoundError:
            raise PlaneError(f"{name} is not at {self.url} any more.", fault="missing") from None
        except Exception as error:
            raise PlaneError(f"{name} cannot be read from {self.url}: {_words(error)}.", fault="unreachable") from None
        # Some web servers know no parts and send everything.
        return content if len(content) <= end - start else content[start:end]

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{quote(name) if self._web else name}"

    def _asked(self, entries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """What a web server says of each file of its listing; links to other listings of the same are none."""
        links = [link for link in entries if not set("?#") & set(link)]
        described = at_once(lambda link: self._again(lambda: self._files.info(f"{self._root}/{link}")), links)
        return {unquote(link): entry for link, entry in zip(links, described, strict=True)}

    def _again(self, action: Callable[[], T]) -> T:
        """What `action` returns, tried again after what may pass."""
        attempts = min(self._attempts, _ATTEMPTS_AFTER) if self._silent else self._attempts
        for attempt in range(attempts):
            try:
                done = action()
            except Exception as error:
                if _stays(error):
                    raise
                if attempt + 1 == attempts:
                    self._silent = True
                    raise
                # Workers that failed together must not come back together.
                time.sleep(self._pause * 2**attempt * random.uniform(0.5, 1.5))
            else:
                self._silent = False
                return done
        raise AssertionError("no attempt was made")

    def _why_not(self, error: Exception) -> str:
        if _NOBODY.search(type(error).__name__):
            what = "no credentials are found"
        elif isinstance(error, PermissionError) or getattr(error, "status", 0) in {401, 403}:
            what = f"there is no permission to list it ({_words(error)})"
        else:
            return f"{self.url} cannot be listed: {_words(error)}. Check the address and your credentials."
        return (
            f"{self.url} cannot be listed: {what}. Give credentials that may list and read it in the environment, a "
            "profile or fsspec's configuration, on every machine that works on it."
        )

    def _where_to_look(self) -> str:
        if self._web:
            return (
                "Of a web server it has to be the address of a page that lists the files (as Apache's, nginx's and "
                "Python's do); without such a page, copy the plate, or name it by s3:// or gs://."
            )
        return "Check the address, the bucket's name too: names are case-sensitive."


def at_once(action: Callable[[S], T], things: Iterable[S]) -> list[T]:
    """What `action` gives for each of `things`, several at the same time; the first error is raised."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(action, things))


class _Parts(io.RawIOBase):
    """A file that is not here, as Python's files are; `part` gives the bytes from a start to an end."""

    def __init__(self, part: Callable[[int, int], bytes], size: int) -> None:
        self._part, self._size, self._at = part, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        content = self._part(self._at, end)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


class _DifferentError(Exception):
    """The copy is not what the store promised."""


def _stays(error: Exception) -> bool:
    """Whether no second try can mend it."""
    if isinstance(error, FileNotFoundError | PermissionError) or _NOBODY.search(type(error).__name__):
        return True
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    status = getattr(error, "status", getattr(error, "code", 0))  # aiohttp's and gcsfs's
    return isinstance(status, int) and 400 <= status < 500 and status not in {408, 425, 429}


def _stays_inside(name: str) -> bool:
    return name not in {"", ".", ".."} and name == posixpath.normpath(name) and not re.match(r"/|\.\./|.*[\\\0]", name)


def _check(path: Path, expected: RemoteFile, digests: list[str]) -> None:
    size = path.stat().st_size
    if size != expected.size:
        raise _DifferentError(f"{size:,} bytes instead of {expected.size:,}")
    if not expected.md5:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    if digest == expected.md5:
        digests.clear()
    elif digest not in digests:
        digests.append(digest)
        raise _DifferentError(f"checksum {digest} instead of {expected.md5}")


def _described(entry: dict[str, Any]) -> RemoteFile:
    tag = str(entry.get("ETag") or entry.get("etag") or "").strip('"').removeprefix("W/").strip('"')
    times: Sequence[str] = ("LastModified", "Last-Modified", "mtime", "updated", "created")
    changed = next((str(entry[name]) for name in times if entry.get(name)), "")
    md5 = tag.lower() if re.fullmatch(r"[0-9a-fA-F]{32}", tag) else ""
    if entry.get("md5Hash"):
        with contextlib.suppress(binascii.Error):
            md5 = base64.b64decode(entry["md5Hash"]).hex()
    return RemoteFile(int(entry["size"]), md5 or tag or changed, md5)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
