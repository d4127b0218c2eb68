"""Run directories in, tidy pandas tables out: nuclei, fields and wells of one run or of many."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hcs_nuclei.errors import OutputError
from hcs_nuclei.outputs.calls import Judged, is_called, join_calls, read_judged
from hcs_nuclei.outputs.provenance import RUN_FILE
from hcs_nuclei.outputs.treatments import as_types, join_treatments, layout_treatments, treatment_types
from hcs_nuclei.plate import parse_well, well_name

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Paths = str | Path | Sequence[str | Path]
"""A run directory, a directory of runs, or several of either."""


def read_nuclei(
    path: Paths,
    *,
    columns: Sequence[str] | None = None,
    wells: Collection[str] | None = None,
    units: Literal["px", "um"] = "px",
) -> pd.DataFrame:
    """Every nucleus, one row each, in order of run, well (row-major), field, time point and object number.

    Treatments of a run's plate layout are joined by well, and what nuclei are called by the run's ``calls.json``
    (:func:`hcs_nuclei.columns.nucleus_calls`), from the values as measured, whatever `units`.

    Args:
        path: a run directory, a directory of runs, or several of either.
        columns: which columns, in this order; None for all. A column that only some runs have (a channel, a treatment)
            is NaN in the others.
        wells: which wells, as people write them (``B03``, ``b3``); None for all.
        units: ``px`` as stored; ``um`` turns every column in px or px² (lengths, areas and positions) into µm or µm².

    Raises:
        OutputError: no run is there, or ``um`` is asked for and a field's pixel size is unknown.
        ValueError: a column or well is in none of the runs, or `units` is neither.
    """
    import pyarrow as pa

    if units not in {"px", "um"}:
        raise ValueError(f"units={units!r}; expected 'px' or 'um'")
    runs = find_runs(path)
    treatments = layout_treatments(runs)
    files = _well_files(runs, wells)
    judged = {run: read_judged(run) for run in runs if columns is None or any(map(is_called, columns))}
    tables = [
        _read_well(file, columns, units == "um", treatments.get(file.parents[1]), judged.get(file.parents[1]))
        for file in files
    ]
    table = pa.concat_tables(tables, promote_options="default")
    if columns is None:
        return _frame(table)
    unknown = [name for name in columns if name not in table.column_names]
    if unknown:
        raise ValueError(f"no run has the columns {unknown}; read_nuclei(path).columns lists those that are there")
    return _frame(table.select(list(columns)))


def read_fields(
    path: Paths, *, columns: Sequence[str] | None = None, wells: Collection[str] | None = None
) -> pd.DataFrame:
    """One row per expected field and time point of every run, with the treatments of its plate layout.

    Args:
        path: a run directory, a directory of runs, or several of either.
        columns: which columns, in this order; None for all.
        wells: which wells, as people write them (``B03``, ``b3``); None for all.

    Raises:
        OutputError: no run is there, or a run was not finished.
        ValueError: a column or well is in none of the runs.
    """
    return _frame(read_plate_table(path, "fields.parquet", columns, wells))


def read_wells(
    path: Paths, *, columns: Sequence[str] | None = None, wells: Collection[str] | None = None
) -> pd.DataFrame:
    """One row per expected well and time point of every run, empty and failed wells too, with treatments.

    Args and errors are those of :func:`read_fields`.
    """
    return _frame(read_plate_table(path, "wells.parquet", columns, wells))


def find_runs(path: Paths) -> list[Path]:
    """The run directories that `path` names, each once: what has a ``nuclei`` folder; a directory of runs by name.

    Raises:
        OutputError: a path holds no run; says what is there.
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    if not paths:
        raise OutputError("No path was given; expected a run directory or a directory of runs.")
    return list({run.resolve(): run for place in paths for run in _runs_in(Path(place))}.values())


def _runs_in(path: Path) -> list[Path]:
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise OutputError(
            f"{path} is {found}; expected a run directory (with a folder 'nuclei') or a directory of runs."
        )
    if (path / "nuclei").is_dir():
        return [path]
    inside = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    runs = [entry for entry in inside if (entry / "nuclei").is_dir()]
    if not runs:
        names = ", ".join(entry.name for entry in inside[:10]) + (", …" if len(inside) > 10 else "")
        raise OutputError(
            f"{path} holds no run: found {names or 'an empty directory'}; expected a folder 'nuclei' in it or one "
            f"level below. Give what 'hcs-nuclei process --out' was given, or a run in it."
        )
    return runs


def _well_files(runs: Sequence[Path], wells: Collection[str] | None) -> list[Path]:
    found = {run: dict(_committed(run)) for run in runs}
    for run, files in found.items():
        if not files:
            raise OutputError(f"{run} has no well yet: {run / 'nuclei'} holds no table. Start the run again.")
    if wells is None:
        return [file for files in found.values() for _, file in sorted(files.items())]
    wanted = _wanted_wells(wells, {well for files in found.values() for well in files})
    return [files[well] for files in found.values() for well in wanted if well in files]


def _wanted_wells(wells: Collection[str], there: Collection[tuple[int, int]]) -> list[tuple[int, int]]:
    """(row, column) of `wells`, row-major.

    Raises:
        ValueError: one is not there, or none is asked for.
    """
    wanted = sorted({parse_well(well) for well in wells})
    unknown = [well_name(*well) for well in wanted if well not in there]
    if unknown or not wanted:
        raise ValueError(f"no run has the wells {unknown}" if unknown else "no well was asked for")
    return wanted


def _committed(run: Path) -> Iterator[tuple[tuple[int, int], Path]]:
    for file in (run / "nuclei").glob("[!.]*.parquet"):
        yield parse_well(file.stem), file


def _read_well(
    file: Path, columns: Sequence[str] | None, micrometres: bool, treatments: Any, judged: Judged | None
) -> Any:
    """A well's table: the columns of `columns` that it has, without the footer, lengths in µm where asked for."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as stored:
        schema = stored.schema_arrow
        wanted = schema.names if columns is None else [name for name in columns if name in schema.names]
        scaled = [name for name in wanted if micrometres and schema.field(name).metadata[b"unit"] in _POWERS]
        needed = [*wanted, "Metadata_Well", *(_PLACE if scaled else ()), *(judged.calls.features if judged else ())]
        table = stored.read(list(dict.fromkeys(needed)), use_threads=False)
    called = join_calls(table, file.stem, judged, columns) if judged else table
    if scaled:
        sizes = _pixel_sizes(file, table)
        for name in scaled:
            values = table[name].to_numpy() * sizes ** _POWERS[schema.field(name).metadata[b"unit"]]
            called = called.set_column(called.column_names.index(name), name, [values])
    return (
        join_treatments(called, treatments, columns)
        .drop_columns([name for name in table.column_names if name not in wanted])
        .replace_schema_metadata(None)
    )


#: Units that a pixel size converts, with the power of it.
_POWERS = {b"px": 1, "px²".encode(): 2}
_PLACE = ("Metadata_Field", "Metadata_Timepoint")


def _pixel_sizes(file: Path, table: Any) -> Any:
    """Edge of a pixel in µm for every nucleus of a well's table, float64 (n,)."""
    import numpy as np

    from hcs_nuclei.outputs.tables import read_commit

    commit = read_commit(file)
    if commit is None:
        raise OutputError(f"{file} is not a well's table of this version; process the plate again, or read units='px'.")
    sizes = {tuple(row[name] for name in _PLACE): row["Metadata_PixelSize_um"] for row in commit.fields}
    places = list(zip(*(table[name].to_pylist() for name in _PLACE), strict=True))
    unknown = sorted({field for field, timepoint in places if sizes[field, timepoint] is None})
    if unknown:
        raise OutputError(
            f"Plate {commit.fields[0]['Metadata_Plate']}, well {commit.well}: the pixel size of field "
            f"{', '.join(map(str, unknown))} is unknown, so nothing can be given in µm. Read it with units='px'."
        )
    return np.array([sizes[place] for place in places], dtype=np.float64)


def read_plate_table(
    path: Paths, name: str, columns: Sequence[str] | None, wells: Collection[str] | None = None
) -> pa.Table:
    """What :func:`read_fields` (`name` is ``fields.parquet``) and :func:`read_wells` return, as an Arrow table."""
    import pyarrow as pa
    import pyarrow.compute as pc

    runs = find_runs(path)
    unfinished = [run for run in runs if not (run / name).is_file()]
    if unfinished:
        raise OutputError(
            f"{', '.join(map(str, unfinished))}: no {name} there, the run was not finished. Start it again: it makes "
            f"what is missing."
        )
    if going_on := [str(run) for run in runs if _goes_on(run)]:
        raise OutputError(
            f"{', '.join(going_on)}: wells are made again there, and {name} is that of before. Wait for the end of the "
            "run, or start it again where it was interrupted."
        )
    treatments = layout_treatments(runs)
    needed = None if columns is None else {*columns, "Metadata_Well"}
    tables = [_columns_of(run / name, needed) for run in runs]
    if name == "wells.parquet":  # which has them itself
        tables = [as_types(table, treatment_types(treatments)) for table in tables]
    else:
        tables = [join_treatments(table, treatments.get(run), columns) for run, table in zip(runs, tables, strict=True)]
    table = pa.concat_tables(tables, promote_options="default")
    if wells is not None:
        there = {parse_well(well) for well in table["Metadata_Well"].to_pylist()}
        names = [well_name(*well) for well in _wanted_wells(wells, there)]
        table = table.filter(pc.is_in(table["Metadata_Well"], value_set=pa.array(names)))
    if columns is None:
        return table
    unknown = [column for column in columns if column not in table.column_names]
    if unknown:
        raise ValueError(f"no run has the columns {unknown}; docs/reference/columns.md lists those that may be there")
    return table.select(list(columns))


def _goes_on(run: Path) -> bool:
    """Whether a run that was finished is going on, or was interrupted then: its tables are those of before."""
    try:
        record = json.loads((run / RUN_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("outcome") is not None and record.get("finished") is None


def _columns_of(path: Path, needed: Collection[str] | None) -> Any:
    """Those of a table's columns that are `needed`, None for all, without its metadata."""
    import pyarrow.parquet as pq

    names = None if needed is None else [column for column in pq.read_schema(path).names if column in needed]
    return pq.read_table(path, columns=names).replace_schema_metadata(None)


def _frame(table: Any) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame
