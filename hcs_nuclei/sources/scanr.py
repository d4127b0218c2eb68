"""scanR (Olympus, Evident).

::

    <plate>/                                                  may be named too
        [experiment_descriptor.xml]                           wells, positions, channels; the .dat is not read
        data/                                                 or all of it in <plate>/ itself
            B2--W00014--P00001--Z00000--T00000--DAPI.tif      the well's name, where there is one, is what counts
            --W00014--P00001--Z00000--T00000--DAPI.tif        its number: by the descriptor, else row by row

Wells and positions are expected as the descriptor says, planes by regularity; without it, all by regularity.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.plate import Absence, Channel, Plate
from hcs_nuclei.sources.assembly import (
    Assembly,
    Position,
    Record,
    assemble_regularly,
    extra_image,
    plate_format,
    position,
    usual_fields,
)
from hcs_nuclei.sources.listing import SCANR_DESCRIPTORS, Listing
from hcs_nuclei.sources.numbered_wells import by_row, likely_columns
from hcs_nuclei.sources.promises import absent_channels, absent_times, nameless_images
from hcs_nuclei.sources.scanr_descriptor import Descriptor, read_descriptor

_NAME = re.compile(
    r"(?P<well>.*?)--W(?P<number>\d{1,6})--P(?P<position>\d{1,6})--Z(?P<z>\d{1,6})--T(?P<t>\d{1,6})--(?P<channel>.+)"
    r"\.tiff?",
    re.IGNORECASE,
)
#: More time points than these are no promise, but damage.
_MOST_TIMES = 99_999


def recognise(listing: Listing) -> str | None:
    """Why this is a scanR plate, or None."""
    named = [path for path in listing.tiffs if _matched(path)]
    if not named or 2 * len(named) < len(listing.tiffs):
        return None
    lacking = "" if listing.named(SCANR_DESCRIPTORS[0]) else f"; there is no {SCANR_DESCRIPTORS[0]}"
    return f"{len(named):,} images are named as scanR names them, such as {named[0].rpartition('/')[2]}{lacking}"


def read(listing: Listing, reason: str) -> Plate:
    """The plate whose files `listing` names; a descriptor that cannot be read is said and done without.

    Raises:
        NotAPlateError: no image is of a well that is on a plate.
    """
    source, descriptor, problems = _descriptor(listing)
    records, said = _records(listing, descriptor)
    expected = _expected(descriptor, records)
    assembly = assemble_regularly(records, expected)
    tokens = _ordered(assembly.tokens, descriptor.channels)
    absent = _absent_channels(descriptor, tokens, assembly)
    beyond = [r for r in records if descriptor.wells and r.path and r.field not in expected.get((r.row, r.column), ())]
    name = listing.root.parent.name if listing.root.name.lower() == "data" else listing.root.name
    return Plate(
        root=listing.root,
        vendor="scanr",
        reason=reason,
        name=descriptor.plate or name,
        acquisition="",
        wells=assembly.wells,
        channels=tuple(Channel(token, token) for token in tokens),
        timepoints=len(assembly.times),
        pixel_size_um=descriptor.pixel_size_um,
        wells_in_format=plate_format(assembly.wells, descriptor.rows, descriptor.columns),
        expected_from="metadata" if descriptor.wells else "regularity",
        warnings=(
            *problems,
            *absent_channels({a.channel: a.name for a in absent}, (), source),
            *absent_times(range(min(descriptor.times, _MOST_TIMES)), assembly.times, source),
            *said,
            *assembly.warnings,
            *listing.problems,
        ),
        metadata_files=(source,) if source else (),
        absent=absent,
        extra=tuple(extra_image(record, used=True) for record in beyond),
    )


def _descriptor(listing: Listing) -> tuple[str, Descriptor, tuple[str, ...]]:
    """The descriptor with its path, or an empty one and what is said of the one that cannot be read."""
    path = next(iter(listing.named(SCANR_DESCRIPTORS[0])), "")
    if not path:
        return "", Descriptor(), ()
    source, refused = listing.admit(path)
    try:
        if source:
            return source, read_descriptor(listing.local(source)), ()
    except NotAPlateError as error:
        refused = str(error)
    return "", Descriptor(), (f"{path} is not used; what is expected comes from the images' names. {refused}",)


def _by_number(number: int, columns: int) -> tuple[int, int]:
    """Row and column; column 0, which is on no plate, for the number 0, since scanR counts from 1."""
    return by_row(number, columns) if number else (1, 0)


def _matched(path: str) -> re.Match[str] | None:
    return _NAME.fullmatch(path.rpartition("/")[2])


def _records(listing: Listing, descriptor: Descriptor) -> tuple[list[Record], tuple[str, ...]]:
    """A record of each image, and what is said where wells had to be counted."""
    matches = [(path, match) for path in listing.tiffs if (match := _matched(path))]
    nameless = [int(m["number"]) for _, m in matches if position(m["well"]) is None]
    unknown = [number for number in nameless if number not in descriptor.wells]
    columns = descriptor.columns or likely_columns(unknown)
    records = []
    for path, match in matches:
        number = int(match["number"])
        row, column = position(match["well"]) or descriptor.wells.get(number) or _by_number(number, columns)
        if row > 32 or column > 48 or column < 1:
            continue
        there, error = listing.admit(path)
        z, time = int(match["z"]), int(match["t"])
        records.append(Record(row, column, int(match["position"]), match["channel"], time, z, False, there, error))
    if not records:
        raise NotAPlateError(f"No image of {listing.root} has the name or number of a well that is on a plate.")
    warnings = [*nameless_images(listing.tiffs, (path for path, _ in matches))]
    if unknown:
        source = "as the descriptor says" if descriptor.columns else "a guess: no smaller plate has them all"
        warnings.append(
            f"{len(unknown):,} images have a well's number in their names and not its name. Wells are counted row by "
            f"row in {columns} columns, {source}."
        )
    if len(records) < len(matches):
        warnings.append(f"{len(matches) - len(records):,} images have a well's number that is on no plate; not used.")
    return records, tuple(warnings)


def _expected(descriptor: Descriptor, records: list[Record]) -> Mapping[Position, Collection[int]]:
    usual = usual_fields(records)
    if not descriptor.wells:
        return usual
    if descriptor.positions > 0:
        fields: Collection[int] = range(1, descriptor.positions + 1)
    else:
        count = Counter(number for numbers in usual.values() for number in numbers)
        fields = {number for number, wells in count.items() if 2 * wells >= len(usual)}
    return dict.fromkeys(descriptor.wells.values(), fields)


def _ordered(tokens: Iterable[str], channels: Sequence[str]) -> tuple[str, ...]:
    """`tokens` in the order of the descriptor's channels, then those that it does not name."""
    rank = {name.casefold(): index for index, name in enumerate(channels)}
    return tuple(sorted(tokens, key=lambda token: rank.get(token.casefold(), len(rank))))


def _absent_channels(descriptor: Descriptor, tokens: Collection[str], assembly: Assembly) -> tuple[Absence, ...]:
    there = {token.casefold() for token in tokens}
    fields = sum(len(well.fields) for well in assembly.wells)
    return tuple(
        Absence(fields * len(assembly.times), channel=name, name=name, certain=False)
        for name in descriptor.channels
        if name.casefold() not in there
    )
