"""The groups of features that a recipe asks for, as columns of the nucleus table."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.measurement.granularity import measure_granularity
from hcs_nuclei.measurement.insides import Insides
from hcs_nuclei.measurement.moments import measure_moments
from hcs_nuclei.measurement.radial import Rounds, measure_radial
from hcs_nuclei.measurement.runs import Runs
from hcs_nuclei.measurement.texture import measure_texture
from hcs_nuclei.measurement.zernike import measure_zernike

#: What the topmost of the levels of texture stands for in an image of floats: most cameras' images are of 16 bits.
_FULL_SCALE = float(np.iinfo(np.uint16).max)


def measure_options(
    labels: npt.NDArray[np.uint32],
    runs: Runs,
    insides: Insides,
    channels: Mapping[str, npt.NDArray[Any]],
    groups: Set[str],
    *,
    full_scales: Mapping[str, float],
) -> dict[str, npt.NDArray[np.float64]]:
    """Every column of the `groups`, :func:`hcs_nuclei.columns.option_columns` and ``MOMENTS``, (n,) float64.

    Args:
        labels: (y, x) uint32 label image, 0 = background.
        runs: its runs.
        insides: its nuclei's pixels.
        channels: (y, x) images in camera counts.
        groups: any of moments, zernike, texture, granularity, radial.
        full_scales: of each channel, counts of the topmost level of texture.
    """
    table: dict[str, npt.NDArray[np.float64]] = {}
    if "moments" in groups:
        table |= measure_moments(runs)
    if "zernike" in groups:
        table |= measure_zernike(runs, insides)
    if "texture" in groups:
        for channel, image in channels.items():
            table |= measure_texture(image, labels, insides, channel=channel, full_scale=full_scales[channel])
    if "granularity" in groups:
        for channel, image in channels.items():
            table |= measure_granularity(image, insides, channel=channel)
    if "radial" in groups:
        rounds = Rounds(insides)
        for channel, image in channels.items():
            table |= measure_radial(image, rounds, channel=channel)
    return table


def full_scale_of(image: npt.NDArray[Any]) -> float:
    """The largest value that (y, x) `image` of integers could hold, as CellProfiler scales images; 65535 of floats."""
    return float(np.iinfo(image.dtype).max) if np.issubdtype(image.dtype, np.integer) else _FULL_SCALE
