"""Records of planes in, wells and fields out: what is expected, beside what is there.

Two ways to know what is expected. *Exactly*: the vendor's metadata list every plane. *Regularly*: what any
field has (channel, time point, z), every field of the plate is expected to have; z planes are counted for each
channel by itself, so that a channel with a projection only is never asked for the slices of another.

In both, a channel or a time point of which nothing is on disk is no field's fault: it is left out of the fields
and the reader says it once for the plate.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.plate import (
    PLATE_FORMATS,
    Absence,
    ExtraImage,
    Field,
    Plane,
    Well,
    parse_well,
    smallest_format,
    well_name,
)

Position = tuple[int, int]
FieldKey = tuple[int, int, int]
#: Row, column, field, channel, time point, z, whether it is the projection.
PlaneKey = tuple[int, int, int, str, int, int, bool]


class Record(NamedTuple):
    """One plane as a vendor names it: 1-based row and column, the vendor's own field, time point and z.

    `path` is empty where the plane is not there or may not be read; `error` says why, where there is a word for it.
    `page` is the page of a file that holds several planes, `page_named` whether metadata say it.
    """

    row: int
    column: int
    field: int
    channel: str
    time: int
    z: int
    projection: bool
    path: str
    error: str = ""
    page: int = 0
    page_named: bool = False


@dataclass(frozen=True)
class Assembly:
    """Wells in row-major order; `tokens` and `times` (the vendor's numbers) of which there is at least one plane.

    `absent` are the channels and time points that were listed and of which there is none.
    """

    wells: tuple[Well, ...]
    tokens: tuple[str, ...]
    times: tuple[int, ...]
    warnings: tuple[str, ...]
    absent: tuple[Absence, ...] = ()


def assemble_exactly(
    records: Iterable[Record], positions_um: Mapping[FieldKey, tuple[float, float]] | None = None
) -> Assembly:
    """Wells of planes that metadata list one by one; `positions_um` are (x, y), y pointing down.

    Raises:
        NotAPlateError: none of the planes is there.
    """
    unique, doubles, warnings = _without_doubles(records)
    tokens, times = _found(unique.values())
    known = set(tokens)
    rank = {time: index for index, time in enumerate(times)}
    cells: dict[FieldKey, list[Plane]] = defaultdict(list)
    for key, r in unique.items():
        if r.channel in known and r.time in rank:
            cells[r.row, r.column, r.field].append(
                Plane(
                    r.channel,
                    r.path,
                    r.z,
                    rank[r.time],
                    r.page,
                    r.projection,
                    r.error,
                    doubles.get(key, ()),
                    r.page_named,
                )
            )
    order = {token: index for index, token in enumerate(tokens)}
    for planes in cells.values():
        planes.sort(key=lambda p: (p.timepoint, order[p.channel], not p.projection, p.z))
    absent = _absent(unique.values(), known, rank)
    return Assembly(_wells(cells, positions_um or {}), tokens, times, warnings, absent)


def assemble_regularly(records: Iterable[Record], expected: Mapping[Position, Collection[int]]) -> Assembly:
    """Wells in which each field of `expected` (and each that is there) has the planes that any field has.

    Raises:
        NotAPlateError: none of the planes is there.
    """
    unique, doubles, warnings = _without_doubles(records)
    tokens, times = _found(unique.values())
    rank = {time: index for index, time in enumerate(times)}
    order = {token: index for index, token in enumerate(tokens)}
    kinds = sorted(
        {(r.time, r.channel, r.projection, r.z) for r in unique.values() if r.path},
        key=lambda kind: (kind[0], order[kind[1]], not kind[2], kind[3]),
    )
    keys = {(row, column, number) for (row, column), numbers in expected.items() for number in numbers}
    keys |= {(r.row, r.column, r.field) for r in unique.values()}
    cells: dict[FieldKey, list[Plane]] = {}
    for row, column, number in keys:
        planes = []
        for time, channel, projection, z in kinds:
            key = (row, column, number, channel, time, z, projection)
            there = unique.get(key)
            path, error = (there.path, there.error) if there else ("", "")
            planes.append(Plane(channel, path, z, rank[time], 0, projection, error, doubles.get(key, ())))
        cells[row, column, number] = planes
    return Assembly(_wells(cells, {}), tokens, times, warnings)


def usual_fields(records: Iterable[Record]) -> dict[Position, set[int]]:
    """The fields that each well is expected to have where no metadata say it.

    A field that at least half of the wells have is expected in all of them; a rarer one only where it is. So a
    well that lost a field is seen, and one stray file does not make its field missing everywhere else.
    """
    found: dict[Position, set[int]] = defaultdict(set)
    for r in records:
        found[r.row, r.column].add(r.field)
    count = Counter(number for numbers in found.values() for number in numbers)
    usual = {number for number, wells in count.items() if 2 * wells >= len(found)}
    return {well: numbers | usual for well, numbers in found.items()}


@lru_cache(maxsize=2048)
def position(name: str) -> Position | None:
    """1-based (row, column) of a well's name, None where it is on no plate (``M00``, ``B77``)."""
    try:
        return parse_well(name)
    except ValueError:
        return None


def plate_format(wells: Sequence[Well], rows: int = 0, columns: int = 0) -> int:
    """Number of wells of the format that the vendor says (`rows` × `columns`), else 96 or the next that holds all."""
    last_row, last_column = max(w.row for w in wells), max(w.column for w in wells)
    if (rows, columns) in PLATE_FORMATS.values() and last_row <= rows and last_column <= columns:
        return rows * columns
    return max(96, smallest_format(last_row, last_column))


def natural(text: str) -> list[tuple[bool, int, str]]:
    """Sort key by which w2 comes before w10."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", text)]


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as people write them: 1, 2, 3, 7 → ``1-3, 7``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def extra_image(record: Record, *, used: bool = False) -> ExtraImage:
    """`record`, which is there and which the metadata do not promise."""
    return ExtraImage(
        record.path,
        well_name(record.row, record.column),
        record.field,
        record.channel,
        record.time,
        record.z,
        record.projection,
        used,
    )


def _absent(records: Iterable[Record], tokens: Collection[str], times: Collection[int]) -> tuple[Absence, ...]:
    channels: Counter[str] = Counter()
    moments: Counter[int] = Counter()
    for r in records:
        if r.channel not in tokens:
            channels[r.channel] += 1
        elif r.time not in times:
            moments[r.time] += 1
    return (
        *(Absence(planes, channel=token) for token, planes in sorted(channels.items(), key=lambda c: natural(c[0]))),
        *(Absence(planes, timepoint=time) for time, planes in sorted(moments.items())),
    )


def _without_doubles(
    records: Iterable[Record],
) -> tuple[dict[PlaneKey, Record], dict[PlaneKey, tuple[str, ...]], tuple[str, ...]]:
    """One record for each plane, the other files of each that is there more than once, and what is said of them."""
    unique: dict[PlaneKey, Record] = {}
    doubles: list[tuple[Record, Record]] = []
    others: dict[PlaneKey, tuple[str, ...]] = {}
    for r in records:
        if not (1 <= r.row <= 32 and 1 <= r.column <= 48):
            raise NotAPlateError(
                f"The plate's metadata name row {r.row}, column {r.column}, which is on no plate "
                "(rows 1 to 32, columns 1 to 48). Copy the metadata again from the instrument."
            )
        key = (r.row, r.column, r.field, r.channel, r.time, r.z, r.projection)
        former = unique.setdefault(key, r)
        if former is r or r.path in {"", former.path}:
            continue
        if not former.path:
            unique[key] = r
        else:
            doubles.append((former, r))
            others[key] = (*others.get(key, ()), r.path)
    if not doubles:
        return unique, others, ()
    kept, other = doubles[0]
    where = f"{well_name(kept.row, kept.column)} field {kept.field}"
    return (
        unique,
        others,
        (
            f"{len(doubles)} planes are there more than once; the first by name is used, "
            f"for example in {where}: {kept.path}, not {other.path}.",
        ),
    )


def _found(records: Iterable[Record]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    tokens: set[str] = set()
    times: set[int] = set()
    named = ""
    refused = ""
    for r in records:
        if r.path:
            tokens.add(r.channel)
            times.add(r.time)
        else:
            named = named or f"{well_name(r.row, r.column)} field {r.field}"
            refused = refused or r.error
    if not tokens:
        why = f" The first of them: {refused}." if refused else ""
        raise NotAPlateError(
            f"None of the images that this plate should have is there (beginning with {named or 'the first'}).{why} "
            "Copy the image files beside their metadata, or name the directory that holds them."
        )
    return tuple(sorted(tokens, key=natural)), tuple(sorted(times))


def _wells(
    cells: Mapping[FieldKey, list[Plane]], positions_um: Mapping[FieldKey, tuple[float, float]]
) -> tuple[Well, ...]:
    fields: dict[Position, list[Field]] = defaultdict(list)
    for key in sorted(cells):
        row, column, number = key
        fields[row, column].append(Field(number, tuple(cells[key]), positions_um.get(key)))
    return tuple(Well(row, column, tuple(fields[row, column])) for row, column in sorted(fields))
