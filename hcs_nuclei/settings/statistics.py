"""What is told of a plate against its controls: settings that are applied when the wells are done."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from hcs_nuclei.settings.groups import Group

#: Stands in a readout's name for the nuclear channel, whatever the plate calls it.
NUCLEAR = "<nuclear>"
#: Density first: it is the primary count. A raw count would make a well toxic that lost a field. Intensities without
#: their local background: the camera's offset in them would bring every per cent of the control closer to 100.
DEFAULT_READOUTS = (
    "Metadata_Density_per_mm2",
    "Median_Nuclei_AreaShape_Area",
    f"Median_Nuclei_Intensity_MeanIntensityBackgroundSubtracted_{NUCLEAR}",
    f"Median_Nuclei_Intensity_IntegratedIntensityBackgroundSubtracted_{NUCLEAR}",
)


class StatisticsSettings(Group):
    """Which columns of the well table are readouts, and what is made of them where the layout names treatments."""

    readouts: tuple[str, ...] = Field(
        default=DEFAULT_READOUTS,
        title="Readouts",
        description=(
            "Columns of the well table; <nuclear> stands for the nuclear channel's name. They are held against the "
            "controls, normalised, and fitted to doses."
        ),
    )
    minimum_nuclei: int = Field(
        default=5,
        ge=1,
        title="Fewest nuclei",
        description=(
            "A well with fewer aggregated nuclei keeps its medians, means and fractions and is flagged "
            "(Metadata_QC_FewNuclei), and they enter no statistics of the plate: with areas that vary by 30 %, the "
            "median of 5 nuclei is good to 16 %, that of one to 30 %. Counts and density are not affected."
        ),
    )
    normalise: Literal["percent_of_control", "percent_inhibition"] = Field(
        default="percent_of_control",
        title="Scale of dose–response",
        description=(
            "percent_of_control: 100 is the negative control; percent_inhibition: 0 is the negative control and 100 "
            "the positive, of which the plate must have one kind."
        ),
    )
    b_score: bool = Field(
        default=False,
        title="B-score",
        description=(
            "Add BScore_<readout>: rows and columns taken out by median polish. Not for dose series, nor for plates "
            "with more than about 20 % hits."
        ),
    )
    loess: bool = Field(
        default=False,
        title="Loess",
        description="Add Loess_<readout>: a smooth surface over the plate taken out. The same plates are unfit for it.",
    )

    @field_validator("readouts", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        return tuple(dict.fromkeys(value)) if isinstance(value, list | tuple) else value
