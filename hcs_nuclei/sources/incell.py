"""IN Cell Analyzer (Cytiva, formerly GE Healthcare).

::

    <any directory>/
        [<plate>.xdce]                                   the index of the images
        A - 01(fld 1 wv 390 - Blue).tif                  excitation - emission; A - 1 too
        A - 01(fld 1 wv Green - dsRed z 3).tif           with several z planes
        A - 01(fld 1 wv Green - dsRed time 2).tif        with several time points

The index says what is expected. Without one, names and the plate's regularity do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from hcs_nuclei.errors import NotAPlateError, listed
from hcs_nuclei.plate import Channel, Plate
from hcs_nuclei.sources.assembly import (
    FieldKey,
    Record,
    assemble_exactly,
    assemble_regularly,
    extra_image,
    plate_format,
    position,
    usual_fields,
)
from hcs_nuclei.sources.incell_index import XdceIndex, planned_planes, read_xdce
from hcs_nuclei.sources.listing import Listing
from hcs_nuclei.sources.promises import absent_channels, absent_times, named_absences, nameless_images, unnamed_images

_NAME = re.compile(
    r"(?P<row>A[A-F]|[A-Z])\s*-\s*(?P<column>\d{1,2})\s*\(fld\s*(?P<field>\d{1,5})(?:\s+wv\s+(?P<wave>.+?))?"
    r"(?:\s+z\s*(?P<z>\d{1,5}))?(?:\s+time\s*(?P<t>\d{1,6})(?:\s*-[^)]*)?)?\)\.tiff?",
    re.IGNORECASE,
)


def recognise(listing: Listing) -> str | None:
    """Why this is an IN Cell plate, or None."""
    indices = _indices(listing)
    if indices and not listing.named(".htd"):  # MetaXpress writes both, and its own says more
        return f"it holds {indices[0]}, the image index of IN Cell Analyzer"
    named = [path for path in listing.tiffs if matched(path)]
    if not named or 2 * len(named) < len(listing.tiffs):
        return None
    example = named[0].rpartition("/")[2]
    return f"{len(named):,} images are named as IN Cell Analyzer names them, such as {example}; there is no .xdce"


def matched(path: str) -> re.Match[str] | None:
    """The match of an IN Cell name at the end of `path`."""
    return _NAME.fullmatch(path.rpartition("/")[2])


def read(listing: Listing, reason: str) -> Plate:
    """The plate whose files `listing` names.

    Raises:
        NotAPlateError: the index is damaged, there are several, or nothing that it names is there.
    """
    indices = _indices(listing)
    if not indices:
        return _read_by_names(listing, reason)
    if len(indices) > 1:
        raise NotAPlateError(
            f"{listing.root} holds {len(indices)} image indices: {listed(indices)}. "
            "Put each with its images into a directory of its own, or leave only the one that is meant."
        )
    source = indices[0]
    index = read_xdce(listing.local(source))
    records, positions = _records(listing, index, source.rpartition("/")[0])
    assembly = assemble_exactly(records, positions)
    extra = _not_in_index(listing, records)
    names = _channel_names(index)
    promised_times = {r.time for r in records} | set(range(1, min(index.plan_times, 100_000) + 1))
    return Plate(
        root=listing.root,
        vendor="incell",
        reason=reason,
        name=index.name or source.rpartition("/")[2].rpartition(".")[0],
        acquisition=re.sub(r"[:\s]+", "_", index.created.replace("-", "").replace(":", "")),
        wells=assembly.wells,
        channels=tuple(Channel(token, names[token]) for token in assembly.tokens),
        timepoints=len(assembly.times),
        pixel_size_um=index.pixel_size_um,
        wells_in_format=plate_format(assembly.wells, index.rows, index.columns),
        expected_from="metadata",
        warnings=(
            *absent_channels(names, assembly.tokens, source),
            *absent_times(promised_times, assembly.times, source),
            *_unlisted(index, records, source),
            *unnamed_images(extra, source),
            *assembly.warnings,
            *listing.problems,
        ),
        metadata_files=(source,),
        absent=named_absences(assembly.absent, names),
        extra=tuple(extra_image(record) for path in extra if (record := _named(path))),
    )


def _indices(listing: Listing) -> tuple[str, ...]:
    return tuple(name for name in listing.named(".xdce") if listing.admit(name)[0])


def _refused_indices(listing: Listing) -> tuple[str, ...]:
    return tuple(error for name in listing.named(".xdce") if (error := listing.admit(name)[1]))


def _records(
    listing: Listing, index: XdceIndex, folder: str
) -> tuple[list[Record], dict[FieldKey, tuple[float, float]]]:
    """Every listed or planned plane; fields, time points and z count from 1, as in the images' names."""
    records: dict[tuple[object, ...], Record] = {}
    positions: dict[FieldKey, tuple[float, float]] = {}
    for image in sorted(index.images, key=lambda i: i.z):
        path, error = listing.locate(folder, image.filename)
        record = Record(
            image.row,
            image.column,
            image.field + 1,
            f"wave{image.wave}",
            image.time + 1,
            image.z + 1,
            False,
            path,
            error,
        )
        # A wave without a stack is listed by some exports once for each z of the others, with the same file.
        records.setdefault((*record[:5], image.filename), record)
        if image.position_um is not None:
            positions.setdefault((image.row, image.column, image.field + 1), image.position_um)
    taken = {record[:6] for record in records.values()}
    repeated = {(i.wave, i.z) for i in index.images} - {(int(r.channel[4:]), r.z - 1) for r in records.values()}
    planned = [
        Record(p.row, p.column, p.field + 1, f"wave{p.wave}", p.time + 1, p.z + 1, False, "")
        for p in planned_planes(index)
        if (p.wave, p.z) not in repeated
    ]
    return [*records.values(), *(record for record in planned if record[:6] not in taken)], positions


def _channel_names(index: XdceIndex) -> dict[str, str]:
    """Emission filter of each wave by token; with the excitation where several waves share it."""
    waves = {number: index.waves.get(number, ("", "")) for number in {*index.waves, *(i.wave for i in index.images)}}
    common = Counter(emission for _, emission in waves.values())
    return {
        f"wave{number}": (emission if common[emission] == 1 else f"{excitation} - {emission}".strip(" -"))
        or f"wave{number}"
        for number, (excitation, emission) in waves.items()
    }


def _unlisted(index: XdceIndex, records: list[Record], source: str) -> tuple[str, ...]:
    """What is said where the index promises more images than it lists."""
    if index.promised <= len(index.images):
        return ()
    text = f"{source} promises {index.promised:,} images and lists {len(index.images):,}"
    open_ends = index.promised - len(records)
    where = f"; of {open_ends:,} it does not say where they belong" if open_ends > 0 else ""
    return (f"{text}: the acquisition ended early, or the file was copied before that{where}.",)


def _not_in_index(listing: Listing, records: list[Record]) -> list[str]:
    known = {r.path for r in records}
    return [path for path in listing.tiffs if path not in known and matched(path)]


def _named(path: str) -> Record | None:
    """What the name at the end of `path` says; None where it is no image's or its well is on no plate."""
    match = matched(path)
    where = position(match["row"] + match["column"]) if match else None
    if match is None or where is None:
        return None
    wave, time, z = match["wave"] or "", int(match["t"] or 1), int(match["z"] or 1)
    return Record(*where, int(match["field"]), wave, time, z, False, path)


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
    assembly = assemble_regularly(records, usual_fields(records))
    names = _emissions(assembly.tokens)
    return Plate(
        root=listing.root,
        vendor="incell",
        reason=reason,
        name=listing.root.name,
        acquisition="",
        wells=assembly.wells,
        channels=tuple(Channel(token, names[token]) for token in assembly.tokens),
        timepoints=len(assembly.times),
        wells_in_format=plate_format(assembly.wells),
        warnings=(
            *(f"{error}; what is expected comes from the images' names." for error in _refused_indices(listing)),
            *nameless_images(listing.tiffs, (path for path in listing.tiffs if _named(path))),
            *assembly.warnings,
            *listing.problems,
        ),
    )


def _emissions(tokens: tuple[str, ...]) -> Mapping[str, str]:
    """The emission filter in each token (``390 - Blue``), or the whole of it where several share one."""
    emission = {token: token.rpartition(" - ")[2].strip() for token in tokens}
    common = Counter(emission.values())
    return {t: (emission[t] if common[emission[t]] == 1 else t) or "channel 1" for t in tokens}
