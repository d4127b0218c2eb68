"""A well as layouts write it in, its 1-based row and column out."""

from __future__ import annotations

import re

from hcs_nuclei.layouts.layout import Position
from hcs_nuclei.plate import row_number

_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<row>[A-Z]{1,2})[\s_:-]*(?P<column>\d{1,3})",  # C6, c06, C-06, C006
        r"R(?P<row>\d{1,2})[\s_-]*C(?P<column>\d{1,2})",  # R03C06
        r"\(?\s*(?P<row>\d{1,2}|[A-Z]{1,2})\s*[;,:/|]\s*(?P<column>\d{1,2})\s*\)?",  # 3;6 and C;6
    )
)


def read_well(text: str) -> Position:
    """Row and column of a well: ``C6``, ``c06``, ``C-06``, ``3;6``, ``R03C06`` → (3, 6).

    Raises:
        ValueError: `text` is no well of any plate.
    """
    for pattern in _PATTERNS:
        match = pattern.fullmatch(text.strip())
        if match:
            return read_row(match["row"]), read_column(match["column"])
    raise ValueError(f"{text!r} is not a well; expected a name such as C06, or row and column as 3;6")


def read_row(text: str) -> int:
    """A row of its letters or its number: ``C``, ``3`` → 3.

    Raises:
        ValueError: `text` is no row of any plate.
    """
    plain = text.strip()
    if plain.isascii() and plain.isdigit():
        if not 1 <= int(plain) <= 32:
            raise ValueError(f"row {plain} is not on a plate; expected A to AF, or 1 to 32")
        return int(plain)
    return row_number(plain)


def read_column(text: str) -> int:
    """A column of its number: ``06`` → 6.

    Raises:
        ValueError: `text` is no column of any plate.
    """
    plain = text.strip()
    if not (plain.isascii() and plain.isdigit() and 1 <= int(plain) <= 48):
        raise ValueError(f"column {text!r} is not on a plate; expected 1 to 48")
    return int(plain)
