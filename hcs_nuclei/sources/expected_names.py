"""A missing plane in, the name that its file should have out: as the names of the same plane in other wells lead to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from hcs_nuclei.plate import Field, Plane, Plate, Well, row_name

#: How vendors write a well into a name.
_WRITINGS: tuple[Callable[[Well], str], ...] = (
    lambda well: well.name,
    lambda well: f"{row_name(well.row)}{well.column}",
    lambda well: f"r{well.row:02d}c{well.column:02d}",
    lambda well: f"{well.row:03d}{well.column:03d}",
    lambda well: f"{row_name(well.row)} - {well.column:02d}",
    lambda well: f"{row_name(well.row)} - {well.column}",
    lambda well: f"{row_name(well.row)}/{well.column:02d}",
    lambda well: f"{row_name(well.row)}/{well.column}",
)
_Key = tuple[int, str, int, int, bool]


class ExpectedNames:
    """The names that a plate's missing planes should have, where they follow from those that are there."""

    def __init__(self, plate: Plate) -> None:
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
        return _moved(path, self._write(other), self._write(well))

    def _writing(self) -> Callable[[Well], str] | None:
        """The writing of wells by which one well's names become another's (none does where names hold GUIDs)."""
        for siblings in self._siblings.values():
            if len(siblings) == 2:
                (one, path), (other, expected) = siblings
                return next((w for w in _WRITINGS if _moved(path, w(one), w(other)) == expected), None)
        return None


def _key(site: Field, plane: Plane) -> _Key:
    return site.number, plane.channel, plane.timepoint, plane.z, plane.projection


def _moved(path: str, one: str, other: str) -> str:
    before, found, after = path.rpartition(one)
    return before + other + after if found else ""
