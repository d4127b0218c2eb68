"""The ledger in, one page for people out: what happened last night, a line a plate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path

from flows.ledger import Entry
from flows.night import Line, last_night, moment
from hcs_nuclei.files import replace_file

STATUS_PAGE = "status.html"
_MOST_EARLIER = 1000
_COLUMNS = ("Plate", "State", "How it went, or why not", "Recipe", "Found", "Begun", "Ended", "Took", "Look at")
#: Red waits for somebody, amber as well but less, blue is under way; others are grey.
_COLOURS = {
    **dict.fromkeys(["failed", "crashed"], "bad"),
    **dict.fromkeys(["held", "incomplete", "quarantined"], "look"),
    **dict.fromkeys(["begun", "starting"], "now"),
    "completed": "good",
}
_STYLE = """:root{color-scheme:light dark;--line:#d0d7de;--grey:#57606a}
:root{--good:#1a7f37;--look:#9a6700;--bad:#cf222e;--now:#0969da}
@media(prefers-color-scheme:dark){:root{--line:#3d444d;--grey:#9198a1}
:root{--good:#3fb950;--look:#d29922;--bad:#f85149;--now:#4493f8}}
body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1500px;padding:0 1.5em}
h1{font-size:1.5em;margin:0}h2{font-size:1.1em;margin:2em 0 .5em}p{margin:.3em 0 1.2em}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.35em 1em .35em 0;border-bottom:1px solid var(--line)}
th{font-weight:600;white-space:nowrap}td:nth-child(3){min-width:22em;overflow-wrap:anywhere}
td:nth-child(1){font-weight:600;overflow-wrap:anywhere;min-width:7em}td:nth-child(n+4){white-space:nowrap}
td:nth-child(2){white-space:nowrap;font-weight:600;color:var(--grey)}
td.good{color:var(--good)!important}td.look{color:var(--look)!important}
td.bad,p.bad{color:var(--bad)!important}td.now{color:var(--now)!important}
.none{color:var(--grey)}a{color:var(--now)}a+a{margin-left:.8em}"""


def write_status_page(
    state: Path,
    entries: Iterable[Entry],
    now: datetime,
    *,
    prefect: str = "",
    away: Mapping[Path, str] | None = None,
) -> Path:
    """Write ``status.html`` into the service's directory.

    Args:
        now: with the time zone in which times are shown.
        prefect: address of Prefect's web page.
        away: watched directories that are missing, and why.
    """
    path = state / STATUS_PAGE
    replace_file(path, render_status(entries, now, prefect=prefect, away=away).encode())
    return path


def render_status(
    entries: Iterable[Entry], now: datetime, *, prefect: str = "", away: Mapping[Path, str] | None = None
) -> str:
    """The page: plates that are under way, that wait, or that something happened to since last evening; then others."""
    missing = "".join(
        f'<p class="bad">Watched directory {escape(str(place))} is missing: {escape(why)}.</p>\n'
        for place, why in (away or {}).items()
    )
    night = last_night(entries, now)
    earlier = night.earlier[:_MOST_EARLIER]
    more = f" (the last {_MOST_EARLIER:,} of {len(night.earlier):,})" if len(night.earlier) > _MOST_EARLIER else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="60">
<meta name="viewport" content="width=device-width"><title>Plates: {escape(night.counts)}</title>
<style>{_STYLE}</style></head><body>
<h1>Since {night.evening:%A %H:%M}</h1>
<p>{escape(night.counts)}. Looked at {now:%Y-%m-%d %H:%M %Z}.</p>
{missing}{table(night.recent, now, prefect)}
<h2>Earlier{more}</h2>
{table(earlier, now, prefect)}
</body></html>
"""


def table(lines: Sequence[Line], now: datetime, prefect: str) -> str:
    """A line a plate, as HTML."""
    if not lines:
        return '<p class="none">None.</p>'
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    rows = "\n".join(_row(line, now, prefect) for line in lines)
    return f'<div class="wide"><table><tr>{head}</tr>\n{rows}\n</table></div>'


def _row(line: Line, now: datetime, prefect: str) -> str:
    entry = line.entry
    times = [
        f"{moment(text).astimezone(now.tzinfo):%m-%d %H:%M}" if text else ""
        for text in (entry.found, entry.begun, entry.ended)
    ]
    anchors = [f'<a href="{escape(to)}">{name}</a>' for name, to in links(entry, prefect).items()]
    cells = [
        f'<td title="{escape(entry.root)}">{escape(entry.plate)}</td>',
        f'<td class="{_COLOURS.get(entry.state, "")}">{escape(line.state)}</td>',
        *(f"<td>{text}</td>" for text in (escape(line.text), escape(entry.recipe), *times, _took(line.seconds))),
        f"<td>{''.join(anchors)}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def links(entry: Entry, prefect: str) -> dict[str, str]:
    """What there is to look at of a plate: its report, and its run on Prefect's web page."""
    report = Path(entry.run_dir) / "report.html"
    found = {"report": report.as_uri()} if entry.run_dir and report.is_file() else {}
    return {**found, "run": f"{prefect}/runs/flow-run/{entry.flow_run}"} if prefect and entry.flow_run else found


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min" if minutes else "< 1 min"
