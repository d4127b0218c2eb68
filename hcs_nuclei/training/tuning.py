"""Network outputs of validation images in, the thresholds and the confidence out that give the best label images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.segmentation.confidence import ConfidenceSettings
from hcs_nuclei.segmentation.instances import InstanceSettings
from hcs_nuclei.segmentation.predict import Prediction, Segmenter
from hcs_nuclei.training.calibration import fit_confidence
from hcs_nuclei.training.matching import THRESHOLDS, iou_matrix, pooled_average_precision, right_predictions

_AXES: dict[str, tuple[float, ...]] = {
    "seed": (0.15, 0.25, 0.35, 0.45, 0.55),
    "border": (0.0, 0.3, 0.6, 0.9),
    "jump": (0.0, 0.5, 1.0),
    "nucleus": (0.4, 0.45, 0.5, 0.55, 0.6),
    "nucleus_per_octave": (0.0, 0.05, 0.1, 0.15, 0.2),
}
_CONFIDENCE = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6)
Truths = Sequence[npt.NDArray[Any]]


def tune(
    segmenter: Segmenter, predictions: Sequence[Prediction], truths: Truths, *, minimum_area_px: float = 20
) -> tuple[InstanceSettings, ConfidenceSettings]:
    """The settings with the highest mean pooled AP over IoU 0.50 to 0.95, and the confidence that goes with them.

    First the thresholds, one axis at a time and twice round; then the confidence of what they find; last, from which
    confidence on a nucleus is better kept. Leaves `segmenter` with what was found.

    Args:
        predictions: network output of each validation image.
        truths: its label image (y, x).
    """
    known: dict[InstanceSettings, float] = {}

    def best_of(candidates: Sequence[InstanceSettings]) -> InstanceSettings:
        for candidate in candidates:
            if candidate not in known:
                segmenter.instances = candidate
                known[candidate] = _score(segmenter, predictions, truths, minimum_area_px)
        return max(candidates, key=lambda c: known[c])

    segmenter.confidence = ConfidenceSettings()
    best = InstanceSettings(minimum_confidence=0.0)
    for _, (name, values) in product(range(2), _AXES.items()):
        best = best_of([best, *(best.model_copy(update={name: value}) for value in values)])
    segmenter.instances = best
    features, right = zip(
        *(_judged(segmenter, p, t, minimum_area_px) for p, t in zip(predictions, truths, strict=True)), strict=True
    )
    segmenter.confidence = fit_confidence(features, right)
    segmenter.instances = best_of([best.model_copy(update={"minimum_confidence": c}) for c in _CONFIDENCE])
    return segmenter.instances, segmenter.confidence


def _score(segmenter: Segmenter, predictions: Sequence[Prediction], truths: Truths, minimum_area_px: float) -> float:
    ious = [
        iou_matrix(truth, segmenter.instances_of(prediction, minimum_area_px=minimum_area_px).labels)
        for prediction, truth in zip(predictions, truths, strict=True)
    ]
    return float(np.mean([pooled_average_precision(ious, t) for t in THRESHOLDS]))


def _judged(
    segmenter: Segmenter, prediction: Prediction, truth: npt.NDArray[Any], minimum_area_px: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Features (n, 8) of what was found, and (n,) whether each matches an annotated nucleus at IoU 0.5."""
    labels, features = segmenter.objects_of(prediction)
    area = np.bincount(labels.ravel(), minlength=len(features) + 1)[1:]
    judged = area >= max(segmenter.smallest_area_px(prediction, minimum_area_px), 1)
    right = np.zeros(len(features), bool)
    right[area > 0] = right_predictions(iou_matrix(truth, labels))
    return features[judged], right[judged]
