"""Which well, field and time point a row is of; every table begins with these."""

from __future__ import annotations

from hcs_nuclei.columns.column import Column

IDENTITY = (
    Column("Metadata_Plate", "string", "", "plate: --plate-name, else the vendor's barcode or plate name"),
    Column("Metadata_Acquisition", "string", "", "the vendor's measurement or plate-run id; empty where there is none"),
    Column("Metadata_Well", "string", "", "well, B03"),
    Column("Metadata_Row", "int32", "", "row, 1 = A"),
    Column("Metadata_Column", "int32", "", "column, 1-based"),
)
FIELD = Column("Metadata_Field", "int32", "", "field of view, the number in the vendor's file names")
TIMEPOINT = Column("Metadata_Timepoint", "int32", "", "0-based index on the store's t axis")
