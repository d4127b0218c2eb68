"""A model and annotated images in, every figure of the field out, and the images to look at."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hcs_nuclei.segmentation.predict import Segmentation
from hcs_nuclei.training.annotations import AnnotatedImage
from hcs_nuclei.training.matching import (
    THRESHOLDS,
    Matches,
    iou_matrix,
    kaggle_score,
    match,
    mean_average_precision,
    merges_and_splits,
    right_predictions,
)

Segment = Callable[[npt.NDArray[Any]], Segmentation]

#: Images that are kept to be looked at, of the best and of the worst.
SHOWN = 6
#: Bins of the reliability diagram, of equal width.
BINS = 10
#: Edge of the field that a segmentation is timed on, px: that of the cameras most in use, binned.
FIELD_PX = 1080


@dataclass(frozen=True, slots=True)
class PixelReport:
    """Nucleus against background over all pixels: the classification report, with each class's support.

    What names no class is the nuclei's; shares of nothing are 1.
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    iou: float
    support_nucleus: int
    precision_background: float
    recall_background: float
    f1_background: float
    iou_background: float
    support_background: int


@dataclass(frozen=True, slots=True)
class ImageFigures:
    """What was reached on one image; `count_error` is a share, `confidence` the mean over what was found, if any."""

    name: str
    modality: str
    nuclei: int
    predicted: int
    ap_50: float
    ap_mean: float
    f1_70: float
    count_error: float
    merges: int
    splits: int
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Shown:
    """An image to look at: `pair` with its truth, and the (y, x) uint32 `labels` that were found in it."""

    figures: ImageFigures
    pair: AnnotatedImage
    labels: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`figures` are JSON-able, `images` in the order in which they were given.

    `best` and `worst` are up to :data:`SHOWN` images each by AP at IoU 0.5, then by mean AP; no image is in both.
    """

    figures: dict[str, Any]
    images: tuple[ImageFigures, ...]
    best: tuple[Shown, ...]
    worst: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class ComparedImage:
    """One image, compared: all that its figures and those of a set with it are made of, and small enough to be sent."""

    name: str
    modality: str
    iou: sparse.csr_array
    confusion: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]

    @property
    def count_error(self) -> float:
        truths, predictions = self.iou.shape
        return float(abs(predictions - truths) / max(truths, 1))


def evaluate(
    annotated: Sequence[AnnotatedImage], segment: Segment, *, done: Callable[[int], None] = lambda images: None
) -> Evaluation:
    """Segment every image and compare: pooled and per-image AP, F1, Kaggle's score, counts, merges, pixels, confidence.

    Args:
        annotated: images with their nuclei.
        segment: (y, x) image → its label image and the confidence of each nucleus.
        done: told after each image how many there were.

    Returns:
        In its `figures`, AP and F1 by threshold as ``{"0.50": …}``; the count error is a share (0.1 = 10 %); where
        there are images of several modalities, the figures of each under ``modalities``.
    """
    compared, images = [], []
    shown: list[Shown] = []
    for pair in annotated:
        found = segment(pair.image)
        one = compare_image(pair, found)
        compared.append(one)
        images.append(image_figures(one))
        shown = _keep_extremes([*shown, Shown(images[-1], pair, found.labels)])
        done(len(images))
    worst = min(SHOWN, len(shown) // 2)
    return Evaluation(set_figures(compared), tuple(images), best=tuple(shown[worst:][::-1]), worst=tuple(shown[:worst]))


def set_figures(compared: Sequence[ComparedImage]) -> dict[str, Any]:
    """The figures of a set of images, in whatever parts they were compared; see :func:`evaluate`."""
    figures = _figures(compared)
    modalities = sorted({one.modality for one in compared})
    if len(modalities) > 1:
        figures["modalities"] = {
            name or "unknown": _figures([one for one in compared if one.modality == name]) for name in modalities
        }
    return figures


def reliability(confidence: npt.NDArray[np.floating[Any]], right: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """How far confidence can be believed: ``nuclei``, ``ece`` and ``bins`` of equal width, as in a reliability diagram.

    Args:
        confidence: (n,) in [0, 1], the probability that each prediction claims to be right with.
        right: (n,) whether it is.

    Returns:
        JSON-able. ``ece`` is the expected calibration error, the mean over predictions of the distance between their
        bin's mean confidence and its share of right ones; None where nothing was predicted. Each bin has ``from``,
        ``to``, ``nuclei``, and mean ``confidence`` and share ``right``, None in an empty one.

    Source: Naeini et al. 2015, Guo et al. 2017.
    """
    place = np.minimum((np.asarray(confidence, np.float64) * BINS).astype(np.intp), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    claimed = np.bincount(place, weights=confidence, minlength=BINS)
    reached = np.bincount(place, weights=right, minlength=BINS)
    return {
        "nuclei": int(counts.sum()),
        "ece": float(np.abs(claimed - reached).sum() / counts.sum()) if counts.any() else None,
        "bins": [
            {
                "from": i / BINS,
                "to": (i + 1) / BINS,
                "nuclei": int(counts[i]),
                "confidence": float(claimed[i] / counts[i]) if counts[i] else None,
                "right": float(reached[i] / counts[i]) if counts[i] else None,
            }
            for i in range(BINS)
        ],
    }


def field_seconds(segment: Segment, image: npt.NDArray[Any]) -> float:
    """Seconds that segmenting a field of 1080 × 1080 px takes, made of copies of the (y, x) `image`; the best of three.

    One segmentation before them is not timed: the first one compiles.
    """
    copies = [-(-FIELD_PX // length) for length in image.shape]
    field = np.tile(image, copies)[:FIELD_PX, :FIELD_PX]
    segment(field)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        segment(field)
        times.append(time.perf_counter() - began)
    return min(times)


def compare_image(pair: AnnotatedImage, found: Segmentation) -> ComparedImage:
    """What was found in one image, against its truth."""
    iou = iou_matrix(pair.labels, found.labels)
    code = 2 * (pair.labels > 0).ravel().astype(np.intp) + (found.labels > 0).ravel()
    return ComparedImage(
        name=pair.name,
        modality=pair.modality,
        iou=iou,
        confusion=np.bincount(code, minlength=4).reshape(2, 2),
        confidence=found.confidence.astype(np.float64),
        right=right_predictions(iou),
    )


def image_figures(one: ComparedImage) -> ImageFigures:
    """The figures of one image."""
    merges, splits = merges_and_splits(one.iou)
    return ImageFigures(
        name=one.name,
        modality=one.modality,
        nuclei=one.iou.shape[0],
        predicted=one.iou.shape[1],
        ap_50=match(one.iou, 0.5).average_precision,
        ap_mean=float(np.mean([match(one.iou, t).average_precision for t in THRESHOLDS])),
        f1_70=match(one.iou, 0.7).f1,
        count_error=one.count_error,
        merges=merges,
        splits=splits,
        confidence=float(one.confidence.mean()) if one.confidence.size else None,
    )


def _keep_extremes(shown: list[Shown]) -> list[Shown]:
    """The worst and the best of `shown`, worst first: label images of all would fill the memory."""
    ranked = sorted(shown, key=lambda s: (s.figures.ap_50, s.figures.ap_mean, s.figures.name))
    return ranked if len(ranked) <= 2 * SHOWN else ranked[:SHOWN] + ranked[-SHOWN:]


def _figures(compared: Sequence[ComparedImage]) -> dict[str, Any]:
    """Every figure of a set of images."""
    ious = [one.iou for one in compared]
    pooled = {f"{t:.2f}": sum((match(iou, t) for iou in ious), Matches(0, 0, 0)) for t in THRESHOLDS}
    merged_and_split = [merges_and_splits(iou) for iou in ious]
    per_image = {f"{t:.2f}": mean_average_precision(ious, t) for t in THRESHOLDS}
    return {
        "images": len(compared),
        "nuclei": int(sum(iou.shape[0] for iou in ious)),
        "predicted": int(sum(iou.shape[1] for iou in ious)),
        "pooled_ap": {t: matches.average_precision for t, matches in pooled.items()},
        "pooled_ap_mean": float(np.mean([matches.average_precision for matches in pooled.values()])),
        "per_image_ap": per_image,
        "per_image_ap_50": per_image["0.50"],
        "f1": {t: matches.f1 for t, matches in pooled.items()},
        "f1_70": pooled["0.70"].f1,
        "kaggle_map": kaggle_score(ious),
        "count_error": float(np.mean([one.count_error for one in compared])),
        "merges": sum(merges for merges, _ in merged_and_split),
        "splits": sum(splits for _, splits in merged_and_split),
        "pixels": asdict(_pixel_report(np.sum([one.confusion for one in compared], axis=0))),
        "confidence": reliability(
            np.concatenate([one.confidence for one in compared]), np.concatenate([one.right for one in compared])
        ),
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
        precision_background=share(tn, tn + fn),
        recall_background=share(tn, tn + fp),
        f1_background=share(2 * tn, 2 * tn + fp + fn),
        iou_background=share(tn, tn + fp + fn),
        support_background=tn + fp,
    )
