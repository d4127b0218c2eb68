"""Whether a worker sees the disks that are seen here: places that it reads, and one in which it writes.

That a path is there is not enough: where a share is not mounted, an empty directory often has its name, and results
would be written into that. So a word is left beside them here, for workers to read there.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hcs_nuclei.errors import RunFailedError
from hcs_nuclei.files import TEMPORARY

_PREFIX = f"{TEMPORARY}access-"
_OLD_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Word:
    """A file that lies in the directory of a run, or in the first one above it that there is."""

    path: Path

    def lack(self) -> str:
        """Called on a worker: why it does not reach that directory, in words; empty where it does."""
        folder = self.path.parent
        answer = self.path.with_name(f"{self.path.name}-{uuid.uuid4().hex}")
        try:
            if self.path.read_text(encoding="ascii") != self.path.name:
                return f"has another directory {folder}"
            answer.touch(exist_ok=False)
            answer.unlink()
        except FileNotFoundError:
            return f"does not see what is written here in {folder}: that is no shared disk, or is not mounted there"
        except OSError as error:
            return f"cannot write in {folder} ({error.strerror})"
        return ""


@dataclass(frozen=True, slots=True)
class Places:
    """Files and directories that work reads, and the word where it writes; called on a worker, what it lacks."""

    read: tuple[Path, ...]
    word: Word | None = None

    def __call__(self) -> list[str]:
        lacks = [*(_unread(path) for path in self.read), self.word.lack() if self.word else ""]
        return [lack for lack in lacks if lack]


@contextmanager
def left_word(place: Path) -> Iterator[Word]:
    """A hidden file in the directory `place`, or above it, for as long as workers are asked for it.

    Raises:
        RunFailedError: it cannot be written.
    """
    folder = next(above for above in (place.absolute(), *place.absolute().parents) if above.is_dir())
    _sweep(folder)
    word = Word(folder / f"{_PREFIX}{uuid.uuid4().hex}")
    try:
        try:
            word.path.write_text(word.path.name, encoding="ascii")
        except OSError as error:
            raise RunFailedError(
                f"The directory {folder} cannot be written ({error.strerror}). Free space or mend the permission, then "
                "start the run again."
            ) from error
        yield word
    finally:
        with suppress(OSError):
            word.path.unlink(missing_ok=True)


def _unread(path: Path) -> str:
    try:
        if path.is_dir():
            next(iter(path.iterdir()))
        else:
            with path.open("rb") as file:
                file.read(1)
    except StopIteration:
        return f"sees nothing in {path}"
    except OSError as error:
        return f"cannot read {path} ({error.strerror})"
    return ""


def _sweep(folder: Path) -> None:
    """Remove the words of runs that were killed before they had a directory; a living run's is younger."""
    for left in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _OLD_S:
                left.unlink()
