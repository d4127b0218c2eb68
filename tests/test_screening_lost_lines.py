"""Rows and columns that lost their wells are told from single wells that did, and from a plate that lost most."""

from __future__ import annotations

import numpy as np

from hcs_nuclei.screening.lost_lines import LostLine, lost_lines

ROWS, COLUMNS = (places.ravel() for places in np.mgrid[1:9, 1:13])


def test_a_column_and_a_row() -> None:
    assert lost_lines(ROWS, COLUMNS, COLUMNS == 5) == (LostLine("column", 5, 8, 8),)
    assert lost_lines(ROWS, COLUMNS, ROWS == 2) == (LostLine("row", 2, 12, 12),)
    nearly = (COLUMNS == 5) & (ROWS > 2)
    assert lost_lines(ROWS, COLUMNS, nearly) == (LostLine("column", 5, 6, 8),)


def test_single_wells_are_no_line() -> None:
    assert lost_lines(ROWS, COLUMNS, ROWS == COLUMNS) == ()
    assert lost_lines(ROWS, COLUMNS, np.zeros(96, dtype=bool)) == ()
    half = (COLUMNS == 5) & (ROWS > 4)
    assert lost_lines(ROWS, COLUMNS, half) == ()


def test_where_much_else_is_lost_a_line_says_nothing() -> None:
    scattered = (COLUMNS == 5) | ((ROWS + COLUMNS) % 3 == 0)
    assert lost_lines(ROWS, COLUMNS, scattered) == ()
    assert lost_lines(ROWS, COLUMNS, np.ones(96, dtype=bool)) == ()


def test_a_line_of_few_wells_says_nothing() -> None:
    few = ROWS <= 3
    assert lost_lines(ROWS[few], COLUMNS[few], (COLUMNS == 5)[few]) == ()
