"""A missing plane in, the name that its file should have out: as the names of the same plane in other wells lead to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from hcs_nuclei.plate import PLATE_FORMATS, Field, Plane, Plate, Well, row_name

#: How vendors write a well into a name; scanR and the CQ1 count wells row by row of so many columns.
_WRITINGS: tuple[Callable[[Well, int], str], ...] = (
    lambda well, columns: well.name,
    lambda well, columns: f"{row_name(well.row)}{well.column}",
    lambda well, columns: f"{row_name(well.row)}{well.column}--W{(well.row - 1) * columns + well.column:05d}",
    lambda well, columns: f"W{(well.row - 1) * columns + well.column:04d}",
    lambda well, columns: f"r{well.row:02d}c{well.column:02d}",
    lambda well, columns: f"{well.row:03d}{well.column:03d}",
    lambda well, columns: f"{row_name(well.row)} - {well.column:02d}",
    lambda well, columns: f"{row_name(well.row)} - {well.column}",
    lambda well, columns: f"{row_name(well.row)}/{well.column:02d}",
    lambda well, columns: f"{row_name(well.row)}/{well.column}",
)
_Key = tuple[int, str, int, int, bool]


class ExpectedNames:
    """The names that a plate's missing planes should have, where they follow from those that are there."""

    def __init__(self, plate: Plate) -> None:
        self._columns = PLATE_FORMATS[plate.wells_in_format][1]
        self._siblings: dict[_Key, list[tuple[Well, str]]] = defaultdict(list)
        for well in plate:
            for site in well.fields:
                for plane in site.planes:
                    if plane.path and len(siblings := self._siblings[_key(site, plane)]) < 2:
                        siblings.append((well, plane.path))
        self._write = self._writing()

    def of(self, well: Well, site: Field, plane: Plane) -> str:
        """The path, relative to the plate's root, that `plane` should have; empty where names do not tell."""
        siblings = self._siblings.get(_key(site, plane), ())
        if self._write is None or not siblings:
            return ""
        other, path = siblings[0]
        return _moved(path, self._write(other, self._columns), self._write(well, self._columns))

    def _writing(self) -> Callable[[Well, int], str] | None:
        """The writing of wells by which one well's names become another's (none does where names hold GUIDs)."""
        for siblings in self._siblings.values():
            if len(siblings) == 2:
                (one, path), (other, expected) = siblings
                n = self._columns
                return next((w for w in _WRITINGS if _moved(path, w(one, n), w(other, n)) == expected), None)
        return None


def _key(site: Field, plane: Plane) -> _Key:
    return site.number, plane.channel, plane.timepoint, plane.z, plane.projection


def _moved(path: str, one: str, other: str) -> str:
    before, found, after = path.rpartition(one)
    return before + other + after if found else ""
