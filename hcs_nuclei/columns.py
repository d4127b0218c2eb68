"""Every column of every table: name, dtype, unit, meaning. Tables, docs and checks are made from this list alone.

``Metadata_*`` is identity and everything that is not a feature; ``Nuclei_*`` is features (numeric only), named as
CellProfiler names them, in pixels and camera counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: Rises whenever a column is added, renamed or changes meaning; stands in every table and in run.json.
SCHEMA_VERSION = "1"

Dtype = Literal["string", "int32", "int64", "uint32", "float32", "float64", "bool"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, Arrow type, unit (empty where it has none) and meaning."""

    name: str
    dtype: Dtype
    unit: str
    meaning: str


IDENTITY = (
    Column("Metadata_Plate", "string", "", "plate: --plate-name, else the vendor's barcode or plate name"),
    Column("Metadata_Acquisition", "string", "", "the vendor's measurement or plate-run id; empty where there is none"),
    Column("Metadata_Well", "string", "", "well, B03"),
    Column("Metadata_Row", "int32", "", "row, 1 = A"),
    Column("Metadata_Column", "int32", "", "column, 1-based"),
)
_FIELD = Column("Metadata_Field", "int32", "", "field of view, the number in the vendor's file names")
_TIMEPOINT = Column("Metadata_Timepoint", "int32", "", "0-based index on the store's t axis")

_NUCLEUS = (
    Column("Metadata_ObjectNumber", "uint32", "", "pixel value in the label image, unique in it over all time points"),
    Column("Metadata_Center_X", "float64", "px", "centroid, from the left edge; the centre of the first pixel is 0"),
    Column("Metadata_Center_Y", "float64", "px", "centroid, from the top edge; the centre of the first pixel is 0"),
    Column("Metadata_Confidence", "float32", "0-1", "the network's confidence in this nucleus"),
    Column("Metadata_QC_TouchesEdge", "bool", "", "touches the edge of the field: its area and shape are cut off"),
    Column("Metadata_QC_Saturated", "bool", "", "holds a pixel at the camera's limit in the nuclear channel"),
)

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
)

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


def intensity_columns(channel: str) -> tuple[Column, ...]:
    """The intensity columns of one channel, by its :attr:`hcs_nuclei.plate.Channel.column_name`."""
    return tuple(Column(f"{c.name}_{channel}", c.dtype, c.unit, f"{c.meaning}, {channel}") for c in INTENSITY)


def nucleus_columns(channels: Sequence[str]) -> tuple[Column, ...]:
    """The nucleus table's columns in order, for the column names of the plate's channels."""
    intensity = tuple(c for channel in channels for c in intensity_columns(channel))
    return (*IDENTITY, _FIELD, _TIMEPOINT, *_NUCLEUS, *SHAPE, *intensity)


def field_columns() -> tuple[Column, ...]:
    """The field table's columns in order."""
    return (*IDENTITY, _FIELD, _TIMEPOINT, *_FIELD_ROW)


def well_columns(channels: Sequence[str], treatments: Sequence[Column] = ()) -> tuple[Column, ...]:
    """The well table's columns in order: identity, treatments of the plate's layout, counts, QC, then the median over
    whole nuclei of each feature.
    """
    features = [c for c in nucleus_columns(channels) if c.name.startswith("Nuclei_")]
    medians = tuple(
        Column(f"Median_{c.name}", "float64", c.unit, f"median over whole nuclei: {c.meaning}") for c in features
    )
    return (*IDENTITY, _TIMEPOINT, *treatments, *_WELL_ROW, *medians)
