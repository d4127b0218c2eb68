"""A finished run in, pictures for slides out: the plate, the controls and the curves of its primary readout, as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcs_nuclei.files import replace_file
from hcs_nuclei.outputs import report_heatmap
from hcs_nuclei.outputs.report import Run, read_run
from hcs_nuclei.outputs.report_columns import WellColumn
from hcs_nuclei.outputs.report_statistics import reagents_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: A slide is 16:9; at this width its text is read from the back of a room.
_SIZE, _DPI = (10.0, 5.625), 160
_KINDS = {"negcon": "#10151c", "poscon": "#d6117e", "others": "#31688e"}
#: How wells are drawn whose value is none, or is not to be read.
_HATCHES = {"failed": ("////", "#a3283a"), "excluded": ("xx", "#5b6472")}
_CURVES_ON_A_SLIDE = 12


def write_figures(run_dir: Path, folder: Path) -> list[Path]:
    """Write the figures of a run into `folder`, which is made where it is not there, and return their paths.

    ``<run>-plate.png`` always; ``<run>-controls.png`` and ``<run>-dose-response-1.png`` … where the run has controls
    and doses. Shown is the recipe's first readout (else the density, else the nuclei per field) at the first time
    point.

    Raises:
        OutputError: `run_dir` is no run, or one that was not finished.
        RunConflictError: its ``run.json`` was written by another version.
        OSError: a figure cannot be written.
    """
    run = read_run(run_dir)
    readouts = [column for name in run.statistics.readouts if (column := run.columns.named(name))]
    column = readouts[0] if readouts else run.columns.columns[0]
    figures = {"plate": _plate(run, column)}
    if run.statistics.controls and not run.statistics.no_controls:
        figures["controls"] = _controls(run, column)
    first = run.summary.timepoints[0]
    curves = [
        curve
        for curve in run.statistics.curves
        if curve["Metadata_Readout"] == column.name and curve["Metadata_Timepoint"] == first
    ]
    for start in range(0, len(curves), _CURVES_ON_A_SLIDE):
        slide = f"dose-response-{start // _CURVES_ON_A_SLIDE + 1}"
        figures[slide] = _curves(run, column, curves[start : start + _CURVES_ON_A_SLIDE])
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        path = folder / f"{run_dir.name}-{name}.png"
        buffer = io.BytesIO()
        # Without the library's version, so that equal runs give equal files.
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        replace_file(path, buffer.getvalue())
        written.append(path)
    return written


def _figure(title: str) -> Figure:
    """A figure that no window shows; pyplot would keep it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    figure.suptitle(title, fontsize=15, fontweight="bold", x=0.01, ha="left", parse_math=False)
    return figure


def _title(run: Run, what: str) -> str:
    times = run.summary.timepoints
    when = f"time point {times[0]} of {len(times)}" if len(times) > 1 else ""
    return " · ".join(part for part in (run.summary.plate, run.summary.acquisition, what, when) if part)


def _axis(column: WellColumn) -> str:
    return f"{column.label} ({column.unit})" if column.unit else column.label


def _plate(run: Run, column: WellColumn) -> Figure:
    """The plate map: controls outlined, wells that were not measured hatched, those that do not count crossed."""
    from matplotlib.patches import Rectangle

    values = np.full((len(run.map.rows), run.map.columns), np.nan)
    figure = _figure(_title(run, column.label))
    axes = figure.add_subplot()
    low, high = report_heatmap.robust_limits(column.values, amount=column.amount)
    wide = 2.2 * min(1, 96 / run.summary.wells_in_format)
    for cell in run.map.cells:
        if cell.index is None:
            continue
        corner, kind = (cell.column - 0.5, cell.row - 0.5), run.map.controls[cell.index][:6]
        state = run.map.states[0][cell.index]
        if state != "excluded":
            values[cell.row - 1, cell.column - 1] = column.values[0, cell.index]
        if state in _HATCHES:
            hatch, colour = _HATCHES[state]
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch=hatch, edgecolor=colour, linewidth=0))
        if kind in _KINDS:
            inside = (corner[0] + 0.06, corner[1] + 0.06)
            axes.add_patch(
                Rectangle(inside, 0.88, 0.88, fill=False, edgecolor=_KINDS[kind], linewidth=max(wide, 0.8), zorder=3)
            )
    extent = (0.5, run.map.columns + 0.5, len(run.map.rows) + 0.5, 0.5)
    image = axes.imshow(values, vmin=low, vmax=high or 1, cmap="viridis", extent=extent)
    step = 1 if run.map.columns <= 24 else 2
    axes.set_xticks(range(1, run.map.columns + 1, step))
    axes.set_yticks(range(1, len(run.map.rows) + 1, step), labels=run.map.rows[::step])
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=10)
    known = column.values[0][np.isfinite(column.values[0])]
    beyond = bool(known.size and known.min() < low), bool(known.size and known.max() > high)
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    figure.colorbar(image, ax=axes, label=_axis(column), extend=extend)
    marks = "outlined: negative (black), positive (pink) controls; hatched: not measured; crossed: does not count"
    axes.set_xlabel(marks, fontsize=9)
    return figure


def _controls(run: Run, column: WellColumn) -> Figure:
    """Wells by kind, and what is told of the controls beside them."""
    figure = _figure(_title(run, "controls"))
    axes = figure.add_subplot()
    values = run.columns.in_statistics(column)[0]
    kinds = sorted({kind for kind in run.map.controls if kind.startswith(("negcon", "poscon"))})
    of_well = np.array([kind if kind in kinds else "other wells" for kind in run.map.controls])
    for place, kind in enumerate([*kinds, "other wells"]):
        here = values[(of_well == kind) & np.isfinite(values)]
        shaken = place + 0.5 * ((np.arange(here.size) * 0.618034) % 1 - 0.5)
        axes.scatter(shaken, here, s=26, color=_KINDS.get(kind[:6], _KINDS["others"]), alpha=0.75, linewidths=0)
        if here.size:
            axes.plot([place - 0.32, place + 0.32], [np.median(here)] * 2, color="black", linewidth=2)
    axes.set_xticks(range(len(kinds) + 1), labels=[*kinds, "other wells"], fontsize=12, parse_math=False)
    axes.set_ylabel(_axis(column), fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    if column.amount:
        axes.set_ylim(bottom=0)
    first = run.summary.timepoints[0]
    rows = [
        row
        for row in run.statistics.controls
        if row["Metadata_Readout"] == column.name and row["Metadata_Timepoint"] == first
    ]
    words = [_separation(row) for row in rows if row["Metadata_Statistic"] in {"ZPrime", "RobustZPrime", "SSMD"}]
    axes.set_title("\n".join(words), fontsize=10, loc="left", parse_math=False)
    return figure


def _separation(row: Mapping[str, Any]) -> str:
    names = {"ZPrime": "Z′", "RobustZPrime": "Robust Z′", "SSMD": "SSMD"}
    return f"{names[row['Metadata_Statistic']]}, {row['Metadata_Control']}: {row['Words']}"


def _curves(run: Run, column: WellColumn, curves: Sequence[Mapping[str, Any]]) -> Figure:
    across = min(4, len(curves)) if len(curves) > 1 else 1
    figure = _figure(_title(run, f"{column.label} by dose"))
    grid = figure.subplots(math.ceil(len(curves) / across), across, squeeze=False)
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    for curve, axes in zip(curves, grid.flat, strict=False):
        _curve(run, column, curve, axes)
    return figure


def _curve(run: Run, column: WellColumn, curve: Mapping[str, Any], axes: Axes) -> None:
    """Wells, the fitted curve and the IC50 with its interval."""
    from matplotlib.ticker import NullFormatter

    kind = "PercentInhibition" if curve["Scale"] == "percent_inhibition" else "PercentOfControl"
    of_scale = run.columns.named(f"{kind}_{column.name.removeprefix('Metadata_')}")
    wells = run.wells.slice(0, len(run.map.wells))
    doses = np.array([_dose(v) for v in wells["Metadata_Concentration"].to_pylist()])
    same = np.array([reagent == curve["Metadata_Compound"] for reagent in reagents_of(wells)])
    chosen = same & (doses > 0) & ~np.array([kind.startswith("negcon") for kind in run.map.controls])
    if of_scale is not None:
        axes.scatter(doses[chosen], of_scale.values[0][chosen], s=16, color=_KINDS["others"], linewidths=0, zorder=3)
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    if curve["Log10Middle"] is not None:
        logs = np.linspace(np.log10(curve["LowestDose"]) - 0.15, np.log10(curve["HighestDose"]) + 0.15, 200)
        rise = 1 / (1 + 10 ** (curve["HillSlope"] * (curve["Log10Middle"] - logs)))
        axes.plot(10**logs, curve["Start"] + (curve["End"] - curve["Start"]) * rise, color="black", linewidth=1.4)
    unit = (curve["Metadata_Concentration_unit"] or "").replace("uM", "µM")
    said = curve["Outcome"]
    if curve["RelativeIC50_Relation"]:
        said = f"IC50 {curve['RelativeIC50_Relation']} {report_heatmap.number(curve['RelativeIC50'])} {unit}"
        low, high = curve["RelativeIC50_Low"], curve["RelativeIC50_High"]
        if low is not None and high is not None:
            said += f" ({report_heatmap.number(low)} to {report_heatmap.number(high)})"
            axes.axvspan(low, high, color=_KINDS["others"], alpha=0.18, linewidth=0)
    axes.set_title(f"{curve['Metadata_Compound'] or 'wells'}\n{said}", fontsize=9, loc="left", parse_math=False)
    axes.set_ylabel("% inhibition" if kind == "PercentInhibition" else "% of control", fontsize=8)
    axes.set_xlabel(unit, fontsize=8)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _dose(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
