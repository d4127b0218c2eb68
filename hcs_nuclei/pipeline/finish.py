"""Committed wells in, the plate's tables, report and provenance out."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from hcs_nuclei.outputs.files import sweep
from hcs_nuclei.outputs.ome_zarr import finish_store
from hcs_nuclei.outputs.provenance import Outcome, RunRecord, read_record, write_record
from hcs_nuclei.outputs.report import write_report
from hcs_nuclei.outputs.tables import finish_tables
from hcs_nuclei.pipeline.plan import Plan
from hcs_nuclei.plate import row_name


def finish_plate(plan: Plan, record: RunRecord) -> RunRecord:
    """Write what the whole plate shares; a file that is already right is not touched.

    Raises:
        OutputError: a well has no table (the run was interrupted).
    """
    context = plan.context
    # What a worker that died left: only a next run would find it, and a finished plate has none.
    rows = {context.store / row_name(well.row) for well in plan.plate}
    sweep(context.run_dir, context.run_dir / "nuclei", context.store, *rows)
    finish_store(context.store, plan.plate)
    tables = finish_tables(context.run_dir, plan.plate, context.channel_columns)
    fields = tables.fields.to_pylist()
    outcome = Outcome(
        wells_by_status=_counts(tables.wells.column("status").to_pylist()),
        fields_by_status=_counts(row["status"] for row in fields),
        nuclei=sum(row["Metadata_Object_Count"] or 0 for row in fields),
        faults=tuple(fault_line(row, context.timepoints) for row in fields if row["status"] != "ok"),
    )
    # The time of a finish that changed nothing is no news: the file keeps its bytes and its modification time.
    before = read_record(context.run_dir)
    same = before is not None and before.finished is not None and before.outcome == outcome
    finished = before.finished if same and before else datetime.now(UTC).isoformat(timespec="seconds")
    done = record.model_copy(update={"finished": finished, "outcome": outcome})
    write_record(context.run_dir, done)
    write_report(context.run_dir)
    return done


def fault_line(row: dict[str, Any], timepoints: int) -> str:
    """One line for people: ``B03 field 4: missing - DAPI plane is not there``."""
    time = f" time point {row['Metadata_Timepoint']}" if timepoints > 1 else ""
    return f"{row['Metadata_Well']} field {row['Metadata_Field']}{time}: {row['status']} - {row['error']}"


def _counts(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
