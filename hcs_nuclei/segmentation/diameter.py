"""Images in, the diameter of their nuclei out: the cheap first pass that tells the network which scale it looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.segmentation.predict import TILE_PX, Segmentation, Segmenter

#: Each image's middle is looked at as it is and at half its size: from 8 to 200 px, nuclei are of a size that the
#: network knows in one of the two. From farther away whole cells look like nuclei, and so does the lamp.
FIRST_PASS_SCALES = (1.0, 0.5)
#: The coarser look must explain this much more of the image, and be no less sure of it than by this much: from afar
#: nuclei that touch look like larger ones.
COARSER_GAIN, COARSER_DOUBT = 1.15, 0.03
#: Below this an image shows too little at that scale to be asked, px of the network.
_LEAST_PX = 48
#: Objects of this median diameter are no nuclei (from 8 px on), px; nor are some few that are smaller than the third
#: and cover less than that share of the image. The smallest nuclei of 664 annotated images measure 8.7 px (median of an
#: image), and those below 10 px cover 0.007 at least.
_SPECK_PX, _FEW, _FEW_PX, _FEW_SHARE = 7.0, 24, 10.0, 0.005


def estimate_diameter(segmenter: Segmenter, images: Sequence[npt.NDArray[Any]]) -> float | None:
    """Median nucleus diameter in px over the middle of each (y, x) image, rounded to 0.1; None without nuclei.

    Each image counts by its number of nuclei, so that an empty or a dying well says little.
    """
    found = [_diameter_of(segmenter, image) for image in images]
    found = sorted((diameter, count) for diameter, count in found if count)
    if not found:
        return None
    weight = np.cumsum([count for _, count in found])
    return round(found[int(np.searchsorted(weight, weight[-1] / 2))][0], 1)


def segment_any_size(segmenter: Segmenter, image: npt.NDArray[Any], *, minimum_area_px: float = 20) -> Segmentation:
    """Segment a raw (y, x) image of which nothing is known: the size of its nuclei is estimated on itself."""
    diameter = estimate_diameter(segmenter, [image])
    return without_dust(segmenter(image, diameter_px=diameter, minimum_area_px=minimum_area_px))


def without_dust(found: Segmentation) -> Segmentation:
    """`found`, or nothing where all that was found in an image of which nothing is known is some specks.

    Specks look like nuclei seen from afar. Who knows that they are says how large nuclei are, and is believed.
    """
    diameter, count = median_diameter(found.labels)
    few = count <= _FEW and diameter < _FEW_PX and np.count_nonzero(found.labels) < _FEW_SHARE * found.labels.size
    if not few and diameter >= _SPECK_PX:
        return found
    return Segmentation(np.zeros_like(found.labels), found.confidence[:0])


def _diameter_of(segmenter: Segmenter, image: npt.NDArray[Any]) -> tuple[float, int]:
    """Median diameter and number at the scale whose nuclei, each by its confidence, explain most of the image."""
    best, sure, diameter, count = 0.0, 0.0, 0.0, 0
    for scale in FIRST_PASS_SCALES:
        if scale < 1 and min(image.shape) * scale < _LEAST_PX:
            break
        region = _middle(image, round(TILE_PX / scale))
        found = segmenter.instances_of(segmenter.prediction_at(region, scale), minimum_area_px=20)
        common = _middle(found.labels, TILE_PX)  # what is compared is the same part of the image at every scale
        area = np.bincount(common.ravel(), minlength=found.confidence.size + 1)[1:]
        explained = float((area * found.confidence).sum())
        confidence = explained / max(float(area.sum()), 1.0)
        if explained > best * (COARSER_GAIN if count else 1.0) and confidence >= sure - COARSER_DOUBT:
            best, sure, (diameter, count) = explained, confidence, median_diameter(found.labels)
    return diameter, count


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


def _middle(image: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    top, left = (max(0, (n - size) // 2) for n in image.shape)
    return image[top : top + size, left : left + size]
