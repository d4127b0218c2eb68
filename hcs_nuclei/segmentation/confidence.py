"""A label image and the network output that it came from in, how sure each nucleus is out.

A nucleus that is right explains what the network predicted: its own offsets from its own centre are the predicted ones,
its middle is deep, no border runs through it. Two nuclei in one, or half a nucleus, do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from hcs_nuclei.segmentation.targets import BORDER, DISTANCE, NUCLEUS, OFFSET_X, OFFSET_Y, offsets_from_centre

#: What is looked at, in the order of the columns of :func:`describe`.
FEATURES = ("probability", "rim", "depth", "fullness", "border", "offset_error", "size", "cut")


class ConfidenceSettings(BaseModel):
    """Logistic model on :data:`FEATURES`: the probability of a match with an annotated nucleus at IoU 0.5.

    Belongs to a model; fitted on its validation images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    intercept: float = 0.0
    weights: tuple[float, ...] = Field(default=(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    means: tuple[float, ...] = Field(default=(0.0,) * len(FEATURES))
    scales: tuple[float, ...] = Field(default=(1.0,) * len(FEATURES))

    def of(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """(n,) float32 in (0, 1) of (n, features)."""
        standard = (features - np.array(self.means)) / np.array(self.scales)
        score = standard @ np.array(self.weights) + self.intercept
        return np.asarray(1.0 / (1.0 + np.exp(-score)), dtype=np.float32)


def describe(
    labels: npt.NDArray[Any], maps: npt.NDArray[np.float32], typical_diameter_px: float
) -> npt.NDArray[np.float64]:
    """Features of every nucleus for its confidence.

    Args:
        labels: (y, x) integers, 1 … n, 0 = background.
        maps: (y, x, 5) float32, the network's output on the same pixels.
        typical_diameter_px: what the network was trained on.

    Returns:
        (n, 8) float64: mean nucleus probability (as logit), the same on the outermost pixels, largest and mean
        distance, mean border, mean distance between predicted offsets and the nucleus's own, log2 of its diameter over
        the typical one, 1 where the image's edge cuts it. All zeros for a number without pixels.
    """
    count = int(labels.max(initial=0))
    out = np.zeros((count, len(FEATURES)))
    y, x = np.nonzero(labels)
    if not y.size:
        return out
    number = labels[y, x].astype(np.intp)
    seen = maps[y, x].astype(np.float64)
    area = np.maximum(np.bincount(number, minlength=count + 1), 1)

    def mean(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.asarray(np.bincount(number, weights=values, minlength=count + 1) / area)

    padded = np.pad(labels, 1, mode="edge")
    same = np.ones(number.size, bool)
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        same &= padded[y + dy, x + dx] == number
    rim = np.bincount(number, weights=~same, minlength=count + 1)
    on_rim = np.bincount(number, weights=~same * seen[:, NUCLEUS], minlength=count + 1) / np.maximum(rim, 1)
    deepest = np.zeros(count + 1)
    np.maximum.at(deepest, number, seen[:, DISTANCE])
    down, right = offsets_from_centre(number, y, x)
    error = np.hypot(2 * seen[:, OFFSET_Y] - 1 - down, 2 * seen[:, OFFSET_X] - 1 - right)
    edge = (y == 0) | (x == 0) | (y == labels.shape[0] - 1) | (x == labels.shape[1] - 1)
    columns = (
        _logit(mean(seen[:, NUCLEUS])),
        _logit(np.where(rim > 0, on_rim, 0.5)),
        deepest,
        mean(seen[:, DISTANCE]),
        mean(seen[:, BORDER]),
        mean(error),
        np.log2(2 * np.sqrt(area / np.pi) / typical_diameter_px),
        np.bincount(number, weights=edge, minlength=count + 1) > 0,
    )
    for i, values in enumerate(columns):
        out[:, i] = values[1:]
    out[np.bincount(number, minlength=count + 1)[1:] == 0] = 0
    return out


def _logit(probability: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    p = np.clip(probability, 0.01, 0.99)
    return np.asarray(np.log(p / (1 - p)))
