"""From where on a field is flagged. All of it is applied when the plate is finished: no pixel is looked at again."""

from __future__ import annotations

from pydantic import Field

from hcs_nuclei.settings.groups import Group


class QcSettings(Group):
    """Limits of the quality flags of fields. Relative ones are against the plate's own non-empty fields."""

    fewest_nuclei: int = Field(
        default=1, ge=1, title="Empty below", description="A field with fewer nuclei is empty (Metadata_QC_Empty)."
    )
    robust_z: float = Field(
        default=4.0,
        gt=0,
        title="Unlike the plate's other fields",
        description=(
            "Robust z-score (distance from the median over 1.4826 MAD) beyond which a field is flagged for focus, "
            "uneven background, debris or confidence."
        ),
    )
    edge_width_ratio: float = Field(
        default=1.25,
        ge=1,
        title="Out of focus: outlines",
        description="A field out of focus has outlines this many times as wide as the plate's median, at least.",
    )
    edge_width_px: float | None = Field(
        default=None,
        gt=0,
        title="Out of focus: widest outline (px)",
        description="Wider outlines are out of focus whatever the plate's other fields are; left out, none is.",
    )
    power_slope: float | None = Field(
        default=None,
        lt=0,
        title="Out of focus: steepest power spectrum",
        description="A steeper (more negative) power log-log slope is out of focus; left out, none is.",
    )
    unevenness: float = Field(
        default=0.1,
        ge=0,
        title="Uneven: beyond the plate",
        description="An uneven field's background varies by this share of its level more than the plate's median.",
    )
    debris_fraction: float = Field(
        default=0.002,
        ge=0,
        le=1,
        title="Debris: beyond the plate",
        description="A field with debris has this share of bright pixels outside nuclei more than the plate's median.",
    )
    low_confidence: float = Field(
        default=0.2,
        ge=0,
        le=1,
        title="Unsure: beyond the plate",
        description="An unsure field has this share of nuclei of low confidence more than the plate's median.",
    )
    confluent_fraction: float = Field(
        default=0.5,
        gt=0,
        le=1,
        title="Confluent from",
        description=(
            "Share of a field's pixels inside nuclei from which it is called confluent; discs laid at random without "
            "overlap cover 0.547 at most."
        ),
    )
    training_distance: float | None = Field(
        default=None,
        gt=0,
        title="Out of distribution: distance",
        description="Metadata_QC_TrainingDistance beyond it is flagged; left out, what the model's card says.",
    )
