"""ImageXpress and MetaXpress (Molecular Devices): raw directories and exports.

::

    [<plate>/][<date>/]<id>/                 raw                    <name>_Plate_<id>/       exported
        [<plate>.HTD]                                                   <plate>.HTD
        [TimePoint_<t>/]                                                TimePoint_<t>/
            <plate>_<well>[_s<site>][_w<n>][<GUID>].tif                     <plate>_<well>[_s<site>][_w<n>].TIF
            ZStep_<z>/<the same names>                                      ZStep_<z>/<the same names>

``ZStep_0``, or the images beside the ``ZStep_<z>`` directories, are the instrument's maximum projection. Names
with ``_thumb`` are skipped. Without an ``.HTD``, what is expected comes from the plate's regularity.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from hcs_nuclei.errors import NotAPlateError, listed
from hcs_nuclei.plate import Absence, Channel, Plate
from hcs_nuclei.sources.assembly import (
    Assembly,
    Position,
    Record,
    assemble_regularly,
    extra_image,
    plate_format,
    position,
    ranges,
    usual_fields,
)
from hcs_nuclei.sources.htd import Promise, read_promise
from hcs_nuclei.sources.imagexpress_sites import with_positions
from hcs_nuclei.sources.listing import Listing
from hcs_nuclei.sources.metaseries import PlaneTags, read_tags
from hcs_nuclei.sources.promises import absent_channels, absent_times, nameless_images

_NAME = re.compile(
    r"^(?P<plate>.+)_(?P<well>(?:A[A-F]|[A-Z])\d{2})(?:_s(?P<site>\d{1,5}))?(?:_w(?P<channel>\d{1,2}?))?(?P<thumb>_thumb)?"
    r"(?:_?\[?(?P<guid>[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12})\]?)?(?:_t(?P<t>\d{1,6}))?\.(?i:tiff?)$"
)
_STEP = re.compile(r"(?:(?P<before>.*)/)?ZStep_(?P<z>\d{1,6})", re.IGNORECASE)
_TIME = re.compile(r"(?:.*/)?TimePoint_(?P<t>\d{1,6})(?:/|$)", re.IGNORECASE)
_EXPORT = re.compile(r"(?P<name>.+)_Plate_(?P<id>\d+)")


def recognise(listing: Listing) -> str | None:
    """Why this is an ImageXpress plate, or None."""
    promises = listing.named(".htd")
    if promises and listing.tiffs:
        return f"it holds {promises[0]}, the plate description of MetaXpress"
    named = [path for path in listing.tiffs if (match := _matched(path)) and not match["thumb"]]
    if not named or 2 * len(named) < sum("_thumb" not in path for path in listing.tiffs):
        return None
    example = named[0].rpartition("/")[2]
    return f"{len(named):,} images are named as MetaXpress names them, such as {example}; there is no .HTD"


def read(listing: Listing, reason: str) -> Plate:
    """The plate whose files `listing` names.

    The tags of one plane a channel are read for its name and pixel size, those of two a site for its place.

    Raises:
        NotAPlateError: no image has a MetaXpress name, or the names are of several plates.
    """
    records, name, nameless = _records(listing)
    htd = listing.named(".htd")
    promise = read_promise(listing.local(htd[0])) if htd and listing.admit(htd[0])[0] else None
    expected: Mapping[Position, Collection[int]] = (
        usual_fields(records) if promise is None else _promised_fields(promise, records)
    )
    assembly = assemble_regularly(records, expected)
    wells, unplaced = with_positions(listing, assembly.wells)
    tags = _tags(listing, assembly)
    channels = tuple(Channel(token, _channel_name(token, promise, tags[token])) for token in assembly.tokens)
    warnings = (*nameless, *assembly.warnings, *unplaced, *listing.problems)
    absent: tuple[Absence, ...] = ()
    extra: list[Record] = []
    expected_from: Literal["metadata", "regularity"] = "regularity"
    if promise is not None:
        expected_from = "metadata"
        warnings = (*_broken_promises(promise, htd[0], assembly, channels), *warnings)
        absent = tuple(_absences(promise, assembly, channels))
        extra = _beyond(promise, records, expected)
    elif htd:
        warnings = (
            f"{htd[0]} says nothing that can be read; what is expected comes from the images' names.",
            *warnings,
        )
    export = _EXPORT.fullmatch(listing.root.name)
    acquisition = export["id"] if export else listing.root.name if listing.root.name.isdigit() else ""
    return Plate(
        root=listing.root,
        vendor="imagexpress",
        reason=reason,
        name=name,
        acquisition=acquisition,
        wells=wells,
        channels=channels,
        timepoints=len(assembly.times),
        pixel_size_um=next((t.pixel_size_um for t in tags.values() if t.pixel_size_um), None),
        wells_in_format=plate_format(assembly.wells, promise.rows if promise else 0, promise.columns if promise else 0),
        expected_from=expected_from,
        warnings=warnings,
        metadata_files=htd[:1] if promise else (),
        absent=absent,
        extra=tuple(extra_image(record, used=True) for record in extra),
    )


def _records(listing: Listing) -> tuple[list[Record], str, tuple[str, ...]]:
    """A record of each image, the plate's name, and what is said of images whose names tell nothing."""
    folders: dict[str, tuple[int, int, bool]] = {}
    stacks = {match["before"] or "" for path in listing.tiffs if (match := _STEP.fullmatch(path.rpartition("/")[0]))}
    prefixes: Counter[str] = Counter()
    records = []
    used = []
    for path in listing.tiffs:
        folder = path.rpartition("/")[0]
        match = _matched(path)
        where = position(match["well"]) if match else None
        if match is None or where is None or match["thumb"]:
            continue
        if folder not in folders:
            folders[folder] = _place(folder, stacks)
        time, z, projection = folders[folder]
        prefixes[match["plate"]] += 1
        used.append(path)
        token = f"w{int(match['channel'])}" if match["channel"] else ""
        there, error = listing.admit(path)
        records.append(
            Record(*where, int(match["site"] or 1), token, int(match["t"] or time), z, projection, there, error)
        )
    if not records:
        example = listing.tiffs[0] if listing.tiffs else "no TIFF at all"
        raise NotAPlateError(
            f"{listing.root} has a MetaXpress description but no image named <plate>_<well>[_s<site>][_w<n>].tif; "
            f"found {example}. Name the directory with the images, or give a pattern."
        )
    if len(prefixes) > 1:
        raise NotAPlateError(
            f"{listing.root} holds images of {len(prefixes)} plates: {listed(sorted(prefixes))}. "
            "Put each into a directory of its own, or choose one with a pattern."
        )
    return records, next(iter(prefixes)), nameless_images(listing.tiffs, used)


def _matched(path: str) -> re.Match[str] | None:
    return _NAME.match(path.rpartition("/")[2])


def _place(folder: str, stacks: set[str]) -> tuple[int, int, bool]:
    """(time point, z, whether it is the projection) of the images in `folder`."""
    time = _TIME.match(folder)
    step = _STEP.fullmatch(folder)
    z = int(step["z"]) if step else 0
    return int(time["t"]) if time else 1, z, z == 0 if step else folder in stacks


def _promised_fields(promise: Promise, records: Iterable[Record]) -> dict[Position, tuple[int, ...]]:
    found = {r.field for r in records}
    in_order = tuple(range(1, len(promise.sites) + 1))
    # Files count the chosen sites; some versions are said to count places in the grid: the names decide.
    sites = promise.sites if not found <= set(in_order) and found <= set(promise.sites) else in_order
    return dict.fromkeys(promise.wells, sites)


def _tags(listing: Listing, assembly: Assembly) -> dict[str, PlaneTags]:
    planes = {}
    for well in assembly.wells:
        for site in well.fields:
            for plane in site.planes:
                if plane.path and plane.channel not in planes:
                    planes[plane.channel] = plane.path
        if len(planes) == len(assembly.tokens):
            break
    return {token: read_tags(listing.opened(path)) for token, path in planes.items()}


def _channel_name(token: str, promise: Promise | None, tags: PlaneTags) -> str:
    index = int(token[1:] or 1) - 1 if token else 0
    promised = promise.waves[index] if promise and index < len(promise.waves) else ""
    return promised or tags.channel or token or "channel 1"


def _beyond(promise: Promise, records: Iterable[Record], expected: Mapping[Position, Collection[int]]) -> list[Record]:
    """Images of a well, field, channel or time point that the file does not promise."""
    waves = {"", *(f"w{number}" for number in range(1, len(promise.waves) + 1))}
    return [
        r
        for r in records
        if r.path
        and (
            r.field not in expected.get((r.row, r.column), ()) or r.channel not in waves or r.time > promise.time_points
        )
    ]


def _absences(promise: Promise, assembly: Assembly, channels: Sequence[Channel]) -> Iterator[Absence]:
    """What :func:`_broken_promises` says in words."""
    fields = sum(len(well.fields) for well in assembly.wells)
    kinds = {(p.channel, p.projection, p.z) for well in assembly.wells[:1] for site in well.fields for p in site.planes}
    slices = max(Counter(channel for channel, _, _ in kinds).values(), default=1)
    for number, name in enumerate(promise.waves, start=1):
        if f"w{number}" not in assembly.tokens and not (number == 1 and "" in assembly.tokens):
            yield Absence(fields * slices * len(assembly.times), channel=f"w{number}", name=name)
    for time in sorted(set(range(1, promise.time_points + 1)) - set(assembly.times)):
        yield Absence(fields * len(kinds), timepoint=time)
    if promise.z_steps > 1:
        for channel in channels:
            steps = {z for token, projection, z in kinds if token == channel.token and not projection}
            for z in sorted(set(range(1, promise.z_steps + 1)) - steps):
                planes = fields * len(assembly.times)
                yield Absence(planes, channel=channel.token, name=channel.name, z=z, certain=False)


def _broken_promises(promise: Promise, source: str, assembly: Assembly, channels: Sequence[Channel]) -> tuple[str, ...]:
    waves = {f"w{number}": name for number, name in enumerate(promise.waves, start=1)}
    return (
        *absent_channels(waves, (token or "w1" for token in assembly.tokens), source),
        *absent_times(range(1, promise.time_points + 1), assembly.times, source),
        *(_absent_steps(promise, source, assembly, channels) if promise.z_steps > 1 else ()),
    )


def _absent_steps(promise: Promise, source: str, assembly: Assembly, channels: Sequence[Channel]) -> Iterable[str]:
    """Z planes that no field has: the file cannot say that a channel has fewer, so they are said once."""
    steps: dict[str, set[int]] = defaultdict(set)
    for well in assembly.wells:
        for site in well.fields:
            for plane in site.planes:
                if not plane.projection:
                    steps[plane.channel].add(plane.z)
    absent: dict[str, list[str]] = defaultdict(list)
    for channel in channels:
        lacking = ranges(set(range(1, promise.z_steps + 1)) - steps[channel.token])
        if lacking:
            absent[lacking].append(channel.name)
    for numbers, names in absent.items():
        yield (
            f"Z plane {numbers} of {', '.join(names)}: among the {promise.z_steps} steps of {source}, but no image of "
            f"it is there ({source} cannot say that a channel has fewer planes)."
        )
