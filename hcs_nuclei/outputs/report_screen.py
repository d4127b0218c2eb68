"""Finished runs in, one page over all of them out: drift of readouts, Z′, faults, plate maps on one scale, treatments
summarised over the plates, links.

A readout is shown where any of the plates tells of it; a plate without one has a gap. All of it is there without the
page's script, which only sorts tables.
"""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from PIL import Image

from hcs_nuclei.errors import OutputError
from hcs_nuclei.files import replace_file
from hcs_nuclei.outputs import report_heatmap
from hcs_nuclei.outputs.page import render_page
from hcs_nuclei.outputs.report import read_run
from hcs_nuclei.outputs.report_columns import WellColumn
from hcs_nuclei.outputs.report_heatmap import PlateMap, colours, robust_limits
from hcs_nuclei.outputs.report_screen_charts import HEIGHT, LEFT, Chart, controls_chart, z_prime_chart
from hcs_nuclei.outputs.report_statistics import Statistics
from hcs_nuclei.outputs.report_summary import Summary
from hcs_nuclei.outputs.report_treatments import TreatmentRows, rows_of, summarised, treatments_file, write_treatments

if TYPE_CHECKING:
    import pyarrow as pa

#: What is shown where no plate has a layout.
_DENSITY, _PER_FIELD = "Metadata_Density_per_mm2", "Metadata_Object_Count_PerField"
#: Edge of a well in a small plate map, px, and what marks a control.
_WELL = 8
_NOTHING, _FAULT, _PAPER, _NEGCON, _POSCON = "#d8dce2", "#a3283a", "#ffffff", "#10151c", "#d6117e"
_CROSS = "#5b6472"


@dataclass(frozen=True)
class ScreenPlate:
    """One plate of a screen at its first time point: what is kept of it, and where its report lies from the page.

    `columns` are its readouts, `counted` of each the values (n,) of its wells, NaN where a well does not count for it.
    """

    summary: Summary
    statistics: Statistics
    map: PlateMap
    columns: Mapping[str, WellColumn]
    counted: Mapping[str, npt.NDArray[np.float64]]
    link: str

    @property
    def name(self) -> str:
        """The plate's, with its acquisition."""
        return " · ".join(part for part in (self.summary.plate, self.summary.acquisition) if part)

    def of_kind(self, readout: str, kind: str) -> npt.NDArray[np.float64]:
        """Values of the wells of a kind: ``negcon``, ``poscon``, or ``others``."""
        if readout not in self.columns:
            return np.zeros(0)
        kinds = ("negcon", "poscon")
        of_well = [next((k for k in kinds if control.startswith(k)), "others") for control in self.map.controls]
        values = self.counted[readout]
        return np.asarray(values[(np.array(of_well) == kind) & np.isfinite(values)])

    @property
    def several_times(self) -> bool:
        """Whether it has more than the time point that is shown."""
        return len(self.summary.timepoints) > 1

    def z_primes(self, readout: str) -> list[Mapping[str, Any]]:
        """The rows of its Z′ by a readout, one a positive control, at the first time point."""
        first = self.summary.timepoints[0]
        wanted = {"Metadata_Readout": readout, "Metadata_Statistic": "ZPrime", "Metadata_Timepoint": first}
        return [row for row in self.statistics.controls if all(row[name] == value for name, value in wanted.items())]


@dataclass(frozen=True)
class ScreenReadout:
    """One readout over all plates: `drift` and `z_prime` as drawn, a map of each plate on one scale, its treatments,
    and words.

    `z_prime` is None where no plate has one. `maps` are PNG images in base64, None of a plate that lacks the readout.
    """

    label: str
    unit: str
    words: str
    drift: Chart
    z_prime: Chart | None
    maps: tuple[str | None, ...]
    ticks: tuple[str, ...]
    treatments: TreatmentRows


def write_screen(runs: Sequence[Path], path: Path) -> Path:
    """Write the page of these runs, in their order, to `path`, and return it.

    Where a layout names negative controls, the treatments over all plates are written beside it as CSV.

    Raises:
        OutputError: `path` is a directory or lies in none; a run was not finished.
        RunConflictError: a run's ``run.json`` was written by another version.
        OSError: the page cannot be written.
    """
    if path.is_dir() or not path.parent.is_dir():
        found = "a directory" if path.is_dir() else f"in no directory: {path.parent} is not there"
        raise OutputError(
            f"--screen {path} is {found}; expected a file to write, such as {path.parent / 'screen.html'}."
        )
    plates = [_plate(run, path) for run in runs]
    if len({plate.summary.pixel_size_um is None for plate in plates}) > 1:
        # Of some plates the size of a pixel is not known: in px they can stand beside the others, in µm they cannot.
        plates = [_plate(run, path, in_pixels=True) for run in runs]
    readouts = list(dict.fromkeys(name for plate in plates for name in plate.statistics.readouts))
    if not readouts:
        readouts = [name for name in (_DENSITY, _PER_FIELD) if any(name in plate.columns for plate in plates)][:1]
    table = summarised(runs)
    here = Path(__file__)
    page = render_page(
        "outputs",
        "report_screen.html",
        css=here.with_name("report.css").read_text(encoding="utf-8"),
        js=here.with_name("report_screen.js").read_text(encoding="utf-8"),
        filters={"number": report_heatmap.number, "unit": _unit},
        plates=plates,
        readouts=[_readout(name, plates, table) for name in readouts],
        primary=readouts[0] if readouts else None,
        palette=plates[0].map.palette,
        left=LEFT,
        height=HEIGHT,
        treatments_file=treatments_file(path).name,
    )
    write_treatments(table, path)
    replace_file(path, page.encode())
    return path


def check_screen(path: Path) -> None:
    """Refuse a place that :func:`write_screen` could not write to, before the work that it is told of.

    Raises:
        OutputError: `path` is a directory or lies in none.
    """
    if path.is_dir() or not path.parent.is_dir():
        found = "a directory" if path.is_dir() else f"in no directory: {path.parent} is not there"
        raise OutputError(f"--screen {path} is {found}; expected a file to write, such as screen.html.")


def _plate(run_dir: Path, page: Path, *, in_pixels: bool = False) -> ScreenPlate:
    run = read_run(run_dir, in_pixels=in_pixels)
    wanted = {*run.statistics.readouts, _DENSITY, _PER_FIELD}
    columns = {column.name: column for column in run.columns.columns if column.name in wanted}
    counted = {name: run.columns.in_statistics(column)[0] for name, column in columns.items()}
    link = quote(Path(os.path.relpath(run_dir / "report.html", page.parent)).as_posix())
    return ScreenPlate(run.summary, run.statistics, run.map, columns, counted, link)


def _readout(name: str, plates: Sequence[ScreenPlate], table: pa.Table | None) -> ScreenReadout:
    column = next(plate.columns[name] for plate in plates if name in plate.columns)
    everything = [plate.columns[name].values[0] for plate in plates if name in plate.columns]
    limits = robust_limits(np.concatenate(everything), amount=column.amount)
    kinds = {kind: [plate.of_kind(name, kind) for plate in plates] for kind in ("negcon", "poscon", "others")}
    kinds = {kind: values for kind, values in kinds.items() if any(of_plate.size for of_plate in values)}
    names = [plate.name for plate in plates]
    z_primes = [plate.z_primes(name) for plate in plates]
    told = any(row["Value"] is not None for of_plate in z_primes for row in of_plate)
    return ScreenReadout(
        label=column.label,
        unit=column.unit,
        words=_words([plate.of_kind(name, "negcon") for plate in plates]),
        drift=controls_chart(names, kinds, from_zero=column.amount),
        z_prime=z_prime_chart(names, z_primes) if told else None,
        maps=tuple(_map(plate, name, limits) if name in plate.columns else None for plate in plates),
        ticks=tuple(report_heatmap.number(float(v)) for v in np.linspace(*limits, 5)),
        treatments=rows_of(table, name),
    )


def _words(controls: Sequence[npt.NDArray[np.float64]]) -> str:
    """How much the negative control's medians differ from plate to plate."""
    medians = [float(np.median(values)) for values in controls if values.size]
    if len(medians) < 2:
        return "" if medians else "No plate names a negative control, so drift is that of all wells."
    low, high = report_heatmap.number(min(medians)), report_heatmap.number(max(medians))
    middle = float(np.mean(medians))
    spread = f", a coefficient of variation of {100 * float(np.std(medians, ddof=1)) / middle:.1f} %" if middle else ""
    return f"Medians of the negative control go from {low} to {high} over {len(medians)} plates{spread}."


def _map(plate: ScreenPlate, readout: str, limits: tuple[float, float]) -> str:
    """The plate as a PNG in base64: controls outlined, wells that were not measured hatched, those that do not count
    crossed out, unexpected ones clear."""
    fills = colours(plate.columns[readout].values[0], limits, plate.map.palette)
    pixels = np.zeros((len(plate.map.rows) * _WELL, plate.map.columns * _WELL, 4), dtype=np.uint8)
    for cell in plate.map.cells:
        if cell.index is None:
            continue
        well = pixels[(cell.row - 1) * _WELL :, (cell.column - 1) * _WELL :][: _WELL - 1, : _WELL - 1]
        control = plate.map.controls[cell.index]
        if control.startswith(("negcon", "poscon")):
            well[:] = _rgba(_NEGCON if control.startswith("negcon") else _POSCON)
            well = well[1:-1, 1:-1]
        well[:] = _rgba(fills[cell.index] or _NOTHING)
        state, (y, x) = plate.map.states[0][cell.index], np.indices(well.shape[:2])
        if state == "failed":
            well[:] = _rgba(_PAPER)
            well[(x + y) % 4 < 2] = _rgba(_FAULT)
        elif state == "excluded":
            well[:] = _rgba(_PAPER)
            well[(x == y) | (x + y == well.shape[0] - 1)] = _rgba(_CROSS)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _unit(unit: str | None) -> str:
    """A layout's unit as it is read: layouts have no Greek, and uM is µM."""
    return re.sub(r"^u(?=[MLgm])", "µ", unit or "")


def _rgba(colour: str) -> tuple[int, int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16), 255
