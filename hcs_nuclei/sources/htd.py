"""A MetaXpress ``.HTD`` file in, what it promises out: wells, sites, time points, z steps, wavelengths."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from hcs_nuclei.sources.assembly import Position


@dataclass(frozen=True)
class Promise:
    """What the ``.HTD`` says was to be acquired: an upper bound.

    It cannot say that one channel has fewer z planes or time points than another. `sites` are 1-based positions
    in the grid of sites, row by row; `waves` are names in the order of ``w1``, ``w2``, …; `z_steps` is 1 where no
    stack was acquired.
    """

    rows: int
    columns: int
    wells: tuple[Position, ...]
    sites: tuple[int, ...]
    time_points: int
    z_steps: int
    waves: tuple[str, ...]


def read_promise(path: Path) -> Promise | None:
    """The promise of the file at `path`; None where it is unreadable or holds no wells and wavelengths."""
    try:
        # latin-1: the description may hold any byte (0x82, 0x81 were seen), and this never fails on one.
        text = path.read_text(encoding="latin-1")
        values = _values(text)
        rows, columns = int(values["YWells"][0]), int(values["XWells"][0])
        wells = tuple(
            (row, column)
            for row in range(1, min(rows, 32) + 1)
            for column, chosen in enumerate(values.get(f"WellsSelection{row}", [])[:48], start=1)
            if _true(chosen)
        )
        several_waves = int(values.get("NWavelengths", ["1"])[0])
        waves = tuple(values.get(f"WaveName{n}", [""])[0] for n in range(1, min(several_waves, 99) + 1))
        stack = _true(values.get("ZSeries", ["FALSE"])[0])
        z_steps = int(values.get("ZSteps", ["1"])[0]) if stack else 1
        time_points = int(values.get("TimePoints", ["1"])[0])
        sites = _sites(values)
    except (OSError, KeyError, IndexError, ValueError, csv.Error):
        return None
    if '"EndFile"' not in text:  # cut short: what is missing would be taken for what was never promised
        return None
    # More than an instrument acquires: damaged digits, which would be counted through one by one.
    if not wells or not waves or time_points > 100_000 or z_steps > 10_000:
        return None
    return Promise(rows, columns, wells, sites, max(1, time_points), max(1, z_steps), waves)


def _values(text: str) -> dict[str, list[str]]:
    lines = csv.reader(text.splitlines(), skipinitialspace=True)
    return {line[0].strip(): [value.strip() for value in line[1:]] for line in lines if len(line) > 1}


def _sites(values: dict[str, list[str]]) -> tuple[int, ...]:
    if not _true(values.get("Sites", ["FALSE"])[0]):
        return (1,)
    columns, rows = int(values["XSites"][0]), int(values["YSites"][0])
    chosen = [
        (row - 1) * columns + column
        for row in range(1, min(rows, 99) + 1)
        for column, site in enumerate(values.get(f"SiteSelection{row}", [])[:columns], start=1)
        if _true(site)
    ]
    return tuple(chosen) or (1,)


def _true(value: str) -> bool:
    return value.strip().upper() == "TRUE"
