"""One label image and its channels in, the nucleus table's measured columns out, one row per nucleus."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.measurement.insides import find_insides
from hcs_nuclei.measurement.intensity import brightest_pixels, measure_intensity
from hcs_nuclei.measurement.local_background import find_free_parts, measure_local_background
from hcs_nuclei.measurement.options import full_scale_of, measure_options
from hcs_nuclei.measurement.reach import Reach
from hcs_nuclei.measurement.runs import find_runs
from hcs_nuclei.measurement.shape import measure_shape
from hcs_nuclei.measurement.surroundings import measure_surroundings
from hcs_nuclei.segmentation.normalise import within_margin


def measure_nuclei(
    labels: npt.NDArray[np.uint32],
    channels: Mapping[str, npt.NDArray[Any]],
    *,
    nuclear: str,
    saturation: Mapping[str, float | None] | None,
    groups: Set[str] = frozenset(),
    full_scale: float | None = None,
    raw: Mapping[str, npt.NDArray[Any]] | None = None,
    reach: Reach | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Measure every nucleus of one field: position, QC flags, shape, surroundings, and intensity in each channel.

    Args:
        labels: (y, x) uint32 label image, 0 = background; labels need be neither consecutive nor in one piece.
        channels: (y, x) images in camera counts, integers or finite floats, by their
            :attr:`hcs_nuclei.plate.Channel.column_name`.
        nuclear: the key of the nuclear channel in `channels`.
        saturation: the camera's limit in counts by channel; where there is none nothing is called saturated.
        groups: optional groups of features, as :class:`hcs_nuclei.columns.Measured` names them.
        full_scale: counts of the topmost level of texture; None: the largest value that the image could hold.
        raw: the same channels as the camera gave them, (y, x) each, where `channels` are corrected; saturation is
            judged on them.
        reach: how far rings and neighbours are looked for, None where that is not known (then they are NaN).

    Returns:
        (n,) arrays by column name, rows by ascending label: ``Metadata_ObjectNumber`` (uint32),
        ``Metadata_Center_X`` and ``_Y`` (px), ``Metadata_QC_TouchesEdge`` and ``_Saturated`` (bool) with
        :func:`hcs_nuclei.columns.saturated_columns`, and every column of :data:`hcs_nuclei.columns.SHAPE`,
        :func:`hcs_nuclei.columns.intensity_columns`, the `groups`, ``NEIGHBOURS``, ``RING_AREA`` and ``ring_columns``
        (float64). But for the last three, the local background and granularity, the values of a nucleus do not depend
        on other nuclei.

    Raises:
        ValueError: an image is not of the label image's shape, or the nuclear channel is not among the channels.
    """
    labels = np.ascontiguousarray(labels, dtype=np.uint32)
    for name, image in channels.items():
        if image.shape != labels.shape:
            raise ValueError(f"channel {name} is {image.shape} pixels (y, x); its label image is {labels.shape}")
    if nuclear not in channels:
        raise ValueError(f"the nuclear channel {nuclear} is not among the channels {', '.join(channels) or '(none)'}")
    runs = find_runs(labels)
    insides = find_insides(labels, runs)
    shape = measure_shape(labels, runs, insides)
    table: dict[str, npt.NDArray[Any]] = {"Metadata_ObjectNumber": runs.numbers, **shape}
    free = find_free_parts(labels, table["Metadata_Center_Y"], table["Metadata_Center_X"])
    seen = channels if raw is None else raw
    for name, image in channels.items():
        # A channel that was aligned with the others has a margin without light, which is nobody's background.
        background = measure_local_background(image, free.within(within_margin(seen[name])))
        for column, values in measure_intensity(image, insides, background).items():
            table[f"{column}_{name}"] = values
    for name, image in channels.items():
        limit = (saturation or {}).get(name)
        if limit is None:
            table[f"Metadata_QC_Saturated_{name}"] = np.zeros(runs.numbers.shape, dtype=bool)
            continue
        measured = table[f"Nuclei_Intensity_MaxIntensity_{name}"]
        brightest = measured if seen[name] is image else brightest_pixels(seen[name], insides)
        table[f"Metadata_QC_Saturated_{name}"] = brightest >= limit
    table["Metadata_QC_Saturated"] = table[f"Metadata_QC_Saturated_{nuclear}"]
    scales = {name: full_scale or full_scale_of(seen[name]) for name in channels}
    table |= measure_options(labels, runs, insides, channels, groups, full_scales=scales)
    return table | measure_surroundings(labels, runs, table, channels, reach)
