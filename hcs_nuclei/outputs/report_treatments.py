"""Treatments summarised over plates in, the rows that the screen page shows of a readout, and their CSV, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcs_nuclei.errors import OutputError
from hcs_nuclei.files import replace_file
from hcs_nuclei.outputs.arrow import csv_bytes
from hcs_nuclei.outputs.replicates import treatment_table

if TYPE_CHECKING:
    import pyarrow as pa

#: A page of a library's every compound could not be read; those farthest from the control are what is looked for.
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class TreatmentRows:
    """What is shown of one readout: controls, then treatments from the farthest from the control on, of `of` in all."""

    rows: tuple[Mapping[str, Any], ...]
    of: int
    several_plates: bool


def summarised(runs: Sequence[Path]) -> pa.Table | None:
    """The treatments of these runs over all of their plates; None where no layout names negative controls.

    Raises:
        OutputError: a run was not finished.
    """
    unfinished = [run for run in runs if not (run / "wells.parquet").is_file()]
    if unfinished:
        raise OutputError(f"{', '.join(map(str, unfinished))}: the run was not finished. Start it again.")
    try:
        return treatment_table(runs)
    except OutputError:
        return None


def treatments_file(page: Path) -> Path:
    """Where the treatments of a screen page lie as CSV: beside it."""
    return page.with_name(f"{page.stem}-treatments.csv")


def write_treatments(table: pa.Table | None, page: Path) -> None:
    """Write the CSV beside a screen page, or take away a former one that the page no longer speaks of.

    Raises:
        OSError: it cannot be written; a former one is then as it was.
    """
    if table is None or not table.num_rows:
        treatments_file(page).unlink(missing_ok=True)
    else:
        replace_file(treatments_file(page), csv_bytes(table))


def rows_of(table: pa.Table | None, readout: str) -> TreatmentRows:
    """What is shown of a readout, at the first time point."""
    if table is None:
        return TreatmentRows((), 0, several_plates=False)
    every = [row for row in table.to_pylist() if row["Metadata_Readout"] == readout]
    first = min((row["Metadata_Timepoint"] for row in every), default=0)
    every = [row for row in every if row["Metadata_Timepoint"] == first]
    every.sort(key=_order)
    return TreatmentRows(tuple(every[:_SHOWN]), len(every), any(row["Plates"] > 1 for row in every))


def _order(row: Mapping[str, Any]) -> tuple[int, float]:
    """Controls first, as they stand; then by distance from the control, in robust z, else in per cent; none is last."""
    if str(row["Metadata_control_type"]).startswith(("negcon", "poscon")):
        return 0, 0.0
    z, percent = row["RobustZ_Median"], row["PercentOfControl_Median"]
    if z is not None:
        return 1, -abs(z)
    return (2, 0.0) if percent is None else (2, -abs(percent - 100))
