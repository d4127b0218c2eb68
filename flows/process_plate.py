"""One plate as a Prefect flow: prepare, calibrate, process the wells, finish; a task run for each, Dask inside.

Deployable as ``flows/process_plate.py:process_plate``. The files on disk are the memory of a run, so Prefect retries,
caches and stores nothing: a run that is started again goes on with what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed
from pydantic import BaseModel, ConfigDict, Field

from flows.display import ProgressDisplay, result_line, show_result
from flows.server import prefect_server
from hcs_nuclei.cluster import open_cluster
from hcs_nuclei.errors import HcsNucleiError
from hcs_nuclei.pipeline import Progress, RunResult, begin_run, end_run, prepare_plate, process_wells
from hcs_nuclei.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

OnProgress = Callable[[Progress], None]
#: Who listens in this process, beside Prefect: a function cannot be a parameter of a flow.
_LISTENER: ContextVar[OnProgress] = ContextVar("listener", default=lambda _: None)


class _StoppedError(Exception):
    """Ctrl-C on its way through Prefect, whose event loop would die of a KeyboardInterrupt in a state."""


class ProcessPlateParameters(BaseModel):
    """What to process, where to, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plate: str = Field(
        min_length=1,
        title="Plate directory",
        description="The vendor's directory, as the machine that runs the flow sees it; only ever read.",
    )
    out: str = Field(
        min_length=1,
        title="Output directory",
        description="Directory of runs; the plate gets a directory of its own in it, or goes on with the one there.",
    )
    settings: Settings = Field(default=Settings(), title="Assay recipe", description="What changes results.")
    cluster: str = Field(
        default="local",
        title="Dask cluster",
        description="local, local-gpu, tcp://host:port, tls://host:port, or a scheduler file.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        title="Worker processes",
        description="On a local cluster; left out, the machine decides.",
    )
    overwrite: bool = Field(
        default=False,
        title="Make everything again",
        description="The former tables, report and provenance are kept under .previous in the run directory.",
    )
    retry_failed: bool = Field(
        default=False, title="Retry wells with faults", description="Without it they count as done."
    )

    @property
    def name(self) -> str:
        """What the plate is called before it is opened."""
        return self.settings.plate_name or Path(self.plate).name


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
    except _StoppedError:
        raise KeyboardInterrupt from None
    finally:
        _LISTENER.reset(token)


def _ends_in_words(function: Callable[P, T]) -> Callable[P, T]:
    """End a run with one line instead of a traceback, where the reason is known; the caller gets the error itself."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except HcsNucleiError as error:
            return cast(T, Failed(message=str(error), data=error))
        except (KeyboardInterrupt, _StoppedError):
            return cast(T, Cancelled(message="Stopped by Ctrl-C; finished wells are kept.", data=_StoppedError()))

    return run


@flow(name="process-plate", flow_run_name="process-{parameters.name}", retries=0, persist_result=False)
@_ends_in_words
def process_plate(parameters: ProcessPlateParameters) -> RunResult:
    """Process one plate: label images, tables and a report below the output directory.

    Ends as *Completed*, as *CompletedWithFaults* where fields are missing, unreadable or failed, or as *Failed* with
    the reason in one line.
    """
    show = ProgressDisplay(_LISTENER.get())
    again = {"overwrite": parameters.overwrite, "retry_failed": parameters.retry_failed}
    prepare = partial(prepare_plate, Path(parameters.plate), Path(parameters.out), parameters.settings, **again)
    plan, card = _step("Prepare", prepare)
    progress = partial(Progress, plate=plan.context.plate, done=plan.finished, total=len(plan.plate.wells))
    show(progress("prepare"))
    summaries = []
    if plan.outstanding:
        with open_cluster(parameters.cluster, workers=parameters.workers) as client:
            plan = _step("Calibrate", partial(begin_run, client, plan, card, overwrite=parameters.overwrite))
            show(progress("calibrate"))
            summaries = _step("Process wells", partial(process_wells, client, plan, show))
    result = _step("Finish", partial(end_run, plan, summaries, show))
    show_result(result)
    return _completed(result)


def _step(name: str, work: Callable[[], T]) -> T:
    """`work` as one task run, never retried. It takes no arguments: Prefect would search a whole plan for futures."""

    # With retries=0 Prefect logs the reason three times over, and an empty traceback.
    @task(
        name=name,
        task_run_name=name,
        retries=1,
        retry_condition_fn=lambda *_: False,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    @_ends_in_words
    def step() -> T:
        return work()

    # The state's result, since a task hands back a state that its function returns as it is.
    return step(return_state=True).result()


def _completed(result: RunResult) -> RunResult:
    """The state to end in; the caller of the flow receives the result that it holds."""
    for fault in result.faults[:20]:
        get_run_logger().warning("%s", fault)
    name = "CompletedWithFaults" if result.exit_status else "Completed"
    return cast(RunResult, Completed(name=name, message=result_line(result), data=result))
