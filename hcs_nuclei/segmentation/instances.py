"""Network output in, label image out: seeds where nuclei are deep and apart, a watershed inside the nucleus mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage
from skimage.segmentation import watershed

from hcs_nuclei.segmentation.targets import BORDER, DISTANCE, NUCLEUS


class InstanceSettings(BaseModel):
    """Thresholds on the network's output; belong to a model and are tuned on its validation images."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    nucleus: float = Field(default=0.5, ge=0, le=1, description="A pixel is nucleus from this probability on.")
    seed: float = Field(default=0.5, ge=0, le=1, description="A pixel is seed where distance less border exceeds this.")
    border: float = Field(default=0.5, ge=0, le=2, description="Weight of the border in the seeds.")
    minimum_seed_px: int = Field(default=3, ge=1, description="Smaller seeds are noise.")
    minimum_confidence: float = Field(default=0.5, ge=0, le=1, description="Less confident objects are dropped.")


def find_nuclei(
    prediction: npt.NDArray[np.float32], settings: InstanceSettings, *, minimum_area_px: float
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    """Nuclei of one field.

    Args:
        prediction: (y, x, 3) float32 in [0, 1]: nucleus, border, distance.
        settings: the model's thresholds.
        minimum_area_px: smaller objects are dropped, px² of the prediction.

    Returns:
        labels (y, x) uint32, 1 … n without gaps in order of each nucleus's first pixel, and (n,) float32 confidence
        in [0, 1]: the mean nucleus probability over the nucleus.

    Source: marker-controlled watershed on the predicted distance (Naylor et al. 2018).
    """
    probability = prediction[..., NUCLEUS]
    mask = probability > settings.nucleus
    depth = prediction[..., DISTANCE] - settings.border * prediction[..., BORDER]
    seeds, count = ndimage.label(mask & (depth > settings.seed))
    if count == 0:
        return np.zeros(mask.shape, np.uint32), np.zeros(0, np.float32)
    small = np.bincount(seeds.ravel(), minlength=count + 1) < settings.minimum_seed_px
    seeds[small[seeds]] = 0
    # Quantised depth keeps the watershed's queue order the same whatever the last bits of the network's floats are.
    relief = np.round(depth * -255.0).astype(np.int16)
    labels = watershed(relief, seeds, mask=mask)
    return _keep(labels, probability, minimum_area_px, settings.minimum_confidence)


def _keep(
    labels: npt.NDArray[Any], probability: npt.NDArray[np.float32], minimum_area: float, minimum_confidence: float
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    """Drop objects that are too small or too unsure; number the rest without gaps in order of their first pixel."""
    flat = labels.ravel()
    inside = np.flatnonzero(flat)
    numbers = flat[inside]
    area = np.bincount(numbers, minlength=1)
    total = np.bincount(numbers, weights=probability.ravel()[inside], minlength=1)
    confidence = total / np.maximum(area, 1)
    kept = (area >= minimum_area) & (confidence >= minimum_confidence)
    kept[0] = False
    first = np.full(area.size, flat.size, np.int64)
    first[numbers[::-1]] = inside[::-1]  # of repeated indices the last assignment holds: each label's first pixel
    order = np.argsort(np.where(kept, first, flat.size), kind="stable")[: int(kept.sum())]
    new = np.zeros(area.size, np.uint32)
    new[order] = np.arange(1, order.size + 1, dtype=np.uint32)
    return new[labels], confidence[order].astype(np.float32)
