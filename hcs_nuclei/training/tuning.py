"""Network outputs of validation images in, the thresholds out that give the best label images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.segmentation.instances import InstanceSettings, find_nuclei
from hcs_nuclei.training.matching import THRESHOLDS, iou_matrix, pooled_average_precision

Prediction = npt.NDArray[np.float32]

_NUCLEUS = (0.35, 0.4, 0.45, 0.5, 0.55)
_SEED = (0.35, 0.45, 0.55, 0.65)
_BORDER = (0.0, 0.3, 0.6)
_CONFIDENCE = (0.5, 0.6, 0.7)


def tune_instances(
    predictions: Sequence[Prediction], truths: Sequence[npt.NDArray[Any]], *, minimum_area_px: float = 20
) -> InstanceSettings:
    """The thresholds with the highest mean pooled AP over IoU 0.50 to 0.95; one axis at a time, twice round.

    Args:
        predictions: network output (y, x, 3) of each validation image.
        truths: its label image (y, x).
    """

    def score(settings: InstanceSettings) -> float:
        ious = [
            iou_matrix(truth, find_nuclei(prediction, settings, minimum_area_px=minimum_area_px)[0])
            for prediction, truth in zip(predictions, truths, strict=True)
        ]
        return float(np.mean([pooled_average_precision(ious, t) for t in THRESHOLDS]))

    best = InstanceSettings()
    axes = {"seed": _SEED, "border": _BORDER, "nucleus": _NUCLEUS, "minimum_confidence": _CONFIDENCE}
    known: dict[InstanceSettings, float] = {}
    for _, (name, values) in product(range(2), axes.items()):
        candidates = [best, *(best.model_copy(update={name: value}) for value in values)]
        for candidate in candidates:
            if candidate not in known:
                known[candidate] = score(candidate)
        best = max(candidates, key=lambda c: known[c])
    return best
