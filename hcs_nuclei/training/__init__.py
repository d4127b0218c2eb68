"""Annotations in, an evaluated model out."""

from __future__ import annotations

from hcs_nuclei.training.annotations import AnnotatedImage, read_annotations
from hcs_nuclei.training.evaluation import evaluate
from hcs_nuclei.training.fit import FitSettings, fit
from hcs_nuclei.training.train import train_model

__all__ = ["AnnotatedImage", "FitSettings", "evaluate", "fit", "read_annotations", "train_model"]
