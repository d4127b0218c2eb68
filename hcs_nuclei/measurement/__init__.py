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
from hcs_nuclei.measurement.position import measure_position, middle_of_fields
from hcs_nuclei.measurement.quality import FieldNuclei, measure_field
from hcs_nuclei.measurement.reach import Reach, reach_in_pixels, supposed_of_reach
from hcs_nuclei.measurement.saturation import own_saturation_level, saturated_fraction, saturation_level

__all__ = [
    "FEWEST_FIELDS",
    "FieldNuclei",
    "Profile",
    "Reach",
    "correct",
    "estimate_profile",
    "measure_field",
    "measure_nuclei",
    "measure_position",
    "middle_of_fields",
    "own_saturation_level",
    "plausible",
    "profile_of_reference",
    "reach_in_pixels",
    "saturated_fraction",
    "saturation_level",
    "supposed_of_reach",
]
