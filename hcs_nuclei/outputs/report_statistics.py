"""A run's tables of statistics in, what the report says of controls, plate effects and doses out.

A table that is not there leaves its part of the page out, and a sentence says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcs_nuclei.outputs.report_columns import WellColumns
from hcs_nuclei.screening.treated_wells import REAGENTS, TreatedWells

if TYPE_CHECKING:
    import pyarrow as pa

#: How far the positive controls stand off, as the page names it.
SEPARATIONS = {"ZPrime": "Z′", "RobustZPrime": "Robust Z′", "SSMD": "SSMD", "RobustSSMD": "Robust SSMD"}
EFFECTS = {
    "EdgeEffect": "Outer ring",
    "SecondRingEffect": "Second ring",
    "RowDrift": "Drift over rows",
    "ColumnDrift": "Drift over columns",
    "Tips8Effect": "Tip of 8",
    "Tips16Effect": "Tip of 16",
    "QuadrantEffect": "Quadrant",
    "SerpentineEffect": "Order of dispensing",
}
_PLATE = ("Metadata_Plate", "Metadata_Acquisition")


@dataclass(frozen=True, slots=True)
class Statistics:
    """What stands in the tables, as plain rows, and why there is none of a kind (empty where there is).

    `readouts` are the names of the columns that are told of, in the order of the tables.
    """

    readouts: tuple[str, ...]
    controls: tuple[Mapping[str, Any], ...]
    effects: tuple[Mapping[str, Any], ...]
    curves: tuple[Mapping[str, Any], ...]
    no_controls: str
    no_effects: str
    no_curves: str

    @property
    def notable(self) -> tuple[Mapping[str, Any], ...]:
        """The effects of 5 % and more whose interval leaves out 0."""
        return tuple(row for row in self.effects if row["Notable"])


def read_statistics(run_dir: Path, wells: pa.Table, columns: WellColumns) -> Statistics:
    """The statistics of a run, of the readouts that the report lists.

    Args:
        run_dir: with ``statistics.parquet`` and ``dose_response.parquet``, or without.
        wells: its well table, with the treatments.
        columns: the columns that the report lists.
    """
    told, curves = _rows(run_dir, "statistics"), _rows(run_dir, "dose_response")
    readouts = tuple(dict.fromkeys(row["Metadata_Readout"] for row in (*told, *curves)))
    readouts = tuple(name for name in readouts if columns.named(name))
    controls = tuple(row for row in told if row["Metadata_Statistic"] in SEPARATIONS)
    effects = tuple(row for row in told if row["Metadata_Statistic"] in EFFECTS)
    there = (run_dir / "statistics.parquet").is_file()
    return Statistics(
        readouts=readouts,
        controls=controls,
        effects=effects,
        curves=tuple(curves),
        no_controls="" if controls else _no_controls(wells, there),
        no_effects="" if effects else _no_statistics(wells, there),
        no_curves="" if curves else _no_curves(wells, (run_dir / "dose_response.parquet").is_file(), there),
    )


def reagents_of(wells: pa.Table) -> tuple[str | None, ...]:
    """(n,) what each well of a well table got, by the name that its dose series has; None where nothing is said."""
    known = [f"Metadata_{name}" for name in ("Row", "Column", *REAGENTS) if f"Metadata_{name}" in wells.column_names]
    return TreatedWells.of({name: wells[name].to_pylist() for name in known}).compounds


def _rows(run_dir: Path, name: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    path = run_dir / f"{name}.parquet"
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = pq.read_table(path).drop_columns(list(_PLATE)).to_pylist()
    return rows


def _no_controls(wells: pa.Table, there: bool) -> str:
    kinds = _known(wells, "Metadata_control_type")
    if not kinds:
        return _no_statistics(wells, there)
    missing = [kind for kind in ("negcon", "poscon") if not any(k.startswith(kind) for k in kinds)]
    if missing:
        names = " and no ".join(missing)
        return f"The layout's Metadata_control_type names no {names}, so there is nothing to tell apart."
    return _no_statistics(wells, there)


def _no_curves(wells: pa.Table, there: bool, statistics: bool) -> str:
    if not _known(wells, "Metadata_Concentration"):
        return "The layout names no concentrations (Metadata_Concentration), so there is no curve."
    if not there and not statistics:
        return _no_statistics(wells, there)
    return "No compound of the layout is there at two doses or more, so there is no curve."


def _no_statistics(wells: pa.Table, there: bool) -> str:
    if not any(_known(wells, f"Metadata_{name}") for name in ("control_type", "Compound", "Concentration")):
        return (
            "The run has no plate layout that names controls or treatments; give it one with "
            "“hcs-nuclei report RUN_DIR --layout FILE”."
        )
    if not there:
        return "The run has no statistics.parquet; make it with “hcs-nuclei report RUN_DIR”."
    return "The layout's treatments allow none."


def _known(wells: pa.Table, name: str) -> Sequence[str]:
    if name not in wells.column_names:
        return []
    return [str(value) for value in wells[name].unique().to_pylist() if value is not None]
