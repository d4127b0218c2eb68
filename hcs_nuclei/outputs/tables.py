"""Measured nuclei and field rows in, Parquet and CSV tables out; every column is one of :mod:`hcs_nuclei.columns`.

``nuclei/<well>.parquet`` is a well's commit: its footer carries the fingerprint of what it was made from and the
well's field rows, so nuclei and fields are never out of step. What the whole plate shares (``fields.parquet``,
``wells.parquet``, ``wells.csv``, and ``layout.parquet`` where there is a layout) is made from the commits, one well at
a time. Equal content gives equal bytes, and a file that holds them already is not touched.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hcs_nuclei.columns import (
    IDENTITY,
    READABLE_VERSIONS,
    Column,
    Measured,
    committed_field_columns,
    field_columns,
    nucleus_columns,
    well_columns,
)
from hcs_nuclei.errors import OutputError
from hcs_nuclei.files import replace_file
from hcs_nuclei.layouts import Layout
from hcs_nuclei.outputs.arrow import VERSION_KEY, arrow_schema, csv_bytes, parquet_bytes
from hcs_nuclei.outputs.calls import CallRules, Calls, call_nuclei, find_calls, read_columns, write_calls
from hcs_nuclei.outputs.treatments import LAYOUT_FILE, PLACE
from hcs_nuclei.outputs.wells import well_row
from hcs_nuclei.plate import Plate, parse_well
from hcs_nuclei.screening.field_flags import FieldLimits, flag_fields
from hcs_nuclei.screening.validity import judge_fields

_FINGERPRINT = b"hcs_nuclei.fingerprint"
_FIELDS = b"hcs_nuclei.fields"
#: Rows go by the last of these first, as NumPy's lexsort takes them.
_ROW_ORDER = ("Metadata_ObjectNumber", "Metadata_Timepoint", "Metadata_Field")


@dataclass(frozen=True, slots=True)
class WellCommit:
    """What a well's Parquet file says of itself: its name ("B03"), its fingerprint, its rows of the field table."""

    well: str
    fingerprint: str
    fields: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class PlateTables:
    """The tables of a finished plate, as written: one row per expected field, and per expected well, and time point;
    and what its nuclei are called by.
    """

    fields: pa.Table
    wells: pa.Table
    calls: Calls


def nucleus_schema(measured: Measured) -> pa.Schema:
    """Schema of ``nuclei/<well>.parquet`` for what is measured of a nucleus."""
    return arrow_schema(nucleus_columns(measured))


def field_schema(measured: Measured) -> pa.Schema:
    """Schema of ``fields.parquet`` for what is measured of a nucleus."""
    return arrow_schema(field_columns(measured))


def well_schema(measured: Measured, treatments: Sequence[Column] = (), gates: Sequence[str] = ()) -> pa.Schema:
    """Schema of ``wells.parquet`` for what is measured of a nucleus, the layout's treatments and the recipe's gates."""
    return arrow_schema(well_columns(measured, treatments, gates))


def well_table_path(run_dir: Path, well: str) -> Path:
    """Where the nuclei of a well ("B03") are committed."""
    return run_dir / "nuclei" / f"{well}.parquet"


def write_well(
    path: Path,
    *,
    nuclei: Mapping[str, object] | Sequence[Mapping[str, object]],
    fields: Sequence[Mapping[str, object]],
    fingerprint: str,
    measured: Measured,
) -> WellCommit:
    """Commit a well: its nuclei and its field rows in one Parquet file, atomically.

    Args:
        path: ``nuclei/<well>.parquet``; its directory is there.
        nuclei: by column of :func:`hcs_nuclei.columns.nucleus_columns` an array (n,) or a scalar for all n; one
            mapping, or several (a field each) that are put together. An empty sequence is a well without nuclei.
        fields: one mapping a field and time point, with every column of
            :func:`hcs_nuclei.columns.committed_field_columns`.
        fingerprint: of what the well was made from.
        measured: what is measured of every nucleus of the plate.

    Raises:
        ValueError: a column is missing, unknown, of another length or type; field rows are of several wells; the
            nuclei of a field are not as many as its ``Metadata_Object_Count``.
        OSError: the file cannot be written; a former one is then as it was.
    """
    parts = [nuclei] if isinstance(nuclei, Mapping) else list(nuclei)
    schema = nucleus_schema(measured)
    table = pa.concat_tables([schema.empty_table(), *(_nucleus_table(part, schema) for part in parts)])
    table = table.take(_row_order(table)).combine_chunks()
    rows = _field_rows(fields, measured)
    _check_counts(table, rows)
    metadata = {
        **schema.metadata,
        _FINGERPRINT: fingerprint.encode(),
        _FIELDS: json.dumps(rows, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(),
    }
    replace_file(path, parquet_bytes(table.replace_schema_metadata(metadata)))
    return WellCommit(str(rows[0]["Metadata_Well"]), fingerprint, tuple(rows))


def read_commit(path: Path) -> WellCommit | None:
    """What a well's Parquet file says of itself, from its footer alone.

    None where the file is not there, is not whole, or was not written by :func:`write_well` with a version of the
    schema that is read.

    Raises:
        OSError: the file is there and may not be read.
    """
    try:
        with path.open("rb") as file:
            try:
                metadata = pq.read_metadata(file).metadata or {}
            except (pa.ArrowException, OSError):
                return None
    except FileNotFoundError:
        return None
    version = metadata.get(VERSION_KEY, b"").decode()
    if version not in READABLE_VERSIONS or not {_FINGERPRINT, _FIELDS} <= metadata.keys():
        return None
    rows = json.loads(metadata[_FIELDS])
    return WellCommit(rows[0]["Metadata_Well"], metadata[_FINGERPRINT].decode(), tuple(rows))


def finish_tables(
    run_dir: Path,
    plate: Plate,
    measured: Measured,
    layout: Layout | None = None,
    limits: FieldLimits | None = None,
    rules: CallRules | None = None,
    normalise: Callable[[pa.Table], pa.Table] = lambda wells: wells,
) -> PlateTables:
    """Write ``fields.parquet``, ``wells.parquet``, ``wells.csv`` and ``calls.json`` from the committed wells.

    The treatments of `layout` stand in the well table, and in ``layout.parquet`` for those who read nuclei and fields;
    a well that it does not name has nulls. Fields are flagged by `limits`, and what counts and how nuclei are called is
    told by `rules`; None for the recipe's defaults. `normalise` puts behind the well table what needs all of it. Every
    expected well must be committed, failed ones too: a table of a run that was interrupted would look whole.

    Raises:
        OutputError: a well has no commit; names all of them.
    """
    done = _commits(run_dir, plate)
    rules = rules or CallRules()
    flagged = flag_fields([row for commit in done for row in commit.fields], limits or FieldLimits())
    fields = judge_fields(flagged, rules.flags, rules.exclusions)
    calls = find_calls(run_dir, rules, measured, fields, layout.negative_controls if layout else ())
    of_well: dict[str, list[dict[str, Any]]] = {commit.well: [] for commit in done}
    for row in fields:
        of_well[row["Metadata_Well"]].append(row)
    wells = [
        {**row, **(layout.of(well) if layout else {})}
        for well, rows in of_well.items()
        for row in _well_rows(run_dir, rows, measured, calls, rules.minimum_fields)
    ]
    schema = well_schema(measured, layout.columns if layout else (), calls.gate_names)
    well_table = normalise(pa.Table.from_pylist(wells, schema=schema))
    tables = PlateTables(pa.Table.from_pylist(fields, schema=field_schema(measured)), well_table, calls)
    if layout and layout.columns:
        replace_file(run_dir / LAYOUT_FILE, parquet_bytes(_layout_table(layout)))
    else:
        (run_dir / LAYOUT_FILE).unlink(missing_ok=True)
    replace_file(run_dir / "fields.parquet", parquet_bytes(tables.fields))
    write_calls(run_dir, calls)  # behind the fields that nuclei are called by
    replace_file(run_dir / "wells.parquet", parquet_bytes(tables.wells))
    replace_file(run_dir / "wells.csv", csv_bytes(tables.wells))
    return tables


def _commits(run_dir: Path, plate: Plate) -> list[WellCommit]:
    """What every expected well says of itself.

    Raises:
        OutputError: a well has no commit; names all of them.
    """
    commits = {well.name: read_commit(well_table_path(run_dir, well.name)) for well in plate.wells}
    lost = [name for name, commit in commits.items() if commit is None]
    if lost:
        raise OutputError(
            f"Plate {plate.name}: {len(lost)} of {len(commits)} wells have no table in {run_dir / 'nuclei'} "
            f"({', '.join(lost)}). Start the run again: it makes the missing wells only."
        )
    return [commit for commit in commits.values() if commit is not None]


def _well_rows(
    run_dir: Path, fields: Sequence[Mapping[str, Any]], measured: Measured, calls: Calls, minimum_fields: float
) -> list[dict[str, Any]]:
    """The well's rows of the well table, one a time point; reads the nuclei of this well alone."""
    features = [column.name for column in nucleus_columns(measured) if column.name.startswith("Nuclei_")]
    names = tuple(dict.fromkeys((*features, *calls.features)))
    nuclei = read_columns(well_table_path(run_dir, str(fields[0]["Metadata_Well"])), names)
    called = call_nuclei(calls, nuclei, fields)
    rows = []
    for timepoint in sorted({row["Metadata_Timepoint"] for row in fields}):
        here = nuclei["Metadata_Timepoint"] == timepoint
        rows.append(
            well_row(
                [row for row in fields if row["Metadata_Timepoint"] == timepoint],
                {name: nuclei[name][here] for name in features},
                {name: values[here] for name, values in called.items()},
                calls.refused,
                minimum_fields,
            )
        )
    return rows


def _layout_table(layout: Layout) -> pa.Table:
    places = {name: (name, *parse_well(name)) for name in layout.wells}
    rows = [{**dict(zip(PLACE, place, strict=True)), **layout.of(name)} for name, place in places.items()]
    columns = [column for column in IDENTITY if column.name in PLACE]
    return pa.Table.from_pylist(rows, schema=arrow_schema((*columns, *layout.columns)))


def _nucleus_table(nuclei: Mapping[str, object], schema: pa.Schema) -> pa.Table:
    _check_names(nuclei, schema, "nuclei")
    count = len(np.atleast_1d(np.asarray(nuclei["Metadata_ObjectNumber"])))
    return pa.table([_array(nuclei[field.name], count, field) for field in schema], schema=schema)


def _array(value: object, count: int, field: pa.Field) -> pa.Array:
    """A column of `count` values from an array (count,) or a scalar; NaN becomes null."""
    values = np.asarray(value)
    if values.ndim == 0:
        values = np.full(count, value)
    if values.shape != (count,):
        raise ValueError(f"nuclei: column {field.name} has shape {values.shape}; expected ({count},)")
    try:
        return pa.array(values, type=field.type, from_pandas=True)
    except pa.ArrowException as error:
        raise ValueError(f"nuclei: column {field.name} is not {field.type}: {error}") from error


def _row_order(table: pa.Table) -> Any:
    return np.lexsort([table[key].to_numpy() for key in _ROW_ORDER])


def _field_rows(fields: Sequence[Mapping[str, object]], measured: Measured) -> list[dict[str, Any]]:
    """Field rows as they go into JSON: checked, in order of field and time point, NaN as None."""
    schema = arrow_schema(committed_field_columns(measured))
    for row in fields:
        _check_names(row, schema, "field row")
    rows = [{name: _plain(row[name]) for name in schema.names} for row in fields]
    if len({row["Metadata_Well"] for row in rows}) != 1:
        raise ValueError(f"field rows of {sorted({str(row['Metadata_Well']) for row in rows})}; expected one well")
    well = rows[0]["Metadata_Well"]
    try:
        pa.Table.from_pylist(rows, schema=schema)
    except pa.ArrowException as error:
        raise ValueError(f"well {well}: field rows are not of the schema: {error}") from error
    for (field, timepoint), times in Counter(map(_place, rows)).items():
        if times > 1:
            raise ValueError(f"well {well}: field {field}, time point {timepoint} has {times} rows")
    for row in rows:
        if row["Metadata_Object_Count"] is not None and None in (row["Metadata_Height"], row["Metadata_Width"]):
            raise ValueError(f"well {well}, field {row['Metadata_Field']}: measured, but its height or width is null")
    return sorted(rows, key=_place)


def _place(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["Metadata_Field"], row["Metadata_Timepoint"]


def _plain(value: object) -> object:
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain


def _check_names(given: Mapping[str, object], schema: pa.Schema, what: str) -> None:
    missing = [name for name in schema.names if name not in given]
    unknown = [name for name in given if name not in schema.names]
    if missing or unknown:
        raise ValueError(f"{what}: missing columns {missing}, unknown columns {unknown}")


def _check_counts(table: pa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Image, field and nucleus table must agree: a silent difference here is a wrong count in every figure after it."""
    well = rows[0]["Metadata_Well"]
    fields, timepoints, numbers = (table[key].to_pylist() for key in reversed(_ROW_ORDER))
    found = Counter(zip(fields, timepoints, strict=True))
    stated = {_place(row): row["Metadata_Object_Count"] or 0 for row in rows}
    for place in sorted(found.keys() | stated.keys()):
        if found[place] != stated.get(place):
            raise ValueError(
                f"well {well}, field {place[0]}, time point {place[1]}: {found[place]} nuclei, but the field row "
                f"states {stated.get(place, 'nothing')}"
            )
    for (field, number), times in Counter(zip(fields, numbers, strict=True)).items():
        if times > 1:
            raise ValueError(f"well {well}, field {field}: object number {number} stands {times} times")
