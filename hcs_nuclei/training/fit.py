"""Annotated images in, a trained network with its history out; readable top to bottom, resumable at every epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hcs_nuclei.segmentation.backend import import_keras
from hcs_nuclei.segmentation.network import build_network
from hcs_nuclei.segmentation.targets import BORDER, DISTANCE, NUCLEUS
from hcs_nuclei.training.annotations import AnnotatedImage
from hcs_nuclei.training.dataset import fixed_crops, make_dataset

WEIGHTS_FILE = "weights.safetensors"
HISTORY_FILE = "history.json"


class FitSettings(BaseModel):
    """How a network is trained; stands in its card."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    architecture: str = "unet"
    epochs: int = Field(default=14, ge=1)
    batches_per_epoch: int = Field(default=200, ge=1)
    batch: int = Field(default=8, ge=1)
    crop_px: int = Field(default=256, multiple_of=32)
    learning_rate: float = Field(default=1.5e-3, gt=0)
    warmup_batches: int = Field(default=200, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    precision: str = Field(default="mixed_bfloat16", pattern="^(float32|mixed_bfloat16|mixed_float16)$")
    seed: int = 0


def loss(truth: Any, prediction: Any) -> Any:
    """Scalar loss of (batch, y, x, 3) targets against predictions.

    0.5 cross-entropy and 0.3 Dice on the nuclei, 0.5 weighted cross-entropy and 0.2 Dice on the border, 2 × absolute
    error of the distance. Source: the mixture of the DSB2018 winners, the distance as in Naylor et al. 2018.
    """
    from keras import ops

    truth = ops.cast(truth, "float32")
    prediction = ops.clip(ops.cast(prediction, "float32"), 1e-5, 1 - 1e-5)

    def cross_entropy(channel: int, positive_weight: float) -> Any:
        t, p = truth[..., channel], prediction[..., channel]
        return -ops.mean(positive_weight * t * ops.log(p) + (1 - t) * ops.log(1 - p))

    def dice(channel: int) -> Any:
        t, p = truth[..., channel], prediction[..., channel]
        return 1 - (2 * ops.sum(t * p) + 1) / (ops.sum(t) + ops.sum(p) + 1)

    return (
        0.5 * cross_entropy(NUCLEUS, 1.0)
        + 0.3 * dice(NUCLEUS)
        + 0.5 * cross_entropy(BORDER, 5.0)
        + 0.2 * dice(BORDER)
        + 2.0 * ops.mean(ops.abs(truth[..., DISTANCE] - prediction[..., DISTANCE]))
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
    steps = settings.epochs * settings.batches_per_epoch
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if settings.warmup_batches else settings.learning_rate,
        decay_steps=max(steps - settings.warmup_batches, 1),
        warmup_target=settings.learning_rate if settings.warmup_batches else None,
        warmup_steps=settings.warmup_batches,
    )
    network.compile(
        optimizer=keras.optimizers.AdamW(
            schedule, weight_decay=settings.weight_decay, clipnorm=1.0, use_ema=True, ema_momentum=0.995
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
        ],
        verbose=verbose,
    )
    return network


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
