"""Rings and neighbours of one field's nuclei, as columns of the nucleus table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.measurement.neighbours import measure_neighbours
from hcs_nuclei.measurement.reach import Reach
from hcs_nuclei.measurement.ring import Rings, find_rings, measure_ring
from hcs_nuclei.measurement.runs import Runs


def measure_surroundings(
    labels: npt.NDArray[np.uint32],
    runs: Runs,
    table: Mapping[str, npt.NDArray[Any]],
    channels: Mapping[str, npt.NDArray[Any]],
    reach: Reach | None,
) -> dict[str, npt.NDArray[Any]]:
    """Every column of :data:`hcs_nuclei.columns.NEIGHBOURS`, ring area, and the ring's in each channel, (n,) float64.

    Args:
        labels: (y, x) uint32 label image, 0 = background.
        runs: its runs.
        table: what was measured of the nuclei: their centres, their mean and local background in each channel.
        channels: (y, x) images in camera counts.
        reach: how far is looked, None where that is not known: then rings and neighbours within it are NaN.
    """
    center_y, center_x = table["Metadata_Center_Y"], table["Metadata_Center_X"]
    around: dict[str, npt.NDArray[Any]] = {
        **measure_neighbours(labels, runs, center_y, center_x, distance_px=reach.neighbours if reach else None)
    }
    if reach is None:
        rings = Rings(np.empty(0, np.int64), np.zeros(runs.numbers.size, np.int64))
        around["Nuclei_Ring_Area"] = np.full(runs.numbers.size, np.nan)
    else:
        rings = find_rings(labels, runs, gap_px=reach.ring_gap, width_px=reach.ring_width)
        around["Nuclei_Ring_Area"] = rings.areas.astype(np.float64)
    for name, image in channels.items():
        mean, background = (table[f"Nuclei_Intensity_{of}_{name}"] for of in ("MeanIntensity", "LocalBackground"))
        around |= {
            f"{column}_{name}": values for column, values in measure_ring(image, rings, mean, background).items()
        }
    return around
