"""Cellomics ArrayScan and CellInsight (Thermo Fisher), exported as TIFF.

::

    <any directory>/
        <plate>_<well>f<field>d<channel>.tif        AS_09125_050116030001_D03f00d0.tif; o<channel> are overlays

There are no metadata that can be read, so what is expected comes from the plate's regularity. The instrument's
own ``.C01`` and ``.DIB`` files are refused with advice.
"""

from __future__ import annotations

import re
from collections import Counter

from hcs_nuclei.errors import NotAPlateError, listed
from hcs_nuclei.plate import Channel, Plate
from hcs_nuclei.sources.assembly import (
    Record,
    assemble_regularly,
    plate_format,
    position,
    usual_fields,
)
from hcs_nuclei.sources.listing import Listing
from hcs_nuclei.sources.promises import nameless_images

# A field or a channel must be in the name: without either, it is anybody's.
_NAME = re.compile(
    r"(?P<plate>.+)_(?P<well>(?:A[A-F]|[A-Z])\d{2})(?=[fod]\d)(?:f(?P<field>\d{2,3}))?(?P<channel>[od]\d{1,2})?"
    r"\.(?P<type>tiff?|DIB|C01)",
    re.IGNORECASE,
)


def recognise(listing: Listing) -> str | None:
    """Why this is a Cellomics plate, or None."""
    named = [path for path in listing.files if matched(path)]
    if not named or 2 * len(named) < len(listing.tiffs):
        return None
    return f"{len(named):,} images are named as Cellomics names them, such as {named[0].rpartition('/')[2]}"


def matched(path: str) -> re.Match[str] | None:
    """The match of a Cellomics name at the end of `path`."""
    return _NAME.fullmatch(path.rpartition("/")[2])


def read(listing: Listing, reason: str) -> Plate:
    """The plate whose files `listing` names.

    Raises:
        NotAPlateError: its images are .C01 or .DIB, or of several plates.
    """
    records = []
    prefixes: Counter[str] = Counter()
    others = []
    used = []
    for path in listing.files:
        match = matched(path)
        where = position(match["well"]) if match else None
        if match is None or where is None:
            continue
        if match["type"].lower() in {"c01", "dib"}:
            others.append(path)
            continue
        channel = (match["channel"] or "").lower()
        if channel.startswith("o"):  # drawn overlays, not camera images
            continue
        prefixes[match["plate"]] += 1
        used.append(path)
        there, error = listing.admit(path)
        records.append(Record(*where, int(match["field"] or 1), channel, 1, 0, False, there, error))
    _refuse(listing, records, prefixes, others)
    assembly = assemble_regularly(records, usual_fields(records))
    ignored = f"{len(others):,} .C01 or .DIB files are not read, only the TIFFs beside them."
    return Plate(
        root=listing.root,
        vendor="cellomics",
        reason=reason,
        name=next(iter(prefixes)),
        acquisition="",
        wells=assembly.wells,
        channels=tuple(Channel(token, token or "channel 1") for token in assembly.tokens),
        wells_in_format=plate_format(assembly.wells),
        warnings=(
            *nameless_images(listing.tiffs, used),
            *assembly.warnings,
            *listing.problems,
            *((ignored,) if others else ()),
        ),
    )


def _refuse(listing: Listing, records: list[Record], prefixes: Counter[str], others: list[str]) -> None:
    if not records and others:
        raise NotAPlateError(
            f"The images of {listing.root} are in the instrument's own format ({others[0].rpartition('/')[2]}), "
            "which is not read. Export them from the Cellomics software as TIFF, 16 bit, and name that directory."
        )
    if not records:
        raise NotAPlateError(f"No image of {listing.root} has the name of a well that is on a plate.")
    if len(prefixes) > 1:
        raise NotAPlateError(
            f"{listing.root} holds images of {len(prefixes)} plates: {listed(sorted(prefixes))}. "
            "Put each into a directory of its own, or choose one with a pattern."
        )
