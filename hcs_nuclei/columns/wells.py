"""The well table: one row per expected well and time point."""

from __future__ import annotations

from collections.abc import Sequence

from hcs_nuclei.columns.column import Column
from hcs_nuclei.columns.identity import IDENTITY, TIMEPOINT
from hcs_nuclei.columns.nuclei import Measured, nucleus_columns

_WELL_ROW = (
    Column("status", "string", "", "ok | incomplete (some fields lack something) | failed (no field was measured)"),
    Column("error", "string", "", "what was wrong with its fields, in words; empty where status is ok"),
    Column("Metadata_Site_Count_Expected", "int32", "", "fields that the plate expects in this well"),
    Column("Metadata_Site_Count", "int32", "", "fields that were measured"),
    Column("Metadata_Object_Count", "int64", "", "nuclei over the measured fields; 0 if empty, null if not measured"),
    Column("Metadata_Object_Count_PerField", "float64", "", "nuclei per measured field; null where none was measured"),
    Column("Metadata_Density_per_mm2", "float64", "1/mm²", "nuclei per mm² of measured field; null without pixel size"),
    Column("Metadata_NuclearAreaFraction", "float64", "0-1", "share of the measured fields' pixels inside nuclei"),
    Column("Metadata_QC_Blank_Fields", "int32", "", "measured fields whose nuclear channel is blank"),
    Column("Metadata_QC_Saturated_Fields", "int32", "", "measured fields with a saturated nuclear channel"),
)


def well_columns(measured: Measured, treatments: Sequence[Column] = ()) -> tuple[Column, ...]:
    """The well table's columns in order: identity, treatments of the plate's layout, counts, QC, then the median over
    whole nuclei of each feature.
    """
    features = [c for c in nucleus_columns(measured) if c.name.startswith("Nuclei_")]
    medians = tuple(
        Column(f"Median_{c.name}", "float64", c.unit, f"median over whole nuclei: {c.meaning}") for c in features
    )
    return (*IDENTITY, TIMEPOINT, *treatments, *_WELL_ROW, *medians)
