"""Columns of :mod:`hcs_nuclei.columns` and values in, Arrow tables and the bytes of Parquet and CSV files out.

Equal content gives equal bytes, and a file that holds them already is not touched.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from hcs_nuclei.columns import SCHEMA_VERSION, Column
from hcs_nuclei.files import replace_file

VERSION_KEY = b"schema_version"
_ZSTD_LEVEL = 3
_TYPES = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint32": pa.uint32(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """The columns with unit and meaning, and the version of all of them."""
    return pa.schema([_field(column) for column in columns], metadata={VERSION_KEY: SCHEMA_VERSION.encode()})


def append_columns(table: pa.Table, columns: Sequence[Column], values: Mapping[str, Any]) -> pa.Table:
    """`table` with `columns` at its end, of `values` (n,) by name; NaN becomes null."""
    for column in columns:
        array = pa.array(np.asarray(values[column.name]), type=_TYPES[column.dtype], from_pandas=True)
        table = table.append_column(_field(column), array)
    return table


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file."""
    text = [field.name for field in table.schema if field.type == pa.string()]
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=_ZSTD_LEVEL, use_dictionary=text)
    return buffer.getvalue()


def csv_bytes(table: pa.Table) -> bytes:
    """The table as CSV: a header, texts in quotation marks, null as nothing."""
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table, buffer)
    return buffer.getvalue()


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    """Write `rows`, each with every one of `columns`, as the Parquet file at `path` and as CSV beside it.

    Without a row there is no such table: former files are taken away.

    Raises:
        OSError: a file cannot be written; a former one is then as it was.
    """
    beside = path.with_suffix(".csv")
    if not rows:
        path.unlink(missing_ok=True)
        beside.unlink(missing_ok=True)
        return
    table = pa.Table.from_pylist(list(rows), schema=arrow_schema(columns))
    replace_file(path, parquet_bytes(table))
    replace_file(beside, csv_bytes(table))


def _field(column: Column) -> pa.Field:
    return pa.field(column.name, _TYPES[column.dtype], metadata={"unit": column.unit, "meaning": column.meaning})
