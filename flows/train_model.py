"""New annotations to a better model as a Prefect flow: check, train, judge, promote; a task run for each, Dask inside.

Deployable as ``flows/train_model.py:train_model``. The training directory is the memory of a run: one that is started
again with the same parameters goes on from its last finished epoch.
"""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

from prefect import flow
from prefect.logging import get_run_logger
from prefect.states import Completed

from flows.endings import ends_in_words
from flows.steps import run_step
from flows.training_display import EpochDisplay, log_looked_at, show_comparison
from flows.training_parameters import TrainModelParameters
from hcs_nuclei.cluster import open_cluster
from hcs_nuclei.models.promotion import promote
from hcs_nuclei.models.store import DEFAULT, resolve_model
from hcs_nuclei.training.child import TrainingJob
from hcs_nuclei.training.comparison import Comparison
from hcs_nuclei.training.comparison_report import REPORT_FILE, write_comparison
from hcs_nuclei.training.fit import FitSettings
from hcs_nuclei.training.retraining import Model, check_annotations, compare_on, train_on

#: The names of the states of a run whose candidate may take the current model's place, did so, or may not.
BETTER, PROMOTED, REFUSED = "CompletedWithBetterModel", "CompletedAndPromoted", "CompletedWithRefusedModel"


@flow(name="train-model", flow_run_name="train-{parameters.title}", retries=0, persist_result=False)
@ends_in_words
def train_model(parameters: TrainModelParameters) -> Comparison:
    """Train a candidate on new annotations, judge it against the current model, and promote it where that is asked for.

    Ends as *CompletedWithBetterModel*, *CompletedAndPromoted*, *CompletedWithRefusedModel*, as *Failed* with the reason
    in one line, or as *Cancelled*. Places outside the allowed roots are refused.
    """
    parameters.check_places()
    current = resolve_model(parameters.model)
    job, out = training_job(parameters, current), Path(parameters.out)
    show = EpochDisplay(parameters.title, parameters.epochs)
    check = partial(check_annotations, parameters.datasets, parameters.sources)
    sets, remarks = run_step("Check annotations", check)
    for remark in remarks[:20]:
        get_run_logger().warning("%s", remark)
    with ExitStack() as stack:
        client = stack.enter_context(open_cluster(parameters.cluster, workers=parameters.workers_to_train))
        candidate = run_step("Train", partial(train_on, client, job, show))
        if parameters.workers_to_train != parameters.workers:
            stack.close()
            client = stack.enter_context(open_cluster(parameters.cluster, workers=parameters.workers))
        judge = partial(compare_on, client, current, candidate, parameters.sources, sets, gate=parameters.gate)
        looked = log_looked_at(2 * sum(len(one.images) for one in sets))
        comparison = run_step("Evaluate", partial(judge, done=looked))
    write_comparison(out / REPORT_FILE, comparison)
    show_comparison(parameters.title, comparison, out / REPORT_FILE)
    if comparison.verdict.passed and parameters.promote:
        judged_against = current[1].sha256 if parameters.model == DEFAULT else None
        reason = parameters.reason or f"passed the gate; see {out.resolve() / REPORT_FILE}"
        run_step("Promote", partial(promote, str(out), reason=reason, instead_of=judged_against))
    return _completed(comparison, promoted=parameters.promote)


def training_job(parameters: TrainModelParameters, current: Model) -> TrainingJob:
    """What a worker is sent."""
    directory, card = current
    parent: dict[str, Any] = (
        {} if parameters.from_scratch else {"architecture": card.architecture, "parent": card.identifier}
    )
    settings = FitSettings(
        epochs=parameters.epochs,
        batches_per_epoch=parameters.batches_per_epoch,
        batch=parameters.batch,
        crop_px=parameters.crop_px,
        learning_rate=parameters.learning_rate,
        decay_epochs=max(1, parameters.epochs // 4),
        warmup_batches=min(200, parameters.batches_per_epoch),
        seed=parameters.seed,
        keep_normalisation=parameters.few_images,
        **parent,
    )
    return TrainingJob(
        datasets=parameters.datasets,
        out=Path(parameters.out),
        settings=settings,
        parent_directory=None if parameters.from_scratch else directory,
        modality=parameters.modality,
        name=parameters.name,
        thresholds_of=str(directory) if parameters.few_images else None,
    )


def _completed(comparison: Comparison, *, promoted: bool) -> Comparison:
    """The state to end in; the caller of the flow receives the comparison that it holds."""
    candidate = f"{comparison.candidate.name} ({comparison.candidate.identifier})"
    if not comparison.verdict.passed:
        name, message = REFUSED, f"{candidate} is refused: {'; '.join(comparison.verdict.reasons)}"
    elif promoted:
        name, message = PROMOTED, f"{candidate} passed the gate and is the default model now"
    else:
        name, message = BETTER, f"{candidate} passed the gate; hcs-nuclei models promote makes it the default"
    return cast(Comparison, Completed(name=name, message=message, data=comparison))
