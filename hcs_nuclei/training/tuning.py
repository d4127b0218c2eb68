"""Network outputs of validation images in, the thresholds and the confidence out that give the best label images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.segmentation.confidence import ConfidenceSettings
from hcs_nuclei.segmentation.instances import InstanceSettings, keep
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
    segmenter: Segmenter,
    predictions: Sequence[Prediction],
    truths: Truths,
    *,
    spoilt: Sequence[tuple[Prediction, npt.NDArray[Any]]] = (),
    minimum_area_px: float = 20,
) -> tuple[InstanceSettings, ConfidenceSettings]:
    """The settings with the highest mean pooled AP over IoU 0.50 to 0.95, and the confidence that goes with them.

    First the thresholds, one axis at a time and twice round; then the confidence of what they find; last, from which
    confidence on a nucleus is better kept. Leaves `segmenter` with what was found.

    Args:
        predictions: network output of each validation image.
        truths: its label image (y, x).
        spoilt: output for images that are out of focus or saturated, each with its label image; only the confidence
            looks at them, so that it is low where little can be seen.
    """
    known: dict[InstanceSettings, float] = {}

    def best_of(candidates: Sequence[InstanceSettings]) -> InstanceSettings:
        for candidate in candidates:
            if candidate not in known:
                segmenter.instances = candidate
                found = [segmenter.instances_of(p, minimum_area_px=minimum_area_px).labels for p in predictions]
                known[candidate] = _mean_ap(found, truths)
        return max(candidates, key=lambda c: known[c])

    segmenter.confidence = ConfidenceSettings()
    best = InstanceSettings(minimum_confidence=0.0)
    for _, (name, values) in product(range(2), _AXES.items()):
        best = best_of([best, *(best.model_copy(update={name: value}) for value in values)])
    segmenter.instances = best
    objects = [_objects_of(segmenter, prediction, minimum_area_px) for prediction in predictions]
    poor = [(_objects_of(segmenter, prediction, minimum_area_px), truth) for prediction, truth in spoilt]
    judged = [_judged(one, truth) for one, truth in [*zip(objects, truths, strict=True), *poor]]
    segmenter.confidence = fit_confidence([features for features, _ in judged], [right for _, right in judged])

    def score(least: float) -> float:
        return _mean_ap(
            [keep(o.labels, segmenter.confidence.of(o.features), o.smallest_px, least)[0] for o in objects], truths
        )

    segmenter.instances = best.model_copy(update={"minimum_confidence": max(_CONFIDENCE, key=score)})
    return segmenter.instances, segmenter.confidence


@dataclass(frozen=True, slots=True)
class _Objects:
    """What was found in one image: `labels` (y, x), `features` (n, 8), and from which area (px²) on it counts."""

    labels: npt.NDArray[np.int32]
    features: npt.NDArray[np.float64]
    smallest_px: float


def _objects_of(segmenter: Segmenter, prediction: Prediction, minimum_area_px: float) -> _Objects:
    return _Objects(*segmenter.objects_of(prediction), segmenter.smallest_area_px(prediction, minimum_area_px))


def _mean_ap(found: Truths, truths: Truths) -> float:
    ious = [iou_matrix(truth, labels) for truth, labels in zip(truths, found, strict=True)]
    return float(np.mean([pooled_average_precision(ious, t) for t in THRESHOLDS]))


def _judged(found: _Objects, truth: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Features (n, 8) of what counts, and (n,) whether each matches an annotated nucleus at IoU 0.5."""
    area = np.bincount(found.labels.ravel(), minlength=len(found.features) + 1)[1:]
    counts = area >= max(found.smallest_px, 1)
    right = np.zeros(len(found.features), bool)
    right[area > 0] = right_predictions(iou_matrix(truth, found.labels))
    return found.features[counts], right[counts]
