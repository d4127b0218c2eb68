"""A sheet in, the plate-shaped grids in it out: rows A, B, …, columns 1, 2, …, one grid for each treatment column.

::

    Compound, 1,   2,   3, …        a label in the corner, or alone in a line above, or the worksheet's name
    A,      DMSO, x1,  x2
    B,      DMSO, x1,  x2

A sheet without letters and numbers is taken for a grid where it has exactly the shape of a plate of 24 wells or more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hcs_nuclei.errors import listed
from hcs_nuclei.layouts.cells import Sheet
from hcs_nuclei.layouts.layout import Entry, Position, RawLayout
from hcs_nuclei.layouts.wells import read_well
from hcs_nuclei.plate import PLATE_FORMATS, row_name

#: What an only grid without a label becomes.
UNLABELLED = "Treatment"
_NO_LABEL = re.compile(r"(?i)|rows?|wells?|[-/\\<>.#]+|row\s*[/\\]\s*col(umn)?|(sheet|tabelle|feuil|hoja|foglio)\s*\d*")
_SMALLEST_COLUMNS = 3


@dataclass(frozen=True, slots=True)
class Grid:
    """One grid: its label ("" for none), the 1-based lines that it begins and ends in, and its cells by position."""

    label: str
    line: int
    last_line: int
    cells: dict[Position, str]


def find_grids(sheets: Sequence[Sheet]) -> RawLayout | None:
    """What the grids with letters and numbers in all sheets say of the wells; None where there is none."""
    return _labelled(sheets, _with_headings)


def find_bare_grids(sheets: Sequence[Sheet]) -> RawLayout | None:
    """What the grids without letters and numbers in all sheets say of the wells; None where there is none."""
    return _labelled(sheets, _bare)


def _labelled(sheets: Sequence[Sheet], find: Callable[[Sequence[Sequence[str]]], list[Grid]]) -> RawLayout | None:
    found = {sheet: find(sheet.rows) for sheet in sheets}
    grids = [(sheet, grid) for sheet in sheets for grid in found[sheet]]
    if not grids:
        return None
    labels = []
    for sheet, grid in grids:
        label = grid.label or ("" if _NO_LABEL.fullmatch(sheet.name) else sheet.name)
        labels.append(label or (UNLABELLED if len(grids) == 1 else ""))
    faults = [
        f"the grid that begins in {_where(sheet, grid)} has no label; write one into its corner or in a line above"
        for (sheet, grid), label in zip(grids, labels, strict=True)
        if not label
    ]
    faults += [
        f"{labels.count(label)} grids have the label {label!r}; give each its own"
        for label in dict.fromkeys(labels)
        if label and labels.count(label) > 1
    ]
    entries = [
        Entry(f"grid {label}", position, {label: text})
        for (_, grid), label in zip(grids, labels, strict=True)
        for position, text in grid.cells.items()
        if text
    ]
    unused = [words for sheet, of_sheet in found.items() if (words := _unused(sheet, of_sheet))]
    comma = all(sheet.delimiter == ";" for sheet, _ in grids)
    return RawLayout(tuple(labels), tuple(entries), tuple(faults), tuple(unused), comma)


def _unused(sheet: Sheet, grids: Sequence[Grid]) -> str:
    """Lines that are neither in a grid nor a title, in words: half a grid must not be passed over."""
    covered = {line for grid in grids for line in range(grid.line, grid.last_line + 1)}
    lines = [n for n, row in enumerate(sheet.rows, 1) if n not in covered and sum(bool(cell) for cell in row) > 1]
    where = f" of the sheet {sheet.name}" if sheet.name else ""
    return f"line {listed(lines)}{where}: not part of a grid, and not used" if lines else ""


def _where(sheet: Sheet, grid: Grid) -> str:
    return f"line {grid.line}" + (f" of the sheet {sheet.name}" if sheet.name else "")


def _with_headings(rows: Sequence[Sequence[str]]) -> list[Grid]:
    grids: list[Grid] = []
    last = -1  # the last row of the grids so far: a title stands below it
    for index in range(len(rows) - 1):
        lowest = last
        for first, columns in _headings(rows[index]):
            height = _lettered(rows, index + 1, first)
            if not height:
                continue
            lowest = max(lowest, index + height)
            cells = {
                (row, column): _cell(rows[index + row], first + column)
                for row in range(1, height + 1)
                for column in range(1, columns + 1)
            }
            corner = rows[index][first]
            label = "" if _NO_LABEL.fullmatch(corner) else corner
            above = slice(first, first + columns + 1)
            grids.append(Grid(label or _title(rows[last + 1 : index], above), index + 1, index + height + 1, cells))
        last = lowest
    return grids


def _headings(row: Sequence[str]) -> Iterator[tuple[int, int]]:
    """(place of the corner, number of columns) of each run 1, 2, 3, … in a row."""
    place = 1
    while place < len(row):
        count = 0
        while place + count < len(row) and row[place + count].isascii() and row[place + count].isdigit():
            if int(row[place + count]) != count + 1:
                break
            count += 1
        if _SMALLEST_COLUMNS <= count <= 48:
            yield place - 1, count
        place += max(count, 1)


def _lettered(rows: Sequence[Sequence[str]], start: int, place: int) -> int:
    """How many rows from `start` on are headed A, B, C, … at `place`."""
    count = 0
    while count < 32 and start + count < len(rows) and _cell(rows[start + count], place).upper() == row_name(count + 1):
        count += 1
    return count


def _title(rows: Sequence[Sequence[str]], columns: slice) -> str:
    """The text that stands alone in the last line above a grid that has any there."""
    for row in reversed(rows):
        words = [cell for cell in row[columns] if cell]
        if words:
            return words[0].rstrip(":") if len(words) == 1 else ""
    return ""


def _bare(rows: Sequence[Sequence[str]]) -> list[Grid]:
    """Grids without letters and numbers: blocks between nearly empty lines, with exactly a plate's shape."""
    grids: list[Grid] = []
    block: list[int] = []
    for index in range(len(rows) + 1):
        words = sum(bool(cell) for cell in rows[index]) if index < len(rows) else 0
        if words > 1:
            block.append(index)
            continue
        if block:
            body = [rows[i] for i in block]
            shape = len(body), max(_width(row) for row in body)
            # A list of wells under a name that is not known may have the shape of a plate by chance.
            named = any(_is_well(cell) for row in body for cell in row)
            if shape in PLATE_FORMATS.values() and shape[0] >= 4 and not named:
                cells = {(r + 1, c + 1): _cell(row, c) for r, row in enumerate(body) for c in range(shape[1])}
                grids.append(Grid(_title(rows[: block[0]][-1:], slice(None)), block[0] + 1, block[-1] + 1, cells))
            block = []
    return grids


def _width(row: Sequence[str]) -> int:
    return max((place + 1 for place, cell in enumerate(row) if cell), default=0)


def _is_well(text: str) -> bool:
    try:
        read_well(text)
    except ValueError:
        return False
    return True


def _cell(row: Sequence[str], place: int) -> str:
    return row[place] if place < len(row) else ""
