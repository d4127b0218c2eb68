"""A layout file and a plate in, the treatments of that plate's wells out, or every reason why they do not fit.

What :func:`read_layout` accepts::

    <folder>/barcode_platemap.csv        Assay_Plate_Barcode, Plate_Map_Name (or the folder that it lies in)
    <folder>/platemap/<name>.txt         well_position, …
    a list of wells                      CSV, TSV or XLSX; well, or row and column; a column for the plate if several
    grids                                8 × 12, 16 × 24, …: one, or several labelled ones
    Assaylayout/<name>.xml               Harmony's
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from hcs_nuclei.errors import LayoutError, listed
from hcs_nuclei.layouts.barcodes import PLATE_NAMES, find_plate_map, is_plate
from hcs_nuclei.layouts.cells import Cells, Sheet, read_cells
from hcs_nuclei.layouts.grids import find_bare_grids, find_grids
from hcs_nuclei.layouts.harmony import read_assay_layout
from hcs_nuclei.layouts.layout import Entry, Layout, Position, RawLayout
from hcs_nuclei.layouts.lists import find_list, plain
from hcs_nuclei.layouts.treatments import name_treatments
from hcs_nuclei.plate import PLATE_FORMATS, Plate, well_name

_BARCODES = "barcode_platemap.csv"
_FAULTS_SHOWN = 20


def read_layout(path: Path, plate: Plate, *, origin: Literal["file", "vendor"] = "file", called: str = "") -> Layout:
    """The treatments that the file (or cytomining folder) at `path`, `called` so, gives the wells of `plate`.

    Raises:
        LayoutError: it cannot be read, is no layout, names wells that are not in the plate's format, gives a well two
            values, or does not know the plate; the message names every fault.
    """
    source, raw, units = _read(path, plate)
    source = called or source
    faults = list(raw.faults)
    warnings = list(raw.warnings)
    entries = _of_plate(raw, plate, faults)
    wells = _merged(entries, faults)
    rows, columns = PLATE_FORMATS[plate.wells_in_format]
    outside = [place for place in sorted(wells) if place[0] > rows or place[1] > columns]
    if outside:
        said = f"{_wells(outside)}, not in a plate of {plate.wells_in_format} wells"
        if plate.expected_from == "metadata":
            faults.append(f"it names {said}")
        else:
            warnings.append(f"it names {said}; the format is inferred from the wells that were imaged")
    if faults:
        said = "\n".join(f"  {fault}" for fault in faults[:_FAULTS_SHOWN])
        more = f"\n  and {len(faults) - _FAULTS_SHOWN} more" if len(faults) > _FAULTS_SHOWN else ""
        raise LayoutError(f"The layout {source} cannot be used for plate {plate.name}:\n{said}{more}")
    names = [name for name in raw.names if not is_plate(name)]
    named = name_treatments(names, wells, units, decimal_comma=raw.decimal_comma)
    if named.faults:
        raise LayoutError(f"The layout {source} cannot be used for plate {plate.name}: {'; '.join(named.faults)}.")
    treated = {place: values for place, values in sorted(named.wells.items()) if values}
    return Layout(
        source=source,
        origin=origin,
        columns=named.columns,
        wells={well_name(*place): values for place, values in treated.items()},
        warnings=tuple(
            f"Layout {source}: {words}."
            for words in (*warnings, *named.warnings, *_unmatched(list(treated), set(outside), plate))
        ),
    )


def vendor_layouts(plate: Plate) -> tuple[str, ...]:
    """The layout files, relative to the root, that the vendor left in the plate's directory."""
    return tuple(name for name in plate.metadata_files if name.lower().startswith("assaylayout/"))


def read_vendor_layout(plate: Plate) -> Layout | None:
    """The treatments of the layout that lies in the plate's directory; None where there is none.

    A damaged layout, or several that differ, cost no plate: the layout is then without columns, and its warnings say
    why. So it is where every well is empty.
    """
    layouts: list[Layout] = []
    said: list[str] = []
    for name in vendor_layouts(plate):
        try:
            if not (plate.root / name).resolve().is_relative_to(plate.root.resolve()):
                raise LayoutError(f"{name} is a link that leaves the plate directory, and is not followed.")
            layout = read_layout(plate.root / name, plate, origin="vendor", called=name)
        except (LayoutError, OSError, RuntimeError) as error:
            said.append(f"The layout in the plate's directory is not used. {error}")
            continue
        if layout.wells:
            layouts.append(layout)
    if len({layout.sha256 for layout in layouts}) > 1:
        names = listed(layout.source for layout in layouts)
        said.append(f"The plate's directory has several layouts ({names}); none is used. Name one with --layout.")
        layouts = []
    if layouts:
        return replace(layouts[0], warnings=(*said, *layouts[0].warnings))
    found = vendor_layouts(plate)
    return Layout(listed(found), "vendor", (), {}, tuple(said)) if found else None


def _read(path: Path, plate: Plate) -> tuple[str, RawLayout, dict[str, str]]:
    """(what it is called, what it says, units of columns)."""
    if path.is_dir():
        if not (path / _BARCODES).is_file():
            raise LayoutError(f"The layout {path} is a directory without {_BARCODES}; name the layout file.")
        path = path / _BARCODES
    if not path.exists():
        raise LayoutError(f"There is no layout {path}. Check its name.")
    if path.suffix.lower() == ".xml":
        return (str(path), *read_assay_layout(path))
    cells = read_cells(path)
    plate_map = find_plate_map(path, cells, plate.name)
    if plate_map is None:
        return str(path), _table(path, cells), {}
    return f"{plate_map} (by {path.name})", _table(plate_map, read_cells(plate_map)), {}


def _table(path: Path, cells: Cells) -> RawLayout:
    """All grids or the one list of a file, cut at the first delimiter that makes it either."""
    for cut in cells.cuts:
        raw = find_grids(cut) or _only_list(path, cut) or find_bare_grids(cut)
        if raw is not None:
            return replace(raw, warnings=(*cells.warnings, *raw.warnings))
    first = next((row for cut in cells.cuts for sheet in cut for row in sheet.rows if any(row)), ())
    raise LayoutError(
        f"{path} is not a plate layout: found {listed((repr(cell) for cell in first), 6) or 'no cell'} in its first "
        "line; expected a column well_position (or well, or row and column), a grid with rows A, B, … and columns "
        "1, 2, …, or barcode_platemap.csv."
    )


def _only_list(path: Path, sheets: Sequence[Sheet]) -> RawLayout | None:
    lists = [(sheet.name, found) for sheet in sheets if (found := find_list(sheet)) is not None]
    if len(lists) > 1:
        names = listed(name for name, _ in lists)
        raise LayoutError(f"{path} has several sheets with a list of wells ({names}); keep one of them.")
    if not lists:
        return None
    name, raw = lists[0]
    others = [repr(sheet.name) for sheet in sheets if sheet.name != name and any(any(row) for row in sheet.rows)]
    said = (f"only the sheet {name!r} is used, not {listed(others)}",) if others else ()
    return replace(raw, warnings=(*raw.warnings, *said))


def _of_plate(raw: RawLayout, plate: Plate, faults: list[str]) -> list[Entry]:
    """The entries about this plate, where a column says which."""
    columns = [name for name in raw.names if is_plate(name)]
    if not columns:
        return list(raw.entries)
    column = min(columns, key=lambda name: PLATE_NAMES.index(plain(name)))
    found = dict.fromkeys(entry.values.get(column, "") for entry in raw.entries)
    if plate.name not in found:
        faults.append(
            f"its column {column} has no plate {plate.name}; found {listed(filter(None, found)) or 'nothing'}. "
            "Say which of them the plate is with --plate-name"
        )
    return [entry for entry in raw.entries if entry.values.get(column) == plate.name]


def _merged(entries: Sequence[Entry], faults: list[str]) -> dict[Position, dict[str, str]]:
    wells: dict[Position, dict[str, str]] = {}
    origin: dict[tuple[Position, str], str] = {}
    for entry in entries:
        values = wells.setdefault(entry.position, {})
        for name, text in entry.values.items():
            if is_plate(name):
                continue
            former = values.setdefault(name, text)
            first = origin.setdefault((entry.position, name), entry.where)
            if former != text:
                faults.append(
                    f"{well_name(*entry.position)} is there more than once: {name} is {former!r} ({first}) and "
                    f"{text!r} ({entry.where})"
                )
    return wells


def _unmatched(treated: Sequence[Position], outside: set[Position], plate: Plate) -> list[str]:
    imaged = {(well.row, well.column) for well in plate.wells}
    said = []
    if not treated:
        said.append("it gives no well a treatment")
    unimaged = [place for place in treated if place not in imaged and place not in outside]
    if unimaged:
        said.append(f"{_wells(unimaged)} of it {'was' if len(unimaged) == 1 else 'were'} not imaged")
    untreated = sorted(imaged - set(treated))
    if treated and untreated:
        said.append(f"{_wells(untreated)} {'was' if len(untreated) == 1 else 'were'} imaged and not in it")
    return said


def _wells(places: Sequence[Position]) -> str:
    names = listed(well_name(*place) for place in places)
    return f"the well {names}" if len(places) == 1 else f"{len(places)} wells ({names})"
