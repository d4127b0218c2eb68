"""The well table: one row per expected well and time point."""

from __future__ import annotations

from collections.abc import Sequence

from hcs_nuclei.columns.calls import well_calls
from hcs_nuclei.columns.column import Column
from hcs_nuclei.columns.fields import field_flags
from hcs_nuclei.columns.identity import IDENTITY, TIMEPOINT
from hcs_nuclei.columns.nuclei import Measured, nucleus_columns

_WELL_ROW = (
    Column("status", "string", "", "ok | incomplete (some fields lack something) | failed (no field was measured)"),
    Column("error", "string", "", "what was wrong with its fields, in words; where status is ok, as in fields"),
    Column("Metadata_Site_Count_Expected", "int32", "", "fields that the plate expects in this well"),
    Column("Metadata_Site_Count", "int32", "", "fields that were measured"),
    Column("Metadata_Site_Count_Valid", "int32", "", "fields that count: measured, not excluded, unflagged"),
    Column("Metadata_Excluded", "bool", "", "excluded by hand: the well, or each of its fields"),
    Column("Metadata_Exclusion_Reason", "string", "", "why it, or fields of it, were excluded; empty where none was"),
    Column("Metadata_Exclusion_Who", "string", "", "who excluded it, or fields of it; empty where nobody says"),
    Column("Metadata_Exclusion_When", "string", "", "when, in the words of the file; empty where nobody says"),
    Column("Metadata_QC_TooFewFields", "bool", "", "too few fields are valid: density, aggregates, fractions are null"),
    Column(
        "Metadata_Object_Count",
        "int64",
        "",
        "nuclei of the measured fields, in each that shows it; 0 if empty, null if not measured",
    ),
    Column("Metadata_Object_Count_PerField", "float64", "", "the same per valid field; null where too few are valid"),
    Column(
        "Metadata_Density_per_mm2",
        "float64",
        "1/mm²",
        "counted nuclei per mm² of valid fields; null without pixel size",
    ),
    Column("Metadata_NuclearAreaFraction", "float64", "0-1", "share of the valid fields' pixels inside nuclei"),
)
#: What stands before a feature's name, and what it says of the well's aggregated nuclei.
AGGREGATES = {
    "Median_": "median",
    "MAD_": "median absolute deviation from the median (× 1.4826: standard deviation, if normal)",
    "Mean_": "mean",
    "Std_": "standard deviation (n - 1)",
    "P05_": "5th percentile",
    "P95_": "95th percentile",
}


def well_columns(
    measured: Measured, treatments: Sequence[Column] = (), gates: Sequence[str] = ()
) -> tuple[Column, ...]:
    """The well table's columns in order: identity, treatments of the plate's layout, counts, QC, numbers and fractions
    of classes and gates, then each aggregate of each feature.
    """
    flagged = (
        Column(f"{c.name}_Fields", "int32", "", f"measured fields that are {c.name[12:]}") for c in field_flags()
    )
    aggregated = Column("Metadata_Count_Aggregated", "int64", "", "nuclei that aggregates and fractions are made of")
    few = Column(
        "Metadata_QC_FewNuclei",
        "bool",
        "",
        "fewer than statistics.minimum_nuclei of these: figures of them enter no statistics",
    )
    features = [c for c in nucleus_columns(measured) if c.name.startswith("Nuclei_")]
    aggregates = (
        Column(f"{prefix}{c.name}", "float64", c.unit, f"{what} over the aggregated nuclei: {c.meaning}")
        for prefix, what in AGGREGATES.items()
        for c in features
    )
    return (*IDENTITY, TIMEPOINT, *treatments, *_WELL_ROW, *flagged, aggregated, few, *well_calls(gates), *aggregates)
