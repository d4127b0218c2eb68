"""The same plate gives the same bytes, whatever the number of workers and the order of wells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from dask.system import CPU_COUNT
from pipeline_runs import FinishedRun, results_of

from hcs_nuclei.cluster import open_cluster
from hcs_nuclei.pipeline import begin_run, end_run, prepare_plate, process_wells
from hcs_nuclei.settings import Settings


@pytest.mark.slow
def test_two_workers_and_the_reverse_order_give_the_same_bytes(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As many threads in each worker as the one worker had: another number may round sums otherwise.
    monkeypatch.setattr("hcs_nuclei.cluster.local.CPU_COUNT", 2 * CPU_COUNT)
    plan, card = prepare_plate(finished.plate, tmp_path / "out", Settings())
    with open_cluster("local", workers=2) as client:
        plan = begin_run(client, plan, card)
        plan = replace(plan, outstanding=plan.outstanding[::-1])
        end_run(plan, process_wells(client, plan))
    assert results_of(plan.context.run_dir) == results_of(finished.run)
