"""``audit``: who did what, when and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcs_nuclei.cli.arguments import JsonOption, check_json, write_json
from hcs_nuclei.errors import SettingsError

if TYPE_CHECKING:
    from hcs_nuclei.audit import Entry

_WIDEST = 300


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(audit)


def audit(
    what: Annotated[
        str | None, typer.Option(metavar="KIND", help="run, run.end, exclusions, recipe, model.promote ....")
    ] = None,
    about: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only what is about such a run, recipe ...: a part of its name.")
    ] = None,
    who: Annotated[str | None, typer.Option(metavar="USER", help="Only what this user did.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="A date or time in UTC (2026-11-28), or so long ago (12h, 7d).")
    ] = None,
    last: Annotated[int, typer.Option(min=0, help="So many entries, the last ones; 0 for all.")] = 50,
    json_to: JsonOption = None,
) -> None:
    """Show the audit log: runs, overwrites, exclusions, recipes, promotions; the latest entry last."""
    from hcs_nuclei.audit import read_audit

    check_json(json_to)
    begin = _moment(since) if since else ""
    found = [
        entry
        for entry in read_audit()
        if (what is None or entry.what == what or entry.what.startswith(f"{what}."))
        and (about is None or about.casefold() in entry.subject.casefold())
        and (who is None or entry.who == who)
        and entry.when >= begin
    ]
    found = found[-last:] if last else found
    if json_to is not None:
        write_json(json_to, [entry.model_dump() for entry in found])
    if json_to != "-":
        for entry in found:
            typer.echo(in_words(entry))


def in_words(entry: Entry) -> str:
    """One line: when, who, what, about what, from what to what, why."""
    change = " → ".join(_value(value) for value in (entry.old, entry.new) if value is not None)
    why = f'  "{" ".join(entry.reason.split())}"' if entry.reason else ""
    return f"{entry.when}  {entry.who}@{entry.host}  {entry.what:<16}  {entry.subject}  {change}{why}".rstrip()


def _value(value: Any) -> str:
    if isinstance(value, dict):
        text = ", ".join(f"{name} {_value(inner)}" for name, inner in value.items())
    elif isinstance(value, list):
        text = "; ".join(map(_value, value))
    else:
        text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _moment(text: str) -> str:
    """What `text` says, as the entries have it.

    Raises:
        SettingsError: it is no time.
    """
    number, unit = text[:-1], {"m": "minutes", "h": "hours", "d": "days"}.get(text[-1])
    try:
        if unit and number.isdecimal():
            moment = datetime.now(UTC) - timedelta(**{unit: int(number)})
        else:
            moment = datetime.fromisoformat(text)
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{text!r} is no time; expected for instance 2026-11-28, 2026-11-28T06:00, 12h or 7d."
        ) from None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
