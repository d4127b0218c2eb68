"""Progress and results in, what Prefect's UI shows out: a progress bar, few log lines, tables and a summary.

All of it is made in the flow's process. What cannot be shown is logged and costs nothing else: the plate goes on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.logging import get_run_logger

from hcs_nuclei.errors import listed
from hcs_nuclei.outputs.provenance import read_record
from hcs_nuclei.outputs.reading import read_fields, read_wells
from hcs_nuclei.pipeline import Progress, RunResult

if TYPE_CHECKING:
    import pandas as pd

#: The UI asks for artifacts every few seconds; each update is a request to the server.
_PROGRESS_EVERY_S = 3.0
_LOG_EVERY_S = 15.0
#: While the server does not answer, a plate must not wait for it at every well.
_RETRY_AFTER_S = 60.0
_STAGES = {"prepare": "prepared", "calibrate": "calibrated", "finish": "tables and report follow"}
_MOST_WELLS = 384
_MOST_FAULTS = 1000


class ProgressDisplay:
    """Follows one run, in the thread of its flow: call it with each `Progress`; it passes them on to `also`."""

    def __init__(self, also: Callable[[Progress], None]) -> None:
        self._also = also
        self._artifact: UUID | None = None
        self._faults = 0
        self._next_update = self._next_line = 0.0

    def __call__(self, progress: Progress) -> None:
        self._also(progress)
        if progress.remark:
            get_run_logger().warning("%s", progress.remark)
            return
        self._log(progress)
        now = time.monotonic()
        if now >= self._next_update or progress.stage == "finish":
            answered = shown(lambda: self._update(progress))
            self._next_update = now + (_PROGRESS_EVERY_S if answered else _RETRY_AFTER_S)

    def _log(self, progress: Progress) -> None:
        logger, now = get_run_logger(), time.monotonic()
        if progress.faults > self._faults:
            new, self._faults = progress.faults - self._faults, progress.faults
            logger.warning("Well %s: %s", progress.well, _faults(new))
        last = progress.stage == "wells" and progress.done == progress.total
        if progress.stage != "wells" or last or now >= self._next_line:
            self._next_line = now + _LOG_EVERY_S
            logger.info("%s", in_words(progress))

    def _update(self, progress: Progress) -> None:
        percent = 100.0 * progress.done / max(progress.total, 1)
        if self._artifact is None:
            key = artifact_key(progress.plate, "progress")
            self._artifact = cast(UUID, create_progress_artifact(percent, key=key, description=in_words(progress)))
        else:
            update_progress_artifact(self._artifact, percent, description=in_words(progress))


def in_words(progress: Progress) -> str:
    """One line for people: ``Plate P12: 40 of 96 wells, last C04; 8,112 nuclei``."""
    line = f"Plate {progress.plate}: {progress.done} of {progress.total} wells"
    if progress.stage != "wells":
        return f"{line} done; {_STAGES[progress.stage]}"
    faults = f"; {_faults(progress.faults)}" if progress.faults else ""
    return f"{line}, last {progress.well}; {progress.nuclei:,} nuclei{faults}"


def show_result(result: RunResult) -> None:
    """Make the artifacts of a finished run: summary, faults (where there are any), wells (up to 384)."""
    shown(lambda: _show_summary(result))
    shown(lambda: _show_faults(result))
    shown(lambda: _show_wells(result))


def artifact_key(plate: str, what: str) -> str:
    """A key that Prefect accepts (a-z, 0-9, dashes); runs of one plate are versions of one artifact."""
    return re.sub(r"[^a-z0-9]+", "-", f"{plate}-{what}".lower()).strip("-")


def _show_summary(result: RunResult) -> None:
    record = read_record(result.run_dir)
    run_dir = result.run_dir.resolve()
    rows = {
        "Wells": f"{_counts(result.wells_by_status)}; {result.made} processed now, {result.kept} kept",
        "Fields": _counts(result.fields_by_status),
        "Nuclei": f"{result.nuclei:,}",
        "Model": f"{record.model.name} ({record.model.identifier})" if record else "",
        "Exit status": str(result.exit_status),
        "Report": f"[{run_dir / 'report.html'}]({(run_dir / 'report.html').as_uri()})",
    }
    lines = [f"| Plate | {result.plate} |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    if result.warnings:
        lines += ["", "## Warnings", "", *(f"- {warning}" for warning in result.warnings)]
    create_markdown_artifact(
        "\n".join(lines), key=artifact_key(result.plate, "summary"), description=result_line(result)
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
        description=f"Plate {result.plate}: fields that are not ok, and why{first}",
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
        rows, key=artifact_key(result.plate, "wells"), description=f"Plate {result.plate}: nuclei in every well"
    )


def result_line(result: RunResult) -> str:
    """One line for people: how a finished run went."""
    wells = dict.fromkeys(fault.partition(" ")[0] for fault in result.faults)
    faults = f"; {_faults(len(result.faults))} in {listed(wells)}" if result.faults else ""
    return f"Plate {result.plate}: {_counts(result.wells_by_status)} wells; {result.nuclei:,} nuclei{faults}"


def _rows(frame: pd.DataFrame) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Where each row of a table is, the time point only where there are several, and the row."""
    several = frame["Metadata_Timepoint"].nunique() > 1
    for row in frame.to_dict("records"):
        yield {"Well": row["Metadata_Well"], **({"Time point": row["Metadata_Timepoint"]} if several else {})}, row


def _faults(number: int) -> str:
    return f"{number} field{'s' if number != 1 else ''} with a fault"


def _counts(by_status: dict[str, int]) -> str:
    """``94 ok, 2 failed``."""
    statuses = sorted(by_status, key=lambda status: (status != "ok", status))
    return ", ".join(f"{by_status[status]} {status}" for status in statuses) or "0"


def shown(show: Callable[[], object]) -> bool:
    """Whether an artifact could be made or updated; what cannot be shown is logged."""
    try:
        show()
    except Exception as error:  # HTTP, Prefect's own tree, a table that is gone: a picture is never worth a plate
        get_run_logger().warning("An artifact could not be shown: %s", error)
        return False
    return True
