"""New annotations in, a candidate trained and judged on a cluster out: the flow ``train_model`` without Prefect.

The training is one shard, in a child process of a worker, and goes on from its checkpoint on another worker when that
one dies. The evaluations are shards of some images of a set with one model. Directories must be the same ones on every
worker.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcs_nuclei.cluster import Client, Places, check_workers, emit_event, left_word, run_shards, should_stop
from hcs_nuclei.errors import DatasetError, RunFailedError, UserError, listed
from hcs_nuclei.models.card import ModelCard, read_card
from hcs_nuclei.models.store import ModelReference
from hcs_nuclei.training.annotations import AnnotatedImage, inspect_dataset, pixels_of
from hcs_nuclei.training.checkpoint import last_epoch
from hcs_nuclei.training.child import TrainingJob
from hcs_nuclei.training.comparison import (
    Comparison,
    ImageSet,
    SetSource,
    assemble,
    compare_images,
    read_part,
    read_sets,
)
from hcs_nuclei.training.evaluation import ComparedImage
from hcs_nuclei.training.fit import CHECKPOINT, HISTORY_FILE, read_history
from hcs_nuclei.training.gate import GateSettings

LOG_FILE = "training.log"
_LOOK_EVERY_S = 0.5
#: Images of a shard of an evaluation: work for tens of seconds, so that no worker is left alone with the last one.
IMAGES_A_SHARD = 8

Model = tuple[Path, ModelCard]


@dataclass(frozen=True, slots=True)
class EvaluationShard:
    """One model (of `role` 0, the current, or 1, the candidate) on some images of the set of that number."""

    model: ModelReference
    source: SetSource
    role: int
    number: int
    names: tuple[str, ...]


def check_annotations(datasets: Sequence[Path], sources: Sequence[SetSource]) -> tuple[list[ImageSet], list[str]]:
    """Read all that is trained on and judged by, before anything is begun.

    Args:
        datasets: with splits train and val.
        sources: of the sets that the models are judged by.

    Returns:
        Those sets, and remarks on what was settled, in words.

    Raises:
        DatasetError: every fault of every data set, or an image that would be trained on and judged by.
    """
    faults: list[str] = []
    remarks: list[str] = []
    training: list[AnnotatedImage] = []
    for dataset in datasets:
        found = inspect_dataset(dataset)
        faults += [f"{dataset}: {fault}" for fault in found.faults]
        remarks += [f"{dataset}: {remark}" for remark in found.remarks]
        training += [pair for pair in found.images if pair.split in {"train", "val"}]
    said = []
    if faults:
        listing = "\n".join(f"  {fault}" for fault in faults)
        said = [f"The annotations have {len(faults)} faults:\n{listing}\nMend or remove those images."]
    try:
        sets = read_sets(sources)
    except DatasetError as error:
        said.append(str(error))
    if said:
        raise DatasetError("\n".join(said))
    taught = {pixels_of(pair) for pair in training}
    double = [f"{one.name}: {pair.name}" for one in sets for pair in one.images if pixels_of(pair) in taught]
    if double:
        raise DatasetError(
            f"{len(double)} images that the models are to be judged by would be trained on ({listed(double)}). Take "
            "them out of train and val, or out of the sets to judge by."
        )
    return sets, remarks


def train_on(client: Client, job: TrainingJob, on_epoch: Callable[[dict[str, Any]], None] = lambda _: None) -> Model:
    """Train on one worker of a cluster; started again, or after its worker died, it goes on from its checkpoint.

    Args:
        client: of the cluster.
        job: what to train.
        on_epoch: called in this thread with each epoch's row of the history, once; those of before included.

    Returns:
        Directory and card of the trained model.

    Raises:
        UserError: the job cannot be done as it stands.
        RunFailedError: it was lost three times; says why.
    """
    told = 0

    def hear(event: dict[str, Any]) -> None:
        nonlocal told
        if event["epoch"] > told:
            told = event["epoch"]
            on_epoch(event)

    lost: list[str] = []
    parent = () if job.parent_directory is None else (job.parent_directory,)
    with left_word(job.out) as word:
        needs = Places((*job.datasets, *parent), word)
        check_workers(client, needs)
        run_shards(
            client,
            train_here,
            [job],
            on_result=lambda _, __: None,
            on_lost=lambda _, reason: lost.append(reason),
            on_event=hear,
            needs=needs,
        )
    if lost:
        raise RunFailedError(f"The training in {job.out} was given up: {lost[0]} Its checkpoint is kept.")
    return job.out, read_card(job.out)


def epoch_in_words(row: Mapping[str, Any], epochs: int) -> str:
    """One line for people: ``Epoch 4 of 20: loss 0.512, validation 0.534; 61 s``."""
    validation = f", validation {row['val_loss']:.4g}" if "val_loss" in row else ""
    return f"Epoch {row['epoch']:.0f} of {epochs}: loss {row['loss']:.4g}{validation}; {row['seconds']:.0f} s"


def train_here(job: TrainingJob) -> None:
    """Do a job in a child process of this worker, and send each epoch as an event."""
    job.out.mkdir(parents=True, exist_ok=True)
    told, kept = 0, last_epoch(job.out / CHECKPOINT)
    unkept = read_history(job.out / HISTORY_FILE)[kept:]  # the child begins by forgetting these

    def tell() -> int:
        rows = read_history(job.out / HISTORY_FILE)
        if rows[kept:] == unkept:
            rows = rows[:kept]
        for row in rows[told:]:
            emit_event(row)
        return len(rows)

    with (job.out / LOG_FILE).open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "hcs_nuclei.training.child"], stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    assert child.stdin is not None
    try:
        child.stdin.write(job.model_dump_json().encode() + b"\n")
        child.stdin.flush()
        while child.poll() is None and not should_stop():
            told = tell()
            time.sleep(_LOOK_EVERY_S)
    finally:
        child.kill()
        status = child.wait()
        child.stdin.close()
    told = tell()
    if status:
        raise _failure(job, status)


def compare_on(
    client: Client,
    current: Model,
    candidate: Model,
    sources: Sequence[SetSource],
    sets: Sequence[ImageSet],
    *,
    gate: GateSettings | None = None,
    done: Callable[[int], None] = lambda images: None,
) -> Comparison:
    """Evaluate both models on every set, its images shared out among the workers, and judge the candidate.

    Args:
        client: of the cluster.
        current, candidate: directory and card of each.
        sources, sets: in the same order, as :func:`check_annotations` has them.
        gate: limits of the rules.
        done: told after each shard how many images were looked at, of twice the number of all images.

    Raises:
        UserError: a set or model cannot be used there.
        RunFailedError: an evaluation was lost; says why.
    """
    found: dict[tuple[int, int, str], ComparedImage] = {}
    lost: list[str] = []

    def keep(shard: EvaluationShard, compared: list[ComparedImage]) -> None:
        found.update({(shard.role, shard.number, one.name): one for one in compared})
        done(len(found))

    shards = evaluation_shards(current, candidate, sources, sets)
    needs = Places((current[0], candidate[0], *(source.data for source in sources if source.data is not None)))
    check_workers(client, needs)
    run_shards(
        client, evaluate_here, shards, on_result=keep, on_lost=lambda _, reason: lost.append(reason), needs=needs
    )
    if lost:
        raise RunFailedError(f"{len(lost)} of {len(shards)} parts of the evaluation were lost: {lost[0]}")
    before, now = (
        [[found[role, number, image.name] for image in one.images] for number, one in enumerate(sets)]
        for role in range(2)
    )
    return assemble(current[1], candidate[1], sets, before, now, gate=gate)


def evaluation_shards(
    current: Model, candidate: Model, sources: Sequence[SetSource], sets: Sequence[ImageSet]
) -> list[EvaluationShard]:
    """Every image of every set with both models; those with large images, which take longest, come first."""
    shards = []
    for number, (source, one) in enumerate(zip(sources, sets, strict=True)):
        for first in range(0, len(one.images), IMAGES_A_SHARD):
            images = one.images[first : first + IMAGES_A_SHARD]
            names, size = tuple(image.name for image in images), sum(image.image.size for image in images)
            for role, (directory, card) in enumerate((current, candidate)):
                shard = EvaluationShard(ModelReference(directory, card.sha256), source, role, number, names)
                shards.append((size, shard))
    return [shard for _, shard in sorted(shards, key=lambda pair: -pair[0])]


def evaluate_here(shard: EvaluationShard) -> list[ComparedImage]:
    """What the shard's model finds in its images; in some of them alone where nobody waits for it any more."""
    compared: list[ComparedImage] = []
    for image in read_part(shard.source, shard.names):
        if should_stop():
            break
        compared += compare_images(shard.model, [image])
    return compared


def _failure(job: TrainingJob, status: int) -> Exception:
    lines = (job.out / LOG_FILE).read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    if status == 2:
        return UserError(lines[-1])
    why = f"killed by signal {-status}, as where memory runs out" if status < 0 else lines[-1]
    return RunFailedError(f"the training ended with {why}; {job.out / LOG_FILE} has all of it.")
