"""A finished run in, a table of features beside each field's labels out, as ngio and Fractal read them.

::

    <row>/<column>/<field>/tables/nuclei/table.parquet    label, then every feature; one row a nucleus

What a nucleus is called is left out: it changes with the plate's rules, and such tables would be out of step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hcs_nuclei.columns import Measured, nucleus_columns
from hcs_nuclei.files import replace_file
from hcs_nuclei.outputs.arrow import parquet_bytes
from hcs_nuclei.outputs.ome_zarr import well_path
from hcs_nuclei.plate import Plate

_TABLE = "nuclei"
_LIST = {"tables": [_TABLE]}


def write_feature_tables(run_dir: Path, store: Path, plate: Plate, measured: Measured) -> None:
    """Write the tables of all fields that the store has; what is there already is not touched.

    Args:
        run_dir: its wells are committed.
        store: the run's OME-Zarr plate.
        plate: the plate.
        measured: what is measured of every nucleus.

    Raises:
        OSError: a table cannot be written.
    """
    features = [column.name for column in nucleus_columns(measured) if column.name.startswith("Nuclei_")]
    described = {
        "type": "feature_table",
        "table_version": "1",
        "backend": "parquet",
        "region": {"path": "../labels/nuclei"},
        "instance_key": "label",
        "index_key": "label",
        "index_type": "int",
        "measurement_columns": features,
    }
    for well in plate.wells:
        groups = [(site.number, well_path(store, well) / str(site.number)) for site in well.fields]
        there = [(number, group) for number, group in groups if group.is_dir()]
        if not there:
            continue
        nuclei = pq.read_table(
            run_dir / "nuclei" / f"{well.name}.parquet",
            columns=["Metadata_Field", "Metadata_ObjectNumber", *features],
            use_threads=False,
        )
        for number, group in there:
            table = nuclei.filter(pc.equal(nuclei["Metadata_Field"], number)).drop_columns(["Metadata_Field"])
            labels = table["Metadata_ObjectNumber"].cast(pa.int64())
            table = table.drop_columns(["Metadata_ObjectNumber"]).add_column(0, "label", labels)
            _write_group(group / "tables", _LIST)
            _write_group(group / "tables" / _TABLE, described)
            replace_file(group / "tables" / _TABLE / "table.parquet", parquet_bytes(table.replace_schema_metadata()))


def _write_group(path: Path, attributes: dict[str, Any]) -> None:
    path.mkdir(exist_ok=True)
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    replace_file(path / "zarr.json", (json.dumps(document, indent=2) + "\n").encode())
