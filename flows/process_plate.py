"""One plate as a Prefect flow: prepare, calibrate, process the wells, finish; a task run for each, Dask inside.

Deployed as ``flows.process_plate.process_plate``. The files on disk are the memory of a run, so Prefect retries,
caches and stores nothing: a run that is started again goes on with what is missing.
"""

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import cast

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.display import ProgressDisplay, show_dashboard
from flows.endings import QUARANTINED, StoppedError, ends_in_words
from flows.parameters import ProcessPlateParameters
from flows.plate_events import emit_end
from flows.result_display import result_line, show_result
from flows.server import prefect_server
from flows.sharing import place_on_machine
from flows.steps import run_step
from hcs_nuclei.cluster import open_cluster, performance_report
from hcs_nuclei.models.card import ModelCard
from hcs_nuclei.pipeline import (
    Origin,
    Plan,
    Progress,
    RunFollower,
    RunLock,
    RunResult,
    alone_in,
    begin_run,
    end_run,
    follow_run,
    followed_progress,
    performance_file,
    prepare_plate,
    process_wells,
)

OnProgress = Callable[[Progress], None]
#: Who listens in this process, beside Prefect: a function cannot be a parameter of a flow.
_LISTENER: ContextVar[OnProgress] = ContextVar("listener", default=lambda _: None)


def run_process_plate(parameters: ProcessPlateParameters, *, on_progress: OnProgress = lambda _: None) -> RunResult:
    """Run the flow in this process, on the server of ``PREFECT_API_URL`` or on an embedded one.

    Args:
        parameters: as the form in the UI has them.
        on_progress: called in this thread as the run goes on.

    Raises:
        UserError: the call cannot be carried out, or no Prefect server answers; nothing has been written.
        RunFailedError: the run could not go on; what is finished is kept.
        KeyboardInterrupt: Ctrl-C; the Dask work is cancelled, and the flow run as well.
    """
    token = _LISTENER.set(on_progress)
    try:
        with prefect_server():
            return process_plate(parameters)
    except StoppedError:
        raise KeyboardInterrupt from None
    finally:
        _LISTENER.reset(token)


@flow(
    name="process-plate",
    flow_run_name="process-{parameters.name}",
    retries=0,
    persist_result=False,
    on_completion=[emit_end],
    on_failure=[emit_end],
    on_crashed=[emit_end],
    on_cancellation=[emit_end],
)
@ends_in_words
def process_plate(parameters: ProcessPlateParameters) -> RunResult:
    """Process one plate: label images, tables and a report below the output directory.

    Ends as *Completed*, as *CompletedWithQuarantinedWells* where wells have fields that are missing, unreadable or
    failed, as *Failed* with the reason in one line, or as *Cancelled*. Places outside the allowed roots are refused.
    """
    parameters.check_places()
    origin = Origin(parameters.recipe, parameters.reason, str(flow_run.id or ""), parameters.by)
    with follow_run(origin, get_run_logger().warning, stopping=(StoppedError,)) as follower:
        return _process(parameters, follower)


def _process(parameters: ProcessPlateParameters, follower: RunFollower) -> RunResult:
    again = {"overwrite": parameters.overwrite, "retry_failed": parameters.retry_failed}
    prepare = partial(prepare_plate, parameters.plate, Path(parameters.out), parameters.settings, **again)
    plan, card = run_step("Prepare", prepare)
    with alone_in(plan.context.run_dir) as lock:
        follower.begin(plan, card, **again)
        return _process_prepared(parameters, follower, plan, card, lock)


def _process_prepared(
    parameters: ProcessPlateParameters, follower: RunFollower, plan: Plan, card: ModelCard, lock: RunLock
) -> RunResult:
    wells = plan.plate.wells
    display = ProgressDisplay(
        _LISTENER.get(), sum(len(well.fields) for well in wells) * plan.context.timepoints / len(wells)
    )
    show = followed_progress(follower, display)
    progress = partial(Progress, plate=plan.context.plate, done=plan.finished, total=len(wells))
    show(progress("prepare"))
    summaries = []
    if plan.outstanding:
        report = performance_file(plan) if parameters.performance_report else None
        with (
            place_on_machine(),
            open_cluster(parameters.cluster, workers=parameters.workers) as client,
            performance_report(client, report, get_run_logger().warning),
        ):
            show_dashboard(plan.context.plate, client)
            begin = partial(begin_run, client, plan, card, show, overwrite=parameters.overwrite, lock=lock)
            plan = run_step("Calibrate", begin)
            show(progress("calibrate"))
            summaries = run_step("Process wells", partial(process_wells, client, plan, show))
    result = run_step("Finish", partial(end_run, plan, summaries, show))
    follower.end(result)
    display.ended(result_line(result))
    show_result(result)
    return _completed(result)


def _completed(result: RunResult) -> RunResult:
    """The state to end in; the caller of the flow receives the result that it holds."""
    for fault in result.faults[:20]:
        get_run_logger().warning("%s", fault)
    name = QUARANTINED if result.exit_status else "Completed"
    return cast(RunResult, Completed(name=name, message=result_line(result), data=result))
