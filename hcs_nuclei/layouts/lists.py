"""A sheet in, the list of wells in it out: one line a well, with a column that names it, or a row and a column.

::

    well_position  broad_sample  mmoles_per_liter        row;col;drug
    A01            BRD-K1        10                       1;1;DMSO
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hcs_nuclei.errors import listed
from hcs_nuclei.layouts.cells import Sheet
from hcs_nuclei.layouts.layout import Entry, Position, RawLayout
from hcs_nuclei.layouts.wells import read_column, read_row, read_well

#: Names of the columns that say which well, as :func:`plain` has them; the first that is there is taken.
_WELL = ("well_position", "well", "wellposition", "well_name", "wellname", "well_id", "wellid", "destination_well")
_ROW = ("row", "well_row", "wellrow", "plate_row")
_COLUMN = ("column", "col", "well_column", "well_col", "wellcolumn", "wellcol", "plate_column")
#: A title and remarks may stand above the list.
_LINES_ABOVE = 30


@dataclass(frozen=True, slots=True)
class _Heading:
    """Where the list begins: the 0-based line of its names, the names, and which of them say the well."""

    line: int
    names: tuple[str, ...]
    well: int | None
    row: int | None
    column: int | None

    @property
    def identity(self) -> set[int]:
        return {place for place in (self.well, self.row, self.column) if place is not None}


def plain(name: str) -> str:
    """A column's name as it is looked up: ``Metadata_Well Position`` → ``well_position``."""
    words = re.sub(r"[\W_]+", "_", name.strip().casefold()).strip("_")
    return words.removeprefix("metadata_").removeprefix("imagemetadata_")


def find_list(sheet: Sheet) -> RawLayout | None:
    """What the list of a sheet says of the wells; None where the sheet is no such list."""
    heading = _heading(sheet.rows)
    if heading is None:
        return None
    faults = _faulty_names(heading)
    warnings = []
    lines = [(n, row) for n, row in enumerate(sheet.rows[heading.line + 1 :], heading.line + 2) if any(row)]
    nameless = [p for p, name in enumerate(heading.names) if not name]
    if any(_cell(row, place) for place in nameless for _, row in lines):
        warnings.append(f"a column without a name (number {listed(p + 1 for p in nameless)}) is not used")
    overlong = [n for n, row in lines if any(row[len(heading.names) :])]
    if overlong:
        faults.append(
            f"line {listed(overlong)}: more cells than the {len(heading.names)} columns that line "
            f"{heading.line + 1} names; put text with the delimiter into quotation marks"
        )
    entries = []
    for number, row in lines:
        try:
            position = _position(heading, row)
        except ValueError as error:
            faults.append(f"line {number}: {error}")
            continue
        entries.append(Entry(f"line {number}", position, dict(_values(heading, row))))
    names = tuple(name for place, name in enumerate(heading.names) if name and place not in heading.identity)
    return RawLayout(names, tuple(entries), tuple(faults), tuple(warnings), sheet.delimiter == ";")


def find_columns(sheet: Sheet, wanted: Mapping[str, str]) -> list[dict[str, str]] | None:
    """The lines of a table that has all the `wanted` columns (by :func:`plain` name), cells by its value there.

    None where there is no such table within the first lines of the sheet.
    """
    for index, row in enumerate(sheet.rows[:_LINES_ABOVE]):
        places = {plain(name): place for place, name in reversed(list(enumerate(row)))}
        if wanted.keys() <= places.keys():
            below = [line for line in sheet.rows[index + 1 :] if any(line)]
            return [{key: _cell(line, places[name]) for name, key in wanted.items()} for line in below]
    return None


def _heading(rows: Sequence[Sequence[str]]) -> _Heading | None:
    for index, row in enumerate(rows[:_LINES_ABOVE]):
        known = [plain(name) for name in row]
        well, line, column = (_first(known, names) for names in (_WELL, _ROW, _COLUMN))
        if well is not None or (line is not None and column is not None):
            return _Heading(index, tuple(row[: _width(row)]), well, line, column)
    return None


def _first(known: Sequence[str], names: Sequence[str]) -> int | None:
    return next((known.index(name) for name in names if name in known), None)


def _faulty_names(heading: _Heading) -> list[str]:
    names = [name for name in heading.names if name]
    double = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return [f"line {heading.line + 1}: several columns are called {listed(map(repr, double))}"] if double else []


def _position(heading: _Heading, row: Sequence[str]) -> Position:
    """The well of a line; where it is said twice, both must say the same.

    Raises:
        ValueError: it is no well, or two.
    """
    split = None
    if heading.row is not None and heading.column is not None:
        cells = _cell(row, heading.row), _cell(row, heading.column)
        if heading.well is None or any(cells):
            split = read_row(cells[0]), read_column(cells[1])
    if heading.well is None:
        assert split is not None
        return split
    text = _cell(row, heading.well)
    if not text and split is not None:
        return split
    well = read_well(text)
    if split is not None and split != well:
        raise ValueError(f"well {text}, but row {cells[0]} and column {cells[1]}")
    return well


def _values(heading: _Heading, row: Sequence[str]) -> Iterator[tuple[str, str]]:
    for place, name in enumerate(heading.names):
        if name and place not in heading.identity and _cell(row, place):
            yield name, row[place]


def _width(row: Sequence[str]) -> int:
    return max((place + 1 for place, cell in enumerate(row) if cell), default=0)


def _cell(row: Sequence[str], place: int) -> str:
    return row[place] if place < len(row) else ""
