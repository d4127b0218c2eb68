"""``inspect``, ``simulate``, ``report`` and ``demo``: plates looked at, made, and shown."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcs_nuclei.cli.arguments import JsonOption, ReasonOption, check_json, write_json

if TYPE_CHECKING:
    from hcs_nuclei.plate import Plate
    from hcs_nuclei.sources.completeness import Completeness

#: Written here, for the simulator takes long to import.
_FORMATS = (
    "imagexpress (as MetaXpress exports it), imagexpress-raw, imagexpress-hcsai, operetta (also operetta-4, -6, -7), "
    "columbus, cellvoyager, cq1, cellomics, incell, scanr, ome-tiff, ome-zarr or ome-zarr-0.4."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(demo)
    app.command()(simulate)
    app.command()(inspect)
    app.command()(report)


def inspect(
    plate: Annotated[
        str, typer.Argument(metavar="PLATE", help="A plate directory of any known vendor, or its URL (s3://...).")
    ],
    pattern: Annotated[
        str | None,
        typer.Option(
            envvar="HCS_NUCLEI_PATTERN", help="Regular expression with named groups well, field, channel, z, t."
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Say whether this layout fits; left out, one in the plate's directory."),
    ] = None,
    barcodes: Annotated[
        str | None, typer.Option(metavar="FILE", help="Say whether the plate is on this list of barcodes.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the plate is complete, or stays incomplete (exit status 3).")
    ] = False,
    quiet: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="With --wait: nothing may change for so long.")
    ] = 60.0,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="With --wait: look at it no longer than this.")
    ] = None,
    json_to: JsonOption = None,
) -> None:
    """Say what a plate directory is, what it lacks and what is damaged; nothing is written, no pixels are read."""
    from hcs_nuclei.sources import check_files, inspection, open_plate, render_inspection

    check_json(json_to)
    completeness = _waited_for(plate, pattern, quiet, timeout) if wait else None
    opened = open_plate(plate, pattern=pattern)
    found = inspection(opened, check_files(opened))
    found["layout"] = _layout(opened, layout)
    found["barcodes"] = None if barcodes is None else _barcode(opened, Path(os.path.expanduser(barcodes)))
    if completeness is not None:
        found["completeness"] = {
            name: getattr(completeness, name)
            for name in ("state", "reason", "expected", "found", "faulty", "absent", "marker", "seconds_since_change")
        }
    if json_to is not None:
        write_json(json_to, found)
    if json_to != "-":
        typer.echo(render_inspection(found, width=shutil.get_terminal_size((100, 24)).columns))
    if completeness is not None and completeness.state != "complete":
        raise typer.Exit(3)


def _layout(plate: Plate, named: str | None) -> dict[str, Any] | None:
    """The layout that a run would take, as plain data; None where there is none.

    Raises:
        LayoutError: the one that is named cannot be read, or does not fit the plate.
    """
    from hcs_nuclei.layouts import read_layout, read_vendor_layout

    if named == "none":
        return None
    found = (
        read_vendor_layout(plate)
        if named in {None, "auto"}
        else read_layout(Path(os.path.expanduser(str(named))), plate)
    )
    if found is None:
        return None
    return {
        "source": found.source,
        "origin": found.origin,
        "columns": [column.name for column in found.columns],
        "wells": len(found.wells),
        "warnings": list(found.warnings),
    }


def _barcode(plate: Plate, path: Path) -> dict[str, Any]:
    """Whether the list at `path` has the plate.

    Raises:
        LayoutError: the list cannot be read.
    """
    from hcs_nuclei.layouts import read_barcodes

    known = read_barcodes(path)
    return {"list": str(path), "barcodes": len(known), "known": plate.name in known}


def _waited_for(plate: str, pattern: str | None, quiet: float, timeout: float | None) -> Completeness:
    """The last look at `plate`; what changes from one look to the next is said on stderr."""
    from hcs_nuclei.sources.completeness import wait_until_complete

    said = ""

    def tell(found: Completeness) -> None:
        nonlocal said
        if found.reason != said:
            said = found.reason
            print(f"{found.state}: {found.reason}", file=sys.stderr, flush=True)

    return wait_until_complete(plate, quiet=quiet, timeout=timeout, pattern=pattern, told=tell)


def simulate(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the plate and, beside it, its truth are made.")],
    format_name: Annotated[str, typer.Option("--format", help=_FORMATS)] = "imagexpress",
    wells: Annotated[int, typer.Option(min=1, help="Number of wells.")] = 24,
    fields: Annotated[int, typer.Option(min=1, help="Fields in each well.")] = 1,
    size: Annotated[int, typer.Option(min=64, help="Height and width of a field, px.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same plate.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the plate.")] = "SIM-0001",
) -> None:
    """Make a plate with known truth in a vendor's layout; the last line of stdout is its directory."""
    from hcs_nuclei.cli.progress import show_images
    from hcs_nuclei.simulate import simulate_plate

    with show_images(wells * fields, "fields") as done:
        made = simulate_plate(
            out, format=format_name, wells=wells, fields=fields, size=size, seed=seed, name=name,
            progress=lambda fields_done, _: done(fields_done),
        )  # fmt: skip
    print(f"Truth (labels, nuclei, wells, layout): {made.truth}", file=sys.stderr)
    typer.echo(str(made.directory))


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR", help="Run directories, or directories of runs.")],
    layout: Annotated[
        str, typer.Option(metavar="FILE", help="Other treatments for the wells, or none; auto keeps what is there.")
    ] = "auto",
    exclusions: Annotated[
        str,
        typer.Option(metavar="FILE", help="Wells and fields that do not count, or none; auto keeps what is left out."),
    ] = "auto",
    qc: Annotated[
        str | None,
        typer.Option(metavar="FLAGS", help="Flags that keep fields out: default, none, or Blank,Debris,...."),
    ] = None,
    assay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Assay recipe whose gates, calls and flags take the place.")
    ] = None,
    screen: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one page over all of the runs to this HTML file.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write figures for slides (PNG) of each run into this directory.")
    ] = None,
    reason: ReasonOption = "",
) -> None:
    """Make the tables and reports of finished runs again from their wells, with other treatments, exclusions, gates."""
    from hcs_nuclei.outputs.reading import find_runs
    from hcs_nuclei.pipeline.finish import remake_plates
    from hcs_nuclei.pipeline.following import note_recipe
    from hcs_nuclei.settings import load_settings

    found = find_runs(runs)
    if screen:
        from hcs_nuclei.outputs.report_screen import check_screen

        check_screen(screen)
    files = [
        name if name in {"auto", "none"} else os.path.abspath(os.path.expanduser(name)) for name in (layout, exclusions)
    ]
    recipe = load_settings(assay) if assay else None
    remake_plates(found, files[0], exclusions=files[1], qc=qc, recipe=recipe, reason=reason)
    if assay and (fault := note_recipe(assay.stem, load_settings(assay, environ={}))):
        print(f"hcs-nuclei: {fault}", file=sys.stderr)
    for run in found:
        typer.echo(str(run / "report.html"))
    for path in _beside_reports(found, screen, figures):
        typer.echo(str(path))


def _beside_reports(runs: list[Path], screen: Path | None, figures: Path | None) -> Iterator[Path]:
    """Make what is asked for beside the reports, and yield where it is."""
    if screen:
        from hcs_nuclei.outputs.report_screen import write_screen
        from hcs_nuclei.outputs.report_treatments import treatments_file

        yield write_screen(runs, screen)
        if treatments_file(screen).is_file():
            yield treatments_file(screen)
    if figures:
        from hcs_nuclei.outputs.report_figures import write_figures

        for run in runs:
            yield from write_figures(run, figures)


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the simulated plate and its run are made.")] = Path(
        "demo-out"
    ),
) -> None:
    """Simulate a plate, process it through the Prefect flow, and say where the report is."""
    from hcs_nuclei.cli.process import ProcessOptions, process_plates
    from hcs_nuclei.pipeline.prepare import run_name
    from hcs_nuclei.settings import load_settings
    from hcs_nuclei.simulate import simulate_plate
    from hcs_nuclei.sources import open_plate

    plates, runs, name = out / "plates", out / "runs", "SIM-0001"
    layout = plates / f"{name}-truth" / "layout.csv"
    directory = next(plates.glob(f"{name}_Plate_*"), None)
    if directory is None:
        print(
            "Simulating a plate of 24 wells in ImageXpress layout (a dose response of two compounds) ...",
            file=sys.stderr,
        )
        directory = simulate_plate(plates, wells=24, fields=1, size=512, name=name).directory
    print(
        "Processing it through the flow on Prefect's embedded server, as\n"
        f"  hcs-nuclei process {directory} --out {runs} --layout {layout} --prefect",
        file=sys.stderr,
    )
    settings = load_settings(options={"layout": str(layout)})
    status = process_plates([str(directory)], runs, settings, ProcessOptions(prefect=True))
    run = runs / run_name(open_plate(directory))
    print(
        f"\nThe report, to open in a browser:  {(run / 'report.html').resolve()}\n"
        f"Every nucleus, to read in pandas:  pd.read_parquet({str(run / 'nuclei')!r})\n"
        f"Images and labels (OME-Zarr):      {run / 'plate.ome.zarr'}\n"
        f"The truth that it can be held to:  {plates / f'{name}-truth'}",
        file=sys.stderr,
    )
    raise typer.Exit(status)
