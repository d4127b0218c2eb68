"""A finished run in, what Prefect's UI shows of it out: a summary with the plate's picture, tables, the provenance."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow.parquet as pq
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.display import artifact_key, faults_in_words, shown
from flows.plate_picture import plate_picture
from hcs_nuclei.errors import listed
from hcs_nuclei.outputs.provenance import RUN_FILE, RunRecord, read_record
from hcs_nuclei.outputs.reading import read_fields, read_wells
from hcs_nuclei.pipeline import RunResult

if TYPE_CHECKING:
    import pandas as pd

#: Where the directory of runs is found by browsers, which follow no link from a web page to a file.
RUNS_URL = "HCS_NUCLEI_RUNS_URL"
_MOST_WELLS = 384
_MOST_FAULTS = 1000
_VERSIONS = ("tensorflow", "keras", "numpy", "scikit-image")


def show_result(result: RunResult) -> None:
    """Make the artifacts of a finished run: summary, faults (where there are any), wells (up to 384), provenance."""
    shown(lambda: _show_summary(result))
    shown(lambda: _show_faults(result))
    shown(lambda: _show_wells(result))
    shown(lambda: _show_provenance(result))


def result_line(result: RunResult) -> str:
    """One line for people: how a finished run went."""
    wells = dict.fromkeys(fault.partition(" ")[0] for fault in result.faults)
    faults = f"; {faults_in_words(len(result.faults))} in {listed(wells)}" if result.faults else ""
    return f"Plate {result.plate}: {_counts(result.wells_by_status)} wells; {result.nuclei:,} nuclei{faults}"


def report_link(run_dir: Path) -> str:
    """The address of the report: below ``HCS_NUCLEI_RUNS_URL`` where that says where runs are served, else a file's."""
    base = os.environ.get(RUNS_URL, "").rstrip("/")
    report = run_dir.resolve() / "report.html"
    return f"{base}/{quote(run_dir.name)}/{report.name}" if base else report.as_uri()


def _show_summary(result: RunResult) -> None:
    link = f"(<{report_link(result.run_dir)}>)"
    rows = {
        "Wells": f"{_counts(result.wells_by_status)}; {result.made} processed now, {result.kept} kept",
        "Fields": _counts(result.fields_by_status),
        "Nuclei": f"{result.nuclei:,}",
        "Exit status": str(result.exit_status),
        "Report": f"[report.html]{link}",
        "Directory": f"`{result.run_dir.resolve()}`",
    }
    lines = _table("Plate", _plain(result.plate), rows)
    record, wells = read_record(result.run_dir), result.run_dir / "wells.parquet"
    if record is not None and wells.exists():
        picture = plate_picture(pq.read_table(wells), record.source.wells_in_format)
        lines += [
            "",
            "## Nuclei in every well",
            "",
            f"![Nuclei in every well of plate {_plain(result.plate)}]({picture})",
        ]
    if result.warnings:
        lines += ["", "## Warnings", "", *(f"- {_plain(warning)}" for warning in result.warnings)]
    create_markdown_artifact(
        "\n".join(lines),
        key=artifact_key(result.plate, "summary"),
        # First the link: a card shows one line.
        description=f"[Report]{link} of {_plain(result_line(result))}",
    )


def _show_faults(result: RunResult) -> None:
    if not result.faults:
        return
    fields = read_fields(result.run_dir)
    rows = [
        {**place, "Field": row["Metadata_Field"], "Status": row["status"], "Reason": row["error"]}
        for place, row in _rows(fields[fields["status"] != "ok"])
    ]
    first = f" (the first {_MOST_FAULTS} of {len(rows)})" if len(rows) > _MOST_FAULTS else ""
    create_table_artifact(
        rows[:_MOST_FAULTS],
        key=artifact_key(result.plate, "faults"),
        description=f"Plate {_plain(result.plate)}: fields that are not ok, and why{first}",
    )


def _show_wells(result: RunResult) -> None:
    wells = read_wells(result.run_dir)
    if len(wells) > _MOST_WELLS:
        return
    rows = [
        {
            **place,
            "Status": row["status"],
            "Fields": f"{row['Metadata_Site_Count']} of {row['Metadata_Site_Count_Expected']}",
            # A column with a well that was not measured reaches pandas as floats with NaN.
            "Nuclei": None if row["status"] == "failed" else int(row["Metadata_Object_Count"]),
        }
        for place, row in _rows(wells)
    ]
    create_table_artifact(
        rows, key=artifact_key(result.plate, "wells"), description=f"Plate {_plain(result.plate)}: nuclei in every well"
    )


def _show_provenance(result: RunResult) -> None:
    record = read_record(result.run_dir)
    if record is None:
        return
    lines = _table("Plate", _plain(result.plate), {name: _plain(text) for name, text in _provenance(record).items()})
    lines += ["", f"All of it, with every setting, is in `{result.run_dir.resolve() / RUN_FILE}`."]
    create_markdown_artifact(
        "\n".join(lines),
        key=artifact_key(result.plate, "provenance"),
        description=f"Made with model {_plain(record.model.name)} by hcs-nuclei {record.hcs_nuclei_version}",
    )


def _provenance(record: RunRecord) -> dict[str, str]:
    """What a run was made from and with, name by name, in words."""
    calibration = record.calibration
    diameter = f"{calibration.diameter_px:.1f} px" if calibration.diameter_px else "not known"
    light = calibration.illumination.method if calibration.illumination else "off"
    channels = (f"{c.name} ({c.token}{', nuclei' if c.nuclear else ''})" for c in record.channels)
    changed = record.settings.model_dump(mode="json", exclude_defaults=True)
    versions = (f"{name} {record.versions[name]}" for name in _VERSIONS if name in record.versions)
    return {
        "Images": record.source.directory,
        "Format": f"{record.source.vendor}: {record.source.reason}",
        "Acquisition": record.acquisition,
        "Channels": ", ".join(channels),
        "Model": f"{record.model.name} ({record.model.identifier}), {record.model.architecture}",
        "Model's sha256": record.model.sha256,
        "Nucleus diameter": f"{diameter} (from {calibration.diameter_from})",
        "Illumination": light,
        "Layout": record.layout.source if record.layout else "none",
        "Settings that were changed": ", ".join(f"{k}: {v}" for k, v in changed.items()) or "none",
        "Settings' fingerprint": record.settings_fingerprint,
        "Begun, finished (UTC)": f"{record.started}, {record.finished or 'not yet'}",
        "Software": f"hcs-nuclei {record.hcs_nuclei_version}; {', '.join(versions)}",
    }


def _table(name: str, value: str, rows: dict[str, str]) -> list[str]:
    return [f"| {name} | {value} |", "|---|---|", *(f"| {key} | {text} |" for key, text in rows.items() if text)]


def _plain(text: str) -> str:
    """A text of somebody else's in Markdown, as it is: one line, without links, pictures, emphasis or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>|#!~])", r"\\\1", " ".join(text.split()))


def _rows(frame: pd.DataFrame) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Where each row of a table is, the time point only where there are several, and the row."""
    several = frame["Metadata_Timepoint"].nunique() > 1
    for row in frame.to_dict("records"):
        yield {"Well": row["Metadata_Well"], **({"Time point": row["Metadata_Timepoint"]} if several else {})}, row


def _counts(by_status: dict[str, int]) -> str:
    """``94 ok, 2 failed``."""
    statuses = sorted(by_status, key=lambda status: (status != "ok", status))
    return ", ".join(f"{by_status[status]} {status}" for status in statuses) or "0"
