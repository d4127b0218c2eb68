"""CellVoyager (Yokogawa CV7000, CV8000, CQ1).

::

    <plate>_<date>_<time>/                                   may be named too
        <plate>/
            MeasurementData.mlf                              what was acquired: authoritative
            MeasurementDetail.mrf                            pixel sizes, plate format, name of the .mes
            <settings>.mes                                   channels
            <plate>_D08_T0001F001L01A01Z01C01.tif            or .png
            DC_….tif  SC_….tif                               dark and shading references, never fields

    <time>_<title>/                                          the CQ1 (and CQ3000)
        MeasurementData.mlf  MeasurementDetail.mrf  MeasurementProtocol.mes
        Image/W0014F0001T0001Z001C1.tif                      wells are numbered row by row
        Projection/W0014F0001T0001Z000C1.tif                 the instrument's projection over z

``ERR`` records are acquisition failures: planes with an error, whose field keeps its place. Without the ``.mlf``,
names and the plate's regularity say what is expected.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from hcs_nuclei.errors import NotAPlateError, listed
from hcs_nuclei.plate import Channel, Plate
from hcs_nuclei.sources.assembly import (
    Position,
    Record,
    assemble_exactly,
    assemble_regularly,
    extra_image,
    plate_format,
    position,
    usual_fields,
)
from hcs_nuclei.sources.listing import BESIDE, Listing
from hcs_nuclei.sources.numbered_wells import likely_columns, position_of
from hcs_nuclei.sources.promises import absent_channels, absent_times, named_absences, nameless_images, unnamed_images
from hcs_nuclei.sources.yokogawa_measurement import Detail, read_channel_names, read_detail, read_measurement

_NAME = re.compile(
    r"(?P<plate>.+)_(?P<well>(?:A[A-F]|[A-Z])\d{2}(?:\.[a-d][1-4])?)_T(?P<t>\d{4})F(?P<field>\d{3,4})L\d{2}A\d{2}"
    r"Z(?P<z>\d{2,4})C(?P<channel>\d{2})\.(?:tif|png)",
    re.IGNORECASE,
)
_CQ1_NAME = re.compile(
    r"W(?P<number>\d{4})F(?P<field>\d{4})T(?P<t>\d{4})Z(?P<z>\d{3})C(?P<channel>\d{1,2})\.(?:tif|png)", re.IGNORECASE
)
_FOLDER_TIME = re.compile(r".+_(\d{8}_\d{6})")


def recognise(listing: Listing) -> str | None:
    """Why this is a CellVoyager plate, or None."""
    data = _one(listing, "measurementdata.mlf")
    if data:
        return f"it holds {data}, the measurement record of CellVoyager"
    named = [path for path in listing.images if _matched(path)]
    if not named or 2 * len(named) < len(listing.images) - len(_references(listing)):
        return None
    return f"{len(named):,} images are named as CellVoyager names them, such as {named[0].rpartition('/')[2]}"


def read(listing: Listing, reason: str) -> Plate:
    """The plate whose files `listing` names.

    Raises:
        NotAPlateError: the records are damaged, or nothing that they name is there.
    """
    detail = _detail(listing)
    settings = _one(listing, detail.settings_file.lower()) if detail.settings_file else ""
    names = read_channel_names(listing.local(settings)) if settings else {}
    data = _one(listing, "measurementdata.mlf")
    warnings: tuple[str, ...] = ()
    extra: list[Record] = []
    if data:
        folder = data.rpartition("/")[0]
        measurement = read_measurement(listing.local(data), lambda name: listing.locate(folder, name))
        assembly = assemble_exactly(measurement.records, measurement.positions_um)
        warnings = (
            *absent_channels({r.channel: names.get(r.channel, "") for r in measurement.records}, assembly.tokens, data),
            *absent_times((r.time for r in measurement.records), assembly.times, data),
            *measurement.warnings,
        )
        known = {r.path for r in measurement.records}
        places = _Places.of(listing, detail)
        extra = [r for path in listing.images if path not in known and (r := _named(path, places))]
        warnings += unnamed_images([r.path for r in extra], data)
    else:
        reason += "; there is no MeasurementData.mlf"
        records, warnings = _records_by_name(listing, detail)
        assembly = assemble_regularly(records, usual_fields(records))
    return Plate(
        root=listing.root,
        vendor="cellvoyager",
        reason=reason,
        name=detail.name or _name_in_files(listing),
        acquisition=detail.begin or _folder_time(listing),
        wells=assembly.wells,
        channels=tuple(Channel(token, names.get(token) or token) for token in assembly.tokens),
        timepoints=len(assembly.times),
        pixel_size_um=next((detail.pixel_sizes_um[t] for t in assembly.tokens if t in detail.pixel_sizes_um), None),
        wells_in_format=plate_format(assembly.wells, detail.rows, detail.columns),
        expected_from="metadata" if data else "regularity",
        warnings=(*warnings, *_not_there(detail, settings, data), *assembly.warnings, *listing.problems),
        metadata_files=(
            *(n for n in (data, _one(listing, "measurementdetail.mrf"), settings) if n),
            *_references(listing),
        ),
        absent=named_absences(assembly.absent, names),
        extra=tuple(extra_image(record) for record in extra),
    )


def _one(listing: Listing, name: str) -> str:
    """The outermost file called `name` (lower case), empty where there is none that may be read."""
    found = (n for n in listing.named(name) if n.rpartition("/")[2].lower() == name and listing.admit(n)[0])
    return next(found, "")


def _references(listing: Listing) -> tuple[str, ...]:
    """Shading and dark images."""
    named = (n for n in listing.images if n.rpartition("/")[2][:3].upper() in {"SC_", "DC_"})
    return tuple(n for n in named if listing.admit(n)[0])


def _detail(listing: Listing) -> Detail:
    detail = _one(listing, "measurementdetail.mrf")
    return read_detail(listing.local(detail)) if detail else Detail()


def _not_there(detail: Detail, settings: str, data: str) -> tuple[str, ...]:
    """What is not known for want of a file that belongs to every measurement."""
    if not data:
        return ()
    if detail == Detail():
        return ("MeasurementDetail.mrf is not there: pixel size, plate format and channel names are not known.",)
    if detail.settings_file and not settings:
        return (f"{detail.settings_file} is not there: no channel's name is known, only its number.",)
    return ()


def _matched(path: str) -> re.Match[str] | None:
    name = path.rpartition("/")[2]
    return _NAME.fullmatch(name) or _CQ1_NAME.fullmatch(name)


def _records_by_name(listing: Listing, detail: Detail) -> tuple[list[Record], tuple[str, ...]]:
    """A record of each image, and what is said where wells had to be counted on a plate of unknown size."""
    records, used = [], []
    prefixes: Counter[str] = Counter()
    places = _Places.of(listing, detail)
    for path in listing.images:
        record = _named(path, places)
        if record is not None:
            used.append(path)
            prefixes[str(m["plate"]) if (m := _NAME.fullmatch(path.rpartition("/")[2])) else ""] += 1
            there, error = listing.admit(path)
            records.append(record._replace(path=there, error=error))
    if not records:
        raise NotAPlateError(f"No image of {listing.root} has the name of a well that is on a plate.")
    if len(prefixes) > 1:
        raise NotAPlateError(
            f"{listing.root} holds images of {len(prefixes)} plates: {listed(sorted(prefixes))}. "
            "Put each into a directory of its own, or choose one with a pattern."
        )
    nameless = nameless_images(listing.images, used)
    if detail.columns or not _numbers(listing):
        return records, nameless
    return records, (
        *nameless,
        f"The images have their wells' numbers in their names. Wells are counted row by row in {places.columns} "
        "columns, a guess: no smaller plate has them all.",
    )


class _Places(NamedTuple):
    """How the names of a plate's images count wells.

    `columns` are those of the plate on which the CQ1 counts, `parts` how many rows and columns of wells a 1536-well
    plate has within each well of the plate by which it is named: two of one with 384, four of one with 96.
    """

    columns: int
    parts: int

    @classmethod
    def of(cls, listing: Listing, detail: Detail) -> _Places:
        matches = (_NAME.fullmatch(path.rpartition("/")[2]) for path in listing.images)
        inner = "".join(match["well"].partition(".")[2].lower() for match in matches if match)
        return cls(detail.columns or likely_columns(_numbers(listing)), 4 if set(inner) & set("cd34") else 2)


def _numbers(listing: Listing) -> list[int]:
    matches = (_CQ1_NAME.fullmatch(path.rpartition("/")[2]) for path in listing.images)
    return [int(match["number"]) for match in matches if match]


def _named(path: str, places: _Places) -> Record | None:
    """What the name at the end of `path` says; None where it is no image's or its well is on no plate."""
    match = _matched(path)
    if match is None:
        return None
    numbered = match.re is _CQ1_NAME
    where = position_of(int(match["number"]), places.columns) if numbered else _well(match["well"], places.parts)
    if where is None:
        return None
    token, z = f"C{int(match['channel']):02d}", int(match["z"])
    return Record(*where, int(match["field"]), token, int(match["t"]), z, numbered and z == 0, path)


def _well(name: str, parts: int) -> Position | None:
    """``B03``, or on 1536-well plates ``A01.b2``: the second row and column within the position, which has `parts`."""
    outer, _, inner = name.partition(".")
    where = position(outer)
    if where is None or not inner:
        return where
    row, column = "abcd".index(inner[0].lower()), int(inner[1]) - 1
    return parts * (where[0] - 1) + row + 1, parts * (where[1] - 1) + column + 1


def _name_in_files(listing: Listing) -> str:
    folder = listing.root.parent if listing.root.name.lower() in BESIDE else listing.root
    matches = (_NAME.fullmatch(path.rpartition("/")[2]) for path in listing.images)
    return next((match["plate"] for match in matches if match), folder.name)


def _folder_time(listing: Listing) -> str:
    for folder in (listing.root, listing.root.parent):
        match = _FOLDER_TIME.fullmatch(folder.name)
        if match:
            return match[1]
    return ""
