"""``benchmark``: how long each stage takes on this machine, on a plate that is simulated first."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcs_nuclei.cli.arguments import JsonOption, check_json, write_json

if TYPE_CHECKING:
    from hcs_nuclei.pipeline import RunResult

#: Of a 96-well plate; what is more becomes further fields of each well.
_MOST_WELLS = 96
_OF_RUN = ("prepare", "cluster", "calibrate", "wells", "finish")
_OF_WORKER = "worker "


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(benchmark)


def benchmark(
    fields: Annotated[int, typer.Option(min=1, help="Fields of two channels; from 96 on, a multiple of 96.")] = 24,
    size: Annotated[int, typer.Option(min=64, help="Height and width of a field, px.")] = 1080,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on this machine; left out, one to each core or GPU.")
    ] = None,
    json_to: JsonOption = None,
) -> None:
    """Simulate a plate, process it on this machine, and say how long each stage took; nothing is kept."""
    from hcs_nuclei.cli.progress import show_progress
    from hcs_nuclei.pipeline import process_plate
    from hcs_nuclei.simulate import simulate_plate

    check_json(json_to)
    wells = min(fields, _MOST_WELLS)
    with TemporaryDirectory(prefix="hcs-nuclei-") as scratch:
        print(f"Simulating {fields} fields of {size} × {size} px.", file=sys.stderr, flush=True)
        made = simulate_plate(
            Path(scratch) / "plates", wells=wells, fields=-(-fields // wells), size=size, name="BENCHMARK"
        )
        began = perf_counter()
        with show_progress() as show:
            result = process_plate(made.directory, Path(scratch) / "runs", workers=workers, on_progress=show)
        found = _figures(result, size, perf_counter() - began)
    if json_to is not None:
        write_json(json_to, found)
    if json_to != "-":
        typer.echo("\n".join(_lines(found)))


def _figures(result: RunResult, size: int, seconds: float) -> dict[str, Any]:
    """Of a run: seconds of each stage, and those that one field took inside of workers."""
    fields = sum(result.fields_by_status.values())
    inside = {name.removeprefix(_OF_WORKER): s for name, s in result.seconds.items() if name.startswith(_OF_WORKER)}
    return {
        "fields": fields,
        "size_px": size,
        "nuclei": result.nuclei,
        "cores": os.cpu_count(),
        "seconds": {"all": seconds} | {stage: result.seconds[stage] for stage in _OF_RUN},
        "seconds_a_field": {"all": seconds / fields, "wells": result.seconds["wells"] / fields},
        "seconds_a_field_in_workers": {stage: s / fields for stage, s in sorted(inside.items())},
    }


def _lines(found: dict[str, Any]) -> list[str]:
    a_field = found["seconds_a_field"]
    lines = [
        f"{found['fields']} fields of {found['size_px']} px, {found['nuclei']:,} nuclei, {found['cores']} cores",
        f"whole run       {a_field['all']:8.3f} s a field",
        f"after start-up  {a_field['wells']:8.3f} s a field",
        "",
        "stage              seconds",
        *(f"  {stage:12} {found['seconds'][stage]:10.1f}" for stage in _OF_RUN),
        "",
        "inside of workers  seconds a field",
        *(f"  {stage:12} {s:10.3f}" for stage, s in found["seconds_a_field_in_workers"].items()),
    ]
    return lines
