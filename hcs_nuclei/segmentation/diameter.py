"""Images in, the diameter of their nuclei out: the cheap first pass that tells the network which scale it looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.segmentation.predict import TILE_PX, Segmenter


def estimate_diameter(segmenter: Segmenter, images: Sequence[npt.NDArray[Any]]) -> float | None:
    """Median nucleus diameter in px over the middle tile of each (y, x) image, rounded to 0.1; None without nuclei.

    Each image counts by its number of nuclei, so that an empty or a dying well says little.
    """
    found = [median_diameter(segmenter(_middle(image)).labels) for image in images]
    found = sorted((diameter, count) for diameter, count in found if count)
    if not found:
        return None
    weight = np.cumsum([count for _, count in found])
    return round(found[int(np.searchsorted(weight, weight[-1] / 2))][0], 1)


def median_diameter(labels: npt.NDArray[np.uint32]) -> tuple[float, int]:
    """Median equivalent diameter (px) of the nuclei, each weighted by its area, and their number; (0, 0) if none.

    Weighting by area makes the estimate that of the nuclei and not of debris, however much of it there is.
    """
    area = np.sort(np.bincount(labels.ravel())[1:])
    area = area[area > 0]
    if area.size == 0:
        return 0.0, 0
    middle = int(np.searchsorted(np.cumsum(area), area.sum() / 2))
    return float(2 * np.sqrt(area[middle] / np.pi)), int(area.size)


def _middle(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    top, left = (max(0, (n - TILE_PX) // 2) for n in image.shape)
    return image[top : top + TILE_PX, left : left + TILE_PX]
