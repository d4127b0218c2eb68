"""A plan in, what a run needs of each worker out: the same plate, model and output as here, looked at there.

That a path is there is not enough: where a share is not mounted, an empty directory often has its name, and results
would be written into that. So a file of the plate is compared, and a word is left beside the run for workers to read.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hcs_nuclei.errors import HcsNucleiError, RunFailedError
from hcs_nuclei.files import TEMPORARY
from hcs_nuclei.models.card import parse_card
from hcs_nuclei.pipeline.plan import Plan
from hcs_nuclei.plate import Plate, RemoteFiles
from hcs_nuclei.sources.staging import shared_staging

_PREFIX = f"{TEMPORARY}access-"
_OLD_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Access:
    """What a worker has to reach; called there, it gives what it does not, in words.

    `sample` is an image of the plate (relative to `root`) and its size in bytes, -1 for a directory; `remote` has it
    where the plate lies at a URL. `word` is a file in the directory that holds the run, or will.
    """

    root: Path
    sample: tuple[str, int] | None
    remote: RemoteFiles | None
    model: Path
    model_sha256: str
    word: Path

    def __call__(self) -> list[str]:
        looks = (self._look_at_plate(), self._look_at_model(), self._look_at_output())
        return [lack for lack in looks if lack]

    def _look_at_plate(self) -> str:
        if self.remote is not None:
            try:
                for name in self.remote.files:
                    with shared_staging().open(self.remote, name) as file:
                        file.read(1)
            except HcsNucleiError as error:
                return f"cannot read the plate {self.remote.url}: {error}"
            return ""
        path = self.root
        try:
            next(iter(path.iterdir()), None)
            if self.sample is None:
                return ""
            path = self.root / self.sample[0]
            size = _size(path)
        except OSError as error:
            return f"cannot read {path} of the plate ({error.strerror})"
        if size != self.sample[1]:
            bytes_of = f"{self.sample[0]} has {size:,} bytes there and {self.sample[1]:,} here"
            return f"has another plate at {self.root}: {bytes_of}"
        return ""

    def _look_at_model(self) -> str:
        try:
            found = parse_card(self.model).sha256
        except HcsNucleiError as error:
            return f"cannot use the model: {error}"
        return "" if found == self.model_sha256 else f"has another model in {self.model}"

    def _look_at_output(self) -> str:
        folder = self.word.parent
        answer = self.word.with_name(f"{self.word.name}-{uuid.uuid4().hex}")
        try:
            if self.word.read_text(encoding="ascii") != self.word.name:
                return f"has another directory {folder}"
            answer.touch(exist_ok=False)
            answer.unlink()
        except FileNotFoundError:
            return f"does not see what is written here in {folder}: that is no shared disk, or is not mounted there"
        except OSError as error:
            return f"cannot write in {folder} ({error.strerror})"
        return ""


@contextmanager
def shared_access(plan: Plan) -> Iterator[Access]:
    """What workers need for a run; as long as it is needed a hidden file lies in the run directory, or above it.

    Raises:
        RunFailedError: that cannot be written any more.
        ModelError: the model is there no more.
    """
    context = plan.context
    folder = next(place for place in (context.run_dir, *context.run_dir.absolute().parents) if place.is_dir())
    _sweep(folder)
    word = folder.absolute() / f"{_PREFIX}{uuid.uuid4().hex}"
    sample = _sample(plan.plate)
    try:
        try:
            word.write_text(word.name, encoding="ascii")
        except OSError as error:
            raise RunFailedError(
                f"The directory {folder} cannot be written ({error.strerror}). Free space or mend the permission, then "
                "start the run again."
            ) from error
        yield Access(
            root=context.root,
            sample=None if sample is None or plan.plate.remote else (sample, _size(context.root / sample)),
            remote=_remote_sample(plan.plate, sample),
            model=context.model_directory,
            # As its card says now: a model that changed since the plan was made is refused where it is loaded.
            model_sha256=parse_card(context.model_directory).sha256,
            word=word,
        )
    finally:
        with suppress(OSError):
            word.unlink(missing_ok=True)


def _sample(plate: Plate) -> str | None:
    planes = (plane.path for well in plate.wells for site in well.fields for plane in site.planes)
    return next((path for path in planes if path), None)


def _remote_sample(plate: Plate, sample: str | None) -> RemoteFiles | None:
    if plate.remote is None or sample is None:
        return None
    first = plate.remote.below(sample)[:1]
    return plate.remote.only(first)


def _size(path: Path) -> int:
    """Of a file that can be read; -1 of a directory."""
    if path.is_dir():
        return -1
    with path.open("rb") as file:
        file.read(1)
        return os.fstat(file.fileno()).st_size


def _sweep(folder: Path) -> None:
    """Remove the words of runs that were killed before they had a directory; a living run's is younger."""
    for left in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _OLD_S:
                left.unlink()
