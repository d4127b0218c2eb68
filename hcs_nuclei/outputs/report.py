"""A run directory in, ``report.html`` out: one file that needs no other and asks the network for nothing.

It is made from the run's tables, its store and ``run.json`` alone, and holds no time of its own, so that equal runs
give equal bytes and a report can be made again at any time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.errors import OutputError
from hcs_nuclei.outputs import report_gallery, report_heatmap, report_histogram
from hcs_nuclei.outputs.files import replace_file
from hcs_nuclei.outputs.page import csp_hash, page_templates
from hcs_nuclei.outputs.provenance import RunRecord, read_record
from hcs_nuclei.outputs.reading import find_runs, read_fields, read_wells
from hcs_nuclei.outputs.report_gallery import Gallery, Shot
from hcs_nuclei.outputs.report_summary import Summary, summarise
from hcs_nuclei.outputs.tables import well_table_path
from hcs_nuclei.plate import row_name

if TYPE_CHECKING:
    import pandas as pd

_AREA = "Nuclei_AreaShape_Area"
_INTEGRATED = "Nuclei_Intensity_IntegratedIntensity_"


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` of a finished run and return its path; a report that would be the same is not touched.

    Reads the images of one well at a time.

    Raises:
        OutputError: `run_dir` is no run, or one that was not finished.
        RunConflictError: its ``run.json`` was written by another version.
        OSError: the report cannot be written; a former one is then as it was.
    """
    if find_runs(run_dir) != [run_dir]:
        raise OutputError(f"{run_dir} is a directory of runs; expected one run, such as {find_runs(run_dir)[0]}.")
    wells, fields, record = read_wells(run_dir), read_fields(run_dir), read_record(run_dir)
    summary = summarise(wells, fields, record)
    intensity = _intensity(wells, record)
    areas, intensities = _nuclei(run_dir, wells, intensity[1] if intensity else None)
    shots = _shots(fields)
    gallery = report_gallery.make_gallery(run_dir / "plate.ome.zarr", shots, _diameter(areas), summary.pixel_size_um)
    plate_map = report_heatmap.plate_map(wells, summary.wells_in_format, summary.pixel_size_um, _median_of(intensity))
    area_unit, area_factor = ("px²", 1.0) if summary.pixel_size_um is None else ("µm²", summary.pixel_size_um**2)
    histograms = [report_histogram.histogram("Nuclear area", area_unit, areas * area_factor)]
    if intensity:
        label = f"Integrated {intensity[0]}"
        histograms.append(report_histogram.histogram(label, "camera counts", intensities))
    page = _render(
        summary=summary,
        record=record,
        settings=record.settings.to_yaml() if record else "",
        map=plate_map,
        data=plate_map.as_data(),
        histograms=[h for h in histograms if h is not None],
        gallery=gallery,
        gallery_rows=_gallery_rows(plate_map, gallery),
        gallery_note=_gallery_note(summary, gallery, record),
    )
    path = run_dir / "report.html"
    replace_file(path, page.encode())
    return path


def _intensity(wells: pd.DataFrame, record: RunRecord | None) -> tuple[str, str] | None:
    """(channel, column) of the nuclear channel's integrated intensity; without a record, of the first channel."""
    if record:
        for channel in record.channels:
            if channel.nuclear:
                return channel.name, _INTEGRATED + channel.column
    found = [name.removeprefix("Median_") for name in wells.columns if name.startswith("Median_" + _INTEGRATED)]
    return (found[0].removeprefix(_INTEGRATED), found[0]) if found else None


def _median_of(intensity: tuple[str, str] | None) -> tuple[str, str] | None:
    return (intensity[0], f"Median_{intensity[1]}") if intensity else None


def _nuclei(
    run_dir: Path, wells: pd.DataFrame, intensity: str | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Area (px²) and integrated intensity (counts; empty without a column) of whole nuclei, well by well."""
    import pyarrow.parquet as pq

    columns = [_AREA, *([intensity] if intensity else [])]
    parts: dict[str, list[npt.NDArray[np.float32]]] = {name: [np.zeros(0, np.float32)] for name in columns}
    for well in dict.fromkeys(wells["Metadata_Well"]):
        table = pq.read_table(well_table_path(run_dir, well), columns=[*columns, "Metadata_QC_TouchesEdge"])
        whole = ~table["Metadata_QC_TouchesEdge"].to_numpy().astype(bool)
        for name in columns:
            parts[name].append(table[name].to_numpy()[whole].astype(np.float32))
    areas, *rest = (np.concatenate(parts[name]) for name in columns)
    return areas, rest[0] if rest else np.zeros(0, np.float32)


def _diameter(areas: npt.NDArray[np.float32]) -> float | None:
    return float(np.sqrt(4 * np.median(areas) / np.pi)) if areas.size else None


def _shots(fields: pd.DataFrame) -> list[Shot]:
    """For each well its first measured field at its first measured time point, row-major."""
    measured = fields[fields["Metadata_Object_Count"].notna()]
    ordered = measured.sort_values(
        ["Metadata_Row", "Metadata_Column", "Metadata_Timepoint", "Metadata_Field"], kind="stable"
    )
    first = ordered.drop_duplicates("Metadata_Well")
    columns = (first[name] for name in ("Metadata_Well", "Metadata_Field", "Metadata_Timepoint"))
    return [Shot(str(well), int(field), int(timepoint)) for well, field, timepoint in zip(*columns, strict=True)]


def _gallery_rows(plate_map: report_heatmap.PlateMap, gallery: Gallery) -> list[dict[str, Any]]:
    """The expected wells of each row of the plate that has any, each with its picture."""
    expected = [cell for cell in plate_map.cells if cell.index is not None]
    first = min(cell.column for cell in expected)
    rows: dict[int, list[dict[str, Any]]] = {}
    for cell in expected:
        rows.setdefault(cell.row, []).append(
            {
                "well": cell.name,
                "index": cell.index,
                "place": cell.column - first + 1,
                "exposure": gallery.exposures.get(cell.name),
            }
        )
    return [{"name": row_name(row), "wells": wells} for row, wells in rows.items()]


def _gallery_note(summary: Summary, gallery: Gallery, record: RunRecord | None) -> str:
    """What the pictures show, in words."""
    if not gallery.exposures:
        return "No picture: no field was measured, or the run directory holds no images."
    parts = ["One field of each well, its first measured one"]
    if len(summary.timepoints) > 1:
        parts[0] += ", at the first time point"
    if record and not record.settings.output.image:
        parts.append("outlines alone: the nuclear channel was not written (output.image is off)")
    else:
        black, white = report_heatmap.number(gallery.black), report_heatmap.number(gallery.white)
        parts.append(f"one contrast for the whole plate, black at {black} and white at {white} camera counts")
    parts.append("outlines are drawn from the label images")
    return "; ".join(parts) + "."


def _render(**values: Any) -> str:
    environment = page_templates("outputs")
    environment.filters["number"] = report_heatmap.number
    # The page's policy lets these two run and style, by their hashes, and nothing that a plate's name might smuggle in.
    css, js = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return environment.get_template("report.html").render(
        **values,
        css=css,
        js=js,
        css_hash=csp_hash(css),
        js_hash=csp_hash(js),
        histogram_size=(report_histogram.WIDTH, report_histogram.HEIGHT),
    )
