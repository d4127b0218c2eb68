"""A field's nuclear image and its nuclei in, the measures of its quality out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from hcs_nuclei.measurement.background import measure_background
from hcs_nuclei.measurement.focus import edge_width, laplacian_focus, power_log_log_slope, reach_of
from hcs_nuclei.measurement.saturation import saturated_fraction
from hcs_nuclei.segmentation.normalise import HIGH_PERCENTILE, LOW_PERCENTILE, within_margin

#: Share of saturated pixels above which a field counts as saturated.
MAX_SATURATED_FRACTION = 0.01
#: A nucleus that the network is less sure of than this is one of low confidence.
LOW_CONFIDENCE = 0.8

#: How far around nuclei the background begins, on a plate without nuclei: any number will do.
_ANY_DIAMETER_PX = 20.0
#: So many pixels give percentiles that are as good as those of all.
_ENOUGH_PIXELS = 2**16


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
    saturated = saturated_fraction(nuclear, saturation)
    diameters = np.sqrt(4 / np.pi * nuclei.area)
    diameter = _median(diameters)
    typical = diameter_px or (diameter if diameters.size else _ANY_DIAMETER_PX)
    signal = _median(nuclei.mean)
    lit = within_margin(nuclear)
    background = measure_background(
        nuclear if corrected is None else corrected,
        labels,
        reach=reach_of(typical),
        signal=signal if nuclei.mean.size else None,
        lit=lit,
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
        "Metadata_QC_MedianLevel": _median_level(nuclear, lit),
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


def _median_level(image: npt.NDArray[Any], lit: npt.NDArray[np.bool_] | None) -> float:
    """Where the median lies between the two percentiles that the network's input is stretched between, 0-1."""
    step = max(1, math.isqrt(image.size // _ENOUGH_PIXELS))
    pixels = image[::step, ::step] if lit is None else image[::step, ::step][lit[::step, ::step]]
    low, middle, high = np.percentile(pixels, [LOW_PERCENTILE, 50.0, HIGH_PERCENTILE])
    return float((middle - low) / (high - low)) if high > low else float("nan")
