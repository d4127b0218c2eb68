"""One channel over every nucleus and its edge, in the image's own units (camera counts)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.measurement.insides import Floats, Insides, sort_within, total_of
from hcs_nuclei.measurement.runs import Indices


def measure_intensity(image: npt.NDArray[Any], insides: Insides, background: Floats) -> dict[str, Floats]:
    """Every :data:`hcs_nuclei.columns.INTENSITY` column without its channel's name, (n,) float64 in counts.

    Args:
        image: (y, x) integers or finite floats, camera counts.
        insides: the nuclei's pixels.
        background: (n,) local background of each nucleus, counts; NaN where there is none.

    Pixels are sorted within each nucleus before anything but the displacement is summed, in float64, so a value depends
    on the nucleus' pixels and its background alone: not on their order, nor on other nuclei. Quartiles interpolate
    linearly, as ``numpy.percentile``. The mass displacement is NaN where the intensities sum to 0.
    """
    values = image.reshape(-1)[insides.pixels]
    areas, starts = insides.areas, insides.starts
    ordered = values.copy()
    sort_within(ordered, areas)
    ordered = ordered.astype(np.float64)
    total, mean, deviation = _moments(ordered, starts, areas)
    median = _quantile(ordered, starts, areas, 0.5)
    measured = {
        "MeanIntensity": mean,
        "IntegratedIntensity": total,
        "StdIntensity": deviation,
        "MinIntensity": ordered[starts],
        "MaxIntensity": ordered[starts + areas - 1],
        "MedianIntensity": median,
        "MADIntensity": _median_deviation(ordered, starts, areas, median),
        "LowerQuartileIntensity": _quantile(ordered, starts, areas, 0.25),
        "UpperQuartileIntensity": _quantile(ordered, starts, areas, 0.75),
        **_at_the_edge(values[insides.edge], insides.edge_areas),
        "MassDisplacement": _displacement(values, insides),
        "LocalBackground": background,
        "MeanIntensityBackgroundSubtracted": mean - background,
        "IntegratedIntensityBackgroundSubtracted": total - background * areas,
    }
    return {f"Nuclei_Intensity_{name}": column for name, column in measured.items()}


def brightest_pixels(image: npt.NDArray[Any], insides: Insides) -> npt.NDArray[Any]:
    """(n,) largest value of (y, x) `image` in each nucleus, in the image's own dtype."""
    values = image.reshape(-1)[insides.pixels]
    return np.maximum.reduceat(values, insides.starts) if insides.areas.size else values


def _moments(ordered: Floats, starts: Indices, areas: Indices) -> tuple[Floats, Floats, Floats]:
    """(n,) sum, mean and standard deviation (population) of each group's values."""
    total = total_of(ordered, starts)
    mean = total / areas
    deviation = ordered - np.repeat(mean, areas)
    deviation *= deviation
    return total, mean, np.sqrt(total_of(deviation, starts) / areas)


def _quantile(ordered: Floats, starts: Indices, areas: Indices, share: float) -> Floats:
    """(n,) the quantile `share` of each nucleus' sorted values, interpolated linearly between the two nearest."""
    position = (areas - 1) * share
    below = np.floor(position).astype(np.int64)
    low = ordered[starts + below]
    high = ordered[starts + np.minimum(below + 1, areas - 1)]
    quantile: Floats = low + (high - low) * (position - below)
    return quantile


def _median_deviation(ordered: Floats, starts: Indices, areas: Indices, median: Floats) -> Floats:
    """(n,) median of the absolute deviations from the median, of each nucleus' sorted values."""
    lower, upper = (_nearest(ordered, starts, areas, median, k) for k in ((areas + 1) // 2, areas // 2 + 1))
    return (lower + upper) / 2


def _nearest(ordered: Floats, starts: Indices, areas: Indices, centre: Floats, k: Indices) -> Floats:
    """(n,) the k-th smallest distance of each nucleus' sorted values from (n,) `centre`.

    The k nearest values stand beside each other, so their place is found by halving: the first k that reach at least as
    far above the centre as below it, or the k that begin one before.
    """
    low, high = np.zeros_like(areas), areas - k
    while np.any(going := low < high):
        middle = (low + high) // 2
        reaches = ordered[starts + middle + k - 1] - centre >= centre - ordered[starts + middle]
        low, high = np.where(going & ~reaches, middle + 1, low), np.where(going & reaches, middle, high)
    first, before = (starts + place for place in (low, np.maximum(low - 1, 0)))
    one, other = (np.maximum(centre - ordered[i], ordered[i + k - 1] - centre) for i in (first, before))
    nearest: Floats = np.minimum(one, other)
    return nearest


def _at_the_edge(values: npt.NDArray[Any], edge_areas: Indices) -> dict[str, Floats]:
    """Sum, mean, spread and extremes over each nucleus' edge pixels; a nucleus without one sums to 0, the rest NaN."""
    there = edge_areas > 0
    areas = edge_areas[there]
    starts = np.cumsum(areas) - areas
    sort_within(values, areas)
    ordered = values.astype(np.float64)
    total, mean, deviation = _moments(ordered, starts, areas)
    known = {
        "IntegratedIntensityEdge": total,
        "MeanIntensityEdge": mean,
        "StdIntensityEdge": deviation,
        "MinIntensityEdge": ordered[starts],
        "MaxIntensityEdge": ordered[starts + areas - 1],
    }
    measured = {name: np.full(there.shape, 0.0 if name.startswith("Integrated") else np.nan) for name in known}
    for name, column in known.items():
        measured[name][there] = column
    return measured


def _displacement(values: npt.NDArray[Any], insides: Insides) -> Floats:
    """(n,) distance in px between the centroid of each nucleus and that of its intensities."""
    weights, starts = values.astype(np.float64), insides.starts
    total = total_of(weights, starts)
    total[total == 0] = np.nan
    shifts = (
        total_of(weights * place, starts) / total - total_of(place.astype(np.float64), starts) / insides.areas
        for place in (insides.y, insides.x)
    )
    return np.hypot(*shifts)
