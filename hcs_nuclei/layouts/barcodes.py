"""Which plates a screen has: the lists of barcodes, and the maps from a barcode to its plate map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hcs_nuclei.errors import LayoutError, listed
from hcs_nuclei.layouts.cells import Cells, read_cells
from hcs_nuclei.layouts.lists import find_columns, plain

#: Names of a column that says which plate, as :func:`hcs_nuclei.layouts.lists.plain` has them. Among wells, a column
#: called barcode may as well be a tube's.
PLATE_NAMES = ("assay_plate_barcode", "plate_barcode", "plate_name", "plate_id", "plate")
_PLATE_MAP = {"assay_plate_barcode": "barcode", "plate_map_name": "name"}
#: As cytomining has it, and beside the file itself.
_FOLDERS = ("platemap", "platemaps", ".")
_SUFFIXES = (".txt", ".tsv", ".csv", ".xlsx", "")


def check_barcode(path: Path, plate: str) -> None:
    """Refuse a plate whose barcode (name) is not on the list at `path`: a line each, or a column of a table.

    Raises:
        LayoutError: it is not on the list, or the list cannot be read; names the plate and the list.
    """
    known = read_barcodes(path)
    if plate not in known:
        raise LayoutError(
            f"Plate {plate} is held: its barcode is not on the list {path} ({len(known):,} barcodes: {listed(known)}). "
            "Add it to the list, say which plate it is with --plate-name, or leave --barcodes out."
        )


def read_barcodes(path: Path) -> list[str]:
    """The barcodes of a list in its order, each once; text, so that ``00123`` stays what it is.

    Raises:
        LayoutError: the list cannot be read or holds no barcode.
    """
    cells = read_cells(path)
    for name in ("barcode", *PLATE_NAMES):
        for cut in cells.cuts:
            for sheet in cut:
                lines = find_columns(sheet, {name: "barcode"})
                if lines is not None:
                    return _some(path, [line["barcode"] for line in lines])
    first = [row[0] for sheet in cells.cuts[0] for row in sheet.rows if row and not row[0].startswith("#")]
    return _some(path, first)


def find_plate_map(path: Path, cells: Cells, plate: str) -> Path | None:
    """The plate map of `plate` by a ``barcode_platemap.csv``; None where the file is no such map.

    Raises:
        LayoutError: the plate is not in it, or its plate map is not there.
    """
    for sheet in (sheet for cut in cells.cuts for sheet in cut):
        lines = find_columns(sheet, _PLATE_MAP)
        if lines is not None:
            return _located(path, plate, _name_of(path, plate, lines))
    return None


def is_plate(name: str) -> bool:
    """Whether a column of this name says which plate a line is about."""
    return plain(name) in PLATE_NAMES


def _name_of(path: Path, plate: str, lines: Sequence[dict[str, str]]) -> str:
    names = list(dict.fromkeys(line["name"] for line in lines if line["barcode"] == plate))
    if len(names) > 1:
        raise LayoutError(f"{path} gives plate {plate} several plate maps: {listed(names)}. Keep one.")
    if not names or not names[0]:
        known = dict.fromkeys(line["barcode"] for line in lines if line["barcode"])
        raise LayoutError(
            f"Plate {plate} is not in {path}; found {len(known):,} barcodes: {listed(known)}. Add its line, or say "
            "which of them the plate is with --plate-name."
        )
    return names[0]


def _located(path: Path, plate: str, name: str) -> Path:
    if "/" in name or "\\" in name or name in {".", ".."}:
        raise LayoutError(f"{path} calls the plate map of {plate} {name!r}; expected a plain file name.")
    tried = [path.parent / folder / f"{name}{suffix}" for folder in _FOLDERS for suffix in _SUFFIXES]
    for place in tried:
        if place.is_file():
            return place
    raise LayoutError(
        f"{path} says that plate {plate} has the plate map {name}, which is not there; expected it as "
        f"{path.parent / 'platemap' / name}.txt (or .csv, .tsv, .xlsx)."
    )


def _some(path: Path, barcodes: Sequence[str]) -> list[str]:
    known = [barcode for barcode in dict.fromkeys(barcodes) if barcode]
    if not known:
        raise LayoutError(f"The list {path} holds no barcode; expected one in each line, or a column 'barcode'.")
    return known
