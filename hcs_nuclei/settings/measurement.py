"""What is measured of every nucleus beyond what always is."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from hcs_nuclei.settings.groups import Group

FeatureGroup = Literal["moments", "texture", "granularity", "radial", "zernike"]


class MeasurementSettings(Group):
    """What is measured of every nucleus."""

    ring_gap_um: float = Field(
        default=1.0,
        ge=0,
        le=100,
        title="Gap before the ring (µm)",
        description=(
            "Between a nucleus and its ring of cytoplasm. Without a pixel size, the plate's median nucleus is taken "
            "to be 15 µm wide, and the run says so."
        ),
    )
    ring_width_um: float = Field(
        default=4.0,
        gt=0,
        le=100,
        title="Width of the ring (µm)",
        description="Of the ring of cytoplasm; it ends half way to another nucleus.",
    )
    neighbour_distance_um: float = Field(
        default=50.0,
        gt=0,
        le=10_000,
        title="Neighbours within (µm)",
        description="Nuclei whose centres are no farther apart are counted as neighbours.",
    )
    features: tuple[FeatureGroup, ...] = Field(
        default=(),
        title="More features",
        description=f"Groups of features beside shape and intensity: any of {', '.join(get_args(FeatureGroup))}.",
    )

    texture_full_scale: float | None = Field(
        default=None,
        gt=0,
        title="Full scale of texture (counts)",
        description=(
            "Counts of the topmost of the 256 levels of texture: 4095 for a camera of 12 bits. Left out, the largest "
            "value that the image could hold (65535 for 16 bits), as CellProfiler."
        ),
    )

    @field_validator("features", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("features")
    @classmethod
    def _as_a_set(cls, features: tuple[FeatureGroup, ...]) -> tuple[FeatureGroup, ...]:
        return tuple(sorted(set(features)))  # the order in a recipe is no other recipe
