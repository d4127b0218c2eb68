"""Columns about what lies around a nucleus: its ring of cytoplasm and its neighbours."""

from __future__ import annotations

from hcs_nuclei.columns.column import Column

NEIGHBOURS = (
    Column("Nuclei_Neighbors_NumberOfNeighbors_Adjacent", "float64", "", "nuclei that share an edge of a pixel"),
    Column("Nuclei_Neighbors_PercentTouching_Adjacent", "float64", "%", "outline pixels beside another nucleus"),
    Column(
        "Nuclei_Neighbors_NumberOfNeighbors_Within",
        "float64",
        "",
        "nuclei whose centre is within measurement.neighbour_distance_um of its own",
    ),
    Column("Nuclei_Neighbors_FirstClosestDistance_Adjacent", "float64", "px", "to the nearest centre; NaN if alone"),
    Column("Nuclei_Neighbors_SecondClosestDistance_Adjacent", "float64", "px", "to the second nearest centre"),
    Column("Nuclei_Neighbors_AngleBetweenNeighbors_Adjacent", "float64", "degree", "between the two nearest, 0 to 180"),
)

RING_AREA = (Column("Nuclei_Ring_Area", "float64", "px²", "pixels of its ring of cytoplasm; 0 where it has none"),)

#: Per channel; the channel's column name is appended: ``Nuclei_Ring_MeanIntensity_FITC``.
RING_INTENSITY = (
    Column("Nuclei_Ring_MeanIntensity", "float64", "counts", "mean over the ring; NaN where it has none"),
    Column("Nuclei_Ring_MedianIntensity", "float64", "counts", "median over the ring"),
    Column("Nuclei_Ring_StdIntensity", "float64", "counts", "standard deviation over the ring (population)"),
    Column("Nuclei_Ring_IntegratedIntensity", "float64", "counts", "sum over the ring"),
    Column("Nuclei_Ring_NuclearRatio", "float64", "", "mean over the nucleus / mean over the ring, nothing subtracted"),
    Column(
        "Nuclei_Ring_NuclearRatioBackgroundSubtracted",
        "float64",
        "",
        "the same, each mean less the nucleus' local background; NaN where the ring is not above it",
    ),
)


def ring_columns(channel: str) -> tuple[Column, ...]:
    """The ring's columns of one channel, by its :attr:`hcs_nuclei.plate.Channel.column_name`."""
    return tuple(Column(f"{c.name}_{channel}", c.dtype, c.unit, f"{c.meaning}, {channel}") for c in RING_INTENSITY)
