"""A model and annotated images in, every figure of the field out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.training.annotations import AnnotatedImage
from hcs_nuclei.training.matching import (
    THRESHOLDS,
    iou_matrix,
    kaggle_score,
    mean_average_precision,
    merges_and_splits,
    pooled_average_precision,
)

Segment = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class PixelReport:
    """Nucleus against background over all pixels: the classification report, with each class's support."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    iou: float
    support_nucleus: int
    support_background: int


def evaluate(annotated: Sequence[AnnotatedImage], segment: Segment) -> dict[str, Any]:
    """Segment every image and compare: pooled and per-image AP, Kaggle's score, counts, merges, pixels.

    Args:
        annotated: images with their nuclei.
        segment: (y, x) image → (y, x) label image.

    Returns:
        A JSON-able mapping; AP by threshold as ``{"0.50": …}``; the count error is a share (0.1 = 10 %).
    """
    ious, count_errors, merges, splits = [], [], 0, 0
    confusion = np.zeros((2, 2), np.int64)
    for pair in annotated:
        labels = segment(pair.image)
        iou = iou_matrix(pair.labels, labels)
        ious.append(iou)
        merged, split = merges_and_splits(iou)
        merges, splits = merges + merged, splits + split
        count_errors.append(abs(iou.shape[1] - iou.shape[0]) / max(iou.shape[0], 1))
        code = 2 * (pair.labels > 0).ravel().astype(np.intp) + (labels > 0).ravel()
        confusion += np.bincount(code, minlength=4).reshape(2, 2)
    pooled = {f"{t:.2f}": pooled_average_precision(ious, t) for t in THRESHOLDS}
    return {
        "images": len(annotated),
        "nuclei": int(sum(iou.shape[0] for iou in ious)),
        "predicted": int(sum(iou.shape[1] for iou in ious)),
        "pooled_ap": pooled,
        "pooled_ap_mean": float(np.mean(list(pooled.values()))),
        "per_image_ap_50": mean_average_precision(ious, 0.5),
        "kaggle_map": kaggle_score(ious),
        "count_error": float(np.mean(count_errors)),
        "merges": merges,
        "splits": splits,
        "pixels": asdict(_pixel_report(confusion)),
    }


def _pixel_report(confusion: npt.NDArray[np.int64]) -> PixelReport:
    (tn, fp), (fn, tp) = confusion.tolist()

    def share(part: int, whole: int) -> float:
        return part / whole if whole else 1.0

    return PixelReport(
        accuracy=share(tp + tn, tp + tn + fp + fn),
        precision=share(tp, tp + fp),
        recall=share(tp, tp + fn),
        f1=share(2 * tp, 2 * tp + fp + fn),
        iou=share(tp, tp + fp + fn),
        support_nucleus=tp + fn,
        support_background=tn + fp,
    )
