"""Mean, spread, extremes and quartiles of one channel over every nucleus, in the image's own units (camera counts)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hcs_nuclei.measurement.runs import Indices

Floats = npt.NDArray[np.float64]


def measure_intensity(image: npt.NDArray[Any], pixels: Indices, areas: Indices) -> dict[str, Floats]:
    """Every :data:`hcs_nuclei.columns.INTENSITY` column without its channel's name, (n,) float64 in counts.

    Args:
        image: (y, x) integers or finite floats, camera counts.
        pixels: (p,) flat indices of the nuclei's pixels, nucleus after nucleus.
        areas: (n,) pixels in each nucleus; they sum to p.

    Pixels are sorted within each nucleus before anything is summed, in float64, so a value depends on the nucleus'
    pixels alone: not on their order, nor on other nuclei. Quartiles interpolate linearly, as ``numpy.percentile``.
    """
    values = image.reshape(-1)[pixels]
    stops = np.cumsum(areas)
    starts = stops - areas
    # One short sort per nucleus beats any sort of the whole field: n log n of a small n, in cache.
    kind: Literal["stable", "quicksort"] = "stable" if values.dtype.itemsize <= 2 else "quicksort"  # small: by radix
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        values[start:stop].sort(kind=kind)
    ordered = values.astype(np.float64)
    total = np.add.reduceat(ordered, starts) if starts.size else np.empty(0)
    mean = total / areas
    deviation = ordered - np.repeat(mean, areas)
    deviation *= deviation
    variance = np.add.reduceat(deviation, starts) / areas if starts.size else np.empty(0)
    measured = {
        "MeanIntensity": mean,
        "IntegratedIntensity": total,
        "StdIntensity": np.sqrt(variance),
        "MinIntensity": ordered[starts],
        "MaxIntensity": ordered[stops - 1],
        "MedianIntensity": _quantile(ordered, starts, areas, 0.5),
        "LowerQuartileIntensity": _quantile(ordered, starts, areas, 0.25),
        "UpperQuartileIntensity": _quantile(ordered, starts, areas, 0.75),
    }
    return {f"Nuclei_Intensity_{name}": column for name, column in measured.items()}


def _quantile(ordered: Floats, starts: Indices, areas: Indices, share: float) -> Floats:
    """(n,) the quantile `share` of each nucleus' sorted values, interpolated linearly between the two nearest."""
    position = (areas - 1) * share
    below = np.floor(position).astype(np.int64)
    low = ordered[starts + below]
    high = ordered[starts + np.minimum(below + 1, areas - 1)]
    quantile: Floats = low + (high - low) * (position - below)
    return quantile
