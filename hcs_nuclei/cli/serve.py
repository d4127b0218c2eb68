"""``serve``: watched directories to finished runs, for as long as it runs: server, worker, schedules on one machine."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from hcs_nuclei.cli.arguments import ClusterOption
from hcs_nuclei.cli.messages import LogFormatOption, tell, use_log_format
from hcs_nuclei.errors import OutputError, SettingsError
from hcs_nuclei.logs import json_wanted


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(serve)


def serve(
    watch: Annotated[list[Path], typer.Option(metavar="ROOT", help="Where plates appear; may be given several times.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory of runs; each plate gets one in it.")],
    state: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The service's own: database, ledger, logs, status page, notify.yaml."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the web page, on loopback.")] = 4200,
    recipes: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Assay recipes with match:; left out, recipes/ in the service's directory."),
    ] = None,
    every: Annotated[float, typer.Option(min=5, metavar="SECONDS", help="How often is looked for plates.")] = 60.0,
    quiet: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Nothing may change in a plate for so long.")
    ] = 60.0,
    plates: Annotated[int, typer.Option(min=1, help="Plates that are processed at the same time.")] = 1,
    cluster: ClusterOption = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on this machine; left out, one to each core or GPU.")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, metavar="PORT", help="Of /metrics, on loopback; left out, the one after --port if free."
        ),
    ] = None,
    log_format: LogFormatOption = None,
) -> None:
    """Process every plate that appears below watched directories, once it is complete; Ctrl-C stops it."""
    use_log_format(log_format)
    home = _service_directory(state)
    _check(watch, out, recipes)
    found = recipes or (home / "recipes" if (home / "recipes").is_dir() else None)
    # Before Prefect is imported, which reads it once. A profile of the user's own is left to it.
    if not (Path.home() / ".prefect" / "profiles.toml").exists():
        os.environ.setdefault("PREFECT_HOME", str(home / "prefect"))
    from flows.parameters import WatchPlatesParameters
    from flows.service import ServiceOptions, run_service

    watched = WatchPlatesParameters(
        roots=tuple(str(root.resolve()) for root in watch),
        out=str(out.resolve()),
        state=str(home),
        recipes=None if found is None else str(found.resolve()),
        quiet=quiet,
        cluster=cluster,
        workers=workers,
    )
    signal.signal(signal.SIGTERM, _end)
    # A shell that starts it in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run_service(ServiceOptions(watched, port, every, plates, metrics_port), _say)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _say(line: str) -> None:
    """On stdout, where it is read by programs as well; or in the log, where that is one."""
    if json_wanted():
        tell(line)
    else:
        typer.echo(line)


def _end(*_: object) -> None:
    """What a service manager sends: as Ctrl-C, but it was meant."""
    sys.exit(0)


def _service_directory(state: Path | None) -> Path:
    from hcs_nuclei.models.store import store_directory

    home = Path(os.path.expanduser(state or store_directory().parent / "service")).resolve()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The service directory {home} cannot be made ({error.strerror}). Choose another --state."
        ) from None
    return home


def _check(watch: list[Path], out: Path, recipes: Path | None) -> None:
    """Refuse what cannot be meant.

    Raises:
        SettingsError: a watched directory or the recipes are not there.
        OutputError: the output directory cannot be made, or is watched itself.
    """
    for folder in [*watch, *([recipes] if recipes else [])]:
        if not folder.is_dir():
            raise SettingsError(f"There is no directory {folder}. Check its name, and that its drive is mounted.")
    if out.resolve() in [root.resolve() for root in watch]:
        raise OutputError(f"{out} is watched itself. Choose another --out; it may lie below a watched directory.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The output {out} cannot be made ({error.strerror}). Choose another --out.") from None
