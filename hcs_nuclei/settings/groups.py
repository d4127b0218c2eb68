"""The groups of settings in an assay recipe, one a step of the way."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_word_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads yes, no, on and off as true and false, which would be 1 and 0."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and annotation is not bool and bool not in get_args(annotation):
            raise ValueError("a number or a text is expected; yes, no, on and off are neither")
        return value


class SegmentationSettings(Group):
    """How pixels become label images."""

    diameter_px: float | None = Field(
        default=None,
        gt=2,
        le=500,
        title="Nucleus diameter (px)",
        description="Median nucleus diameter in pixels of the input; left out, it is estimated once per plate.",
    )
    minimum_area_px: int = Field(
        default=20, ge=1, title="Smallest nucleus (px²)", description="Objects with a smaller area are debris."
    )


class StagingSettings(Group):
    """How a plate at a URL is brought to the workers."""

    limit_gib: float = Field(
        default=4.0,
        gt=0,
        title="Room for copies (GiB)",
        description="Of all copies of images that one worker process keeps in its directory for temporary files.",
    )


class IlluminationSettings(Group):
    """How uneven light is taken out before anything is measured."""

    method: Literal["auto", "vendor", "estimate", "file", "off"] = Field(
        default="auto",
        title="Illumination",
        description=(
            "auto: the vendor's own profiles where there are any, else off; vendor: those, or it is refused; estimate: "
            "from a sample of the plate's fields (16 or more); file: flat-field images that are given; off."
        ),
    )
    flat_field: dict[str, str] = Field(
        default={},
        title="Flat-field images",
        description="For file: channel (name or token) and its image (TIFF, PNG, .npy), as seen from the recipe.",
    )
    dark: dict[str, float | str] = Field(
        default={},
        title="Dark images",
        description="For file: channel and its image without light, or the counts that the camera gives then.",
    )

    @field_validator("method", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return "off" if value is False else value  # as YAML reads the word

    @model_validator(mode="after")
    def _files(self) -> IlluminationSettings:
        if (self.method == "file") != bool(self.flat_field) or (self.dark and not self.flat_field):
            raise ValueError("the method file and the images in flat_field (and dark) go together; give both or none")
        return self


class OutputSettings(Group):
    """What is written beside the tables."""

    image: bool = Field(
        default=True,
        title="Write the nuclear channel",
        description="Copy the nuclear channel (lossless) beside its labels; off leaves a valid store without pixels.",
    )
