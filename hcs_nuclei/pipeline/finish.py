"""Committed wells in, the plate's tables, report and provenance out."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from hcs_nuclei.columns import SCHEMA_VERSION, Measured
from hcs_nuclei.errors import RunConflictError
from hcs_nuclei.files import sweep
from hcs_nuclei.layouts import Layout, read_layout
from hcs_nuclei.outputs.anndata_file import ANNDATA_FILE, write_anndata
from hcs_nuclei.outputs.feature_tables import write_feature_tables
from hcs_nuclei.outputs.ome_zarr import finish_store
from hcs_nuclei.outputs.provenance import Outcome, RunRecord, read_record, write_record
from hcs_nuclei.outputs.reading import read_fields
from hcs_nuclei.outputs.report import write_report
from hcs_nuclei.outputs.tables import finish_tables
from hcs_nuclei.pipeline.alone import alone_in
from hcs_nuclei.pipeline.calling import check_rules, choose_exclusions, rules_of
from hcs_nuclei.pipeline.following import note_remade
from hcs_nuclei.pipeline.plan import STORE, Plan
from hcs_nuclei.pipeline.statistics import PlateStatistics
from hcs_nuclei.pipeline.treatments import layout_of_run, record_of
from hcs_nuclei.plate import Channel, Field, Plate, Well, row_name
from hcs_nuclei.screening.field_flags import FieldLimits
from hcs_nuclei.settings import WHEN_FINISHED, AggregationSettings, Settings

logger = logging.getLogger("hcs_nuclei.run")


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
    told = record.settings.model_copy(update={name: getattr(context.settings, name) for name in WHEN_FINISHED})
    record = record.model_copy(update={"settings": told, "exclusions": plan.exclusions})
    return _write_tables(context.run_dir, plan.plate, context.measured, plan.layout, record)


def remake_plates(
    runs: Sequence[Path],
    layout: str = "auto",
    *,
    exclusions: str = "auto",
    qc: str | None = None,
    recipe: Settings | None = None,
    reason: str = "",
    warn: Callable[[str], object] = logger.warning,
) -> None:
    """Make the tables and reports of finished runs again, from their wells; no pixel is looked at but the reports'.

    A run without ``run.json`` gets its report alone. Nothing is written before every run is seen to fit.

    Args:
        runs: finished runs.
        layout: ``auto`` for the treatments that it has, ``none`` for none, or the file with others.
        exclusions: ``auto`` for what it leaves out, ``none`` for nothing, or the file with other wells and fields.
        qc: which flags count, as ``aggregation.qc`` has them, None for those that counted.
        recipe: whose :data:`hcs_nuclei.settings.WHEN_FINISHED` settings take the place of its own; None for its own.
        reason: why, for the audit log.
        warn: told where the audit log cannot be written.

    Raises:
        LayoutError: the layout or the exclusions cannot be read, or do not fit the plate.
        OutputError: the run was not finished.
        RunConflictError: there is no ``run.json`` of this version, or another run writes there.
        SettingsError: a flag or gate cannot be applied to the plate.
    """
    with ExitStack() as stack:
        locks = [stack.enter_context(alone_in(run)) for run in {run.resolve(): run for run in runs}.values()]
        asked = partial(_asked, layout=layout, exclusions=exclusions, qc=qc, recipe=recipe)
        records = {run: read_record(run) for run in runs}
        unknown = [str(run) for run, record in records.items() if record is None]
        if unknown and ((layout, exclusions) != ("auto", "auto") or qc or recipe):
            raise RunConflictError(
                f"{', '.join(unknown)}: no run.json there, so it cannot be told what a layout, exclusions, flags or "
                "gates must fit. Process the plate again with --overwrite."
            )
        remade = {run: _treated(run, record, asked(record.settings)) for run, record in records.items() if record}
        for lock in locks:
            try:
                lock.take()
            except OSError as error:
                # Where nothing can be written nobody else writes, and what is the same is not written again.
                if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
                    raise
        for run in runs:
            if run in remade:
                record = remade[run][-1]
                if fault := note_remade(run.resolve().name, records[run] or record, record, reason):
                    warn(fault)
                _write_tables(run, *remade[run])
            else:
                write_report(run)


def _asked(settings: Settings, layout: str, exclusions: str, qc: str | None, recipe: Settings | None) -> Settings:
    """The settings of a run as they shall be; ``auto`` leaves its layout or exclusions as they are."""
    if recipe is not None:
        layout = recipe.layout if layout == "auto" else layout
        exclusions = recipe.exclusions if exclusions == "auto" else exclusions
        settings = settings.model_copy(update={name: getattr(recipe, name) for name in WHEN_FINISHED})
    update: dict[str, Any] = {"layout": layout, "exclusions": exclusions}
    if qc is not None:
        aggregation = {**settings.aggregation.model_dump(), "qc": qc}
        update["aggregation"] = AggregationSettings.model_validate(aggregation)
    return settings.model_copy(update=update)


def _treated(run_dir: Path, record: RunRecord, asked: Settings) -> tuple[Plate, Measured, Layout | None, RunRecord]:
    """A finished run's plate without its planes, what was measured, its treatments, its record as it shall be."""
    places = read_fields(run_dir).groupby(["Metadata_Row", "Metadata_Column"])["Metadata_Field"].unique()
    plate = Plate(
        root=Path(record.source.directory),
        vendor=record.source.vendor,
        reason=record.source.reason,
        name=record.plate,
        acquisition=record.acquisition,
        wells=tuple(
            Well(int(row), int(column), tuple(Field(int(number), ()) for number in numbers))
            for (row, column), numbers in places.items()
        ),
        channels=tuple(Channel(c.token, c.name) for c in record.channels),
        timepoints=record.source.timepoints,
        wells_in_format=record.source.wells_in_format,
        expected_from=record.source.expected_from,
    )
    exclusions, told = choose_exclusions(plate, asked, record)
    if asked.layout == "auto":
        treated = layout_of_run(run_dir, record)
        told = told.model_copy(update={"layout": record.settings.layout})
    else:
        treated = None if asked.layout == "none" else read_layout(Path(os.path.expanduser(asked.layout)), plate)
    check_rules(told, record.measured, treated, plate)
    return plate, record.measured, treated, record.model_copy(update={"settings": told, "exclusions": exclusions})


def _write_tables(
    run_dir: Path, plate: Plate, measured: Measured, layout: Layout | None, record: RunRecord
) -> RunRecord:
    limits = FieldLimits(
        record.settings.qc,
        record.model.field_statistics,
        diameter_px=record.calibration.diameter_px,
        training_diameter_px=record.model.training_diameter_px,
    )
    statistics = PlateStatistics.of(record.settings, measured, plate.wells_in_format)
    rules = rules_of(record, record.exclusions)
    tables = finish_tables(run_dir, plate, measured, layout, limits, rules, statistics.normalised)
    told = statistics.write(run_dir, tables.wells)
    _export(run_dir, plate, measured, record.settings)
    fields = tables.fields.to_pylist()
    outcome = Outcome(
        wells_by_status=_counts(tables.wells.column("status").to_pylist()),
        fields_by_status=_counts(row["status"] for row in fields),
        nuclei=sum(row["Metadata_Object_Count"] or 0 for row in fields),
        faults=tuple(fault_line(row, plate.timepoints) for row in fields if row["status"] != "ok"),
        warnings=(*(f"Gate {gate.name}: {gate.reason}." for gate in tables.calls.gates if gate.reason), *told),
    )
    # The time of a finish that changed nothing is no news: the file keeps its bytes and its modification time.
    before, treatments = read_record(run_dir), record_of(layout)
    tables_of = {"schema_version": SCHEMA_VERSION, "outcome": outcome, "layout": treatments}
    done = record.model_copy(update=tables_of)
    same = before is not None and before == done.model_copy(update={"finished": before.finished})
    finished = (before.finished if same and before else None) or datetime.now(UTC).isoformat(timespec="seconds")
    done = done.model_copy(update={"finished": finished})
    write_record(run_dir, done)
    write_report(run_dir)
    return done


def _export(run_dir: Path, plate: Plate, measured: Measured, settings: Settings) -> None:
    if settings.export.anndata:
        write_anndata(run_dir, measured)
    else:
        (run_dir / ANNDATA_FILE).unlink(missing_ok=True)
    if settings.export.feature_tables:
        write_feature_tables(run_dir, run_dir / STORE, plate, measured)


def fault_line(row: dict[str, Any], timepoints: int) -> str:
    """One line for people: ``B03 field 4: missing - DAPI plane is not there``."""
    time = f" time point {row['Metadata_Timepoint']}" if timepoints > 1 else ""
    return f"{row['Metadata_Well']} field {row['Metadata_Field']}{time}: {row['status']} - {row['error']}"


def _counts(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
