"""CellVoyager (Yokogawa CV7000, CV8000, CQ1).

::

    <plate>_<date>_<time>/                                   may be named too
        <plate>/
            MeasurementData.mlf                              what was acquired: authoritative
            MeasurementDetail.mrf                            pixel sizes, plate format, name of the .mes
            <settings>.mes                                   channels
            <plate>_D08_T0001F001L01A01Z01C01.tif            or .png
            DC_….tif  SC_….tif                               dark and shading references, never fields

``ERR`` records are acquisition failures: planes with an error, whose field keeps its place. Without the ``.mlf``,
names and the plate's regularity say what is expected.
"""

from __future__ import annotations

import re

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.plate import Channel, Plate
from hcs_nuclei.sources.assembly import (
    Position,
    Record,
    absent_times,
    assemble_exactly,
    assemble_regularly,
    extra_image,
    listed,
    natural,
    plate_format,
    position,
    usual_fields,
)
from hcs_nuclei.sources.listing import Listing
from hcs_nuclei.sources.yokogawa_measurement import Detail, read_channel_names, read_detail, read_measurement

_NAME = re.compile(
    r"(?P<plate>.+)_(?P<well>(?:A[A-F]|[A-Z])\d{2}(?:\.[a-d]\d)?)_T(?P<t>\d{4})F(?P<field>\d{3,4})L\d{2}A\d{2}"
    r"Z(?P<z>\d{2,4})C(?P<channel>\d{2})\.(?:tif|png)",
    re.IGNORECASE,
)
_FOLDER_TIME = re.compile(r".+_(\d{8}_\d{6})")


def recognise(listing: Listing) -> str | None:
    """Why this is a CellVoyager plate, or None."""
    data = _one(listing, "measurementdata.mlf")
    if data:
        return f"it holds {data}, the measurement record of CellVoyager"
    named = [path for path in listing.images if _matched(path)]
    if not named:
        return None
    return f"{len(named):,} images are named as CellVoyager names them, such as {named[0].rpartition('/')[2]}"


def read(listing: Listing, reason: str) -> Plate:
    """The plate whose files `listing` names.

    Raises:
        NotAPlateError: the records are damaged, or nothing that they name is there.
    """
    detail = _detail(listing)
    data = _one(listing, "measurementdata.mlf")
    warnings: tuple[str, ...] = ()
    extra: list[Record] = []
    if data:
        folder = data.rpartition("/")[0]
        measurement = read_measurement(listing.root / data, lambda name: listing.locate(folder, name))
        assembly = assemble_exactly(measurement.records, measurement.positions_um)
        absent = sorted({r.channel for r in measurement.records} - set(assembly.tokens), key=natural)
        warnings = (
            *(f"Channel {token}: promised by {data}, but no image of it is there." for token in absent),
            *absent_times((r.time for r in measurement.records), assembly.times, data),
            *measurement.warnings,
        )
        known = {r.path for r in measurement.records}
        extra = [r for path in listing.images if path not in known and (r := _named(path))]
        if extra:
            some = listed([r.path for r in extra], 2)
            warnings += (f"{len(extra):,} images are not named by {data} and are not used: {some}.",)
    else:
        reason += "; there is no MeasurementData.mlf"
        records = _records_by_name(listing)
        assembly = assemble_regularly(records, usual_fields(records))
    settings = _one(listing, detail.settings_file.lower()) if detail.settings_file else ""
    names = read_channel_names(listing.root / settings) if settings else {}
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
        absent=assembly.absent,
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
    return read_detail(listing.root / detail) if detail else Detail()


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
    return _NAME.fullmatch(path.rpartition("/")[2])


def _records_by_name(listing: Listing) -> list[Record]:
    records = []
    for path in listing.images:
        record = _named(path)
        if record is not None:
            there, error = listing.admit(path)
            records.append(record._replace(path=there, error=error))
    if not records:
        raise NotAPlateError(f"No image of {listing.root} has the name of a well that is on a plate.")
    return records


def _named(path: str) -> Record | None:
    """What the name at the end of `path` says; None where it is no image's or its well is on no plate."""
    match = _matched(path)
    where = _well(match["well"]) if match else None
    if match is None or where is None:
        return None
    token = f"C{int(match['channel']):02d}"
    return Record(*where, int(match["field"]), token, int(match["t"]), int(match["z"]), False, path)


def _well(name: str) -> Position | None:
    """``B03``, or on 1536-well plates ``A01.b2``: the second row and column within the 384-well position."""
    outer, _, inner = name.partition(".")
    where = position(outer)
    if where is None or not inner:
        return where
    return 2 * where[0] - 1 + (inner[0].lower() == "b"), 2 * where[1] - 1 + (inner[1] == "2")


def _name_in_files(listing: Listing) -> str:
    return next((match["plate"] for path in listing.images if (match := _matched(path))), listing.root.name)


def _folder_time(listing: Listing) -> str:
    for folder in (listing.root, listing.root.parent):
        match = _FOLDER_TIME.fullmatch(folder.name)
        if match:
            return match[1]
    return ""
