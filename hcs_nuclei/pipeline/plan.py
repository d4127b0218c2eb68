"""What a run is, in values: the context that every worker shares, its wells, its shards, its result."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hcs_nuclei.columns import Measured
from hcs_nuclei.layouts import Layout
from hcs_nuclei.measurement import Reach, reach_in_pixels
from hcs_nuclei.outputs.provenance import Calibration, Illumination, RunRecord
from hcs_nuclei.plate import Channel, Plate, RemoteFiles, Well
from hcs_nuclei.screening.exclusions import Exclusions
from hcs_nuclei.settings import Settings

#: Rises whenever the same input, settings and model would give other labels or features.
ALGORITHM_VERSION = 7
STORE = "plate.ome.zarr"
PERFORMANCE_FILE = "performance.html"


@dataclass(frozen=True, slots=True)
class Context:
    """What every well of a run has in common; small, crosses to the workers with each shard.

    `place` is where the plate lies, for people: its directory, which is `root`, or its URL.
    """

    root: Path
    place: str
    run_dir: Path
    plate: str
    acquisition: str
    channels: tuple[Channel, ...]
    nuclear: Channel
    timepoints: int
    pixel_size_um: float | None
    settings: Settings
    model_directory: Path
    model_sha256: str
    calibration: Calibration | None = None

    @property
    def store(self) -> Path:
        """The run's OME-Zarr plate."""
        return self.run_dir / STORE

    @property
    def channel_columns(self) -> tuple[str, ...]:
        """How the channels' feature columns end, in the plate's order; equal names are told apart by their tokens."""
        names = [c.column_name for c in self.channels]
        return tuple(
            name if names.count(name) == 1 else f"{name}{c.token}" for name, c in zip(names, self.channels, strict=True)
        )

    @property
    def measured(self) -> Measured:
        """What is measured of every nucleus, as the tables' columns need it."""
        columns = self.channel_columns
        nuclear = columns[self.channels.index(self.nuclear)]
        return Measured(columns, nuclear, frozenset(self.settings.measurement.features))

    @property
    def reach(self) -> Reach | None:
        """How far around nuclei is looked, in pixels; None where neither pixel size nor diameter is known."""
        recipe = self.settings.measurement
        return reach_in_pixels(
            ring_gap_um=recipe.ring_gap_um,
            ring_width_um=recipe.ring_width_um,
            neighbour_distance_um=recipe.neighbour_distance_um,
            pixel_size_um=self.pixel_size_um,
            diameter_px=self.calibration.diameter_px if self.calibration else None,
        )


@dataclass(frozen=True, slots=True)
class WellJob:
    """A well to process, and the fingerprint that its commit will carry; `remote` has its files at the plate's URL."""

    well: Well
    fingerprint: str
    remote: RemoteFiles | None = None

    @classmethod
    def of(cls, context: Context, plate: Plate, well: Well) -> WellJob:
        """With its fingerprint, and of a plate at a URL with what a worker has to know of its files."""
        remote = plate.remote.only(_inputs(well)) if plate.remote else None
        return cls(well, well_fingerprint(context, well, remote), remote)


@dataclass(frozen=True, slots=True)
class Shard:
    """Several wells that one worker pipelines."""

    context: Context
    jobs: tuple[WellJob, ...]

    def split(self) -> list[Shard]:
        """The same wells, each in a shard of its own."""
        return [Shard(self.context, (job,)) for job in self.jobs]


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that is ready to go on: its context, its plate, the wells that are outstanding.

    `finished` wells are already there; `record` is what ``run.json`` holds, None before the plate was calibrated;
    `layout` has the treatments, `exclusions` what is left out by hand; `illumination` is what is known of it before the
    plate was calibrated.
    """

    context: Context
    plate: Plate
    outstanding: tuple[WellJob, ...]
    finished: int
    record: RunRecord | None
    layout: Layout | None = None
    exclusions: Exclusions | None = None
    illumination: Illumination | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, as the tables tell it.

    `made` wells were processed now, `kept` were there before; `faults` has one line for each field that is not ok;
    `layout` says where the treatments came from.
    """

    run_dir: Path
    plate: str
    made: int
    kept: int
    nuclei: int
    wells_by_status: dict[str, int]
    fields_by_status: dict[str, int]
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    layout: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """0 where every expected well was processed; 3 with fields missing, unreadable or failed."""
        bad = sum(self.fields_by_status.get(status, 0) for status in ("missing", "unreadable", "failed"))
        return 3 if bad else 0


def well_fingerprint(context: Context, well: Well, remote: RemoteFiles | None = None) -> str:
    """sha256 (hex) of all that a well's results depend on.

    Names (relative to the plate), sizes and modification times of its inputs, settings, calibration, model and the
    version of the algorithm. The same plate at another place has the same fingerprints. `remote` has the well's files
    where the plate lies at a URL: then the versions that its store tells stand in the place of times.
    """
    content = {
        "algorithm": ALGORITHM_VERSION,
        "settings": context.settings.fingerprint(),
        "model": context.model_sha256,
        "calibration": context.calibration.model_dump(mode="json") if context.calibration else None,
        "plate": [context.plate, context.acquisition, well.name, context.timepoints, context.pixel_size_um],
        "channels": [[c.token, c.name] for c in context.channels],
        "nuclear": context.nuclear.token,
        "fields": [
            [f.number, f.position_um, [[p.channel, p.z, p.timepoint, p.path] for p in f.planes]] for f in well.fields
        ],
        "inputs": [_identity(context.root, name, remote) for name in _inputs(well)],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def make_shards(context: Context, jobs: Sequence[WellJob], workers: int) -> Iterator[Shard]:
    """Shards that shrink towards the end of the plate, so that no worker idles while another has several wells left.

    A shard is at most 32 fields: at about a second a field, some 20 to 60 s of work on a CPU.
    """
    left = list(jobs)
    while left:
        fields = max(1, len(left[0].well.fields) * context.timepoints)
        size = max(1, min(32 // fields, len(left) // (3 * max(workers, 1))))
        yield Shard(context, tuple(left[:size]))
        left = left[size:]


def _inputs(well: Well) -> list[str]:
    return sorted({plane.path for site in well.fields for plane in site.planes if plane.path})


def _identity(root: Path, name: str, remote: RemoteFiles | None) -> list[str | int]:
    """Name, size and time of an input; of a directory (a Zarr array) the sum and the latest of the files in it."""
    if remote is not None:
        there = [remote.files[file] for file in remote.below(name)]
        return [name, sum(file.size for file in there), " ".join(file.version for file in there)]
    path = root / name
    try:
        files = [Path(folder, file) for folder, _, inner in os.walk(path) for file in inner]
        statuses = [file.stat() for file in (files if path.is_dir() else [path])]
    except OSError:
        return [name, -1, -1]
    return [name, sum(s.st_size for s in statuses), max((s.st_mtime_ns for s in statuses), default=-1)]
