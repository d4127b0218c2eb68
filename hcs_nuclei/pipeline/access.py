"""A plan in, what a run needs of each worker out: the same plate, model and output as here, looked at there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hcs_nuclei.cluster.places import Word, left_word
from hcs_nuclei.errors import HcsNucleiError
from hcs_nuclei.models.card import parse_card
from hcs_nuclei.pipeline.plan import Plan
from hcs_nuclei.plate import Plate, RemoteFiles
from hcs_nuclei.sources.staging import shared_staging


@dataclass(frozen=True, slots=True)
class Access:
    """What a worker has to reach; called there, it gives what it does not, in words.

    `sample` is an image of the plate (relative to `root`) and its size in bytes, -1 for a directory; `remote` has it
    where the plate lies at a URL. `word` lies in the directory that holds the run, or will.
    """

    root: Path
    sample: tuple[str, int] | None
    remote: RemoteFiles | None
    model: Path
    model_sha256: str
    word: Word

    def __call__(self) -> list[str]:
        looks = (self._look_at_plate(), self._look_at_model(), self.word.lack())
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


@contextmanager
def shared_access(plan: Plan) -> Iterator[Access]:
    """What workers need for a run; as long as it is needed a hidden file lies in the run directory, or above it.

    Raises:
        RunFailedError: that cannot be written any more.
        ModelError: the model is there no more.
    """
    context = plan.context
    sample, size = _sample(plan.plate)
    with left_word(context.run_dir) as word:
        yield Access(
            root=context.root,
            sample=None if size is None else (sample, size),
            remote=plan.plate.remote.only(plan.plate.remote.below(sample)[:1]) if plan.plate.remote else None,
            model=context.model_directory,
            # As its card says now: a model that changed since the plan was made is refused where it is loaded.
            model_sha256=parse_card(context.model_directory).sha256,
            word=word,
        )


def _sample(plate: Plate) -> tuple[str, int | None]:
    """The first image of a plate, and its size; None at a URL, and where it cannot be read here either."""
    planes = (plane.path for well in plate.wells for site in well.fields for plane in site.planes)
    first = next((path for path in planes if path), "")
    if not first or plate.remote is not None:
        return first, None
    try:
        return first, _size(plate.root / first)
    except OSError:
        return first, None


def _size(path: Path) -> int:
    """Of a file that can be read; -1 of a directory."""
    if path.is_dir():
        return -1
    with path.open("rb") as file:
        file.read(1)
        return os.fstat(file.fileno()).st_size
