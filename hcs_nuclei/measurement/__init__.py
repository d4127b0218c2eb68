"""Label image + channels in, one array per table column out: shape, intensity and quality of nuclei and fields."""

from __future__ import annotations

from hcs_nuclei.measurement.illumination import (
    FEWEST_FIELDS,
    Profile,
    correct,
    estimate_profile,
    plausible,
    profile_of_reference,
)
from hcs_nuclei.measurement.nuclei import measure_nuclei
from hcs_nuclei.measurement.quality import FieldNuclei, measure_field, saturation_level

__all__ = [
    "FEWEST_FIELDS",
    "FieldNuclei",
    "Profile",
    "correct",
    "estimate_profile",
    "measure_field",
    "measure_nuclei",
    "plausible",
    "profile_of_reference",
    "saturation_level",
]
