"""The sentence of the product, in order: prepare, calibrate, process the wells, finish."""

from __future__ import annotations

from hcs_nuclei.pipeline.plan import Context, Plan, RunResult, Shard, WellJob
from hcs_nuclei.pipeline.prepare import prepare_plate
from hcs_nuclei.pipeline.run import Progress, begin_run, end_run, process_plate, process_wells

__all__ = [
    "Context",
    "Plan",
    "Progress",
    "RunResult",
    "Shard",
    "WellJob",
    "begin_run",
    "end_run",
    "prepare_plate",
    "process_plate",
    "process_wells",
]
