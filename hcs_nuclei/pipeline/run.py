"""A plate directory in, a finished run out: prepare, calibrate, process the wells, finish."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hcs_nuclei.errors import RunConflictError, RunFailedError, UserError
from hcs_nuclei.files import sweep
from hcs_nuclei.models.card import ModelCard
from hcs_nuclei.outputs.calls import CALLS_FILE
from hcs_nuclei.outputs.ome_zarr import begin_store
from hcs_nuclei.outputs.provenance import Calibration, read_record, write_record
from hcs_nuclei.outputs.tables import well_table_path
from hcs_nuclei.pipeline.access import shared_access
from hcs_nuclei.pipeline.alone import RunLock, alone_in
from hcs_nuclei.pipeline.calibrate import calibrate_plate, files_of_sample, lit_sample, sample_fields
from hcs_nuclei.pipeline.finish import finish_plate
from hcs_nuclei.pipeline.following import Origin, RunFollower, follow_run
from hcs_nuclei.pipeline.plan import PERFORMANCE_FILE, Plan, RunResult, Shard, WellJob, make_shards
from hcs_nuclei.pipeline.prepare import prepare_plate, put_back, set_aside
from hcs_nuclei.pipeline.record import new_record
from hcs_nuclei.pipeline.summary import WellSummary
from hcs_nuclei.pipeline.treatments import layout_words
from hcs_nuclei.pipeline.well import fail_well, process_shard
from hcs_nuclei.settings import Settings

if TYPE_CHECKING:
    from hcs_nuclei.cluster import Client

logger = logging.getLogger("hcs_nuclei.run")


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run tells while it goes on: `stage` is prepare, calibrate, wells or finish; `made` is the last well.

    With a `remark` it tells that alone: a line for people, such as a worker that is given no work.
    """

    stage: str
    plate: str
    done: int = 0
    total: int = 0
    nuclei: int = 0
    well: str = ""
    faults: int = 0
    made: WellSummary | None = None
    remark: str = ""


OnProgress = Callable[[Progress], None]


def process_plate(
    plate: Path | str,
    out: Path | str,
    settings: Settings | None = None,
    *,
    cluster: str = "local",
    workers: int | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    on_progress: OnProgress = lambda _: None,
    performance_report: bool = False,
    recipe: str = "",
    reason: str = "",
) -> RunResult:
    """Process one plate: label images, tables and a report below ``out/<run>``.

    Args:
        plate: the vendor's directory, or its URL (``s3://``, ``gs://``, ``https://``); only ever read.
        out: directory of runs; this plate's run directory is made in it, or gone on with.
        settings: the assay recipe; None for the defaults.
        cluster: its name, as ``--cluster`` takes it; `hcs_nuclei.cluster.address.FORMS` has all kinds.
        workers: processes on this machine; None lets the machine decide.
        overwrite: make everything again; the former tables are kept under ``.previous``.
        retry_failed: make wells again that have faults.
        on_progress: called in this thread as the run goes on.
        performance_report: write Dask's ``performance.html`` into the run directory, though the run fails.
        recipe: what the settings are called, for the audit log.
        reason: why the plate is processed, for the audit log.

    Raises:
        UserError: the call cannot be carried out; nothing has been written.
        RunFailedError: the run could not go on; what is finished is kept.
    """
    from hcs_nuclei.cluster import open_cluster
    from hcs_nuclei.cluster import performance_report as reported

    clock = _Clock()
    again = {"overwrite": overwrite, "retry_failed": retry_failed}
    with ExitStack() as stack:
        follower = stack.enter_context(follow_run(Origin(recipe, reason)))
        plan, card = prepare_plate(plate, Path(out), settings or Settings(), **again)
        lock = stack.enter_context(alone_in(plan.context.run_dir))
        follower.begin(plan, card, **again)
        show = followed_progress(follower, on_progress)
        show(Progress("prepare", plan.context.plate, plan.finished, len(plan.plate.wells)))
        summaries: list[WellSummary] = []
        clock.ends("prepare")
        if plan.outstanding:
            with (
                open_cluster(cluster, workers=workers) as client,
                reported(client, performance_file(plan) if performance_report else None, logger.warning),
            ):
                clock.ends("cluster")
                plan = begin_run(client, plan, card, show, overwrite=overwrite, lock=lock)
                show(Progress("calibrate", plan.context.plate, plan.finished, len(plan.plate.wells)))
                clock.ends("calibrate")
                summaries = process_wells(client, plan, show)
                clock.ends("wells")
        result = end_run(plan, summaries, show)
        clock.ends("finish")
        follower.end(result)
    return replace(result, seconds={**_by_stage(summaries), **clock.seconds})


def followed_progress(follower: RunFollower, on_progress: OnProgress) -> OnProgress:
    """`on_progress`, after the follower of the run was told of the well that is done."""

    def show(progress: Progress) -> None:
        if progress.made is not None:
            follower.made(progress.made)
        on_progress(progress)

    return show


def performance_file(plan: Plan) -> Path:
    """Where Dask's performance report of a run is written."""
    return plan.context.run_dir / PERFORMANCE_FILE


def begin_run(
    client: Client,
    plan: Plan,
    card: ModelCard,
    on_progress: OnProgress = lambda _: None,
    *,
    overwrite: bool = False,
    lock: RunLock | None = None,
) -> Plan:
    """Calibrate (once for a plate), write ``run.json`` and the store's skeleton: from here on the run can be resumed.

    Args:
        client: of the cluster.
        plan: what is to be done.
        card: of the model.
        on_progress: called in this thread.
        overwrite: put the former results aside.
        lock: of the run directory, taken before anything is written there; None where nobody else can be at work.

    Raises:
        ModelError: the model is not the one that the plan was made with; nothing has been written.
        RunConflictError: another run writes there, or has since this one was planned; nothing has been written.
        ClusterError: no worker reaches plate, output and model, or none could calibrate; nothing has been written.
        RunFailedError: the run directory cannot be written any more.
    """
    planned = plan.record
    plan = _calibrated(client, plan, card, on_progress)
    context = plan.context
    try:
        context.run_dir.mkdir(parents=True, exist_ok=True)
        if lock is not None:
            lock.take()
        # Between planning and here lies the wait for workers, which may be hours.
        if not overwrite and read_record(context.run_dir) != planned:
            raise RunConflictError(
                f"Another run has written into {context.run_dir} since this one was planned. Start this one again: it "
                "then goes on with what is left, or says what differs."
            )
        if overwrite:
            set_aside(context.run_dir)
        else:
            put_back(context.run_dir)
        (context.run_dir / "nuclei").mkdir(exist_ok=True)
        for job in plan.outstanding:
            # A well that is made again is not done until it is: its old table must not outlive its old label images.
            well_table_path(context.run_dir, job.well.name).unlink(missing_ok=True)
        # What was called of its nuclei is so no longer.
        (context.run_dir / CALLS_FILE).unlink(missing_ok=True)
        sweep(context.run_dir, context.run_dir / "nuclei")
        begin_store(context.store, plan.plate)
        assert plan.record is not None
        write_record(context.run_dir, plan.record.model_copy(update={"finished": None}))
    except OSError as error:
        raise RunFailedError(
            f"The run directory {context.run_dir} cannot be written ({error.strerror}). Free space or mend the "
            "permission, then start the run again."
        ) from error
    return plan


def _calibrated(client: Client, plan: Plan, card: ModelCard, on_progress: OnProgress) -> Plan:
    """`plan` with its calibration, made on a worker where it was not before; some worker can do the wells."""
    from hcs_nuclei.cluster import call, check_workers

    context = plan.context
    with shared_access(plan) as access:
        check_workers(client, access, tell=partial(_remark, plan, on_progress))
        if plan.record is not None:
            return plan
        sample, lit = sample_fields(plan.plate, context.nuclear.token, context.settings.z), lit_sample(plan)
        remote = files_of_sample(plan.plate, (*sample, *lit))
        given = (context, sample, plan.illumination, lit, remote)
        calibration: Calibration = call(client, calibrate_plate, *given, needs=access)
    context = replace(context, calibration=calibration)
    jobs = tuple(WellJob.of(context, plan.plate, w) for w in plan.plate.wells)
    return replace(plan, context=context, outstanding=jobs, record=new_record(plan, card, calibration))


def _remark(plan: Plan, on_progress: OnProgress, line: str) -> None:
    on_progress(Progress("prepare", plan.context.plate, plan.finished, len(plan.plate.wells), remark=line))


def process_wells(client: Client, plan: Plan, on_progress: OnProgress = lambda _: None) -> list[WellSummary]:
    """Fan the outstanding wells out over the cluster; one failed well never stops the others.

    Raises:
        RunFailedError: the cluster is gone, the model is no longer the same, or the output cannot be written any
            more; finished wells are kept.
    """
    from hcs_nuclei.cluster import run_shards

    context = plan.context
    summaries: list[WellSummary] = []
    told: dict[str, tuple[int, int]] = {}  # a well is told of again where its worker died later in the same shard

    def tell(made: WellSummary) -> None:
        told[made.well] = made.nuclei, sum(status != "ok" for status in made.statuses)
        done, total = plan.finished + len(told), plan.finished + len(plan.outstanding)
        all_nuclei, faults = (sum(numbers) for numbers in zip(*told.values(), strict=True))
        on_progress(Progress("wells", context.plate, done, total, all_nuclei, made.well, faults, made))

    def on_lost(shard: Shard, reason: str) -> None:
        for job in shard.jobs:
            summaries.append(fail_well(context, job, reason))
            tell(summaries[-1])

    workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    try:
        with shared_access(plan) as access:
            run_shards(
                client,
                process_shard,
                make_shards(context, plan.outstanding, workers),
                on_result=lambda _, made: summaries.extend(made),
                on_lost=on_lost,
                split=Shard.split,
                on_event=lambda event: tell(WellSummary.of_event(event)),
                needs=access,
                on_unfit=partial(_remark, plan, on_progress),
            )
    except (UserError, OSError) as error:  # too late to be refused: the run has begun
        raise RunFailedError(str(error)) from error
    return summaries


def end_run(plan: Plan, summaries: list[WellSummary], on_progress: OnProgress = lambda _: None) -> RunResult:
    """Finish the plate and say how it went.

    Raises:
        RunFailedError: the output cannot be written any more; finished wells are kept.
    """
    context = plan.context
    wells = len(plan.plate.wells)
    on_progress(Progress("finish", context.plate, wells, wells))
    if plan.record is None:
        raise UserError(f"Plate {context.plate} has no wells to process.")
    try:
        record = finish_plate(plan, plan.record)
    except OSError as error:
        raise RunFailedError(f"The tables of {context.run_dir} cannot be written: {error}") from error
    assert record.outcome is not None
    return RunResult(
        run_dir=context.run_dir,
        plate=context.plate,
        made=len(summaries),
        kept=plan.finished,
        nuclei=record.outcome.nuclei,
        wells_by_status=record.outcome.wells_by_status,
        fields_by_status=record.outcome.fields_by_status,
        faults=record.outcome.faults,
        warnings=(
            *record.warnings,
            *(record.layout.warnings if record.layout else ()),
            *record.outcome.warnings,
        ),
        layout=layout_words(record.layout),
    )


class _Clock:
    """How long each stage took: ``ends`` says which one is over."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def ends(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self._last = now - self._last, now


def _by_stage(summaries: list[WellSummary]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for summary in summaries:
        total.update(summary.seconds)
    return {f"worker {stage}": seconds for stage, seconds in total.items()}
