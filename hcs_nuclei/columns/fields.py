"""The field table: one row per expected field and time point."""

from __future__ import annotations

from hcs_nuclei.columns.column import Column
from hcs_nuclei.columns.identity import FIELD, IDENTITY, TIMEPOINT

_FIELD_ROW = (
    Column("status", "string", "", "ok | incomplete (another channel is missing) | missing | unreadable | failed"),
    Column("error", "string", "", "what was wrong, in words; empty where status is ok"),
    Column("Metadata_Object_Count", "int64", "", "nuclei in the field; 0 where truly empty, null where not measured"),
    Column("Metadata_PixelSize_um", "float64", "µm", "edge of a pixel; null where the vendor does not say"),
    Column("Metadata_Height", "int32", "px", "height of the image; null where it was not read"),
    Column("Metadata_Width", "int32", "px", "width of the image; null where it was not read"),
    Column("Metadata_Position_X", "float64", "µm", "stage position; null where the vendor does not say"),
    Column("Metadata_Position_Y", "float64", "µm", "stage position, pointing down; null where the vendor does not say"),
    Column("Metadata_NuclearAreaFraction", "float64", "0-1", "share of the field's pixels inside nuclei"),
    Column("Metadata_QC_Blank", "bool", "", "all of the nuclear channel has one value: lamp, shutter or export"),
    Column("Metadata_QC_SaturatedFraction", "float64", "0-1", "share of nuclear-channel pixels at the camera's limit"),
    Column("Metadata_QC_Saturated", "bool", "", "more than 1 % of the nuclear channel is at the camera's limit"),
)


def field_columns() -> tuple[Column, ...]:
    """The field table's columns in order."""
    return (*IDENTITY, FIELD, TIMEPOINT, *_FIELD_ROW)
