"""A network in training and its number of epochs in, one file that is whole or absent out.

::

    <checkpoint>/
      settings.json               of the training that it belongs to
      epoch-00012.weights.h5      variables, optimizer and averages after that many epochs

One training alone writes there. A checkpoint gets its name when it is on the disk, and only then is the former one
removed: whenever the training is killed, what it leaves is that of the last finished epoch.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hcs_nuclei.errors import ModelError, RunConflictError
from hcs_nuclei.files import TEMPORARY, replace_file, sweep

SETTINGS_FILE = "settings.json"
SUFFIX = ".weights.h5"


def open_checkpoint(directory: Path, settings: dict[str, Any], *, may_differ: tuple[str, ...]) -> None:
    """Make `directory` the place for the checkpoints of a training with these settings.

    Args:
        directory: made where it is not there.
        settings: plain values, as they stand in JSON.
        may_differ: the names of those that may be others when a training goes on.

    Raises:
        RunConflictError: a training with other settings has left its checkpoint there.
    """
    sweep(directory)
    kept = directory / SETTINGS_FILE
    if _latest(directory) is not None and kept.is_file():
        before = json.loads(kept.read_bytes())
        differing = sorted(k for k in settings if k not in may_differ and before.get(k, settings[k]) != settings[k])
        if differing:
            said = ", ".join(f"{k} {before[k]!r} there, {settings[k]!r} asked for" for k in differing)
            raise RunConflictError(
                f"{directory} holds the checkpoint of a training with other settings: {said}. Choose another --out, or "
                "start it as it was started before."
            )
    directory.mkdir(parents=True, exist_ok=True)
    replace_file(kept, (json.dumps(settings, indent=1) + "\n").encode())


def restore(network: Any, directory: Path) -> int:
    """Put the last checkpoint into a compiled network; returns after how many epochs it was written, 0 without one.

    Raises:
        ModelError: the checkpoint cannot be read.
    """
    latest = _latest(directory)
    if latest is None:
        return 0
    network.optimizer.build(network.trainable_variables)  # its variables must be there to be loaded
    try:
        network.load_weights(latest)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"The checkpoint {latest} cannot be read: {error}. Remove it to begin the training anew."
        ) from None
    return _epochs(latest)


def last_epoch(directory: Path) -> int:
    """After how many epochs the last checkpoint was written, 0 without one."""
    latest = _latest(directory)
    return 0 if latest is None else _epochs(latest)


def save(network: Any, directory: Path, epochs: int) -> None:
    """Store a compiled network, its optimizer and its averages after so many epochs, in place of the one before."""
    path = directory / f"epoch-{epochs:05d}{SUFFIX}"
    unfinished = directory / f"{TEMPORARY}{path.name}"
    network.save_weights(unfinished, overwrite=True)
    with unfinished.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    for other in _all(directory):
        if other != path:
            other.unlink(missing_ok=True)


def _all(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"epoch-*{SUFFIX}"), key=_epochs)


def _latest(directory: Path) -> Path | None:
    return next(reversed(_all(directory)), None)


def _epochs(path: Path) -> int:
    return int(path.name.removeprefix("epoch-").removesuffix(SUFFIX))
