"""Annotated images in, a trained network with its history out; readable top to bottom, resumable at every epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hcs_nuclei.models.card import Weights, write_weights
from hcs_nuclei.segmentation.backend import import_keras
from hcs_nuclei.segmentation.network import build_network
from hcs_nuclei.segmentation.targets import BORDER, DISTANCE, NUCLEUS, OFFSET_X, OFFSET_Y, TARGETS
from hcs_nuclei.training.annotations import AnnotatedImage
from hcs_nuclei.training.dataset import fixed_crops, make_dataset

WEIGHTS_FILE = "weights.safetensors"
HISTORY_FILE = "history.json"


class FitSettings(BaseModel):
    """How a network is trained; stands in its card."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    architecture: str = "unet"
    epochs: int = Field(default=50, ge=1)
    batches_per_epoch: int = Field(default=200, ge=1)
    batch: int = Field(default=8, ge=1)
    crop_px: int = Field(default=256, multiple_of=32)
    learning_rate: float = Field(default=1.2e-3, gt=0)
    decay_epochs: int = Field(default=8, ge=0, description="The rate falls in a line to nothing over the last of them.")
    warmup_batches: int = Field(default=200, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    precision: str = Field(default="mixed_bfloat16", pattern="^(float32|mixed_bfloat16|mixed_float16)$")
    seed: int = 0


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
    from the last finished epoch. ``out/history.json`` holds the loss and accuracy of every epoch.
    """
    keras = import_keras()
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    try:
        network = build_network(settings.architecture)
    finally:
        keras.config.set_dtype_policy("float32")
    network.compile(
        optimizer=keras.optimizers.AdamW(
            _schedule(settings), weight_decay=settings.weight_decay, clipnorm=1.0, use_ema=True, ema_momentum=0.995
        ),
        loss=loss,
        metrics=[nucleus_accuracy],
        jit_compile=False,
    )
    crops = make_dataset(
        training,
        size=settings.crop_px,
        batch=settings.batch,
        batches=settings.batches_per_epoch,
        seed=settings.seed,
    )
    out.mkdir(parents=True, exist_ok=True)
    history = _History(out / HISTORY_FILE)
    network.fit(
        crops,
        epochs=settings.epochs,
        validation_data=fixed_crops(validation, size=settings.crop_px),
        validation_batch_size=settings.batch,
        callbacks=[
            # The crops of an epoch are seeded by its number, so a resumed run must know which one it is in.
            keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(crops, "epoch", epoch)),
            keras.callbacks.LambdaCallback(on_epoch_end=history.add),
            keras.callbacks.BackupAndRestore(str(out / "checkpoint"), double_checkpoint=True, delete_checkpoint=False),
            keras.callbacks.SwapEMAWeights(),  # what is validated is what will be kept: the averaged weights
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: write_averaged(network, out / WEIGHTS_FILE)
            ),
        ],
        verbose=verbose,
    )
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
    """Store the averaged weights of a network in training, which goes on with its own."""
    trained = [variable.numpy() for variable in network.trainable_variables]
    for variable, average in zip(
        network.trainable_variables, network.optimizer._model_variables_moving_average, strict=True
    ):
        variable.assign(average)
    try:
        return write_weights(network, path)
    finally:
        for variable, value in zip(network.trainable_variables, trained, strict=True):
            variable.assign(value)


class _History:
    """Loss and metrics of every epoch, kept in a file so that curves survive an interruption."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, epoch: int, logs: dict[str, float] | None) -> None:
        rows = read_history(self._path)[:epoch]
        rows.append({"epoch": epoch + 1, **{k: float(v) for k, v in (logs or {}).items()}})
        self._path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def read_history(path: Path) -> list[dict[str, float]]:
    """The epochs so far: loss, nucleus_accuracy and the same with ``val_``; empty before the first has ended."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
