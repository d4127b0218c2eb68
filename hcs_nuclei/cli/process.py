"""``process``: one or many plates, each to its run directory; the worst outcome is the exit status."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from hcs_nuclei.cli.arguments import ClusterOption, JsonOption, ReasonOption, check_json, write_json
from hcs_nuclei.cli.messages import LogFormatOption, tell, tell_error, use_log_format
from hcs_nuclei.errors import HcsNucleiError, RunConflictError, SettingsError, UserError
from hcs_nuclei.settings import Settings, load_settings

#: The worst first.
_SEVERITY = (1, 3, 0)
_FAULTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """What changes how a run is carried out and not what it gives."""

    cluster: str = "local"
    workers: int | None = None
    overwrite: bool = False
    retry_failed: bool = False
    prefect: bool = False
    performance_report: bool = False
    assay: Path | None = None
    reason: str = ""

    @property
    def recipe(self) -> str:
        """What the recipe is called."""
        return self.assay.stem if self.assay else ""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(process)


def process(
    plates: Annotated[
        list[str], typer.Argument(metavar="PLATE", help="Plate directories, or their URLs (s3://...); only ever read.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory of runs; each plate gets one in it.")],
    assay: Annotated[Path | None, typer.Option(metavar="FILE", help="Assay recipe (YAML).")] = None,
    channel: Annotated[
        str | None, typer.Option(help="Nuclear channel: its name, or the vendor's token (DAPI, w1, ch1, C01, d0).")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="ID|DIR", help="Model; left out, the default one.")] = None,
    plate_name: Annotated[str | None, typer.Option(help="Instead of the vendor's plate name.")] = None,
    layout: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The wells' treatments (CSV, TSV, XLSX, barcode_platemap.csv), or none."),
    ] = None,
    exclusions: Annotated[
        str | None, typer.Option(metavar="FILE", help="Wells and fields that do not count, and why (CSV), or none.")
    ] = None,
    qc: Annotated[
        str | None,
        typer.Option(metavar="FLAGS", help="Flags that keep fields out: default, none, or Blank,Debris,...."),
    ] = None,
    barcodes: Annotated[
        str | None, typer.Option(metavar="FILE", help="The screen's barcodes; a plate that is not on it is held.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Regular expression with named groups well, field, channel, z, t.")
    ] = None,
    illumination: Annotated[
        str | None, typer.Option(metavar="METHOD", help="auto, vendor, estimate, file (images in the recipe) or off.")
    ] = None,
    cluster: ClusterOption = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on this machine; left out, one to each core or GPU.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make everything again; former tables are kept under .previous.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Make wells with faults again.")] = False,
    prefect: Annotated[
        bool | None,
        typer.Option(
            "--prefect/--no-prefect",
            help="Run as a Prefect flow; left out, where a Prefect API URL is configured.",
            show_default=False,
        ),
    ] = None,
    performance_report: Annotated[
        bool,
        typer.Option("--performance-report", help="Write Dask's performance.html into the run directory."),
    ] = False,
    reason: ReasonOption = "",
    log_format: LogFormatOption = None,
    json_to: JsonOption = None,
) -> None:
    """Process plates: label images, tables and a report for each. Started again, it does only what is missing."""
    use_log_format(log_format)
    asked = {"channel": channel, "model": model, "plate_name": plate_name, "pattern": pattern, "layout": layout}
    groups = {"illumination": {"method": illumination}, "aggregation": {"qc": qc}}
    settings = load_settings(assay, {**asked, **groups, "barcodes": barcodes, "exclusions": exclusions})
    use_prefect = prefect if prefect is not None else api_url_configured()
    options = ProcessOptions(
        cluster, workers, overwrite, retry_failed, use_prefect, performance_report, assay=assay, reason=reason
    )
    raise typer.Exit(process_plates(plates, out, settings, options, json_to))


def process_plates(
    plates: list[str], out: Path, settings: Settings, options: ProcessOptions, json_to: str | None = None
) -> int:
    """Process `plates` one after another and say how each went; returns the worst exit status.

    Raises:
        UserError: a plate cannot be processed as asked; then none is begun.
    """
    from hcs_nuclei.cli.progress import show_progress

    check_json(json_to)
    _check_all(plates, out, settings, options)
    _note_recipe(options.assay)
    statuses: list[int] = []
    results: list[dict[str, Any]] = []
    for plate in plates:
        try:
            with show_progress() as show:
                result = _process(plate, out, settings, options, show)
        except HcsNucleiError as error:
            if len(plates) == 1:
                raise
            tell_error(f"{plate}: {error}")
            statuses.append(1)
            results.append({"plate": str(plate), "exit_status": 1, "error": str(error)})
            continue
        _say(result)
        statuses.append(result.exit_status)
        results.append({**asdict(result), "run_dir": str(result.run_dir), "exit_status": result.exit_status})
        if json_to != "-":
            typer.echo(str(result.run_dir))
    if json_to is not None:
        write_json(json_to, results)
    return min(statuses, key=_SEVERITY.index)


def api_url_configured() -> bool:
    """Whether Prefect's settings name a server, by environment or active profile; looked up without importing it."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    import tomllib

    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    active = os.environ.get("PREFECT_PROFILE", profiles.get("active", ""))
    return bool(profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL"))


def _note_recipe(assay: Path | None) -> None:
    """Write into the audit log what a recipe says, without the environment and the options that come on top."""
    if assay is None:
        return
    from hcs_nuclei.pipeline.following import note_recipe

    if fault := note_recipe(assay.stem, load_settings(assay, environ={})):
        tell(fault, level=logging.WARNING)


def _check_all(plates: list[str], out: Path, settings: Settings, options: ProcessOptions) -> None:
    """Find every reason to refuse before the first plate is begun."""
    from hcs_nuclei.pipeline.prepare import prepare_plate

    if len(plates) > 1 and settings.plate_name:
        raise SettingsError("--plate-name names one plate; several were given. Process them one by one.")
    faults: list[str] = []
    runs: dict[Path, str] = {}
    for plate in plates:
        try:
            plan, _ = prepare_plate(
                plate, out, settings, overwrite=options.overwrite, retry_failed=options.retry_failed
            )
        except UserError as error:
            if len(plates) == 1:
                raise
            faults.append(f"{plate}: {error}")
            continue
        run = plan.context.run_dir
        if run in runs:
            faults.append(f"{plate} and {runs[run]} are both plate {plan.context.plate}: they would share {run}.")
        runs[run] = plate
    if faults:
        raise RunConflictError("Nothing was begun, since not every plate can be processed:\n" + "\n".join(faults))


def _process(plate: str, out: Path, settings: Settings, options: ProcessOptions, show: Any) -> Any:
    if options.prefect:
        from flows.parameters import ProcessPlateParameters
        from flows.process_plate import run_process_plate

        parameters = ProcessPlateParameters(
            plate=str(plate),
            out=str(out),
            settings=settings,
            cluster=options.cluster,
            workers=options.workers,
            overwrite=options.overwrite,
            retry_failed=options.retry_failed,
            performance_report=options.performance_report,
            recipe=options.recipe,
            reason=options.reason,
        )
        return run_process_plate(parameters, on_progress=show)
    from hcs_nuclei.pipeline.run import process_plate

    return process_plate(
        plate,
        out,
        settings,
        cluster=options.cluster,
        workers=options.workers,
        overwrite=options.overwrite,
        retry_failed=options.retry_failed,
        performance_report=options.performance_report,
        recipe=options.recipe,
        reason=options.reason,
        on_progress=show,
    )


def _say(result: Any) -> None:
    """The end of a run in a few lines on stderr."""

    def words(counts: dict[str, int], what: str) -> str:
        return f"{sum(counts.values())} {what} (" + ", ".join(f"{n} {status}" for status, n in counts.items()) + ")"

    kept = f", {result.kept} of them from before" if result.kept else ""
    here = {"plate": result.plate, "run": result.run_dir.name}
    tell(
        f"{result.plate}: {result.nuclei:,} nuclei in {words(result.wells_by_status, 'wells')}{kept}; "
        f"{words(result.fields_by_status, 'fields')}",
        **here,
    )
    if result.layout:
        tell(f"  layout: {result.layout}", **here)
    for fault in result.faults[:_FAULTS_SHOWN]:
        tell(f"  {fault}", level=logging.WARNING, **here, well=fault.partition(" ")[0])
    if len(result.faults) > _FAULTS_SHOWN:
        more = len(result.faults) - _FAULTS_SHOWN
        tell(f"  and {more} more faults: see fields.parquet or the report", level=logging.WARNING, **here)
    for warning in result.warnings:
        tell(f"  warning: {warning}", level=logging.WARNING, **here)
    tell(f"  report: {result.run_dir / 'report.html'}", **here)
