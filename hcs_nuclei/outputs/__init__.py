"""Results → disk and back: the OME-Zarr plate, the tables, the reading of runs."""

from __future__ import annotations

from hcs_nuclei.files import replace_file, sweep
from hcs_nuclei.outputs.ome_zarr import (
    WellWriter,
    begin_store,
    finish_store,
    level_count,
    read_level,
    well_fingerprint,
)
from hcs_nuclei.outputs.reading import find_runs, read_fields, read_nuclei, read_wells
from hcs_nuclei.outputs.tables import (
    PlateTables,
    WellCommit,
    field_schema,
    finish_tables,
    nucleus_schema,
    read_commit,
    well_schema,
    well_table_path,
    write_well,
)

__all__ = [
    "PlateTables",
    "WellCommit",
    "WellWriter",
    "begin_store",
    "field_schema",
    "find_runs",
    "finish_store",
    "finish_tables",
    "level_count",
    "nucleus_schema",
    "read_commit",
    "read_fields",
    "read_level",
    "read_nuclei",
    "read_wells",
    "replace_file",
    "sweep",
    "well_fingerprint",
    "well_schema",
    "well_table_path",
    "write_well",
]
