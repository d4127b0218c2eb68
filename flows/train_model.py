"""New annotations to a better model as a Prefect flow: check, train, judge, promote; a task run for each, Dask inside.

Deployed as ``flows.train_model.train_model``. The training directory is the memory of a run: one that is started
again with the same parameters goes on from its last finished epoch.
"""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.endings import StoppedError, ends_in_words
from flows.sharing import place_on_machine
from flows.steps import run_step
from flows.training_display import EpochDisplay, log_looked_at, show_comparison
from flows.training_parameters import TrainModelParameters
from hcs_nuclei.cluster import open_cluster
from hcs_nuclei.errors import RunConflictError
from hcs_nuclei.models.promotion import promote
from hcs_nuclei.models.store import resolve_model
from hcs_nuclei.training.child import TrainingJob
from hcs_nuclei.training.comparison import Comparison, ImageSet
from hcs_nuclei.training.comparison_report import REPORT_FILE, write_comparison
from hcs_nuclei.training.fit import FitSettings
from hcs_nuclei.training.following import follow_training
from hcs_nuclei.training.retraining import Model, check_annotations, compare_on, train_on

#: The states of a run whose candidate may take the current model's place, did so, or may not. All are COMPLETED.
_STATES = {
    "better": "CompletedWithBetterModel",
    "promoted": "CompletedAndPromoted",
    "refused": "CompletedWithRefusedModel",
}


@flow(name="train-model", flow_run_name="train-{parameters.title}", retries=0, persist_result=False)
@ends_in_words
def train_model(parameters: TrainModelParameters) -> Comparison:
    """Train a candidate on new annotations, judge it against the current model, and promote it where that is asked for.

    Ends as *CompletedWithBetterModel*, *CompletedAndPromoted*, *CompletedWithRefusedModel*, as *Failed* with the reason
    in one line, or as *Cancelled*. Places outside the allowed roots are refused.
    """
    parameters.check_places()
    current = resolve_model(parameters.model)
    if parameters.promote and current[1].sha256 != resolve_model()[1].sha256:
        raise RunConflictError(
            f"{current[1].name} ({current[1].identifier}), which the candidate is to be judged against, is not the "
            "default model, so it could not be promoted. Leave promote off, and compare the candidate with the default "
            "afterwards (hcs-nuclei models compare)."
        )
    job = training_job(parameters, current)
    check = partial(check_annotations, parameters.datasets, parameters.sources)
    sets, remarks = run_step("Check annotations", check)
    for remark in [*_forgets(parameters, current), *remarks[:20]]:
        get_run_logger().warning("%s", remark)
    run, warn = str(flow_run.id or ""), get_run_logger().warning
    with follow_training(job, flow_run=run, by=parameters.by, warn=warn, stopping=(StoppedError,)) as follower:
        comparison = _train_and_judge(parameters, job, current, sets)
        if comparison.verdict.passed and parameters.promote:
            reason = parameters.reason or f"passed the gate; see {job.out.resolve() / REPORT_FILE}"
            judged = {"instead_of": current[1].sha256, "judged": comparison.candidate.sha256}
            step = partial(promote, str(job.out), reason=reason, by=parameters.by, **judged)
            run_step("Promote", step)
        ending, words = _ending(comparison, promoted=parameters.promote)
        follower.ends(ending, "; ".join(comparison.verdict.reasons), model=_in_words(comparison))
    return cast(Comparison, Completed(name=_STATES[ending], message=words, data=comparison))


def _train_and_judge(
    parameters: TrainModelParameters, job: TrainingJob, current: Model, sets: list[ImageSet]
) -> Comparison:
    """A candidate, compared with the current model; the comparison is written and shown."""
    show = EpochDisplay(parameters.title, parameters.epochs)
    with place_on_machine(), ExitStack() as stack:
        client = stack.enter_context(open_cluster(parameters.cluster, workers=parameters.workers_to_train))
        candidate = run_step("Train", partial(train_on, client, job, show))
        if parameters.workers_to_train != parameters.workers:
            stack.close()
            client = stack.enter_context(open_cluster(parameters.cluster, workers=parameters.workers))
        judge = partial(compare_on, client, current, candidate, parameters.sources, sets, gate=parameters.gate)
        looked = log_looked_at(2 * sum(len(one.images) for one in sets))
        comparison = run_step("Evaluate", partial(judge, done=looked))
    write_comparison(job.out / REPORT_FILE, comparison)
    show_comparison(parameters.title, comparison, job.out / REPORT_FILE)
    return comparison


def _forgets(parameters: TrainModelParameters, current: Model) -> list[str]:
    """What a candidate may lose that is not shown what the current model learned from."""
    if parameters.earlier:
        return []
    card = current[1]
    return [
        f"No earlier annotations are given: the candidate is shown the new ones alone, and may lose what {card.name} "
        f"learned from {card.training.get('images', 'its')} images. The frozen sets judge how much."
    ]


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


def _ending(comparison: Comparison, *, promoted: bool) -> tuple[str, str]:
    """How a training ended, and that in words."""
    candidate = _in_words(comparison)
    if not comparison.verdict.passed:
        return "refused", f"{candidate} is refused: {'; '.join(comparison.verdict.reasons)}"
    if promoted:
        return "promoted", f"{candidate} passed the gate and is the default model now"
    return "better", f"{candidate} passed the gate; hcs-nuclei models promote makes it the default"


def _in_words(comparison: Comparison) -> str:
    return f"{comparison.candidate.name} ({comparison.candidate.identifier})"
