"""The sentence of the product, in order: prepare, calibrate, process the wells, finish."""

from __future__ import annotations

from hcs_nuclei.pipeline.alone import RunLock, alone_in
from hcs_nuclei.pipeline.following import Origin, RunFollower, follow_run, note_recipe
from hcs_nuclei.pipeline.plan import Context, Plan, RunResult, Shard, WellJob
from hcs_nuclei.pipeline.prepare import prepare_plate
from hcs_nuclei.pipeline.run import (
    Progress,
    begin_run,
    end_run,
    followed_progress,
    performance_file,
    process_plate,
    process_wells,
)

__all__ = [
    "Context",
    "Origin",
    "Plan",
    "Progress",
    "RunFollower",
    "RunLock",
    "RunResult",
    "Shard",
    "WellJob",
    "alone_in",
    "begin_run",
    "end_run",
    "follow_run",
    "followed_progress",
    "note_recipe",
    "performance_file",
    "prepare_plate",
    "process_plate",
    "process_wells",
]
