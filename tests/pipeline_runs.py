"""Runs that tests look at, and ways to look: what changed below a directory, what its results are, byte for byte."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

#: Everything that must be the same however a run went; ``run.json`` tells when it was, and where the plate lay.
RESULTS = ("nuclei", "plate.ome.zarr", "fields.parquet", "wells.parquet", "wells.csv")

Snapshot = dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class FinishedRun:
    """A simulated plate, and what was made from it."""

    plate: Path
    truth: Path
    out: Path
    run: Path
    result: Any
    progress: list[Any]
    source_before: Snapshot
    source_after: Snapshot
    source_was_read_only: bool


def make_finished_run(client: Any, folder: Path) -> FinishedRun:
    """Simulate a plate and process it while it is mounted, or marked, read-only."""
    from hcs_nuclei.pipeline import process_plate
    from hcs_nuclei.simulate import simulate_plate

    made = simulate_plate(folder / "plates", wells=4, fields=2, size=192)
    before = snapshot(made.directory)
    progress: list[Any] = []
    with shared_cluster(client), read_only(made.directory) as locked:
        result = process_plate(made.directory, folder / "out", on_progress=progress.append)
    return FinishedRun(
        plate=made.directory,
        truth=made.truth,
        out=folder / "out",
        run=result.run_dir,
        result=result,
        progress=progress,
        source_before=before,
        source_after=snapshot(made.directory),
        source_was_read_only=locked,
    )


@contextmanager
def shared_cluster(client: Any) -> Iterator[None]:
    """Runs of this process go to `client`, whatever cluster they ask for."""

    @contextmanager
    def open_shared(spec: str = "local", *, workers: int | None = None) -> Iterator[Any]:
        yield client

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hcs_nuclei.cluster.open_cluster", open_shared)
        yield


def copied(finished: FinishedRun, folder: Path) -> tuple[Path, Path]:
    """A copy of the runs below `folder` that may be changed: (the directory of runs, the run)."""
    out = folder / "out"
    shutil.copytree(finished.out, out)
    return out, out / finished.run.name


def snapshot(folder: Path) -> Snapshot:
    """Inode, modification time and size of everything below `folder`, directories included."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        found[path.relative_to(folder).as_posix()] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found


def files_of(folder: Path) -> Snapshot:
    """The files of :func:`snapshot` alone: a directory's time also changes with a name that comes and goes."""
    return {name: what for name, what in snapshot(folder).items() if (folder / name).is_file()}


def changed(before: Snapshot, after: Snapshot) -> set[str]:
    """Names that came, went or were written."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def results_of(run: Path) -> dict[str, str]:
    """sha256 of every file that holds results."""
    paths = [run / name for name in RESULTS]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return {file.relative_to(run).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def hidden_in(run: Path) -> list[str]:
    """What lies below `run` under a name that begins with a dot."""
    return sorted(path.relative_to(run).as_posix() for path in run.rglob(".*"))


@contextmanager
def mounted(*arguments: str, at: Path) -> Iterator[bool]:
    """Something mounted at a directory, for those who may; False where nobody may."""
    if os.geteuid() != 0 or subprocess.run(["mount", *arguments, str(at)], capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True, capture_output=True)


@contextmanager
def read_only(folder: Path) -> Iterator[bool]:
    """`folder` takes no writing, by permission, or for root by a mount; False where neither can be had."""
    if os.geteuid() != 0:
        paths = [folder, *folder.rglob("*")]
        modes = [path.stat().st_mode for path in paths]
        for path in paths:
            path.chmod(path.stat().st_mode & ~0o222)
        try:
            yield True
        finally:
            for path, mode in zip(paths, modes, strict=True):
                path.chmod(mode)
        return
    with mounted("--bind", str(folder), at=folder) as bound:
        locked = (
            bound
            and not subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], capture_output=True).returncode
        )
        yield locked


def other_model(folder: Path, by: float = 0.001) -> Path:
    """A copy of the shipped model with a few weights larger by `by`, and a card that says so."""
    from safetensors.numpy import load_file, save_file

    from hcs_nuclei.models.card import Weights, read_card, sha256_of, write_card
    from hcs_nuclei.models.store import SHIPPED

    card = read_card(SHIPPED)
    folder.mkdir(parents=True)
    weights = load_file(SHIPPED / card.weights.file)
    name = min(weights, key=lambda name: weights[name].size)
    weights[name] = weights[name] + weights[name].dtype.type(by)
    path = folder / card.weights.file
    save_file(weights, path)
    described = Weights(file=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size)
    write_card(folder, card.model_copy(update={"name": "other", "weights": described}))
    return folder


#: Of :func:`make_treated_run`: a column that was out of focus, the recipe.
DEFOCUSED_COLUMN = 5
TREATED_RECIPE: dict[str, Any] = {
    "illumination": {"method": "estimate"},
    "calls": {"minimum_nuclei": 100},
    "gates": {
        "marker": {"feature": "Nuclei_Ring_NuclearRatio_FITC", "above_quantile": 0.9},
        "large": {"feature": "Nuclei_AreaShape_Area", "above": 500},
    },
    "statistics": {
        "readouts": [
            "Metadata_Density_per_mm2",
            "Median_Nuclei_AreaShape_Area",
            "Metadata_Fraction_Gate_marker",
        ]
    },
}


def make_treated_run(client: Any, folder: Path) -> FinishedRun:
    """A plate of 24 wells with controls, dose series of two compounds and a column out of focus, and its run."""
    from hcs_nuclei.pipeline import process_plate
    from hcs_nuclei.settings import Settings
    from hcs_nuclei.simulate import simulate_plate
    from hcs_nuclei.simulate.design import Harm

    harm = Harm(defocused_columns=(DEFOCUSED_COLUMN,))
    made = simulate_plate(folder / "plates", wells=24, fields=1, size=400, harm=harm)
    before = snapshot(made.directory)
    progress: list[Any] = []
    settings = Settings.model_validate({**TREATED_RECIPE, "layout": str(made.layout)})
    with shared_cluster(client):
        result = process_plate(made.directory, folder / "out", settings, on_progress=progress.append)
    after = snapshot(made.directory)
    return FinishedRun(
        made.directory, made.truth, folder / "out", result.run_dir, result, progress, before, after, False
    )
