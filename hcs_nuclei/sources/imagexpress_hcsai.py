"""ImageXpress HCS.ai (Molecular Devices), whose metadata stand beside the images, not in them.

::

    <plate>/
        <protocol>.mxprotocol
        experiment/                                  single planes or projections
            <plate>.jdce                             plate, pixel size, channels (JSON)
            image_metadata_1.csv                     every image: authoritative
            timepoint0/<name>_t0_C05_s0_w0_z0.tif    or <name>_projection_t0_C05_s0_w0_z0.tif
        experiment_z_stack/                          the same again, with the stack; a plate of its own

Known from converters of such plates (fractal-uzh-converters) and the metadata of one real well.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.plate import Channel, Plate
from hcs_nuclei.sources.assembly import (
    FieldKey,
    Record,
    assemble_exactly,
    extra_image,
    natural,
    plate_format,
    position,
)
from hcs_nuclei.sources.listing import Listing
from hcs_nuclei.sources.promises import absent_channels, absent_times, named_absences, unnamed_images

_TABLE = re.compile(r"(?:.*/)?image_metadata_\d+\.csv", re.IGNORECASE)
_NAME = re.compile(
    r".+_t(?P<t>\d{1,6})_(?P<well>(?:A[A-F]|[A-Z])\d{2})_s(?P<field>\d{1,5})_w(?P<wave>\d{1,2})_z(?P<z>\d{1,5})\.tiff?",
    re.IGNORECASE,
)
_PROJECTION = "_projection_"


class _Description(NamedTuple):
    """What the ``.jdce`` says; empty or None where it does not."""

    plate: str = ""
    acquisition: str = ""
    pixel_size_um: float | None = None
    rows: int = 0
    columns: int = 0
    channels: tuple[tuple[str, str], ...] = ()


def recognise(listing: Listing) -> str | None:
    """Why this is an HCS.ai plate, or None."""
    tables = _tables(listing)
    descriptions = listing.named(".jdce")
    if not tables or not descriptions:
        return None
    return f"it holds {descriptions[0]} and {tables[0]}, the metadata of ImageXpress HCS.ai"


def why_not(listings: Iterable[Listing]) -> str:
    """Why none of them is an HCS.ai plate though one has its table; empty where none has."""
    for listing in listings:
        if (tables := _tables(listing)) and not listing.named(".jdce"):
            return f"{listing.root / tables[0]} is of ImageXpress HCS.ai, and there is no .jdce beside it."
    return ""


def read(listing: Listing, reason: str) -> Plate:
    """The plate whose files `listing` names.

    Raises:
        NotAPlateError: the tables or the description are damaged, or nothing that they name is there.
    """
    source = listing.named(".jdce")[0]
    description = _description(listing.local(source)) if listing.admit(source)[0] else _Description()
    records: list[Record] = []
    positions: dict[FieldKey, tuple[float, float]] = {}
    tables = _tables(listing)
    for table in tables:
        _read_table(listing, table, records, positions)
    assembly = assemble_exactly(records, positions)
    names = dict(description.channels)
    known = {r.path for r in records}
    extra = [r for path in listing.tiffs if path not in known and (r := _named(path))]
    return Plate(
        root=listing.root,
        vendor="imagexpress",
        reason=reason,
        name=description.plate or listing.root.parent.name,
        acquisition=description.acquisition,
        wells=assembly.wells,
        channels=tuple(Channel(token, names.get(token) or token) for token in assembly.tokens),
        timepoints=len(assembly.times),
        pixel_size_um=description.pixel_size_um,
        wells_in_format=plate_format(assembly.wells, description.rows, description.columns),
        expected_from="metadata",
        warnings=(
            *absent_channels({r.channel: names.get(r.channel, "") for r in records}, assembly.tokens, tables[0]),
            *absent_times((r.time for r in records), assembly.times, tables[0]),
            *unnamed_images([r.path for r in extra], tables[0]),
            *assembly.warnings,
            *listing.problems,
        ),
        metadata_files=(source, *tables),
        absent=named_absences(assembly.absent, names),
        extra=tuple(extra_image(record) for record in extra),
    )


def _tables(listing: Listing) -> tuple[str, ...]:
    return tuple(sorted((n for n in listing.named(".csv") if _TABLE.fullmatch(n) and listing.admit(n)[0]), key=natural))


def _named(path: str) -> Record | None:
    """What the name at the end of `path` says; None where it is no image's or its well is on no plate."""
    match = _NAME.fullmatch(path.rpartition("/")[2])
    where = position(match["well"]) if match else None
    if match is None or where is None:
        return None
    time, z = int(match["t"]), int(match["z"])
    return Record(*where, int(match["field"]), f"w{int(match['wave'])}", time, z, _PROJECTION in path, path)


def _description(path: Path) -> _Description:
    try:
        stack = json.loads(path.read_bytes())["ImageStack"]
        protocol = stack["AutoLeadAcquisitionProtocol"]
        calibration = protocol["ObjectiveCalibration"]
        size = float(calibration["PixelWidth"])
        labware = protocol.get("Plate") or {}
        return _Description(
            plate=_plate_name(stack),
            acquisition=str(stack.get("Uuid") or ""),
            pixel_size_um=size if math.isfinite(size) and size > 0 else None,
            rows=int(labware.get("Rows", 0)),
            columns=int(labware.get("Columns", 0)),
            channels=tuple((f"w{int(wave['Index'])}", _channel_name(wave)) for wave in protocol["Wavelengths"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotAPlateError(
            f"{path} is not a description of an HCS.ai measurement ({error!r}). Copy it again from the instrument."
        ) from None


def _plate_name(stack: dict[str, Any]) -> str:
    """The barcode, else the plate's id without the time of creation that the instrument puts behind it."""
    created = stack.get("Creation") or {}
    name = str((stack.get("SpecimenHolder") or {}).get("Barcode") or stack.get("PlateId") or "")
    return name.removesuffix(f" {created.get('Date')}, {created.get('Time')}")


def _channel_name(wave: dict[str, Any]) -> str:
    return str(wave.get("EmissionFilter", {}).get("Name") or "").strip()


def _read_table(
    listing: Listing, table: str, records: list[Record], positions: dict[FieldKey, tuple[float, float]]
) -> None:
    folder = table.rpartition("/")[0]
    line = 1
    try:
        with listing.local(table).open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            for row in rows:
                line = rows.line_num
                key = int(row["Row"]), int(row["Column"]), int(row["Field"])
                name = f"{row['ImageSubFolderPath']}/{row['ImageFileName']}"
                path, error = listing.locate(folder, name)
                token, projection = f"w{int(row['Wavelength'])}", _PROJECTION in row["ImageFileName"]
                records.append(Record(*key, token, int(row["Timepoint"]), int(row["ZIndex"]), projection, path, error))
                if key not in positions and row.get("FieldOffsetPointX") and row.get("FieldOffsetPointY"):
                    positions[key] = float(row["FieldOffsetPointX"]), float(row["FieldOffsetPointY"])
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise NotAPlateError(
            f"{listing.root / table}, line {line}: a column is missing or holds something else ({error!r}). "
            "Copy the file again from the instrument."
        ) from None
