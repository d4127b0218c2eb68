"""The ledger in, one page for people out: what happened last night, a line a plate."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from html import escape
from pathlib import Path

from flows.ledger import NOT_BEGUN, UNDER_WAY, Entry
from hcs_nuclei.files import replace_file

STATUS_PAGE = "status.html"
#: Since when yesterday "last night" is counted.
_EVENING = 18
_MOST_EARLIER = 1000
_COLUMNS = ("plate", "state", "how it went, or why", "recipe", "found", "begun", "ended", "report")
_COLOURS = {
    "completed": "#1a7f37",
    "quarantined": "#9a6700",
    "failed": "#cf222e",
    "crashed": "#cf222e",
    "cancelled": "#57606a",
    "held": "#9a6700",
    "begun": "#0969da",
}
_STYLE = """body{font:14px/1.4 system-ui,sans-serif;margin:2em;color:#1f2328}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3em .8em .3em 0;border-bottom:1px solid #d0d7de}th{font-weight:600}
b{font-weight:600}.none{color:#57606a}"""


def write_status_page(state: Path, entries: Iterable[Entry], now: datetime) -> Path:
    """Write ``status.html`` into the service's directory; `now` has the local time zone, in which times are shown."""
    path = state / STATUS_PAGE
    replace_file(path, render_status(entries, now).encode())
    return path


def render_status(entries: Iterable[Entry], now: datetime) -> str:
    """The page: plates that are under way, that wait, or that something happened to since last evening; then others."""
    evening = now.replace(hour=_EVENING, minute=0, second=0, microsecond=0)
    evening -= timedelta(days=1) if evening > now - timedelta(hours=6) else timedelta()
    latest = sorted(entries, key=_last, reverse=True)
    recent = [e for e in latest if e.state in NOT_BEGUN | UNDER_WAY or _moment(_last(e)) >= evening]
    earlier = [e for e in latest if e not in recent]
    more = f" (the last {_MOST_EARLIER:,} of {len(earlier):,})" if len(earlier) > _MOST_EARLIER else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="60"><title>Plates</title>
<style>{_STYLE}</style></head><body>
<h1>Since {evening:%A %H:%M}</h1>
<p>{escape(_counts(recent))}. Looked at {now:%Y-%m-%d %H:%M}.</p>
{_table(recent, now)}
<h2>Earlier{more}</h2>
{_table(earlier[:_MOST_EARLIER], now)}
</body></html>
"""


def _table(entries: list[Entry], now: datetime) -> str:
    if not entries:
        return '<p class="none">None.</p>'
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    return f"<table><tr>{head}</tr>\n" + "\n".join(_row(entry, now) for entry in entries) + "\n</table>"


def _row(entry: Entry, now: datetime) -> str:
    report = Path(entry.run_dir) / "report.html"
    link = f'<a href="{escape(report.as_uri())}">report</a>' if entry.run_dir and report.is_file() else ""
    times = [f"{_moment(text).astimezone(now.tzinfo):%m-%d %H:%M}" if text else "" for text in _times(entry)]
    cells = [
        f'<span title="{escape(entry.root)}">{escape(entry.plate)}</span>',
        f'<b style="color:{_COLOURS.get(entry.state, "#57606a")}">{entry.state}</b>',
        escape(entry.reason),
        escape(entry.recipe),
        *times,
        link,
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _times(entry: Entry) -> tuple[str, str, str]:
    return entry.found, entry.begun, entry.ended


def _last(entry: Entry) -> str:
    """When something happened to a plate last; all such texts are UTC, so they sort by time."""
    return max(_times(entry))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text or "1970-01-01T00:00:00+00:00")


def _counts(entries: list[Entry]) -> str:
    states = sorted({entry.state for entry in entries})
    return ", ".join(f"{sum(e.state == state for e in entries)} {state}" for state in states) or "No plate"
