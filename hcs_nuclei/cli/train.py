"""``train``: annotated images to a model, in this process or on a worker of a cluster."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcs_nuclei.cli.images import SkipFaultyOption, figures_text
from hcs_nuclei.errors import SettingsError

if TYPE_CHECKING:
    from hcs_nuclei.models.card import ModelCard
    from hcs_nuclei.training.child import TrainingJob
    from hcs_nuclei.training.fit import FitSettings


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(train)


def train(
    data: Annotated[list[Path], typer.Option(metavar="DATASET", help="Annotated images with train and val splits.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the model and its checkpoints are written.")] = Path(
        "model"
    ),
    parent: Annotated[
        str | None, typer.Option("--from", metavar="MODEL", help="Model whose weights to start from; ID or DIR.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="unet or mobilenetv2-unet; left out, that of --from, else unet.")
    ] = None,
    encoder_weights: Annotated[
        str,
        typer.Option(metavar="none|imagenet|FILE", help="What the encoder of mobilenetv2-unet begins with."),
    ] = "none",
    freeze_encoder: Annotated[
        bool, typer.Option("--freeze-encoder", help="Keep the encoder of mobilenetv2-unet as it begins.")
    ] = False,
    keep_normalisation: Annotated[
        bool, typer.Option("--keep-normalisation", help="Keep the batch normalisations of --from, where crops are few.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Left out, the default of the recipe.")] = None,
    batches: Annotated[int | None, typer.Option(min=1, help="Batches of 8 crops in an epoch; left out, 200.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Left out, 0.0012; a quarter of it to refine a model with few images.")
    ] = None,
    precision: Annotated[
        str, typer.Option(metavar="auto|float32|mixed_bfloat16|mixed_float16", help="auto: what is fastest there.")
    ] = "auto",
    modality: Annotated[str | None, typer.Option(help="Train on images of this modality; left out, on all.")] = None,
    skip_faulty: SkipFaultyOption = False,
    thresholds_of: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Take thresholds and confidence from this model, and train on val too."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name in the model's card.")] = "",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Train on a worker of it, as process has it; left out, in this process."),
    ] = None,
) -> None:
    """Train a model; started again with the same arguments it goes on from the last finished epoch."""
    from hcs_nuclei.models.store import resolve_model
    from hcs_nuclei.training.child import TrainingJob
    from hcs_nuclei.training.following import follow_training

    asked: dict[str, Any] = {"architecture": architecture, "epochs": epochs, "batches_per_epoch": batches}
    asked |= {"learning_rate": learning_rate, "warmup_batches": None if batches is None else min(batches, 200)}
    given = {key: value for key, value in asked.items() if value is not None}
    given |= {"seed": seed, "encoder_weights": encoder_weights, "freeze_encoder": freeze_encoder}
    given |= {"keep_normalisation": keep_normalisation, "precision": precision}
    settings = _settings(parent, given)
    job = TrainingJob(
        datasets=tuple(Path(os.path.expanduser(place)).resolve() for place in data),
        out=Path(os.path.expanduser(out)).resolve(),
        settings=settings,
        parent_directory=settings.parent_directory,
        modality=modality,
        name=name,
        skip_faulty=skip_faulty,
        thresholds_of=None if thresholds_of is None else str(resolve_model(thresholds_of)[0]),
    )
    with follow_training(job) as follower:
        card = _train_here(job) if cluster is None else _train_on(cluster, job)
        follower.ends("trained", model=f"{card.name} ({card.identifier})")
    for split, figures in card.evaluation.items():
        print(f"{split}:\n{figures_text(figures)}", file=sys.stderr)
    typer.echo(str(out))


def _settings(parent: str | None, given: dict[str, Any]) -> FitSettings:
    from pydantic import ValidationError

    from hcs_nuclei.segmentation.network import ARCHITECTURES
    from hcs_nuclei.training.fit import FitSettings, start_from

    architecture = given.get("architecture", "unet")
    if architecture not in ARCHITECTURES:
        raise typer.BadParameter(f"{architecture!r}; known are {', '.join(ARCHITECTURES)}", param_hint="--architecture")
    try:
        return FitSettings(**given) if parent is None else start_from(parent, **given)
    except ValidationError as error:
        raise SettingsError("; ".join(map(_in_words, error.errors()))) from None


def _in_words(fault: Any) -> str:
    """What pydantic found wrong with an option, or with several together."""
    said = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:
        return said
    name = {"batches_per_epoch": "batches"}.get(fault["loc"][0], str(fault["loc"][0])).replace("_", "-")
    return f"--{name} {fault['input']}: {said[:1].lower()}{said[1:]}"


def _train_here(job: TrainingJob) -> ModelCard:
    from contextlib import redirect_stdout

    with redirect_stdout(sys.stderr):  # Keras prints how it gets on to stdout, which is for data
        return job.run()


def _train_on(cluster: str, job: TrainingJob) -> ModelCard:
    """On one worker, which gets all of this machine where the cluster is of this machine."""
    from hcs_nuclei.cluster import open_cluster
    from hcs_nuclei.training.retraining import LOG_FILE, epoch_in_words, train_on

    def tell(row: dict[str, Any]) -> None:
        print(epoch_in_words(row, job.settings.epochs), file=sys.stderr, flush=True)

    print(f"What the training says: {job.out / LOG_FILE}", file=sys.stderr, flush=True)
    with open_cluster(cluster, workers=1 if cluster in {"local", "local-gpu"} else None) as client:
        return train_on(client, job, tell)[1]
