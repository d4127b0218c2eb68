"""A file of wells and fields that someone excluded, with the reason, in; what it says of one plate out.

One line a well, or a field of it; ``plate``, ``field``, ``who`` and ``when`` may be empty or left out::

    plate,well,field,reason,who,when
    SIM-0001,B03,,tip was blocked,A. Ruiz,2026-03-02
    SIM-0001,C04,2,bubble,A. Ruiz,2026-03-02
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hcs_nuclei.errors import LayoutError, listed
from hcs_nuclei.layouts.cells import Cells, read_cells
from hcs_nuclei.plate import Plate, parse_well, well_name

_COLUMNS = ("plate", "well", "field", "reason", "who", "when")
_NEEDED = ("well", "reason")
_FAULTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One well ("B03"), or one field of it, that does not count; `who` and `when` as the file has them."""

    well: str
    field: int | None
    reason: str
    who: str = ""
    when: str = ""


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What one plate loses: `source` is the file, `sha256` of its bytes; `entries` are of this plate alone."""

    source: str
    sha256: str
    entries: tuple[Exclusion, ...]

    def reasons(self, well: str, field: int | None = None) -> str:
        """Why a well, or a field of it (by its own entry or its well's), is excluded; empty where it is not."""
        return self._told("reason", well, field)

    def who(self, well: str, field: int | None = None) -> str:
        """Who excluded it, as :meth:`reasons` has why; empty where the file does not say."""
        return self._told("who", well, field)

    def when(self, well: str, field: int | None = None) -> str:
        """When it was excluded, in the file's words; empty where it does not say."""
        return self._told("when", well, field)

    def _told(self, what: str, well: str, field: int | None) -> str:
        told = [getattr(e, what) for e in self.entries if e.well == well and (e.field is None or e.field == field)]
        return "; ".join(dict.fromkeys(filter(None, told)))


def read_exclusions(path: Path, plate: Plate) -> Exclusions:
    """What the file at `path` (CSV, TSV or XLSX) excludes of `plate`; lines of other plates are left out.

    Raises:
        LayoutError: it cannot be read, has no column ``well`` or ``reason``, gives no reason, or names a well or field
            that the plate does not have; the message names every fault.
    """
    header, lines = _table(path, read_cells(path))
    fields = {well.name: {site.number for site in well.fields} for well in plate.wells}
    faults: list[str] = []
    entries: list[Exclusion] = []
    for number, line in lines:
        values = dict(zip(header, line, strict=False))
        if values.get("plate", "") not in {"", plate.name}:
            continue
        entry = _entry(values, fields, f"line {number}", faults)
        if entry is not None and entry not in entries:
            entries.append(entry)
    if faults:
        said = "\n".join(f"  {fault}" for fault in faults[:_FAULTS_SHOWN])
        more = f"\n  and {len(faults) - _FAULTS_SHOWN} more" if len(faults) > _FAULTS_SHOWN else ""
        raise LayoutError(f"The exclusions {path} cannot be used for plate {plate.name}:\n{said}{more}")
    return Exclusions(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), tuple(entries))


def _table(path: Path, cells: Cells) -> tuple[list[str], list[tuple[int, tuple[str, ...]]]]:
    """The header in small letters, and the numbered lines under it that are not empty."""
    found: list[str] = []
    for sheet, *_ in cells.cuts:
        lines = [(number, row) for number, row in enumerate(sheet.rows, start=1) if any(row)]
        header = [cell.casefold() for cell in lines[0][1]] if lines else []
        if set(_NEEDED) <= set(header):
            return header, lines[1:]
        found = max(found, header, key=len)
    raise LayoutError(
        f"The exclusions {path} have the columns {listed(map(repr, filter(None, found))) or 'of no name'}; expected "
        f"{', '.join(_COLUMNS)}, of which {' and '.join(_NEEDED)} must be there."
    )


def _entry(
    values: Mapping[str, str], fields: Mapping[str, set[int]], where: str, faults: list[str]
) -> Exclusion | None:
    try:
        well = well_name(*parse_well(values.get("well", "")))
    except ValueError as error:
        faults.append(f"{where}: {error}")
        return None
    number, reason = values.get("field", ""), values.get("reason", "")
    before = len(faults)
    if well not in fields:
        faults.append(f"{where}: the plate has no well {well}")
    elif number and not number.isdecimal():
        faults.append(f"{where}: {number!r} is no field; expected a number, or nothing for the whole well {well}")
    elif number and int(number) not in fields[well]:
        faults.append(f"{where}: {well} has no field {number}; it has {listed(sorted(fields[well]))}")
    if not reason:
        faults.append(f"{where}: no reason is given for {well}{f' field {number}' if number else ''}")
    if len(faults) > before:
        return None
    return Exclusion(well, int(number) if number else None, reason, values.get("who", ""), values.get("when", ""))
