"""Annotated images in, a trained network with its history out; readable top to bottom, resumable at every epoch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hcs_nuclei.errors import ModelError, RunConflictError
from hcs_nuclei.files import TEMPORARY, replace_file
from hcs_nuclei.models.card import Weights, load_weights, write_weights
from hcs_nuclei.models.store import resolve_model
from hcs_nuclei.segmentation.backend import bfloat16_pays, import_keras
from hcs_nuclei.segmentation.mobilenet import freeze_encoder, load_encoder
from hcs_nuclei.segmentation.network import WITH_ENCODER, build_network
from hcs_nuclei.segmentation.targets import BORDER, DISTANCE, NUCLEUS, OFFSET_X, OFFSET_Y, TARGETS
from hcs_nuclei.training import checkpoint
from hcs_nuclei.training.annotations import AnnotatedImage, data_hash
from hcs_nuclei.training.dataset import fixed_crops, make_dataset

WEIGHTS_FILE = "weights.safetensors"
HISTORY_FILE = "history.json"
CHECKPOINT = "checkpoint"
NO_ENCODER_WEIGHTS = "none"


class FitSettings(BaseModel):
    """How a network is trained; stands in its card."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    architecture: str = "unet"
    epochs: int = Field(default=60, ge=1)
    batches_per_epoch: int = Field(default=200, ge=1)
    batch: int = Field(default=8, ge=1)
    crop_px: int = Field(default=256, multiple_of=32)
    learning_rate: float = Field(default=1.2e-3, gt=0)
    decay_epochs: int = Field(
        default=14, ge=0, description="The rate falls in a line to nothing over the last of them."
    )
    warmup_batches: int = Field(default=200, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = Field(
        default="auto", description="auto is mixed_bfloat16 where that is faster, else float32."
    )
    seed: int = 0
    encoder_weights: str = Field(default=NO_ENCODER_WEIGHTS, description="none, imagenet, or a file of such weights.")
    freeze_encoder: bool = False
    keep_normalisation: bool = Field(
        default=False, description="Batch normalisations stay those of the model that it starts from."
    )
    parent: str = Field(default="", description="Identifier of the model that it starts from.")
    parent_directory: Path | None = Field(
        default=None, exclude=True, description="Where the parent is; None looks for it among the known models."
    )

    @model_validator(mode="after")
    def _encoder_is_there(self) -> Self:
        given = self.encoder_weights != NO_ENCODER_WEIGHTS
        if (given or self.freeze_encoder) and self.architecture not in WITH_ENCODER:
            raise ValueError(
                f"encoder weights and a frozen encoder are for {', '.join(sorted(WITH_ENCODER))}; architecture "
                f"{self.architecture!r} has no such encoder. Leave them out, or choose the other architecture"
            )
        if given and self.parent:
            raise ValueError(
                "a training that starts from a model has that model's encoder. Leave out either the encoder weights or "
                "the model"
            )
        if self.freeze_encoder and not given and not self.parent:
            raise ValueError(
                "an encoder that begins at random and is frozen learns nothing. Give encoder weights or a model to "
                "start from, or leave it free"
            )
        if self.keep_normalisation and not self.parent:
            raise ValueError("a training from nothing has no normalisations to keep. Leave that out, or name a model")
        return self

    def for_this_machine(self) -> Self:
        """The same, with the precision that *auto* stands for where the network is trained."""
        if self.precision != "auto":
            return self
        return self.model_copy(update={"precision": "mixed_bfloat16" if bfloat16_pays() else "float32"})


def start_from(model: str, **settings: Any) -> FitSettings:
    """Settings of a training that starts from the weights of a model: its identifier, name or directory.

    Raises:
        ModelError: no such model, or `settings` names another architecture than it has.
    """
    directory, card = resolve_model(model)
    if settings.setdefault("architecture", card.architecture) != card.architecture:
        raise ModelError(
            f"The model {card.name} ({card.identifier}) has architecture {card.architecture!r}, and "
            f"{settings['architecture']!r} is asked for. Start from another model, or leave out --architecture."
        )
    return FitSettings(**settings, parent=card.identifier, parent_directory=directory)


def loss(truth: Any, prediction: Any) -> Any:
    """Scalar loss of (batch, y, x, 5) targets against predictions.

    0.5 cross-entropy and 0.3 Dice on the nuclei, 0.5 weighted cross-entropy and 0.2 Dice on the border, 2 × absolute
    error of the distance, 2 × absolute error of the offsets inside nuclei. Source: the mixture of the DSB2018 winners,
    the distance as in Naylor et al. 2018, the offsets as in Graham et al. 2019.
    """
    from keras import ops

    # Taken apart at once: the gradient of a slice is a whole array of zeros each time.
    t = ops.unstack(ops.cast(truth, "float32"), TARGETS, axis=-1)
    p = ops.unstack(ops.clip(ops.cast(prediction, "float32"), 1e-5, 1 - 1e-5), TARGETS, axis=-1)

    def cross_entropy(channel: int, positive_weight: float) -> Any:
        is_so, is_not = t[channel] * ops.log(p[channel]), (1 - t[channel]) * ops.log(1 - p[channel])
        return -ops.mean(positive_weight * is_so + is_not)

    def dice(channel: int) -> Any:
        return 1 - (2 * ops.sum(t[channel] * p[channel]) + 1) / (ops.sum(t[channel]) + ops.sum(p[channel]) + 1)

    def inside(channel: int) -> Any:
        error = ops.abs(t[channel] - p[channel])
        return ops.sum(t[NUCLEUS] * error) / (ops.sum(t[NUCLEUS]) + 1)

    return (
        0.5 * cross_entropy(NUCLEUS, 1.0)
        + 0.3 * dice(NUCLEUS)
        + 0.5 * cross_entropy(BORDER, 5.0)
        + 0.2 * dice(BORDER)
        + 2.0 * ops.mean(ops.abs(t[DISTANCE] - p[DISTANCE]))
        + 2.0 * (inside(OFFSET_Y) + inside(OFFSET_X))
    )


def nucleus_accuracy(truth: Any, prediction: Any) -> Any:
    """Share of pixels called rightly nucleus or background at 0.5."""
    from keras import ops

    return ops.mean(ops.cast(ops.equal(truth[..., NUCLEUS] > 0.5, prediction[..., NUCLEUS] > 0.5), "float32"))


def fit(
    training: Sequence[AnnotatedImage],
    validation: Sequence[AnnotatedImage],
    settings: FitSettings,
    out: Path,
    *,
    verbose: int = 0,
) -> Any:
    """Train a network; returns it with its final (averaged) weights in place.

    Everything that a resumed run needs is under ``out/checkpoint``; called again with the same arguments it goes on
    from the last finished epoch, on the same path as if it had not been stopped. `epochs`, `decay_epochs` and
    `precision` may be others then, but for mixed_float16, to and from which nothing leads. ``out/history.json`` holds
    the loss and accuracy of every epoch.

    Raises:
        ModelError: the weights to start from cannot be used, or the checkpoint cannot be read.
        RunConflictError: `out` holds the checkpoint of another training, or of one that is past `epochs`.
    """
    keras = import_keras()
    settings = settings.for_this_machine()
    keras.utils.set_random_seed(settings.seed)
    network = _starting_network(settings)
    network.compile(
        optimizer=keras.optimizers.AdamW(
            _schedule(settings), weight_decay=settings.weight_decay, clipnorm=1.0, use_ema=True, ema_momentum=0.995
        ),
        loss=loss,
        metrics=[nucleus_accuracy],
        jit_compile=False,
    )
    checkpoints = out / CHECKPOINT
    # With mixed_float16 the loss is scaled, and the optimizer's state is another one.
    scaled = settings.precision == "mixed_float16"
    identity = settings.model_dump(mode="json") | {"data_sha256": data_hash(training), "loss_is_scaled": scaled}
    checkpoint.open_checkpoint(checkpoints, identity, may_differ=("epochs", "decay_epochs", "precision"))
    done = checkpoint.restore(network, checkpoints)
    if done > settings.epochs:
        raise RunConflictError(
            f"The training in {out} is {done} epochs long already, and {settings.epochs} are asked for. Ask for more, "
            "or choose another --out."
        )
    crops = make_dataset(
        training,
        size=settings.crop_px,
        batch=settings.batch,
        batches=settings.batches_per_epoch,
        seed=settings.seed,
        calm_from_epoch=settings.epochs - settings.decay_epochs,
    )
    history = _History(out / HISTORY_FILE, done)

    def begin_epoch(epoch: int, logs: dict[str, float] | None) -> None:
        history.begin()
        crops.epoch = epoch  # its crops are seeded by its number, so a resumed run must know which one it is in

    def end_epoch(epoch: int, logs: dict[str, float] | None) -> None:
        history.add(epoch, logs)
        checkpoint.save(network, checkpoints, epoch + 1)
        write_averaged(network, out / WEIGHTS_FILE)

    network.fit(
        crops,
        initial_epoch=done,
        epochs=settings.epochs,
        shuffle=False,  # the crops are random already; the order of their batches would be another in a resumed run
        validation_data=fixed_crops(validation, size=settings.crop_px),
        validation_batch_size=settings.batch,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=begin_epoch),
            keras.callbacks.SwapEMAWeights(),  # what is validated is what will be kept: the averaged weights
            keras.callbacks.LambdaCallback(on_epoch_end=end_epoch),
        ],
        verbose=verbose,
    )
    return network


def _starting_network(settings: FitSettings) -> Any:
    """The network before its first epoch, in the precision that it is trained in."""
    keras = import_keras()
    keras.config.set_dtype_policy(settings.precision)
    try:
        network = build_network(settings.architecture)
    finally:
        keras.config.set_dtype_policy("float32")
    if settings.parent:
        directory, card = resolve_model(str(settings.parent_directory or settings.parent))
        if card.identifier != settings.parent:
            raise ModelError(
                f"The model in {directory} is {card.identifier}; the training is to start from {settings.parent}."
            )
        load_weights(network, directory, card)
    elif settings.encoder_weights != NO_ENCODER_WEIGHTS:
        load_encoder(network, settings.encoder_weights)
    if settings.freeze_encoder:
        freeze_encoder(network)
    if settings.keep_normalisation:
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    return network


def _schedule(settings: FitSettings) -> Any:
    """Learning rate by step: a rise, a plateau, a line down to nothing over the last epochs.

    The plateau may be of any length: a run can be given more epochs until its decay begins, and a copy of it can be
    brought to its end at any time. Source: warmup-stable-decay (Zhai et al. 2022, Hu et al. 2024).
    """
    keras = import_keras()
    from keras import ops

    end = settings.epochs * settings.batches_per_epoch
    decay = max(min(settings.decay_epochs, settings.epochs) * settings.batches_per_epoch, 1)

    class Plateau(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc, name-defined]
        def __call__(self, step: Any) -> Any:
            now = ops.cast(step, "float32")
            rise = (now + 1.0) / max(settings.warmup_batches, 1)
            fall = (end - now) / decay
            return settings.learning_rate * ops.clip(ops.minimum(rise, fall), 0.0, 1.0)

    return Plateau()


def write_averaged(network: Any, path: Path) -> Weights:
    """Store the averaged weights of a network in training, which goes on with its own; the file is whole or absent."""
    optimizer = getattr(network.optimizer, "inner_optimizer", network.optimizer)  # float16 has another around it
    trained = [variable.numpy() for variable in network.trainable_variables]
    unfinished = path.with_name(f"{TEMPORARY}{path.name}")
    for variable, average in zip(network.trainable_variables, optimizer._model_variables_moving_average, strict=True):
        variable.assign(average)
    try:
        weights = write_weights(network, unfinished)
        os.replace(unfinished, path)
    finally:
        for variable, value in zip(network.trainable_variables, trained, strict=True):
            variable.assign(value)
    return weights.model_copy(update={"file": path.name})


class _History:
    """Loss and metrics of every epoch, kept in a file so that curves survive an interruption."""

    def __init__(self, path: Path, done: int) -> None:
        self._path = path
        self._begun = time.monotonic()
        if len(before := read_history(path)) > done:  # epochs that no checkpoint knows will be gone through again
            self._write(before[:done])

    def begin(self) -> None:
        self._begun = time.monotonic()

    def add(self, epoch: int, logs: dict[str, float] | None) -> None:
        rows = read_history(self._path)[:epoch]
        figures = {k: float(v) for k, v in (logs or {}).items()}
        rows.append({"epoch": epoch + 1, **figures, "seconds": round(time.monotonic() - self._begun, 1)})
        self._write(rows)

    def _write(self, rows: list[dict[str, float]]) -> None:
        replace_file(self._path, json.dumps(rows, indent=1).encode())


def read_history(path: Path) -> list[dict[str, float]]:
    """The epochs so far: loss, nucleus_accuracy, the same with ``val_``, seconds; empty before the first has ended."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
