"""The nucleus table: one row per nucleus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hcs_nuclei.columns.column import Column
from hcs_nuclei.columns.identity import FIELD, IDENTITY, TIMEPOINT
from hcs_nuclei.columns.options import option_columns
from hcs_nuclei.columns.surroundings import NEIGHBOURS, RING_AREA, ring_columns


@dataclass(frozen=True, slots=True)
class Measured:
    """What is measured of every nucleus of a plate; it alone says which columns the tables have.

    Attributes:
        channels: how the channels' columns end, in the plate's order.
        nuclear: which of them is the nuclear channel.
        groups: optional groups of features, as the recipe's ``measurement.features`` names them.
    """

    channels: tuple[str, ...]
    nuclear: str
    groups: frozenset[str] = frozenset()


_NUCLEUS = (
    Column("Metadata_ObjectNumber", "uint32", "", "pixel value in the label image, unique in it over all time points"),
    Column("Metadata_Center_X", "float64", "px", "centroid, from the left edge; the centre of the first pixel is 0"),
    Column("Metadata_Center_Y", "float64", "px", "centroid, from the top edge; the centre of the first pixel is 0"),
    Column("Metadata_BoundingBox_Left", "float64", "px", "its first column; the field's first is 0"),
    Column("Metadata_BoundingBox_Top", "float64", "px", "its first row"),
    Column("Metadata_BoundingBox_Right", "float64", "px", "its last column: by it and its last row it is counted"),
    Column("Metadata_BoundingBox_Bottom", "float64", "px", "its last row"),
    Column("Metadata_Position_Well_X_um", "float64", "µm", "right of the middle of the well's fields; null: unknown"),
    Column("Metadata_Position_Well_Y_um", "float64", "µm", "below the middle of the well's fields; null: unknown"),
    Column("Metadata_Confidence", "float32", "0-1", "the network's confidence in this nucleus"),
    Column("Metadata_QC_TouchesEdge", "bool", "", "touches the edge of the field: its area and shape are cut off"),
    Column("Metadata_QC_Saturated", "bool", "", "holds a pixel at the camera's limit in the nuclear channel"),
)


def saturated_columns(channels: Sequence[str]) -> tuple[Column, ...]:
    """Flags of nuclei, one a channel, the nuclear one too; null where a field lacks the channel."""
    meaning = "holds a pixel at the camera's limit in {}; null where the field lacks it"
    return tuple(Column(f"Metadata_QC_Saturated_{c}", "bool", "", meaning.format(c)) for c in channels)


def _moment_columns(kind: str, rows: int, lowest: int, meaning: str) -> tuple[Column, ...]:
    """The moments of powers p below `rows` and q below 4 whose sum is `lowest` or more."""
    powers = [(p, q) for p in range(rows) for q in range(4) if p + q >= lowest]
    unit = "" if kind == "Normalized" else "px^(p+q+2)"
    return tuple(Column(f"Nuclei_AreaShape_{kind}Moment_{p}_{q}", "float64", unit, meaning) for p, q in powers)


SHAPE = (
    Column("Nuclei_AreaShape_Area", "float64", "px²", "number of pixels"),
    Column("Nuclei_AreaShape_Perimeter", "float64", "px", "outline through border pixels' centres, as CellProfiler"),
    Column("Nuclei_AreaShape_Eccentricity", "float64", "0-1", "of the ellipse of equal second moments; 0 = circle"),
    Column("Nuclei_AreaShape_FormFactor", "float64", "", "4π × area / perimeter²; 1 = circle"),
    Column("Nuclei_AreaShape_Solidity", "float64", "0-1", "area / area of the convex hull"),
    Column("Nuclei_AreaShape_Extent", "float64", "0-1", "area / area of the bounding box"),
    Column("Nuclei_AreaShape_MajorAxisLength", "float64", "px", "of the ellipse with the same second moments"),
    Column("Nuclei_AreaShape_MinorAxisLength", "float64", "px", "of the ellipse with the same second moments"),
    Column(
        "Nuclei_AreaShape_Orientation",
        "float64",
        "degree",
        "of the major axis, -90 to 90; 0 is vertical, and positive leans down to the right, as CellProfiler",
    ),
    Column("Nuclei_AreaShape_EquivalentDiameter", "float64", "px", "diameter of the circle with the same area"),
    Column("Nuclei_AreaShape_Compactness", "float64", "", "perimeter² / (4π × area); 1 = circle"),
    Column("Nuclei_AreaShape_ConvexArea", "float64", "px²", "area of the convex hull"),
    Column("Nuclei_AreaShape_BoundingBoxArea", "float64", "px²", "area of the bounding box"),
    Column("Nuclei_AreaShape_MaxFeretDiameter", "float64", "px", "largest caliper width of the convex hull"),
    Column("Nuclei_AreaShape_MinFeretDiameter", "float64", "px", "smallest caliper width of the convex hull"),
    Column("Nuclei_AreaShape_EulerNumber", "float64", "", "pieces less holes; 1 = in one piece, without a hole"),
    Column("Nuclei_AreaShape_MaximumRadius", "float64", "px", "largest distance of a pixel from the outside"),
    Column("Nuclei_AreaShape_MeanRadius", "float64", "px", "mean distance of the pixels from the outside"),
    Column("Nuclei_AreaShape_MedianRadius", "float64", "px", "median distance of the pixels from the outside"),
)

#: The group ``moments``. `p` is the power of the row, `q` that of the column.
MOMENTS = (
    *_moment_columns("Spatial", 3, 0, "sum of y^p x^q over the pixels, from the corner of the bounding box"),
    *_moment_columns("Central", 3, 0, "sum of y^p x^q over the pixels, from the centroid"),
    *_moment_columns("Normalized", 4, 2, "central moment / area^((p + q) / 2 + 1)"),
    *(
        Column(f"Nuclei_AreaShape_HuMoment_{k}", "float64", "", f"Hu's invariant {k + 1} of the normalised moments")
        for k in range(7)
    ),
    *(
        Column(f"Nuclei_AreaShape_InertiaTensor_{i}_{j}", "float64", "px²", "of the pixels about the centroid / area")
        for i in range(2)
        for j in range(2)
    ),
    Column("Nuclei_AreaShape_InertiaTensorEigenvalues_0", "float64", "px²", "the larger one: (major axis / 4)²"),
    Column("Nuclei_AreaShape_InertiaTensorEigenvalues_1", "float64", "px²", "the smaller one: (minor axis / 4)²"),
)

#: Per channel; the channel's column name is appended: ``Nuclei_Intensity_MeanIntensity_DAPI``.
INTENSITY = (
    Column("Nuclei_Intensity_MeanIntensity", "float64", "counts", "mean over the nucleus"),
    Column("Nuclei_Intensity_IntegratedIntensity", "float64", "counts", "sum over the nucleus"),
    Column("Nuclei_Intensity_StdIntensity", "float64", "counts", "standard deviation over the nucleus (population)"),
    Column("Nuclei_Intensity_MinIntensity", "float64", "counts", "smallest pixel"),
    Column("Nuclei_Intensity_MaxIntensity", "float64", "counts", "largest pixel"),
    Column("Nuclei_Intensity_MedianIntensity", "float64", "counts", "median over the nucleus"),
    Column("Nuclei_Intensity_LowerQuartileIntensity", "float64", "counts", "25th percentile over the nucleus"),
    Column("Nuclei_Intensity_UpperQuartileIntensity", "float64", "counts", "75th percentile over the nucleus"),
    Column("Nuclei_Intensity_MADIntensity", "float64", "counts", "median distance of the pixels from their median"),
    Column("Nuclei_Intensity_IntegratedIntensityEdge", "float64", "counts", "sum over the nucleus' edge pixels"),
    Column("Nuclei_Intensity_MeanIntensityEdge", "float64", "counts", "mean over the nucleus' edge pixels"),
    Column("Nuclei_Intensity_StdIntensityEdge", "float64", "counts", "standard deviation over the edge (population)"),
    Column("Nuclei_Intensity_MinIntensityEdge", "float64", "counts", "smallest edge pixel"),
    Column("Nuclei_Intensity_MaxIntensityEdge", "float64", "counts", "largest edge pixel"),
    Column("Nuclei_Intensity_MassDisplacement", "float64", "px", "from the centroid to the centre of the counts' mass"),
    Column("Nuclei_Intensity_LocalBackground", "float64", "counts", "where it is free of nuclei; null if nowhere"),
    Column(
        "Nuclei_Intensity_MeanIntensityBackgroundSubtracted",
        "float64",
        "counts",
        "mean less the local background; may be below 0",
    ),
    Column(
        "Nuclei_Intensity_IntegratedIntensityBackgroundSubtracted",
        "float64",
        "counts",
        "sum less area × the local background; may be below 0",
    ),
)


def intensity_columns(channel: str) -> tuple[Column, ...]:
    """The intensity columns of one channel, by its :attr:`hcs_nuclei.plate.Channel.column_name`."""
    return tuple(Column(f"{c.name}_{channel}", c.dtype, c.unit, f"{c.meaning}, {channel}") for c in INTENSITY)


def nucleus_columns(measured: Measured) -> tuple[Column, ...]:
    """The nucleus table's columns in order."""
    moments = MOMENTS if "moments" in measured.groups else ()
    intensity = tuple(c for channel in measured.channels for c in intensity_columns(channel))
    rings = tuple(c for channel in measured.channels for c in ring_columns(channel))
    return (
        *(*IDENTITY, FIELD, TIMEPOINT, *_NUCLEUS, *saturated_columns(measured.channels)),
        *(*SHAPE, *moments, *intensity),
        *option_columns(measured.groups, measured.channels),
        *(*NEIGHBOURS, *RING_AREA, *rings),
    )
