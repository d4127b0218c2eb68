"""Names in, names out: a plate as frozen values (wells, fields, channels, planes), standard library only.

Nothing here touches a disk. Readers in :mod:`hcs_nuclei.sources` build these values from a vendor's
directory; everything after them asks these values instead of file names.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

ZPolicy = Literal["auto", "max"] | int
"""Which Z planes make an image: ``auto`` (the instrument's projection, else the maximum), ``max``, or one z."""

_WELL = re.compile(r"^\s*(?P<row>[A-Za-z]|[Aa][A-Fa-f])\s*[-_ ]?\s*(?P<column>\d{1,2})\s*$")
#: (rows, columns) of the plate formats that are sold, smallest first.
PLATE_FORMATS: dict[int, tuple[int, int]] = {
    6: (2, 3),
    12: (3, 4),
    24: (4, 6),
    48: (6, 8),
    96: (8, 12),
    384: (16, 24),
    1536: (32, 48),
}


def row_name(row: int) -> str:
    """Letters of a 1-based row: 1 → ``A``, 26 → ``Z``, 27 → ``AA``, 32 → ``AF``.

    Raises:
        ValueError: `row` is not in 1 … 32.
    """
    if not 1 <= row <= 32:
        raise ValueError(f"row {row} is not on a plate; expected 1 to 32 (A to AF)")
    return chr(ord("A") + row - 1) if row <= 26 else "A" + chr(ord("A") + row - 27)


def row_number(letters: str) -> int:
    """1-based row of its letters: ``A`` → 1, ``AF`` → 32; case does not matter.

    Raises:
        ValueError: the letters name no row of a plate.
    """
    upper = letters.upper()
    if len(upper) == 1 and "A" <= upper <= "Z":
        return ord(upper) - ord("A") + 1
    if len(upper) == 2 and upper[0] == "A" and "A" <= upper[1] <= "F":
        return 27 + ord(upper[1]) - ord("A")
    raise ValueError(f"{letters!r} is not a plate row; expected A to Z or AA to AF")


def well_name(row: int, column: int) -> str:
    """Name of a well from 1-based row and column: (2, 3) → ``B03``.

    Raises:
        ValueError: row is not in 1 … 32 or column not in 1 … 48.
    """
    if not 1 <= column <= 48:
        raise ValueError(f"column {column} is not on a plate; expected 1 to 48")
    return f"{row_name(row)}{column:02d}"


def parse_well(name: str) -> tuple[int, int]:
    """1-based (row, column) of a well as people write it: ``B03``, ``b3``, ``B 3`` → (2, 3).

    Raises:
        ValueError: `name` is not a well.
    """
    match = _WELL.match(name)
    if match is None or not 1 <= int(match["column"]) <= 48:
        raise ValueError(f"{name!r} is not a well; expected a name such as B03 or AF48")
    return row_number(match["row"]), int(match["column"])


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a plate.

    `token` is what stands in the vendor's file names or index (``w1``, ``ch1``, ``C01``, ``d0``; empty where
    there is none), `name` is what people call it (``DAPI``; the token where the vendor gives no name).
    """

    token: str
    name: str

    @property
    def column_name(self) -> str:
        """The name as it ends a feature column: letters and digits only (``Texas Red`` → ``TexasRed``)."""
        return re.sub(r"[^0-9A-Za-z]+", "", self.name) or self.token or "Channel"

    def matches(self, wanted: str) -> bool:
        """Whether `wanted` is this channel's name or token, whatever its case."""
        return wanted.casefold() in {self.name.casefold(), self.token.casefold(), self.column_name.casefold()}


@dataclass(frozen=True, slots=True)
class Plane:
    """One expected two-dimensional image: one page of one file, or of one Zarr array.

    `path` is relative to the plate's root, with ``/``; empty where the plane is expected and not there. `page` counts
    the pages of a TIFF from 0; of a Zarr array (a directory), the planes over its axes before y and x, the last axis
    fastest. `channel` is a :attr:`Channel.token`. `z` counts as the vendor does; `projection` marks the instrument's
    own projection over z. `timepoint` is the 0-based index on the time axis. `error` is the instrument's own word for
    a failed acquisition (CellVoyager's ``ERR`` records). `doubles` are other files that are there for the same plane
    and not used. `page_named` says whether metadata name the page; a file of which they do not has one.
    """

    channel: str
    path: str
    z: int = 0
    timepoint: int = 0
    page: int = 0
    projection: bool = False
    error: str = ""
    doubles: tuple[str, ...] = ()
    page_named: bool = False


@dataclass(frozen=True, slots=True)
class ExtraImage:
    """An image that is there and that the metadata do not promise, placed as its name says.

    `used` says whether its field is processed all the same. `timepoint` and `z` count as the file names do.
    """

    path: str
    well: str
    field: int
    channel: str
    timepoint: int
    z: int
    projection: bool = False
    used: bool = False


@dataclass(frozen=True, slots=True)
class Absence:
    """A whole channel, time point or z plane that the metadata promise and of which nothing is there.

    Exactly one of `channel` (a token), `timepoint` and `z` (the vendor's numbers) is what is absent, but for a z
    plane, which may be absent in one channel alone. `planes` is how many planes that costs. `certain` is False where
    the metadata are an upper bound, and the plane was perhaps never to be taken.
    """

    planes: int
    channel: str = ""
    name: str = ""
    timepoint: int | None = None
    z: int | None = None
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Field:
    """One field of view (vendors' "site"): its number in the file names and its expected planes.

    `position_um` is the stage position (x, y) in micrometres, y pointing down, where the vendor gives it.
    """

    number: int
    planes: tuple[Plane, ...]
    position_um: tuple[float, float] | None = None

    def planes_of(self, channel: str, timepoint: int, z: ZPolicy = "auto") -> tuple[Plane, ...]:
        """The planes whose maximum is this field's image of `channel` (a token) at `timepoint`.

        ``auto`` takes the instrument's projection where there is one, else every z plane; ``max`` takes every z
        plane (the projection only where there is nothing else); a number takes that z alone. Planes that are
        expected and not there are returned too (empty path): the caller names them. Empty where none is expected.
        """
        here = [p for p in self.planes if p.channel == channel and p.timepoint == timepoint]
        projections = tuple(p for p in here if p.projection)
        slices = tuple(p for p in here if not p.projection)
        if isinstance(z, int):
            return tuple(p for p in slices if p.z == z)
        if z == "max":
            return slices or projections
        found = tuple(p for p in projections if p.path)
        return found or slices or projections


@dataclass(frozen=True, slots=True)
class Well:
    """One well: 1-based row and column, and its expected fields in order of their numbers."""

    row: int
    column: int
    fields: tuple[Field, ...]

    @property
    def name(self) -> str:
        """``B03`` for row 2, column 3."""
        return well_name(self.row, self.column)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file: its size in bytes, the store's word for its content (ETag, time of change), and its MD5 where told."""

    size: int
    version: str
    md5: str = ""


@dataclass(frozen=True)
class RemoteFiles:
    """What lies below a URL, as its store lists it: files by their names relative to it, in the order of the names."""

    url: str
    files: Mapping[str, RemoteFile]

    def below(self, path: str) -> tuple[str, ...]:
        """The file `path`, or every file in the directory `path`; none where neither is there."""
        if path in self.files:
            return (path,)
        first, after = (bisect_left(self._names, f"{path}{end}") for end in "/0")  # 0 comes after /
        return self._names[first:after]

    def only(self, paths: Iterable[str]) -> RemoteFiles:
        """The same URL with `paths` (files or directories) alone: what a worker has to know of a plate."""
        names = sorted({name for path in paths for name in self.below(path)})
        return RemoteFiles(self.url, {name: self.files[name] for name in names})

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.files)


@dataclass(frozen=True, slots=True)
class Plate:
    """A plate as it is expected to be, with what is really there: names only, no pixels.

    Attributes:
        root: the directory that plane paths are relative to; only ever read. Of a plate at a URL it is where this
            process has copies of its metadata.
        vendor: which reader recognised it (``imagexpress``, ``operetta``, ``cellvoyager`` …).
        reason: why it was recognised, in words for the user.
        name: the vendor's barcode or plate name, else the directory's name.
        acquisition: the vendor's measurement or plate-run id, empty where there is none.
        wells: expected wells in row-major order.
        channels: channels of which at least one plane is there, in the vendor's order.
        timepoints: number of time points of which at least one plane is there; at least 1.
        pixel_size_um: edge of a pixel in micrometres, None where the vendor does not say.
        confocal: whether its images are optical sections, None where the vendor does not say.
        wells_in_format: the vendor's word (6 to 1536), else the smallest of 96, 384 and 1536 that holds the wells.
        expected_from: ``metadata`` where the vendor's metadata say what should be there, else ``regularity``.
        warnings: unmet promises that are not a field's fault (a whole channel or time point that is not there).
        metadata_files: paths, relative to the root, of the vendor's files that were read.
        absent: whole channels, time points and z planes that metadata promise and of which nothing is there.
        extra: images that are there and that the metadata do not promise.
        remote: where the plate lies and what lies there, None for a plate on a disk.
    """

    root: Path
    vendor: str
    reason: str
    name: str
    acquisition: str
    wells: tuple[Well, ...]
    channels: tuple[Channel, ...]
    timepoints: int = 1
    pixel_size_um: float | None = None
    wells_in_format: int = 96
    expected_from: Literal["metadata", "regularity"] = "regularity"
    warnings: tuple[str, ...] = ()
    metadata_files: tuple[str, ...] = field(default=())
    absent: tuple[Absence, ...] = ()
    extra: tuple[ExtraImage, ...] = ()
    remote: RemoteFiles | None = None
    confocal: bool | None = None

    @property
    def place(self) -> str:
        """Where the plate lies, for people: its directory, or its URL."""
        return self.remote.url if self.remote else str(self.root)

    def __iter__(self) -> Iterator[Well]:
        return iter(self.wells)

    def well(self, name: str) -> Well:
        """The well of that name, written as people write it.

        Raises:
            KeyError: the plate expects no such well.
        """
        position = parse_well(name)
        for well in self.wells:
            if (well.row, well.column) == position:
                return well
        raise KeyError(f"plate {self.name} has no well {name}")

    def missing_planes(self) -> Iterator[tuple[Well, Field, Plane]]:
        """Every expected plane that is not there, in order of well, field, time point, channel, z."""
        for well in self.wells:
            for site in well.fields:
                for plane in site.planes:
                    if not plane.path:
                        yield well, site, plane


def smallest_format(rows: int, columns: int) -> int:
    """Number of wells of the smallest plate format with at least `rows` rows and `columns` columns.

    Raises:
        ValueError: no plate is that large.
    """
    for wells, (format_rows, format_columns) in PLATE_FORMATS.items():
        if rows <= format_rows and columns <= format_columns:
            return wells
    raise ValueError(f"{rows} rows and {columns} columns fit no plate; the largest has 32 rows and 48 columns")


def is_text(name: str) -> bool:
    """Whether a file's name can stand in tables and on pages: whether it is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown_name(name: str | os.PathLike[str]) -> str:
    """A file's name as it can be shown: bytes that are no UTF-8 stand as ``\\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def safe_name(name: str) -> str:
    """`name` made safe for any file system: no separators, no reserved characters, no leading or trailing dot.

    Windows shares refuse ``<>:"/\\|?*``, control characters, trailing dots and the names of devices.
    """
    cleaned = re.sub(r'[<>:"/\\|?*\x00-\x1f]+', "_", name).strip(" .")
    if re.fullmatch(r"(?i)con|prn|aux|nul|(com|lpt)[0-9¹²³]", cleaned.split(".")[0].rstrip()):
        cleaned = "_" + cleaned
    # Bytes, for file systems count them: 120 letters of some alphabets are more than a name may have.
    return cleaned.encode(errors="ignore")[:120].decode(errors="ignore").rstrip(" .") or "plate"
