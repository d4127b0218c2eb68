"""Network output in, label image out: seeds where nuclei are deep and apart, a watershed inside the nucleus mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage
from skimage.segmentation import watershed

from hcs_nuclei.segmentation.targets import BORDER, DISTANCE, NUCLEUS, OFFSET_X, OFFSET_Y


class InstanceSettings(BaseModel):
    """Thresholds on the network's output; belong to a model and are tuned on its validation images."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    nucleus: float = Field(default=0.5, ge=0, le=1, description="A pixel is nucleus from this probability on.")
    nucleus_per_octave: float = Field(
        default=0.0,
        ge=-0.5,
        le=0.5,
        description="Added to it for each doubling of the scale at which the field is seen.",
    )
    seed: float = Field(
        default=0.5, ge=0, le=1, description="A pixel is seed where distance less what parts nuclei exceeds this."
    )
    border: float = Field(default=0.5, ge=0, le=2, description="Weight of the border in what parts nuclei.")
    jump: float = Field(default=0.0, ge=0, le=4, description="Weight of the jump of the offsets in what parts nuclei.")
    minimum_seed_px: int = Field(default=3, ge=1, description="Smaller seeds are noise.")
    minimum_confidence: float = Field(default=0.5, ge=0, le=1, description="Less confident objects are dropped.")


def separate(maps: npt.NDArray[np.float32], settings: InstanceSettings, scale: float = 1.0) -> npt.NDArray[np.int32]:
    """Every object that the network's output shows, good ones and bad.

    Args:
        maps: (y, x, 5) float32 in [0, 1]: nucleus, border, distance, offset y, offset x.
        settings: the model's thresholds.
        scale: pixels of the network for one of the field.

    Returns:
        (y, x) int32, 1 … n, 0 = background.

    Source: marker-controlled watershed on the predicted distance (Naylor et al. 2018).
    """
    # Enlarged nuclei have soft rims, which the network sees as theirs; of shrunk ones it sees too little.
    octaves = float(np.log2(scale))
    mask = maps[..., NUCLEUS] > min(max(settings.nucleus + settings.nucleus_per_octave * octaves, 0.1), 0.9)
    depth = maps[..., DISTANCE] - settings.border * maps[..., BORDER]
    if settings.jump:
        depth = depth - settings.jump * jump(maps)
    seeds, count = ndimage.label(mask & (depth > settings.seed))
    if count == 0:
        return np.zeros(mask.shape, np.int32)
    small = np.bincount(seeds.ravel(), minlength=count + 1) < settings.minimum_seed_px
    seeds[small[seeds]] = 0
    # Quantised depth keeps the watershed's queue order the same whatever the last bits of the network's floats are.
    relief = np.round(np.clip(depth, -4.0, 1.0) * -255.0).astype(np.int16)
    return np.asarray(watershed(relief, seeds, mask=mask), dtype=np.int32)


def jump(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(y, x) float32 ≥ 0: how far the offsets fall along the way, which they do only from one nucleus to the next.

    Inside a nucleus they rise from one side to the other. Source: the gradients of HoVer-Net (Graham et al. 2019).
    """
    down, right = maps[..., OFFSET_Y], maps[..., OFFSET_X]
    fall = np.zeros(down.shape, np.float32)
    fall[1:-1] += np.maximum(down[:-2] - down[2:], 0)
    fall[:, 1:-1] += np.maximum(right[:, :-2] - right[:, 2:], 0)
    return fall


def keep(
    labels: npt.NDArray[Any], confidence: npt.NDArray[np.float32], minimum_area_px: float, minimum_confidence: float
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    """Drop objects that are too small or too unsure; number the rest without gaps in order of their first pixel.

    Args:
        labels: (y, x) integers, 1 … n, 0 = background.
        confidence: (n,) float32 in [0, 1].

    Returns:
        labels (y, x) uint32, 1 … m, and (m,) float32, their confidence.
    """
    flat = labels.ravel()
    inside = np.flatnonzero(flat)
    numbers = flat[inside]
    area = np.bincount(numbers, minlength=confidence.size + 1)
    sure = np.concatenate([[False], confidence >= minimum_confidence])
    kept = sure & (area >= max(minimum_area_px, 1))
    first = np.full(area.size, flat.size, np.int64)
    first[numbers[::-1]] = inside[::-1]  # of repeated indices the last assignment holds: each label's first pixel
    order = np.argsort(np.where(kept, first, flat.size), kind="stable")[: int(kept.sum())]
    new = np.zeros(area.size, np.uint32)
    new[order] = np.arange(1, order.size + 1, dtype=np.uint32)
    return new[labels], confidence[order - 1]
