"""A training in a process of its own: its memory is freed at the end, and a crash of it is nobody else's.

The job comes in one line on stdin, which stays open: when it closes, whoever started this process is gone, and it ends
at once. So a worker that dies leaves no training behind that would write beside the one that goes on with it.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from hcs_nuclei.errors import HcsNucleiError, UserError
from hcs_nuclei.models.card import ModelCard
from hcs_nuclei.training.fit import FitSettings
from hcs_nuclei.training.train import train_model


class TrainingJob(BaseModel):
    """A training, as it is sent to where it is done; paths are those of that machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    datasets: tuple[Path, ...]
    out: Path
    settings: FitSettings
    parent_directory: Path | None = None
    modality: str | None = None
    name: str = ""
    skip_faulty: bool = False
    thresholds_of: str | None = None

    def run(self) -> ModelCard:
        """Train in this process; see :func:`hcs_nuclei.training.train.train_model`."""
        return train_model(
            self.datasets,
            self.out,
            self.settings.model_copy(update={"parent_directory": self.parent_directory}),
            modality=self.modality,
            name=self.name,
            skip_faulty=self.skip_faulty,
            thresholds_of=self.thresholds_of,
            verbose=2,
        )


def main() -> int:
    """Do the job that stands on stdin; returns 0, or 2 where it cannot be done as it stands, or 1."""
    job = TrainingJob.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        job.run()
    except HcsNucleiError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


def _end_with_parent() -> None:
    # Not by sys.stdin: an interpreter that ends while a thread waits for that file's lock aborts.
    while os.read(0, 4096):
        pass
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
