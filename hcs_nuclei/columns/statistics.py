"""The tables of statistics: what a plate's controls, treatments and doses say; and the normalised columns of wells."""

from __future__ import annotations

from collections.abc import Sequence

from hcs_nuclei.columns.column import Column
from hcs_nuclei.columns.identity import IDENTITY, TIMEPOINT
from hcs_nuclei.columns.wells import AGGREGATES

_PLATE = (*IDENTITY[:2], TIMEPOINT)
_READOUT = Column("Metadata_Readout", "string", "", "the column of the well table that it is about")
_COMPOUND = Column("Metadata_Compound", "string", "", "compound; null where the layout names none")
_UNIT = Column("Metadata_Concentration_unit", "string", "", "unit of the doses; null where the layout names none")

#: ``statistics.parquet``: one row per readout, time point and statistic; of controls, for each positive control.
STATISTICS = (
    *_PLATE,
    _READOUT,
    Column(
        "Metadata_Statistic",
        "string",
        "",
        "NegconMedian | NegconMAD | ZPrime | RobustZPrime | SSMD | RobustSSMD | EdgeEffect | SecondRingEffect | "
        "RowDrift | ColumnDrift | Tips8Effect | Tips16Effect | QuadrantEffect | SerpentineEffect",
    ),
    Column("Metadata_Control", "string", "", "the positive control; null where the statistic is of none"),
    Column("Value", "float64", "", "the statistic; of the median, MAD and effects in the readout's unit; null: Words"),
    Column("Low", "float64", "", "lower end of its 95 % interval; null where there is none"),
    Column("High", "float64", "", "upper end of its 95 % interval; null where there is none"),
    Column("Percent", "float64", "%", "an effect in per cent of the median of the wells that it is told of"),
    Column("Percent_Low", "float64", "%", "lower end of its 95 % interval"),
    Column("Percent_High", "float64", "%", "upper end of its 95 % interval"),
    Column("Wells", "int32", "", "wells of the negative control; of an effect those that have it, of a drift all"),
    Column("Wells_Against", "int32", "", "wells of the positive control; of an effect those that it is held against"),
    Column("Notable", "bool", "", "an effect of 5 % or more whose interval leaves out 0; a Z′ below 0.5"),
    Column("Words", "string", "", "the same in words, or why there is none"),
)


def _potency(kind: str, meaning: str) -> tuple[Column, ...]:
    return (
        Column(
            f"{kind}_Relation",
            "string",
            "",
            f"= | > | <: {kind} is the dose, or cannot be told from doses up to it (>) or from it on (<); else null",
        ),
        Column(kind, "float64", "dose", f"{meaning}; for > the highest dose, for < the lowest"),
        Column(f"{kind}_Low", "float64", "dose", "lower end of its 95 % interval; null where nothing bounds it"),
        Column(f"{kind}_High", "float64", "dose", "upper end of its 95 % interval; null where nothing bounds it"),
        Column(f"{kind}_Reason", "string", "", "why it is no plain number; empty where it is"),
    )


#: ``dose_response.parquet``: one row per readout, compound and time point.
DOSE_RESPONSE = (
    *_PLATE,
    _READOUT,
    _COMPOUND,
    _UNIT,
    Column("Scale", "string", "", "what was fitted: percent_of_control | percent_inhibition"),
    Column("Outcome", "string", "", "fitted | no effect | not fitted"),
    Column("Reason", "string", "", "why it was not fitted, or has no effect; empty where it was fitted"),
    Column("Wells", "int32", "", "wells with a value at a dose above 0: the n of the fit"),
    Column("Doses", "int32", "", "different doses above 0"),
    Column("LowestDose", "float64", "dose", "above 0"),
    Column("HighestDose", "float64", "dose", "the highest one"),
    *_potency("RelativeIC50", "dose half-way between the curve's own plateaus"),
    *_potency("AbsoluteIC50", "dose at which the curve passes 50 %"),
    Column("Start", "float64", "%", "plateau at low doses"),
    Column("End", "float64", "%", "plateau at high doses"),
    Column("HillSlope", "float64", "", "above 0, whichever way the curve goes"),
    Column("Log10Middle", "float64", "", "log10 of the dose half-way, to draw the curve, whatever may be said of it"),
    Column("Spread", "float64", "%", "standard deviation of wells around the curve"),
    Column(
        "Count_HighestDose", "float64", "%", "median count of nuclei at the highest dose, of the negative control's"
    ),
    Column("Count_Lowest", "float64", "%", "the lowest such median of all doses: where few are left, readouts mislead"),
)

#: ``replicates.parquet``: one row per readout, treatment and time point.
REPLICATES = (
    *_PLATE,
    _READOUT,
    Column("Metadata_control_type", "string", "", "negcon, poscon (or poscon_…), trt; null where the layout is silent"),
    _COMPOUND,
    Column("Metadata_Concentration", "float64", "", "dose; null where the layout names none"),
    _UNIT,
    Column("Wells", "int32", "", "wells with a value: the n of all that follows"),
    Column("Replicates", "int32", "", "different Metadata_Replicate among them; null where the layout names none"),
    Column("Median", "float64", "", "median of the wells, in the readout's unit"),
    Column("MAD", "float64", "", "median absolute deviation × 1.4826; null below 2 wells"),
    Column("Mean", "float64", "", "mean of the wells"),
    Column("Std", "float64", "", "sample standard deviation; null below 2 wells"),
    Column("PercentOfControl_Median", "float64", "%", "median of the wells' per cent of the negative control"),
    Column("RobustZ_Median", "float64", "", "median of the wells' robust z against the negative control"),
    Column("Count_PercentOfControl", "float64", "%", "median count of nuclei, of the negative control's"),
)


def _over_wells(kind: str, unit: str, meaning: str) -> tuple[Column, ...]:
    return (
        Column(f"{kind}_Wells", "int32", "", f"wells with a {meaning}: the n of what follows"),
        Column(f"{kind}_Median", "float64", unit, f"median of the wells' {meaning}"),
        Column(f"{kind}_MAD", "float64", unit, "median absolute deviation × 1.4826; null below 2 wells"),
        Column(f"{kind}_Mean", "float64", unit, "mean of the wells"),
        Column(f"{kind}_Std", "float64", unit, "sample standard deviation of the wells; null below 2"),
        Column(f"{kind}_StdOfPlates", "float64", unit, "that of the plates' medians; null below 2 plates"),
    )


#: What ``read_treatments`` returns: one row per readout, treatment and time point over all plates.
TREATMENTS = (
    TIMEPOINT,
    _READOUT,
    Column("Metadata_control_type", "string", "", "negcon, poscon (or poscon_…), trt; null where the layout is silent"),
    _COMPOUND,
    Column("Metadata_Concentration", "float64", "", "dose; null where the layout names none"),
    _UNIT,
    Column("Plates", "int32", "", "plates that have such a well with a value"),
    Column("Wells", "int32", "", "wells with a value; a well of several acquisitions is one, with their median"),
    Column(
        "Wells_WithoutValue",
        "int32",
        "",
        "its other wells: failed, excluded, with too few fields or nuclei, or on a plate without negative controls",
    ),
    *_over_wells("PercentOfControl", "%", "per cent of the negative control of their plate"),
    *_over_wells("RobustZ", "", "robust z against the negative control of their plate"),
    Column("Count_PercentOfControl_Median", "float64", "%", "median count of nuclei, of the negative control's"),
)


def is_of_nuclei(column: str) -> bool:
    """Whether a column of the well table is a figure over its aggregated nuclei, and no count: few nuclei spoil it."""
    return column.startswith((*AGGREGATES, "Metadata_Fraction_"))


def readout_name(column: str) -> str:
    """A readout's name as it ends its normalised columns: ``Metadata_Density_per_mm2`` → ``Density_per_mm2``."""
    return column.removeprefix("Metadata_")


def normalised_columns(
    readouts: Sequence[Column], *, inhibition: bool = False, b_score: bool = False, loess: bool = False
) -> tuple[Column, ...]:
    """The columns of wells that are told against the plate's own controls, for readouts of the well table."""
    kinds = [
        ("PercentOfControl", "%", "100 × value / median of the plate's negative control"),
        ("RobustZ", "", "(value - median) / (MAD × 1.4826) of the plate's negative control"),
        *([("PercentInhibition", "%", "0 at the negative control's median, 100 at the positive's")] * inhibition),
        *([("BScore", "", "residual of the median polish over the sample wells / MAD × 1.4826 of all")] * b_score),
        *([("Loess", "value", "without the smooth surface over the sample wells; their median stays")] * loess),
    ]
    return tuple(
        Column(f"{kind}_{readout_name(c.name)}", "float64", c.unit if unit == "value" else unit, f"{what}: {c.meaning}")
        for c in readouts
        for kind, unit, what in kinds
    )
