"""Size, stain and outline of nuclei relative to a plate's negative controls in, what each nucleus looks like out.

The rules, in order; sizes and stain are times the medians of the controls' nuclei, thresholds those of the recipe::

    debris           smaller than debris_area, and with less stain in all than debris_intensity: micronuclei and debris
    condensed        brighter than condensed_intensity, and smaller than condensed_area
      apoptotic-like   … smaller than apoptotic_area, and rounder than apoptotic_eccentricity
      mitotic          … larger or longer than that: a metaphase seen from its side, a prophase, a half of an anaphase
    interphase       every other nucleus
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hcs_nuclei.settings.aggregation import CallSettings

Floats = npt.NDArray[np.float64]

#: Fewer nuclei give no medians that a threshold may rest on.
FEWEST_NUCLEI = 50


@dataclass(frozen=True, slots=True)
class NucleusReference:
    """Medians of the nuclei that all others are held to: `area` (px²), `mean` and `integrated` (counts).

    They are None where there are too few nuclei, and then `reason` says so and no nucleus is called. `origin` says
    which nuclei these are, in words; `mean_feature` and `integrated_feature` which columns.
    """

    mean_feature: str
    integrated_feature: str
    area: float | None
    mean: float | None
    integrated: float | None
    nuclei: int
    origin: str
    reason: str = ""


def nucleus_reference(
    mean_feature: str, integrated_feature: str, area: Floats, mean: Floats, integrated: Floats, origin: str
) -> NucleusReference:
    """What the whole nuclei of the controls are like: `area`, `mean` and `integrated` are (n,), in px² and counts."""
    known = ~(np.isnan(area) | np.isnan(mean) | np.isnan(integrated))
    count = int(np.count_nonzero(known))
    none = NucleusReference(mean_feature, integrated_feature, None, None, None, count, origin)
    if count < FEWEST_NUCLEI:
        return replace(none, reason=f"too few nuclei: {count}, of {FEWEST_NUCLEI}")
    size, bright, stain = (float(np.median(values[known])) for values in (area, mean, integrated))
    if min(bright, stain) <= 0:
        return replace(none, reason="half of the nuclei are no brighter than the background")
    return replace(none, area=size, mean=bright, integrated=stain)


def nucleus_class(
    area: Floats,
    mean: Floats,
    integrated: Floats,
    eccentricity: Floats,
    reference: NucleusReference,
    rules: CallSettings,
) -> npt.NDArray[np.object_]:
    """(n,) of :data:`hcs_nuclei.columns.NUCLEUS_CLASSES` of nuclei.

    Area (px²), intensities (counts) and eccentricity (0-1) are (n,). None where one of these is NaN, or the reference
    was refused.
    """
    classes = np.full(area.shape, None, dtype=object)
    if reference.area is None or reference.mean is None or reference.integrated is None:
        return classes
    size, bright, stain = area / reference.area, mean / reference.mean, integrated / reference.integrated
    classes[~(np.isnan(size) | np.isnan(bright) | np.isnan(stain) | np.isnan(eccentricity))] = "interphase"
    called = classes == "interphase"
    condensed = called & (bright > rules.condensed_intensity) & (size < rules.condensed_area)
    shrunken = condensed & (size < rules.apoptotic_area) & (eccentricity < rules.apoptotic_eccentricity)
    classes[condensed] = "mitotic"
    classes[shrunken] = "apoptotic-like"
    classes[called & (size < rules.debris_area) & (stain < rules.debris_intensity)] = "debris"
    return classes
