"""The form of a training in Prefect's UI, and the places that it names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flows.parameters import ClusterSpec, RunBy, WorkerCount
from flows.roots import check_cluster, check_roots
from hcs_nuclei.training.comparison import SetSource
from hcs_nuclei.training.gate import GateSettings


class TrainModelParameters(BaseModel):
    """New annotations, what they are joined to, how to train, what to judge by, and what to do with a better model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    annotations: tuple[str, ...] = Field(
        min_length=1,
        title="New annotations",
        description="Data sets with splits train, val and test; test is held back, to judge by.",
    )
    earlier: tuple[str, ...] = Field(
        default=(),
        title="Earlier annotations",
        description="Data sets that the current model was trained on; their train and val are joined to the new ones.",
    )
    frozen: tuple[str, ...] = Field(
        min_length=1, title="Frozen sets", description="Data sets that no model is ever trained on, to judge by."
    )
    frozen_split: str = Field(
        default="test", min_length=1, title="Split of the frozen sets", description="Or all, for every image."
    )
    out: str = Field(
        min_length=1,
        title="Training directory",
        description="Model, checkpoint, log and comparison; on a disk that every worker sees. A second run goes on.",
    )
    name: str = Field(default="", title="Name", description="In the model's card; left out, made from its weights.")
    model: str = Field(
        default="default",
        title="Current model",
        description="What the candidate is judged against, and fine-tuned from. Name it to go on after a promotion.",
    )
    from_scratch: bool = Field(default=False, title="Train from nothing", description="Instead of fine-tuning.")
    few_images: bool = Field(
        default=False,
        title="Few images",
        description="Keep the current model's thresholds and normalisations, which some ten images would move at "
        "random, and learn from val too.",
    )
    epochs: int = Field(default=20, ge=1, title="Epochs", description="How often a report and a checkpoint are made.")
    batches_per_epoch: int = Field(
        default=200, ge=1, title="Batches in an epoch", description="Steps of the optimiser."
    )
    batch: int = Field(default=8, ge=1, title="Crops in a batch", description="Fewer need less memory.")
    crop_px: int = Field(
        default=256, multiple_of=32, title="Edge of a crop (px)", description="A multiple of 32; several nuclei wide."
    )
    learning_rate: float = Field(
        default=3e-4, gt=0, title="Learning rate", description="A quarter of what a training from nothing takes."
    )
    seed: int = Field(
        default=0, ge=0, title="Seed", description="Of crops and their order; the same gives the same model."
    )
    modality: str | None = Field(default=None, title="Modality", description="Train on such images alone.")
    gate: GateSettings = Field(default=GateSettings(), title="Gate", description="What a candidate may lose.")
    promote: bool = Field(
        default=False, title="Promote", description="Make a candidate that passes the gate the default model."
    )
    reason: str = Field(default="", title="Reason", description="Of the promotion, for the audit log.")
    by: RunBy = ""
    cluster: ClusterSpec = "local"
    workers: WorkerCount = None

    @model_validator(mode="after")
    def _from_something(self) -> Self:
        if self.few_images and self.from_scratch:
            raise ValueError(
                "few images are learned from by fine-tuning. Leave out either that or training from nothing"
            )
        return self

    @property
    def title(self) -> str:
        """What the run is called."""
        return self.name or Path(self.out).name

    @property
    def workers_to_train(self) -> int | None:
        """For the training, which is one process: all cores of this machine, or one GPU, where nothing is asked for."""
        own = self.cluster in {"local", "local-gpu"}
        return 1 if own and self.workers is None else self.workers

    @property
    def datasets(self) -> tuple[Path, ...]:
        """What is trained on."""
        return tuple(Path(place) for place in (*self.annotations, *self.earlier))

    @property
    def sources(self) -> tuple[SetSource, ...]:
        """What both models are judged by."""
        split = None if self.frozen_split == "all" else self.frozen_split
        frozen = (SetSource(Path(place), "frozen", split) for place in self.frozen)
        new = (SetSource(Path(place), "new", "test") for place in self.annotations)
        return (*frozen, *new, SetSource(None, "empty"))

    def check_places(self) -> None:
        """Refuse what lies outside the allowed roots.

        Raises:
            SettingsError: names the first such place.
        """
        places = [("Annotations", place) for place in (*self.annotations, *self.earlier, *self.frozen)]
        places.append(("Training directory", self.out))
        if os.sep in self.model or Path(os.path.expanduser(self.model)).is_dir():
            places.append(("Model", self.model))
        check_roots(places)
        check_cluster(self.cluster)
