"""Quality of a field's nuclear image, and the camera's limit that "saturated" is measured against."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from hcs_nuclei.measurement.background import measure_background
from hcs_nuclei.measurement.focus import edge_width, laplacian_focus, power_log_log_slope, reach_of
from hcs_nuclei.segmentation.normalise import HIGH_PERCENTILE, LOW_PERCENTILE

#: Share of saturated pixels above which a field counts as saturated.
MAX_SATURATED_FRACTION = 0.01
#: A nucleus that the network is less sure of than this is one of low confidence.
LOW_CONFIDENCE = 0.8

#: How far around nuclei the background begins, on a plate without nuclei: any number will do.
_ANY_DIAMETER_PX = 20.0
#: So many pixels give percentiles that are as good as those of all.
_ENOUGH_PIXELS = 2**16

_SCANR_OFFSET = 2**15
_BITS = (8, 10, 12, 14, 16)
#: (fewest pixels at the maximum, how many times the fullest level just below) that make a pile-up.
_AT_A_CAMERA_LIMIT = (8, 3)
_ANYWHERE_ELSE = (100, 10)
#: A pile-up outside the cameras' limits needs a real range below it: a mask or a dead camera is not saturated.
_FEWEST_LEVELS = 128


@dataclass(frozen=True, slots=True)
class FieldNuclei:
    """What is known of a field's nuclei, each (n,): area px², centre px, mean counts, confidence 0-1."""

    area: npt.NDArray[Any]
    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    mean: npt.NDArray[Any]
    confidence: npt.NDArray[Any]


def measure_field(
    nuclear: npt.NDArray[Any],
    labels: npt.NDArray[np.uint32],
    nuclei: FieldNuclei,
    *,
    saturation: float | None,
    diameter_px: float | None,
    corrected: npt.NDArray[Any] | None = None,
) -> dict[str, float | bool]:
    """The field table's measured quality columns (:data:`hcs_nuclei.columns.FIELD_QUALITY`), NaN where unknown.

    Nothing here is relative to other fields: a field's values do not change when its plate grows.

    Args:
        nuclear: (y, x) nuclear channel as the camera gave it, counts.
        labels: (y, x) uint32 label image, 0 = background.
        nuclei: of the same labels, measured in the corrected image.
        saturation: the camera's limit in counts, None where it is not known (then nothing is called saturated).
        diameter_px: the plate's typical nucleus, the same for all its fields; None takes the field's own.
        corrected: `nuclear` after illumination correction, None where there is none.

    Raises:
        ValueError: the two images differ in shape, or hold no pixels.
    """
    if nuclear.shape != labels.shape or not nuclear.size:
        raise ValueError(f"expected an image and a label image of one shape, found {nuclear.shape} and {labels.shape}")
    saturated = 0.0 if saturation is None else float(np.count_nonzero(nuclear >= saturation) / nuclear.size)
    diameters = np.sqrt(4 / np.pi * nuclei.area)
    diameter = _median(diameters)
    typical = diameter_px or (diameter if diameters.size else _ANY_DIAMETER_PX)
    signal = _median(nuclei.mean)
    background = measure_background(
        nuclear if corrected is None else corrected,
        labels,
        reach=reach_of(typical),
        signal=signal if nuclei.mean.size else None,
    )
    unsure = nuclei.confidence < LOW_CONFIDENCE
    return {
        "Metadata_NuclearAreaFraction": float(np.count_nonzero(labels) / labels.size),
        "Metadata_QC_Blank": bool(nuclear.min() == nuclear.max()),
        "Metadata_QC_SaturatedFraction": saturated,
        "Metadata_QC_Saturated": saturated > MAX_SATURATED_FRACTION,
        "Metadata_QC_EdgeWidth": edge_width(nuclear, labels, typical),
        "Metadata_QC_PowerLogLogSlope": power_log_log_slope(nuclear),
        "Metadata_QC_LaplacianFocus": laplacian_focus(nuclear),
        "Metadata_QC_Background": background.level,
        "Metadata_QC_Noise": background.noise,
        "Metadata_QC_Contrast": signal - background.level,
        "Metadata_QC_Unevenness": background.unevenness,
        "Metadata_QC_MedianLevel": _median_level(nuclear),
        "Metadata_QC_DebrisFraction": background.debris,
        "Metadata_QC_MedianDiameter": diameter,
        "Metadata_QC_NeighbourDistance": _neighbour_distance(nuclei) / diameter,
        "Metadata_QC_MeanConfidence": float(nuclei.confidence.mean()) if unsure.size else float("nan"),
        "Metadata_QC_LowConfidenceFraction": float(unsure.mean()) if unsure.size else float("nan"),
    }


def _median(values: npt.NDArray[Any]) -> float:
    return float(np.median(values)) if values.size else float("nan")


def _neighbour_distance(nuclei: FieldNuclei) -> float:
    """Median distance from a nucleus' centre to the nearest other, px; NaN below two nuclei."""
    if nuclei.x.size < 2:
        return float("nan")
    centres = np.column_stack([nuclei.y, nuclei.x])
    distance, _ = KDTree(centres).query(centres, k=2)
    return _median(distance[:, 1])


def _median_level(image: npt.NDArray[Any]) -> float:
    """Where the median lies between the two percentiles that the network's input is stretched between, 0-1."""
    step = max(1, math.isqrt(image.size // _ENOUGH_PIXELS))
    low, middle, high = np.percentile(image[::step, ::step], [LOW_PERCENTILE, 50.0, HIGH_PERCENTILE])
    return float((middle - low) / (high - low)) if high > low else float("nan")


def saturation_level(images: Iterable[npt.NDArray[Any]]) -> int | None:
    """The camera's limit in counts, as a sample of a plate's raw images shows it; None where nothing piles up.

    Cameras of 10, 12 or 14 bits are stored in 16, so the file's type does not tell the limit. What tells it is that
    everything brighter lands on one value: the sample's maximum then holds many more pixels than any level just below
    (the topmost 1/64 of the range), where an unsaturated image thins out to single pixels. At a value at which a camera
    can end, 8 pixels and three times the level below are enough; at any other value (a background was subtracted, the
    export was rescaled) it takes 100 pixels and ten times, with at least 128 levels below. A camera can end at
    2**bits - 1 for 8 to 16 bits; at the same shifted to the top of 16 bits; and at 2**15 + 2**bits - 1 where no pixel
    is below 2**15, which scanR adds to every pixel. An image with one value only says nothing and is left out.

    Args:
        images: (y, x) raw images of one channel, camera counts; read one at a time.
    """
    levels, counts = _histogram(images)
    if levels.size < 2:
        return None
    darkest, top = float(levels[0]), float(levels[-1])
    just_below = counts[:-1][levels[:-1] >= top - (top - darkest) / 64].max(initial=0)
    if top in _camera_limits(darkest):
        pixels, times = _AT_A_CAMERA_LIMIT
    elif top - darkest >= _FEWEST_LEVELS:
        pixels, times = _ANYWHERE_ELSE
    else:
        return None
    return int(top) if counts[-1] >= max(pixels, times * just_below) else None


def _histogram(images: Iterable[npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """(k,) distinct values over all images that have more than one, ascending, and (k,) pixels at each."""
    found = [(levels, counts) for levels, counts in map(_levels, images) if levels.size > 1]
    if not found:
        return np.empty(0), np.empty(0, dtype=np.int64)
    levels, where = np.unique(np.concatenate([levels for levels, _ in found]), return_inverse=True)
    counts = np.zeros(levels.size, dtype=np.int64)
    np.add.at(counts, where, np.concatenate([counts for _, counts in found]))
    return levels, counts


def _levels(image: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """(k,) distinct values of one image, ascending, and (k,) pixels at each."""
    if image.dtype in (np.uint8, np.uint16):  # counting beats sorting ten times over
        counts = np.bincount(image.reshape(-1))
        levels = np.flatnonzero(counts)
        return levels, counts[levels]
    return np.unique(image, return_counts=True)


def _camera_limits(darkest: float) -> set[int]:
    """Values at which a camera can end, in images whose darkest pixel is `darkest`."""
    limits = {limit for bits in _BITS for limit in (2**bits - 1, (2**bits - 1) << (16 - bits))}
    if darkest >= _SCANR_OFFSET:
        limits |= {_SCANR_OFFSET + 2**bits - 1 for bits in _BITS}
    return limits
