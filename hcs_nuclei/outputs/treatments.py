"""A run's ``layout.parquet`` in, its treatments out: as a layout again, or joined to tables that are read.

Only the well table holds treatments itself; nuclei and fields get them on reading, so that another layout costs no
well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from hcs_nuclei.columns import Column, Dtype
from hcs_nuclei.layouts import Layout

if TYPE_CHECKING:
    import pyarrow as pa

LAYOUT_FILE = "layout.parquet"
#: What says which well a row of ``layout.parquet`` is; every other column is a treatment.
PLACE = ("Metadata_Well", "Metadata_Row", "Metadata_Column")


def kept_layout(
    run_dir: Path, source: str, origin: Literal["file", "vendor"], warnings: Sequence[str]
) -> Layout | None:
    """The layout that a run was finished with, from its own file; None where that is gone."""
    table = _read(run_dir)
    if table is None:
        return None
    dtypes = {"string": "string", "int64": "int64", "double": "float64"}
    columns = tuple(
        Column(
            field.name,
            cast(Dtype, dtypes[str(field.type)]),
            field.metadata[b"unit"].decode(),
            field.metadata[b"meaning"].decode(),
        )
        for field in table.schema
        if field.name not in PLACE
    )
    rows = table.to_pylist()
    wells = {row["Metadata_Well"]: {c.name: row[c.name] for c in columns if row[c.name] is not None} for row in rows}
    return Layout(source, origin, columns, wells, tuple(warnings))


def layout_treatments(runs: Sequence[Path]) -> dict[Path, pa.Table]:
    """``Metadata_Well`` and the treatment columns of each run that has a layout; a column has one type in all runs."""
    tables = {run: table for run in runs if (table := _read(run)) is not None}
    types = _common_types(list(tables.values()))
    return {
        run: as_types(table.drop_columns(list(PLACE[1:])).replace_schema_metadata(None), types)
        for run, table in tables.items()
    }


def treatment_types(treatments: Mapping[Path, pa.Table]) -> dict[str, pa.DataType]:
    """Type of every treatment column of tables as :func:`layout_treatments` has them."""
    return {field.name: field.type for t in treatments.values() for field in t.schema if field.name not in PLACE}


def as_types(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """`table` with those of its columns that `types` names in these types."""
    for place, field in enumerate(table.schema):
        if field.name in types and field.type != types[field.name]:
            table = table.set_column(place, field.name, table[field.name].cast(types[field.name]))
    return table


def join_treatments(table: pa.Table, treatments: pa.Table | None, wanted: Sequence[str] | None = None) -> pa.Table:
    """`table`, which has ``Metadata_Well``, with its wells' treatments behind the columns of identity.

    Args:
        table: one row a nucleus or field.
        treatments: as :func:`layout_treatments` has them; None for a run without a layout.
        wanted: which of them; None for all.
    """
    import pyarrow.compute as pc

    if treatments is None:
        return table
    index = pc.index_in(table["Metadata_Well"], value_set=treatments["Metadata_Well"])
    place = table.column_names.index("Metadata_Timepoint") + 1 if "Metadata_Timepoint" in table.column_names else 0
    for name in treatments.column_names[1:]:
        if wanted is None or name in wanted:
            table = table.add_column(place, name, treatments[name].combine_chunks().take(index))
            place += 1
    return table


def _read(run_dir: Path) -> pa.Table | None:
    import pyarrow.parquet as pq

    path = run_dir / LAYOUT_FILE
    return pq.read_table(path) if path.is_file() else None


def _common_types(tables: Sequence[pa.Table]) -> dict[str, pa.DataType]:
    import pyarrow as pa

    found: dict[str, set[Any]] = {}
    for table in tables:
        for field in table.schema:
            found.setdefault(field.name, set()).add(field.type)
    numbers = {pa.int64(), pa.float64()}
    mixed = {name: pa.float64() if types <= numbers else pa.string() for name, types in found.items() if len(types) > 1}
    return {name: mixed.get(name, next(iter(types))) for name, types in found.items()}
