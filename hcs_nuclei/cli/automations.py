"""``automations``: who is told of what, to automations of a Prefect server that does the telling."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hcs_nuclei.errors import SettingsError


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(automations)


def automations(
    notify: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Who is told, as notify.yaml; left out, runs that are lost are ended only."),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take them away again, and the addresses with them.")
    ] = False,
) -> None:
    """Set the automations of the Prefect server in PREFECT_API_URL; said again, they are brought up to date."""
    if remove and notify:
        raise SettingsError("Give --notify or --remove, not both.")
    from flows.automations import remove_automations, set_automations
    from flows.notify_settings import Notify, read_notify_file
    from flows.server import check_named_server

    given = Notify() if notify is None else read_notify_file(notify)
    check_named_server()
    if remove:
        remove_automations(lambda name: typer.echo(f"removed  {name}"))
    else:
        set_automations(given, lambda name: typer.echo(f"set  {name}"))
