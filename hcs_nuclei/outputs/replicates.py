"""Run directories in, one row per treatment over all of their plates out: replicates summarised after normalising."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcs_nuclei.columns.statistics import TREATMENTS, readout_name
from hcs_nuclei.errors import OutputError
from hcs_nuclei.outputs.arrow import arrow_schema
from hcs_nuclei.outputs.reading import Paths, find_runs, read_plate_table
from hcs_nuclei.screening.over_plates import treatment_rows
from hcs_nuclei.screening.treated_wells import REAGENTS, TreatedWells

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_SCALES = ("PercentOfControl", "RobustZ")
#: The count of nuclei beside a readout: density, or what stands in for it where the size of a pixel is not known.
_COUNTS = ("PercentOfControl_Density_per_mm2", "PercentOfControl_Object_Count_PerField")
_WELL = ("Metadata_Plate", "Metadata_Row", "Metadata_Column", "Metadata_Timepoint")
_TREATMENT = tuple(f"Metadata_{n}" for n in ("control_type", *REAGENTS, "Concentration", "Concentration_unit"))


def read_treatments(path: Paths, *, readouts: Sequence[str] | None = None) -> pd.DataFrame:
    """What each treatment did, over one plate or several: its wells' normalised readouts summarised, one row each.

    Wells are held against the negative control of their own plate (per cent of control, robust z), then those that got
    the same (kind, compound or reagent, concentration, unit) are summarised: numbers of wells and plates, median, MAD,
    mean, standard deviation. n is wells, never nuclei. Wells that do not count (failed, excluded, too few fields, of
    readouts of nuclei too few nuclei) are numbered and left out. Columns are
    :data:`hcs_nuclei.columns.statistics.TREATMENTS`; rows go by time point, readout, kind (controls first), compound
    and dose.

    Args:
        path: a run directory, a directory of runs, or several of either.
        readouts: columns of the well table; None for all readouts of the runs' recipes. A readout that only some plates
            have is told of those.

    Raises:
        OutputError: no run is there, one was not finished, or none has a layout with negative controls.
        ValueError: a readout is in none of the runs.
    """
    frame: pd.DataFrame = treatment_table(find_runs(path), readouts).to_pandas()
    return frame


def treatment_table(runs: Sequence[Path], readouts: Sequence[str] | None = None) -> pa.Table:
    """What :func:`read_treatments` returns, as an Arrow table.

    Raises:
        OutputError: a run was not finished, or none has a layout with negative controls.
        ValueError: a readout is in none of the runs.
    """
    import pyarrow as pa

    there = _column_names(runs)
    found = {name: readout for name in there if (readout := _readout(name, there))}
    if not found:
        raise OutputError(
            f"None of the {len(runs)} runs has normalised readouts: no layout names negative controls (negcon), which "
            "wells are held against. Give one with “hcs-nuclei report RUN_DIR --layout FILE”."
        )
    known = list(dict.fromkeys(found.values()))
    wanted = known if readouts is None else list(dict.fromkeys(readouts))
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"no run has the readouts {unknown}; there are {known}")
    columns = [*_WELL, *(n for n in _TREATMENT if n in there), *(n for n in _COUNTS if n in there)]
    columns += [name for name, readout in found.items() if readout in wanted]
    wells = read_plate_table(runs, "wells.parquet", list(dict.fromkeys(columns)))
    rows: list[dict[str, Any]] = []
    times = wells["Metadata_Timepoint"].to_numpy()
    for time in np.unique(times):
        here = wells.take(np.flatnonzero(times == time))
        treated = TreatedWells.of({n: here[n].to_pylist() for n in here.column_names if n.startswith("Metadata_")})
        plates, count = here["Metadata_Plate"].to_pylist(), _count(here)
        for readout in wanted:
            scales = {kind: _values(here, f"{kind}_{readout_name(readout)}") for kind in _SCALES}
            of = {"Metadata_Timepoint": int(time), "Metadata_Readout": readout}
            rows += [{**of, **row} for row in treatment_rows(treated, plates, scales, count)]
    return pa.Table.from_pylist(rows, schema=arrow_schema(TREATMENTS))


def _column_names(runs: Sequence[Path]) -> dict[str, None]:
    """Every column of the runs' well tables; of a run that was not finished none, which is told when it is read."""
    import pyarrow.parquet as pq

    tables = [run / "wells.parquet" for run in runs]
    return dict.fromkeys(name for table in tables if table.is_file() for name in pq.read_schema(table).names)


def _readout(name: str, there: dict[str, None]) -> str:
    """The readout that a normalised column is of; empty where the column is of none."""
    kind = next((kind for kind in _SCALES if name.startswith(f"{kind}_")), "")
    rest = name.removeprefix(f"{kind}_")
    return next((n for n in (f"Metadata_{rest}", rest) if n in there), "") if kind else ""


def _values(wells: pa.Table, name: str) -> Any:
    """A column of numbers, float64 (n,), NaN for null; all NaN where no run has it."""
    if name not in wells.column_names:
        return np.full(wells.num_rows, np.nan)
    return wells[name].cast("float64").to_numpy()


def _count(wells: pa.Table) -> Any:
    """(n,) nuclei in per cent of the negative control; None where no run has normalised a count."""
    counts = [_values(wells, name) for name in _COUNTS if name in wells.column_names]
    if not counts:
        return None
    return counts[0] if len(counts) == 1 else np.where(np.isfinite(counts[0]), counts[0], counts[1])
