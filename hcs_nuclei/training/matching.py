"""Two label images in, what matches out: the metrics of the field, each with its source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import maximum_bipartite_matching

#: IoU thresholds of the DSB2018 metric.
THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


@dataclass(frozen=True, slots=True)
class Matches:
    """Counts at one threshold: matched pairs, predictions without truth, truths without prediction."""

    true_positive: int
    false_positive: int
    false_negative: int

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN); 1 where there is nothing to find and nothing was found."""
        total = self.true_positive + self.false_positive + self.false_negative
        return self.true_positive / total if total else 1.0

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 where there is nothing to find and nothing was found."""
        total = 2 * self.true_positive + self.false_positive + self.false_negative
        return 2 * self.true_positive / total if total else 1.0

    def __add__(self, other: Matches) -> Matches:
        return Matches(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )


def iou_matrix(truth: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> sparse.csr_array:
    """(n truth, n predicted) sparse float64: IoU of every overlapping pair of nuclei, in order of their labels.

    Raises:
        ValueError: the two images differ in shape.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth is {truth.shape}, prediction {predicted.shape}; they must cover the same pixels")
    a = np.unique(truth, return_inverse=True)
    b = np.unique(predicted, return_inverse=True)
    counts = sparse.coo_array((np.ones(truth.size), (a[1].ravel(), b[1].ravel())), (a[0].size, b[0].size)).tocsr()
    area_a, area_b = np.asarray(counts.sum(axis=1)), np.asarray(counts.sum(axis=0))
    pairs = counts.tocoo()
    iou = pairs.data / (area_a[pairs.row] + area_b[pairs.col] - pairs.data)
    full = sparse.csr_array((iou, (pairs.row, pairs.col)), counts.shape)
    return full[int(a[0][0] == 0) :, int(b[0][0] == 0) :]


def match(iou: sparse.csr_array, threshold: float, *, strictly: bool = False) -> Matches:
    """Optimal one-to-one assignment of pairs with IoU ≥ `threshold` (> where `strictly`, as Kaggle counts).

    From 0.5 on a nucleus has at most one partner (strictly above 0.5), so the assignment is only solved where two
    candidates compete.

    Source: StarDist's ``matching`` (Schmidt et al. 2018).
    """
    pairs = iou.tocoo()
    good = pairs.data > threshold if strictly else pairs.data >= threshold
    rows, columns = pairs.row[good], pairs.col[good]
    if rows.size == np.unique(rows).size == np.unique(columns).size:
        matched = int(rows.size)
    else:
        # StarDist's cost: first the number of pairs, then their IoU.
        cost = np.zeros(iou.shape)
        cost[rows, columns] = -1.0 - pairs.data[good] / (2 * min(iou.shape))
        a, b = linear_sum_assignment(cost)
        matched = int((cost[a, b] < 0).sum())
    return Matches(matched, iou.shape[1] - matched, iou.shape[0] - matched)


def pooled_average_precision(ious: Iterable[sparse.csr_array], threshold: float) -> float:
    """AP at `threshold` with TP, FP and FN summed over all images (StarDist's convention)."""
    return sum((match(iou, threshold) for iou in ious), Matches(0, 0, 0)).average_precision


def mean_average_precision(ious: Iterable[sparse.csr_array], threshold: float) -> float:
    """Mean over images of the AP at `threshold` (EmbedSeg's and CPN's convention)."""
    return float(np.mean([match(iou, threshold).average_precision for iou in ious]))


def kaggle_score(ious: Iterable[sparse.csr_array]) -> float:
    """DSB2018's metric: per image the mean over the ten thresholds of TP/(TP+FP+FN) at IoU > τ; mean over images."""
    return float(np.mean([[match(iou, t, strictly=True).average_precision for t in THRESHOLDS] for iou in ious]))


def right_predictions(iou: sparse.csr_array) -> npt.NDArray[np.bool_]:
    """(n predicted,) whether each prediction has an annotated nucleus to itself with IoU ≥ 0.5."""
    if 0 in iou.shape:
        return np.zeros(iou.shape[1], bool)
    return np.asarray(maximum_bipartite_matching((iou >= THRESHOLDS[0]).tocsr(), perm_type="row") >= 0)


def merges_and_splits(iou: sparse.csr_array, least: float = 0.1) -> tuple[int, int]:
    """Predictions that cover several true nuclei, and true nuclei covered by several predictions (IoU > `least`)."""
    touching = (iou > least).astype(np.int64)
    return int((touching.sum(axis=0) > 1).sum()), int((touching.sum(axis=1) > 1).sum())
