"""scanR's ``experiment_descriptor.xml`` in, plate, wells, positions and channels out.

A dump of LabVIEW values: names and values follow one another, and what a value means depends on the last name. Which
names mean what is taken from Bio-Formats' ``ScanrReader``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.sources.assembly import Position, position
from hcs_nuclei.sources.metadata_xml import elements
from hcs_nuclei.sources.numbered_wells import by_row

_MOST_BYTES = 100_000_000
#: Wells × positions; 1536 × 130. A file of a few kB could ask for any number.
_MOST_FIELDS = 200_000


@dataclass
class Descriptor:
    """What was to be acquired; 0, empty or None where the file does not say it.

    `wells` are the selected ones by their number in the images' names, `times` the number of time points, `channels`
    those that were switched on, in their order.
    """

    plate: str = ""
    rows: int = 0
    columns: int = 0
    wells: dict[int, Position] = field(default_factory=dict)
    positions: int = 0
    slices: int = 0
    times: int = 0
    channels: list[str] = field(default_factory=list)
    pixel_size_um: float | None = None


def read_descriptor(path: Path) -> Descriptor:
    """The descriptor at `path`.

    Raises:
        NotAPlateError: it is damaged, or holds something else where a number should be.
    """
    parser = _Parser()
    for name, element in elements(path, {"Name", "Val", "Dimsize"}, _content(path)):
        text = (element.text or "").strip()
        try:
            if text:
                parser.take(name, text)
        except ValueError as error:
            raise NotAPlateError(f"{path}: {parser.key} holds no number ({error}). Copy it again.") from None
    return parser.finished(path)


def _content(path: Path) -> bytes:
    """The file's bytes in the encoding that they are in: scanR writes Latin-1 and does not say so."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise NotAPlateError(f"{path} has more than {_MOST_BYTES:,} bytes, which no descriptor has.")
        data = path.read_bytes()
    except OSError as error:
        raise NotAPlateError(f"{path} cannot be read: {error.strerror}.") from None
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return data
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return re.sub(r"^\s*<\?xml[^>]*\?>", "", text).encode()


class _Parser:
    """Takes names and values one after another."""

    def __init__(self) -> None:
        self.key = ""
        self._found = Descriptor()
        self._grid = [0, 0]
        self._in_format = False
        self._number = 0
        self._numbers: list[int] = []
        self._labels: dict[int, Position] = {}
        self._channel = ""

    def take(self, name: str, text: str) -> None:
        """One element that is not empty."""
        if name == "Name":
            self.key = text
            self._in_format = self._in_format or text == "format typedef"
        elif name == "Dimsize":
            if self.key == "subposition list":
                self._found.positions = self._found.positions or int(text)
        elif self.key == "well selection table + cDNA":
            self._take_well(text)
        else:
            self._take_value(text)

    def finished(self, path: Path) -> Descriptor:
        """What was found; of wells with a name only those, for a number may be anything that somebody typed."""
        found = self._found
        found.positions = found.positions or self._grid[0] * self._grid[1]
        if self._labels:
            found.wells = self._labels
        elif found.columns:
            found.wells = {n: by_row(n, found.columns) for n in self._numbers if 0 < n <= found.rows * found.columns}
        if len(found.wells) * max(0, found.positions) > _MOST_FIELDS:
            raise NotAPlateError(f"{path} speaks of {found.positions:,} positions in each well, which is damage.")
        return found

    def _take_well(self, text: str) -> None:
        where = position(text)
        if text.isdecimal():
            self._number = int(text)
            self._numbers.append(self._number)
        elif where is not None and self._number:
            self._labels.setdefault(self._number, where)

    def _take_value(self, text: str) -> None:
        found = self._found
        if self.key == "Rows" and self._in_format:
            found.rows = int(text)
        elif self.key == "Columns" and self._in_format:
            found.columns = int(text)
        elif self.key in {"columns/well", "rows/well"}:
            self._grid[self.key == "rows/well"] = int(text)
        elif self.key == "# slices":
            found.slices = int(text)
        elif self.key in {"timeloop real", "timeloop count"}:
            found.times = int(text) + (self.key == "timeloop count")
        elif self.key == "plate name":
            found.plate = text
        elif self.key == "conversion factor um/pixel":
            size = float(text.replace(",", "."))
            found.pixel_size_um = size if math.isfinite(size) and size > 0 else None
        elif self.key == "name":
            self._channel = text
        elif self.key == "idle":
            # What is idle or focuses was not imaged; a name without this word is something else's.
            if text == "0" and self._channel not in {"", "Autofocus", *found.channels}:
                found.channels.append(self._channel)
            self._channel = ""
