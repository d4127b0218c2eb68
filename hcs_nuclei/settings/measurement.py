"""What is measured of every nucleus beyond what always is."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from hcs_nuclei.settings.groups import Group

FeatureGroup = Literal["texture", "granularity", "radial", "zernike"]


class MeasurementSettings(Group):
    """What is measured of every nucleus."""

    features: tuple[FeatureGroup, ...] = Field(
        default=(),
        title="More features",
        description=f"Groups of features beside shape and intensity: any of {', '.join(get_args(FeatureGroup))}.",
    )

    @field_validator("features")
    @classmethod
    def _as_a_set(cls, features: tuple[FeatureGroup, ...]) -> tuple[FeatureGroup, ...]:
        return tuple(sorted(set(features)))  # the order in a recipe is no other recipe
