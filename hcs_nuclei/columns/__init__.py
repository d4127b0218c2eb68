"""Every column of every table: name, dtype, unit, meaning. Tables, docs and checks are made from this list alone.

``Metadata_*`` is identity and everything that is not a feature; ``Nuclei_*`` is features (numeric only), named as
CellProfiler names them, in pixels and camera counts.
"""

from hcs_nuclei.columns.calls import DNA_CLASSES, FIELD_CALLS, NUCLEUS_CALLS, NUCLEUS_CLASSES, nucleus_calls
from hcs_nuclei.columns.column import READABLE_VERSIONS, SCHEMA_VERSION, Column, Dtype
from hcs_nuclei.columns.fields import (
    FIELD_FLAGS,
    FIELD_QUALITY,
    committed_field_columns,
    field_columns,
    field_flags,
    saturated_fractions,
)
from hcs_nuclei.columns.identity import IDENTITY
from hcs_nuclei.columns.nuclei import (
    INTENSITY,
    MOMENTS,
    SHAPE,
    Measured,
    intensity_columns,
    nucleus_columns,
    saturated_columns,
)
from hcs_nuclei.columns.wells import AGGREGATES, well_columns

__all__ = [
    "AGGREGATES",
    "DNA_CLASSES",
    "FIELD_CALLS",
    "FIELD_FLAGS",
    "FIELD_QUALITY",
    "IDENTITY",
    "INTENSITY",
    "MOMENTS",
    "NUCLEUS_CALLS",
    "NUCLEUS_CLASSES",
    "READABLE_VERSIONS",
    "SCHEMA_VERSION",
    "SHAPE",
    "Column",
    "Dtype",
    "Measured",
    "committed_field_columns",
    "field_columns",
    "field_flags",
    "intensity_columns",
    "nucleus_calls",
    "nucleus_columns",
    "saturated_columns",
    "saturated_fractions",
    "well_columns",
]
