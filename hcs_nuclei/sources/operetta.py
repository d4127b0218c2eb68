"""Opera, Operetta and Phenix (Revvity, formerly PerkinElmer): Harmony and Columbus directories.

::

    <plate>/
        [Assaylayout/<name>.xml]
        [Index.idx.xml]                          Harmony 7 may put it here
        Images/                                  or all of it in <plate>/ itself
            Index.idx.xml                        or Index.ref.xml, Index.xml, ImageIndex.ColumbusIDX.xml
            r03c11f01p01-ch1sk1fk1fl1.tiff       Harmony 4, 5
            r04c02f01p01-ch01t01.tiff            Harmony 6, 7
            001001-1-001001001.tif               Columbus: row column - time - field plane channel; or any name,
                                             with a plane a page, where the index says so

The index says what is expected. Without one, names and the plate's regularity do.
"""

from __future__ import annotations

import re

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.plate import Channel, Plate
from hcs_nuclei.sources.assembly import (
    FieldKey,
    Record,
    assemble_exactly,
    assemble_regularly,
    extra_image,
    plate_format,
    usual_fields,
)
from hcs_nuclei.sources.harmony_index import HarmonyIndex, read_index
from hcs_nuclei.sources.listing import Listing
from hcs_nuclei.sources.promises import absent_channels, absent_times, named_absences, nameless_images, unnamed_images

INDEX_NAMES = ("index.idx.xml", "index.ref.xml", "index.xml", "imageindex.columbusidx.xml")
_NAMES = (
    re.compile(
        r"r(?P<row>\d{2})c(?P<column>\d{2})f(?P<field>\d{2,5})p(?P<plane>\d{2,5})-ch(?P<channel>\d{1,3})"
        r"(?:sk(?P<t1>\d{1,6})fk\d+fl\d+|t(?P<t2>\d{1,6}))\.tiff?",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?P<row>\d{3})(?P<column>\d{3})-(?P<t1>\d{1,6})-(?P<field>\d{3})(?P<plane>\d{3})(?P<channel>\d{3})\.tiff?",
        re.IGNORECASE,
    ),
)
_MEASUREMENT = re.compile(r"(?P<name>.+?)__(?P<id>\d{4}-\d{2}-\d{2}T.+)")


def recognise(listing: Listing) -> str | None:
    """Why this is a Harmony or Columbus plate, or None."""
    indices = _indices(listing)
    if indices:
        return f"it holds {indices[0]}, the image index of Harmony"
    named = [path for path in listing.tiffs if matched(path)]
    if not named or 2 * len(named) < len(listing.tiffs):
        return None
    example = named[0].rpartition("/")[2]
    return (
        f"{len(named):,} images are named as Harmony or Columbus name them, such as {example}; "
        "there is no Index.idx.xml, Index.ref.xml, Index.xml or ImageIndex.ColumbusIDX.xml"
    )


def matched(path: str) -> re.Match[str] | None:
    """The match of a Harmony or Columbus name at the end of `path`."""
    name = path.rpartition("/")[2]
    return _NAMES[0].fullmatch(name) or _NAMES[1].fullmatch(name)


def read(listing: Listing, reason: str) -> Plate:
    """The plate whose files `listing` names.

    Raises:
        NotAPlateError: the index is damaged or of an unknown version, or nothing that it names is there.
    """
    indices = _indices(listing)
    if not indices:
        return _read_by_names(listing, reason)
    index = read_index(listing.local(indices[0]))
    records, positions = _records(listing, index, indices[0].rpartition("/")[0])
    assembly = assemble_exactly(records, positions)
    extra = _not_in_index(listing, records)
    names = {f"ch{number}": index.channels.get(number, f"ch{number}") for number in {i.channel for i in index.images}}
    return Plate(
        root=listing.root,
        vendor="operetta",
        reason=f"{reason} ({index.version})",
        name=index.name or listing.root.name,
        acquisition=index.measurement,
        wells=assembly.wells,
        channels=tuple(Channel(token, names[token]) for token in assembly.tokens),
        timepoints=len(assembly.times),
        pixel_size_um=index.pixel_size_um,
        wells_in_format=plate_format(assembly.wells, index.rows, index.columns),
        expected_from="metadata",
        warnings=(
            *absent_channels(names, assembly.tokens, indices[0]),
            *absent_times((image.time for image in index.images), assembly.times, indices[0]),
            *unnamed_images(extra, indices[0]),
            *assembly.warnings,
            *listing.problems,
        ),
        metadata_files=(indices[0], *_layouts(listing)),
        absent=named_absences(assembly.absent, names),
        extra=tuple(extra_image(record) for path in extra if (record := _named(path))),
        confocal=_confocal(index),
    )


def _confocal(index: HarmonyIndex) -> bool | None:
    """Whether any channel was taken otherwise than in wide field; brightfield always is, whatever the disk does."""
    types = {kind.casefold() for kind in index.acquisition_types}
    return types != {"nonconfocal"} if types else None


def _indices(listing: Listing) -> tuple[str, ...]:
    found = [
        n for n in listing.named(*INDEX_NAMES) if n.rpartition("/")[2].lower() in INDEX_NAMES and listing.admit(n)[0]
    ]
    # The index beside the images is the one that belongs to them; idx before ref before plain.
    return tuple(sorted(found, key=lambda n: (-n.count("/"), INDEX_NAMES.index(n.rpartition("/")[2].lower()))))


def _layouts(listing: Listing) -> tuple[str, ...]:
    return tuple(n for n in listing.named(".xml") if n.lower().startswith("assaylayout/"))


def _records(
    listing: Listing, index: HarmonyIndex, folder: str
) -> tuple[list[Record], dict[FieldKey, tuple[float, float]]]:
    records = []
    positions: dict[FieldKey, tuple[float, float]] = {}
    for image in index.images:
        path, error = listing.locate(folder, image.url)
        if not path and not error and folder.lower() != "images":
            path, error = listing.locate(f"{folder}/Images" if folder else "Images", image.url)
        if not path and not error and image.state not in {"", "Ok"}:
            error = f"the instrument reports the state {image.state!r}"
        key = (image.row, image.column, image.field)
        page = (image.page, image.page_named)
        records.append(Record(*key, f"ch{image.channel}", image.time, image.plane, False, path, error, *page))
        if image.position_um is not None:
            positions.setdefault(key, image.position_um)
    return records, positions


def _not_in_index(listing: Listing, records: list[Record]) -> list[str]:
    known = {r.path for r in records}
    return [path for path in listing.tiffs if path not in known and matched(path)]


def _named(path: str) -> Record | None:
    """What the name at the end of `path` says; None where it is no image's or its well is on no plate."""
    match = matched(path)
    if match is None:
        return None
    groups = match.groupdict()
    row, column, field, plane, channel = (int(groups[g]) for g in ("row", "column", "field", "plane", "channel"))
    if not (1 <= row <= 32 and 1 <= column <= 48):
        return None
    return Record(row, column, field, f"ch{channel}", int(groups["t1"] or groups["t2"]), plane, False, path)


def _read_by_names(listing: Listing, reason: str) -> Plate:
    records = []
    for path in listing.tiffs:
        record = _named(path)
        if record is None:
            continue
        there, error = listing.admit(path)
        records.append(record._replace(path=there, error=error))
    if not records:
        raise NotAPlateError(f"No image of {listing.root} has the name of a well that is on a plate.")
    named = [path for path in listing.tiffs if _named(path)]
    assembly = assemble_regularly(records, usual_fields(records))
    measured = _MEASUREMENT.fullmatch(listing.root.name)
    return Plate(
        root=listing.root,
        vendor="operetta",
        reason=reason,
        name=measured["name"] if measured else listing.root.name,
        acquisition=measured["id"] if measured else "",
        wells=assembly.wells,
        channels=tuple(Channel(token, token) for token in assembly.tokens),
        timepoints=len(assembly.times),
        wells_in_format=plate_format(assembly.wells),
        warnings=(*nameless_images(listing.tiffs, named), *assembly.warnings, *listing.problems),
        metadata_files=_layouts(listing),
    )
