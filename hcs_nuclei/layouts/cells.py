"""A CSV, TSV or XLSX file in, its cells out as text; nothing is taken for a number or for missing here."""

from __future__ import annotations

import csv
import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

from hcs_nuclei.errors import LayoutError, listed

_DELIMITERS = "\t;,|"
#: A plate of 1536 wells with a hundred columns has a megabyte; what is larger is another file.
_MAX_BYTES = 50_000_000
_MAX_ROWS, _MAX_COLUMNS = 200_000, 1_000
_ROW_LETTER = re.compile(r"A?[A-Z]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sheet:
    """The cells of one sheet, row by row, empty ones as ""; `name` is a worksheet's, "" for a text file.

    `delimiter` is the one that a text file was cut at, "" for a worksheet.
    """

    name: str
    rows: tuple[tuple[str, ...], ...]
    delimiter: str = ""


@dataclass(frozen=True, slots=True)
class Cells:
    """The ways in which a file can be cut into sheets (a text file: one for each delimiter that it holds)."""

    cuts: tuple[tuple[Sheet, ...], ...]
    warnings: tuple[str, ...] = ()


def read_cells(path: Path) -> Cells:
    """The cells of a text table or a workbook.

    Raises:
        LayoutError: the file cannot be read, is empty, too large, or of another kind.
    """
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= _MAX_BYTES else b""
    except OSError as error:
        raise LayoutError(f"The table {path} cannot be read: {error.strerror}.") from None
    if size > _MAX_BYTES:
        raise LayoutError(f"The table {path} has {size:,} bytes; such a table has at most {_MAX_BYTES:,}.")
    if content.startswith(b"PK"):
        return Cells((tuple(_worksheets(path, content)),))
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        raise LayoutError(f"{path} is an old Excel workbook (.xls); save it as .xlsx or .csv.")
    text, said = _decoded(path, content)
    if not text.strip():
        raise LayoutError(f"The table {path} is empty.")
    return Cells(tuple(_cuts(path, text)), said)


def _decoded(path: Path, content: bytes) -> tuple[str, tuple[str, ...]]:
    wide = content[:2] in {b"\xff\xfe", b"\xfe\xff"}
    try:
        if wide or b"\x00" not in content:
            return content.decode("utf-16" if wide else "utf-8-sig"), ()
    except UnicodeDecodeError:
        if not wide:
            # What Excel saves as "CSV" in western Europe and America.
            said = "it is not UTF-8 and was read as Windows-1252; check names with µ or accents in the tables"
            return content.decode("cp1252", errors="replace"), (said,)
    raise LayoutError(f"{path} is neither text nor an Excel workbook (.xlsx); expected CSV, TSV or XLSX.")


def _cuts(path: Path, text: str) -> Iterator[tuple[Sheet, ...]]:
    fault = None
    found = False
    for delimiter in _DELIMITERS:
        if delimiter not in text and delimiter != ",":
            continue
        try:
            lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
        except csv.Error as error:
            fault = error
            continue
        found = True
        yield (Sheet("", tuple(tuple(cell.strip() for cell in line) for line in lines), delimiter),)
    if not found:
        raise LayoutError(f"The table {path} cannot be cut into columns: {fault}. Check its quotation marks.")


def _worksheets(path: Path, content: bytes) -> list[Sheet]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            written = sum(entry.file_size for entry in entries if entry.filename.lower().endswith(".xml"))
            if unpacked > 4 * _MAX_BYTES or written > _MAX_BYTES:
                raise LayoutError(f"The table {path} unpacks to {unpacked:,} bytes; it is not read.")
            sheets = [archive.read(entry) for entry in entries if "worksheets/" in entry.filename]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and validations that it does not know
            rows = {sheet.title: _rows(sheet) for sheet in _opened(content, data_only=True, read_only=True)}
            if any(b"<f>" in sheet or b"<f " in sheet for sheet in sheets):
                _refuse_uncalculated(path, content, rows)
            if any(b"<mergeCell " in sheet for sheet in sheets):
                for sheet in _opened(content):
                    _fill_merged(rows[sheet.title], sheet.merged_cells.ranges)
        return [Sheet(title, tuple(map(tuple, of_sheet))) for title, of_sheet in rows.items()]
    except LayoutError:
        raise
    except Exception as error:  # a damaged workbook raises whatever its damage leads to, from KeyError to zlib.error
        raise LayoutError(f"{path} cannot be read as an Excel workbook ({error}); save it again, or as CSV.") from None


def _opened(content: bytes, **how: bool) -> Iterator[Any]:
    import openpyxl

    yield from openpyxl.load_workbook(io.BytesIO(content), **how).worksheets


def _rows(sheet: Any) -> list[list[str]]:
    """The texts of a worksheet, without the empty cells at the end of each row: a stray cell far below costs little."""
    sheet.reset_dimensions()  # some programs write wrong ones
    found = []
    for row in islice(sheet.iter_rows(max_col=_MAX_COLUMNS, values_only=True), _MAX_ROWS):
        last = max((place for place, cell in enumerate(row) if cell is not None), default=-1)
        found.append([_text(cell) for cell in row[: last + 1]])
    return found


def _refuse_uncalculated(path: Path, content: bytes, rows: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Refuse formulas without their values, which programs other than Excel leave out when they write a workbook.

    A single one may have no value: its result may be an empty text.
    """
    lost = []
    for sheet in _opened(content, read_only=True):
        sheet.reset_dimensions()
        for known, row in zip(rows[sheet.title], sheet.iter_rows(max_col=_MAX_COLUMNS), strict=False):
            for cell in (cell for cell in row if cell.data_type == "f"):
                if "".join(known[cell.column - 1 : cell.column]):
                    return
                lost.append(cell.coordinate)
    if lost:
        raise LayoutError(
            f"{path} has formulas without values, in {listed(lost)}: the program that wrote it did not calculate them. "
            "Open it in Excel or LibreOffice and save it again, or write the values."
        )


def _fill_merged(rows: list[list[str]], ranges: Iterable[Any]) -> None:
    """Give each cell of a merged range its value: of several rows, or in a row of a grid, which begins with its letter.

    Any other row of which cells are merged is a title or a heading, of which there is one.
    """
    for merged in ranges:
        top, bottom, left, right = merged.min_row - 1, merged.max_row, merged.min_col - 1, merged.max_col
        within = rows[top:bottom]
        value = "".join(within[0][left : left + 1]) if within else ""
        if not value or not any(cell for row in within for cell in (*row[:left], *row[right:])):
            continue
        if len(within) == 1 and not any(_ROW_LETTER.fullmatch(cell) for cell in within[0][:left]):
            continue
        for row in within:
            row += [""] * (min(right, _MAX_COLUMNS) - len(row))
            row[left:right] = [value] * len(row[left:right])


def _text(cell: Any) -> str:
    """A cell's value as it would stand in a text file: 10.0 → ``10``, a date in ISO 8601."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, date):
        return cell.isoformat()
    return str(cell).strip()
