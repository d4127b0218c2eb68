"""A well's number in, its row and column out, for vendors that count wells row by row in their files' names."""

from __future__ import annotations

from collections.abc import Iterable

from hcs_nuclei.plate import PLATE_FORMATS
from hcs_nuclei.sources.assembly import Position


def by_row(number: int, columns: int) -> Position:
    """Row and column of a well by its number, counted row by row from 1 on a plate of `columns` columns."""
    return (number - 1) // columns + 1, (number - 1) % columns + 1


def position_of(number: int, columns: int) -> Position | None:
    """As :func:`by_row`; None where no plate has such a well."""
    row, column = by_row(number, columns)
    return (row, column) if 1 <= row <= 32 and column <= 48 and number > 0 else None


def likely_columns(numbers: Iterable[int]) -> int:
    """Columns of the smallest plate of 96 or more wells that has wells of all these numbers."""
    last = max(numbers, default=1)
    return next((columns for wells, (_, columns) in PLATE_FORMATS.items() if wells >= max(96, last)), 48)
