"""A run directory in, ``report.html`` out: one file that needs no other and asks the network for nothing.

It is made from the run's tables, its store and ``run.json`` alone, and holds no time of its own, so that equal runs
give equal bytes and a report can be made again at any time.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcs_nuclei.errors import OutputError
from hcs_nuclei.files import replace_file
from hcs_nuclei.outputs import report_heatmap, report_histogram, report_statistics
from hcs_nuclei.outputs.calls import Judged, intensity_features, read_judged
from hcs_nuclei.outputs.page import render_page
from hcs_nuclei.outputs.provenance import RunRecord, read_record
from hcs_nuclei.outputs.reading import find_runs, read_fields
from hcs_nuclei.outputs.report_columns import FEW_NUCLEI, WellColumns, well_columns_of
from hcs_nuclei.outputs.report_gallery import Exposure, Gallery, make_gallery
from hcs_nuclei.outputs.report_heatmap import PlateMap
from hcs_nuclei.outputs.report_nuclei import AREA, DNA, Counted, Sheet, make_sheets, read_counted
from hcs_nuclei.outputs.report_pictures import PORTRAIT_WHITE, Look, look_at, portrait_width
from hcs_nuclei.outputs.report_statistics import Statistics
from hcs_nuclei.outputs.report_summary import Summary, summarise

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_INTEGRATED = "Nuclei_Intensity_IntegratedIntensity_"
#: The page's script, in one scope.
_SCRIPTS = ("report.js", "report_plate.js", "report_pictures.js", "report_plots.js")


@dataclasses.dataclass(frozen=True)
class Run:
    """What a report is made of: `wells` is sorted by time point and place, `record` is None where there is none."""

    directory: Path
    wells: pa.Table
    fields: pd.DataFrame
    record: RunRecord | None
    summary: Summary
    columns: WellColumns
    map: PlateMap
    statistics: Statistics


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` of a finished run and return its path; a report that would be the same is not touched.

    Reads the images of a few fields at a time.

    Raises:
        OutputError: `run_dir` is no run, or one that was not finished.
        RunConflictError: its ``run.json`` or ``calls.json`` was written by another version.
        OSError: the report cannot be written; a former one is then as it was.
    """
    run = read_run(run_dir)
    judged = read_judged(run_dir)
    measured = run.record.measured if run.record else None
    integrated = intensity_features(measured)[1] if measured else _INTEGRATED + _first_channel(run.wells)
    pixel_size, controls = run.summary.pixel_size_um, dict(zip(run.map.wells, run.map.controls, strict=True))
    counted = read_counted(run_dir, judged, integrated, controls)
    store, diameter = run_dir / "plate.ome.zarr", counted.diameter_px
    gallery = make_gallery(store, run.fields, controls, diameter, pixel_size)
    firsts = [exposures[0].shot for exposures in gallery.exposures.values()]
    single = look_at(store, firsts, diameter, pixel_size, PORTRAIT_WHITE)
    sheets = make_sheets(single, counted, run.summary.plate) if firsts else ()
    page = _render(
        run=run,
        summary=dataclasses.replace(run.summary, warnings=_in_labels(run)),
        record=run.record,
        settings=run.record.settings.to_yaml() if run.record else "",
        map=run.map,
        columns=run.columns,
        first=run.columns.columns[0],
        shown=_first_shown(run),
        statistics=run.statistics,
        names={**report_statistics.SEPARATIONS, **report_statistics.EFFECTS},
        labels={column.name: column.label for column in run.columns.columns},
        data=_data(run, gallery),
        values=run.columns.packed(),
        histograms=_histograms(counted, pixel_size),
        no_dna=_no_dna(judged),
        gallery=gallery,
        gallery_note=_gallery_note(run, gallery),
        sheets=sheets,
        nuclei_note=_nuclei_note(single, _nuclear(run)),
    )
    path = run_dir / "report.html"
    replace_file(path, page.encode())
    return path


def read_run(run_dir: Path, *, in_pixels: bool = False) -> Run:
    """What a run's tables say; lengths and areas in µm where the size of a pixel is known, unless `in_pixels`.

    Raises:
        OutputError: `run_dir` is no run, or one that was not finished.
        RunConflictError: its ``run.json`` was written by another version.
    """
    import pyarrow.parquet as pq

    if find_runs(run_dir) != [run_dir]:
        raise OutputError(f"{run_dir} is a directory of runs; expected one run, such as {find_runs(run_dir)[0]}.")
    fields, record = read_fields(run_dir), read_record(run_dir)
    wells = pq.read_table(run_dir / "wells.parquet")
    wells = wells.sort_by([(f"Metadata_{name}", "ascending") for name in ("Timepoint", "Row", "Column")])
    named = [name for name in ("Metadata_Well", "status", FEW_NUCLEI) if name in wells.column_names]
    summary = summarise(wells.select(named).to_pandas(), fields, record)
    columns = well_columns_of(wells, _readouts(wells, record), None if in_pixels else summary.pixel_size_um)
    return Run(
        run_dir,
        wells,
        fields,
        record,
        summary,
        columns,
        report_heatmap.plate_map(wells, summary.wells_in_format),
        report_statistics.read_statistics(run_dir, wells, columns),
    )


def _in_labels(run: Run) -> tuple[str, ...]:
    """The run's warnings, with readouts and effects called as everywhere on the page."""
    labels = {name.removeprefix("Metadata_"): run.columns.named(name) for name in run.statistics.readouts}
    words = {name: column.label for name, column in labels.items() if column} | report_statistics.EFFECTS
    names = re.compile(r"\b(?:" + "|".join(map(re.escape, words)) + r")\b")
    return tuple(names.sub(lambda found: words[found[0]], warning) for warning in run.summary.warnings)


def _readouts(wells: pa.Table, record: RunRecord | None) -> list[str]:
    """Columns of the well table that are listed first: area, DNA, and the recipe's readouts."""
    nuclear = record.measured.nuclear if record else _first_channel(wells)
    names = [f"Median_{AREA}", f"Median_{_INTEGRATED}{nuclear}"]
    if record:
        names += [name.replace("<nuclear>", nuclear) for name in record.settings.statistics.readouts]
    return list(dict.fromkeys(names))


def _first_channel(wells: pa.Table) -> str:
    start = f"Median_{_INTEGRATED}"
    return next((name.removeprefix(start) for name in wells.column_names if name.startswith(start)), "")


def _histograms(counted: Counted, pixel_size_um: float | None) -> list[report_histogram.Histogram]:
    area_unit, factor = ("px²", 1.0) if pixel_size_um is None else ("µm²", pixel_size_um**2)
    stain = counted.by_kind(counted.stain)
    if counted.stain == DNA:
        found = report_histogram.dna_histogram(stain)
    else:
        channel = counted.stain.rpartition("Intensity_")[2].rpartition("Subtracted_")[2]
        subtracted = ", background subtracted" * ("BackgroundSubtracted" in counted.stain)
        found = report_histogram.histogram(f"Integrated {channel}{subtracted}", "counts", stain)
    areas = {kind: values * factor for kind, values in counted.by_kind(AREA).items()}
    area = report_histogram.histogram("Nuclear area", area_unit, areas)
    return [drawn for drawn in (found, area) if drawn is not None]


def _no_dna(judged: Judged | None) -> str:
    """Why DNA content is not told; empty where it is, or where the run has no calls."""
    return judged.calls.dna.reason if judged else ""


def _first_shown(run: Run) -> dict[str, Any]:
    """The plate map as it stands before the script runs: the first column at the first time point."""
    column, excluded = run.columns.columns[0], {"failed"}
    limits = report_heatmap.robust_limits(column.values, amount=column.amount)
    values = [None if np.isnan(v) else float(v) for v in column.values[0]]
    fills = report_heatmap.colours(column.values[0], limits, run.map.palette)
    texts = [
        "" if state in excluded else report_heatmap.compact(v)
        for v, state in zip(values, run.map.states[0], strict=True)
    ]
    dark = [colour is not None and report_heatmap.is_light(colour) for colour in fills]
    said = [f"{column.label}: {report_heatmap.number(v)} {column.unit}" if v is not None else "" for v in values]
    return {"fills": fills, "texts": texts, "dark": dark, "said": said}


def _data(run: Run, gallery: Gallery) -> dict[str, Any]:
    """What the page's script needs beside values and pictures, as plain data."""
    wells = run.wells.slice(0, len(run.map.wells))
    treatments = ("Metadata_Compound", "Metadata_Concentration", "Metadata_Concentration_unit")
    known = [name for name in treatments if name in wells.column_names]
    statistics = run.statistics
    return {
        "wells": run.map.wells,
        "places": [(cell.row, cell.column) for cell in run.map.cells if cell.index is not None],
        "timepoints": run.summary.timepoints,
        "states": run.map.states,
        "words": run.map.words,
        "controls": run.map.controls,
        "reagents": report_statistics.reagents_of(wells),
        "treatments": {name: wells[name].to_pylist() for name in known},
        "palettes": {"one": run.map.palette, "two": run.map.diverging},
        "robust": {"from": report_heatmap.ROBUST_FROM, "percentiles": report_heatmap.ROBUST_PERCENTILES},
        "columns": [column.about() for column in run.columns.columns],
        "readouts": statistics.readouts,
        "separations": report_statistics.SEPARATIONS,
        "controlRows": _plain(statistics.controls),
        "curves": _plain(statistics.curves),
        "pictured": _shown_channel(run, gallery),
        "choices": [
            {"title": choice.title, "why": choice.why, "shots": [[s.well, s.field, words] for s, words in choice.shots]}
            for choice in gallery.choices
        ],
    }


def _plain(rows: tuple[Mapping[str, Any], ...]) -> list[dict[str, Any]]:
    """Rows without NaN, which JSON does not have."""
    return [{name: None if value != value else value for name, value in row.items()} for row in rows]


def _gallery_note(run: Run, gallery: Gallery) -> str:
    """What the pictures show, in words."""
    if not gallery.exposures:
        return "No picture: no field was measured, or the run directory holds no images."
    which = "one field of each well, its first measured one"
    if gallery.fields > 1:
        which = f"up to {gallery.fields} fields of each well, its first measured ones"
    when = ", at the first time point" if len(run.summary.timepoints) > 1 else ""
    parts = [f"The nuclear channel alone, {_nuclear(run)}", which + when]
    if run.record and not run.record.settings.output.image:
        parts[0] = (
            f"Outlines of the nuclei alone: their channel, {_nuclear(run)}, was not written (output.image is off)"
        )
    else:
        parts.append(f"one contrast for the whole plate, {_contrast((gallery.black, gallery.white))}")
    parts.append("outlines are drawn from the label images")
    return "; ".join(parts) + "."


def _shown_channel(run: Run, gallery: Gallery) -> str:
    """What stands below an enlarged picture: which channel it shows, and with which contrast."""
    if not gallery.exposures or (run.record and not run.record.settings.output.image):
        return ""
    return f"{_nuclear(run)}, the nuclear channel alone: {_contrast((gallery.black, gallery.white))}."


def _nuclear(run: Run) -> str:
    """The nuclear channel's name, as the plate has it."""
    if run.record is None:
        return _first_channel(run.wells)
    return next(channel.name for channel in run.record.channels if channel.nuclear)


def _contrast(limits: tuple[float, float]) -> str:
    black, white = map(report_heatmap.number, limits)
    return f"black at {black}, white at {white} camera counts"


def _nuclei_note(look: Look, channel: str) -> str:
    """What the pictures of single nuclei show, in words."""
    width = portrait_width(look)
    wide = f"{width} px" if look.pixel_size_um is None else f"{report_heatmap.number(width * look.pixel_size_um)} µm"
    return (
        f"Nuclei that count, drawn by lot, in the nuclear channel alone, {channel}. Each picture is {wide} wide. One "
        "contrast for all of them, darker than the gallery's, so that the brightest nuclei show their texture: "
        f"{_contrast(look.contrast)}."
    )


def _kind(control: str) -> str:
    """The class of a kind of wells in drawings."""
    return next((name for name in ("negcon", "poscon") if control.startswith(name)), "others")


def _pictures(exposures: Sequence[Exposure]) -> str:
    """A well's pictures as JSON: base64, numbers and a length in µm, none of which can end a script element."""
    fields = [{**dataclasses.asdict(e), "shot": e.shot.field, "time": e.shot.timepoint} for e in exposures]
    return json.dumps(fields, separators=(",", ":"))


def _portraits(sheet: Sheet) -> str:
    """For each kind of a sheet its portraits as JSON, without anything that can end a script element."""
    kinds = [
        [[p.shot.well, p.shot.field, p.words, dataclasses.asdict(p.picture)] for p in k.portraits] for k in sheet.kinds
    ]
    return json.dumps(kinds, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _render(**values: Any) -> str:
    here = Path(__file__).parent
    return render_page(
        "outputs",
        "report.html",
        css=(here / "report.css").read_text(encoding="utf-8"),
        js="\n".join((here / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        filters={"number": report_heatmap.number, "kind": _kind, "pictures": _pictures, "portraits": _portraits},
        histogram_size=(report_histogram.WIDTH, report_histogram.HEIGHT),
        **values,
    )
