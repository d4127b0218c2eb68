"""The field table: one row per expected field and time point."""

from __future__ import annotations

from collections.abc import Sequence

from hcs_nuclei.columns.calls import FIELD_CALLS
from hcs_nuclei.columns.column import Column
from hcs_nuclei.columns.identity import FIELD, IDENTITY, TIMEPOINT
from hcs_nuclei.columns.nuclei import Measured

_FIELD_ROW = (
    Column("status", "string", "", "ok | incomplete (another channel is missing) | missing | unreadable | failed"),
    Column(
        "error",
        "string",
        "",
        "what was wrong, in words; where status is ok, which of several files of one image was used, or nothing",
    ),
    Column("Metadata_Object_Count", "int64", "", "nuclei in the field; 0 where truly empty, null where not measured"),
    Column("Metadata_PixelSize_um", "float64", "µm", "edge of a pixel; null where the vendor does not say"),
    Column("Metadata_Height", "int32", "px", "height of the image; null where it was not read"),
    Column("Metadata_Width", "int32", "px", "width of the image; null where it was not read"),
    Column("Metadata_Position_X", "float64", "µm", "stage position; null where the vendor does not say"),
    Column("Metadata_Position_Y", "float64", "µm", "stage position, pointing down; null where the vendor does not say"),
)

#: Measured in each field by itself; null where the field was not measured, or shows too little of it.
FIELD_QUALITY = (
    Column("Metadata_NuclearAreaFraction", "float64", "0-1", "share of the field's pixels inside nuclei"),
    Column("Metadata_QC_Blank", "bool", "", "all of the nuclear channel has one value: lamp, shutter or export"),
    Column("Metadata_QC_SaturatedFraction", "float64", "0-1", "share of nuclear-channel pixels at the camera's limit"),
    Column("Metadata_QC_Saturated", "bool", "", "more than 1 % of the nuclear channel is at the camera's limit"),
    Column("Metadata_QC_EdgeWidth", "float64", "px", "median width of nuclei's outlines; more is less sharp"),
    Column("Metadata_QC_PowerLogLogSlope", "float64", "", "log power over log frequency; steeper is less sharp"),
    Column("Metadata_QC_LaplacianFocus", "float64", "", "variance of the Laplacian / of the image; less is less sharp"),
    Column("Metadata_QC_Background", "float64", "counts", "median outside nuclei, the camera's offset included"),
    Column("Metadata_QC_Noise", "float64", "counts", "standard deviation from pixel to pixel outside nuclei"),
    Column("Metadata_QC_Contrast", "float64", "counts", "median nucleus' mean intensity above the background"),
    Column("Metadata_QC_Unevenness", "float64", "", "range (5-95 %) of the background over the field / its median"),
    Column("Metadata_QC_MedianLevel", "float64", "0-1", "where the median lies between the 1st and 99.8th percentile"),
    Column("Metadata_QC_DebrisFraction", "float64", "0-1", "share of bright pixels outside nuclei"),
    Column("Metadata_QC_MedianDiameter", "float64", "px", "median equivalent diameter of the nuclei"),
    Column("Metadata_QC_NeighbourDistance", "float64", "diameters", "median distance to the nearest other nucleus"),
    Column("Metadata_QC_MeanConfidence", "float64", "0-1", "mean confidence of the nuclei"),
    Column("Metadata_QC_LowConfidenceFraction", "float64", "0-1", "share of the nuclei with a confidence below 0.8"),
)

#: Made when the plate is finished, from its fields, the recipe's limits and the model's card; null where unknown.
FIELD_FLAGS = (
    Column("Metadata_QC_TrainingDistance", "float64", "", "how unlike the model's training images; null: not known"),
    Column("Metadata_QC_Empty", "bool", "", "fewer nuclei than the recipe's fewest"),
    Column("Metadata_QC_OutOfFocus", "bool", "", "less sharp than the plate's other fields, or than the recipe allows"),
    Column("Metadata_QC_Uneven", "bool", "", "background more uneven than in the plate's other fields"),
    Column("Metadata_QC_Debris", "bool", "", "more that is bright and no nucleus than in the plate's other fields"),
    Column("Metadata_QC_Unsure", "bool", "", "more nuclei of low confidence than in the plate's other fields"),
    Column("Metadata_QC_Confluent", "bool", "", "nuclei cover more of the field than the recipe's limit"),
    Column("Metadata_QC_OutOfDistribution", "bool", "", "unlike what the model was trained on; null: not known"),
)


def saturated_fractions(channels: Sequence[str]) -> tuple[Column, ...]:
    """Shares of a field's pixels, one a channel, the nuclear one too; null where the field lacks the channel."""
    meaning = "share of pixels at the camera's limit in {}; null where the field lacks it"
    return tuple(Column(f"Metadata_QC_SaturatedFraction_{c}", "float64", "0-1", meaning.format(c)) for c in channels)


def committed_field_columns(measured: Measured) -> tuple[Column, ...]:
    """What a well's commit says of its fields, in order."""
    of_channels = saturated_fractions(measured.channels)
    return (*IDENTITY, FIELD, TIMEPOINT, *_FIELD_ROW, *FIELD_QUALITY, *of_channels)


def field_columns(measured: Measured) -> tuple[Column, ...]:
    """The field table's columns in order: what was committed, the flags that need the plate, whether it counts."""
    return (*committed_field_columns(measured), *FIELD_FLAGS, *FIELD_CALLS)


def field_flags() -> tuple[Column, ...]:
    """The flags of quality among the field table's columns."""
    return tuple(c for c in (*FIELD_QUALITY, *FIELD_FLAGS) if c.dtype == "bool")
