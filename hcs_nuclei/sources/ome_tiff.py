"""OME-TIFF with a plate, whoever wrote it.

::

    <any directory>/
        [<name>.companion.ome]                   OME-XML with the plate; its TIFFs say BinaryOnly
        <any names>.ome.tif                      else OME-XML with the plate in each file, or in the only one
                                                 one plane a file, or several as pages: a field, a well, a plate

Wells come from the plate, planes from ``TiffData``. A file's own names say nothing. Fields are numbered by their
``WellSample``: by its id where that ends in a number (``WellSample:0:13:2`` is field 3), else by its order in the well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path

from hcs_nuclei.errors import NotAPlateError, listed
from hcs_nuclei.plate import Channel, Plate
from hcs_nuclei.sources.assembly import (
    Record,
    assemble_exactly,
    plate_format,
)
from hcs_nuclei.sources.listing import Listing
from hcs_nuclei.sources.ome_tiff_metadata import (
    MOST_PLANES,
    OmeImage,
    OmeMetadata,
    PlaneSource,
    read_description,
    read_ome_xml,
    tells_of_a_plate,
)
from hcs_nuclei.sources.promises import absent_channels, absent_times, named_absences, unnamed_images

_COMPANION = ".companion.ome"
_SUFFIXES = (".ome.tif", ".ome.tiff")
_ID = re.compile(r"PlateAcquisition:")
#: So many files may be damaged before a directory of OME-TIFFs is no plate any more.
_TRIED = 8


def recognise(listing: Listing) -> str | None:
    """Why this is an OME-TIFF plate, or None; reads the description of a file or two."""
    for companion in _admitted(listing, _COMPANION):
        return f"it holds {companion}, OME-XML beside its images"
    for path in _admitted(listing, *_SUFFIXES)[:_TRIED]:
        if tells_of_a_plate(read_description(listing.opened(path))):
            return f"{path} holds the OME-XML of a plate"
    return None


def read(listing: Listing, reason: str) -> Plate:
    """The plate whose files `listing` names.

    Raises:
        NotAPlateError: the OME-XML is damaged, has no plate or several, or nothing that it names is there.
    """
    documents, problems = _documents(listing)
    name, source = _plate_name(listing, documents), documents[0].path.relative_to(listing.root).as_posix()
    records = [record for metadata in documents for record in _records(listing, metadata)]
    assembly = assemble_exactly(records)
    names, renamed = _channel_names(documents, {r.channel for r in records})
    acquisitions = list(dict.fromkeys(a for metadata in documents for a in metadata.acquisitions))
    if len(acquisitions) > 1:
        problems += (
            f"The plate was imaged {len(acquisitions)} times ({listed(acquisitions)}); their fields are counted one "
            "after the other in each well.",
        )
    return Plate(
        root=listing.root,
        vendor="ome-tiff",
        reason=reason,
        name=name,
        acquisition=acquisitions[0] if len(acquisitions) == 1 and not _ID.match(acquisitions[0]) else "",
        wells=assembly.wells,
        channels=tuple(Channel(token, names[token]) for token in assembly.tokens),
        timepoints=len(assembly.times),
        pixel_size_um=next((i.pixel_size_um for m in documents for i in m.images.values() if i.pixel_size_um), None),
        wells_in_format=plate_format(assembly.wells, max(m.rows for m in documents), max(m.columns for m in documents)),
        expected_from="metadata",
        warnings=(
            *absent_channels(names, assembly.tokens, source),
            *absent_times((r.time for r in records), assembly.times, source),
            *renamed,
            *problems,
            *_not_named(listing, records, source),
            *assembly.warnings,
            *listing.problems,
        ),
        metadata_files=tuple(metadata.path.relative_to(listing.root).as_posix() for metadata in documents),
        absent=named_absences(assembly.absent, names),
    )


def _admitted(listing: Listing, *suffixes: str) -> tuple[str, ...]:
    return tuple(name for name in listing.named(*suffixes) if listing.admit(name)[0])


def _documents(listing: Listing) -> tuple[list[OmeMetadata], tuple[str, ...]]:
    """Every piece of OME-XML with a plate, and what is said of the files that have none.

    A file that another one's XML names has the same XML, or none: it is not opened.
    """
    documents = [read_ome_xml(listing.local(name)) for name in _admitted(listing, _COMPANION)]
    without = [m.path.name for m in documents if not m.plates]
    documents = [m for m in documents if m.plates]
    known = {m.path for m in documents}
    named = {path for m in documents for path in _files(listing, m)}
    refused: dict[str, NotAPlateError] = {}
    for path in _admitted(listing, *_SUFFIXES):
        if path in named:
            continue
        try:
            metadata = _of_tiff(listing, path, known)
        except NotAPlateError as error:
            refused[path] = error
            continue
        if metadata is not None and metadata.plates:
            documents.append(metadata)
            named |= {path, *_files(listing, metadata)}
        elif metadata is not None:
            without.append(metadata.path.name)
    if not documents:
        raise next(iter(refused.values()), None) or NotAPlateError(
            f"{listing.root} holds OME-XML without a plate ({listed(without)}): it does not say which image is of "
            "which well. Export it with its plate, or read the images by a pattern."
        )
    return documents, (
        *(f"{name} has no plate and is not used." for name in without),
        *(f"{path} is not used. {error}" for path, error in refused.items() if path not in named),
    )


def _of_tiff(listing: Listing, path: str, known: set[Path]) -> OmeMetadata | None:
    """The OME-XML that the TIFF at `path` holds or refers to; None where it has none, or what is `known`."""
    description = read_description(listing.opened(path))
    if not tells_of_a_plate(description):
        return None
    metadata = read_ome_xml(listing.root / path, description)
    return _referred(listing, path, metadata.metadata_file, known) if metadata.metadata_file else metadata


def _referred(listing: Listing, path: str, name: str, known: set[Path]) -> OmeMetadata | None:
    """The OME-XML called `name` that the TIFF at `path` refers to; None where it has been read."""
    found, error = listing.locate(path.rpartition("/")[0], name)
    if not found:
        raise NotAPlateError(
            f"{listing.root / path} holds pixels only and refers to {name} for what they are, which is not there"
            f"{': ' + error if error else ''}. Copy it beside the images."
        )
    if listing.root / found in known:
        return None
    known.add(listing.root / found)
    return read_ome_xml(listing.local(found))


def _plate_name(listing: Listing, documents: Iterable[OmeMetadata]) -> str:
    names = list(dict.fromkeys(name for metadata in documents for name in metadata.plates))
    if len(names) > 1 or any(len(metadata.plates) > 1 for metadata in documents):
        raise NotAPlateError(
            f"The OME-XML of {listing.root} describes several plates: {listed([n or '(no name)' for n in names])}. "
            "Put each into a directory of its own."
        )
    return names[0] or listing.root.name


def _records(listing: Listing, metadata: OmeMetadata) -> Iterator[Record]:
    """Every plane of every field; of a field without an image those that any other has.

    Raises:
        NotAPlateError: there are more than any plate has, which a few bytes of damage may ask for.
    """
    kinds = sorted({key for image in metadata.images.values() for key in _places(image)})
    fields = [(sample, metadata.images.get(sample.image)) for sample in metadata.samples]
    if sum(len(kinds) if image is None else math.prod(image.sizes) for _, image in fields) > MOST_PLANES:
        raise NotAPlateError(f"{metadata.path} speaks of more than {MOST_PLANES:,} planes. Export the plate again.")
    find = _Finder(listing, metadata)
    for sample, image in fields:
        for key in kinds if image is None else _places(image):
            source = image.planes.get(key) if image else None
            if source is not None:
                path, error = find(source)
            else:
                path, error = (
                    "",
                    "the OME-XML names no file for it" if image else "the OME-XML has no image of this field",
                )
            z, channel, time = key
            page = source.page if source else 0
            where = sample.row, sample.column, sample.field
            yield Record(*where, f"C{channel}", time, z, False, path, error, page, page_named=True)


def _places(image: OmeImage) -> Iterator[tuple[int, int, int]]:
    zs, channels, times = image.sizes
    return product(range(zs), range(channels), range(times))


class _Finder:
    """Finds the file that a plane is said to lie in: (path, ""), ("", "") if missing, ("", why) if refused."""

    def __init__(self, listing: Listing, metadata: OmeMetadata) -> None:
        self._listing = listing
        self._found: dict[tuple[str, str], tuple[str, str]] = {}
        path = metadata.path.relative_to(listing.root).as_posix()
        self._folder = path.rpartition("/")[0]
        self._uuid = metadata.uuid
        self._own = path if path.lower().endswith((".tif", ".tiff")) else ""
        self._alone = len({source.file for image in metadata.images.values() for source in image.planes.values()}) == 1

    def __call__(self, source: PlaneSource) -> tuple[str, str]:
        key = source.file, source.uuid
        if key not in self._found:
            self._found[key] = self._find(source)
        return self._found[key]

    def _find(self, source: PlaneSource) -> tuple[str, str]:
        # A file that somebody gave another name still knows itself.
        if self._own and (source.uuid == self._uuid if source.uuid and self._uuid else not source.file):
            return self._own, ""
        if not source.file:
            return "", "the OME-XML does not say in which file it lies"
        found, error = self._listing.locate(self._folder, source.file)
        return (self._own, "") if not found and self._own and self._alone else (found, error)


def _files(listing: Listing, metadata: OmeMetadata) -> set[str]:
    find = _Finder(listing, metadata)
    return {find(source)[0] for image in metadata.images.values() for source in image.planes.values()} - {""}


def _channel_names(
    documents: Iterable[OmeMetadata], tokens: Iterable[str]
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Name of each channel by its token, and what is said where fields give a channel different names."""
    names: dict[str, list[str]] = {token: [] for token in tokens}
    images: Iterator[OmeImage] = (image for metadata in documents for image in metadata.images.values())
    for channels in dict.fromkeys(image.channels for image in images):
        for number, name in enumerate(channels):
            if name and name not in names.setdefault(f"C{number}", []):
                names[f"C{number}"].append(name)
    return {token: given[0] if given else token for token, given in names.items()}, tuple(
        f"Channel {token} is called differently in different fields: {listed(given)}. All are taken as {given[0]}."
        for token, given in sorted(names.items())
        if len(given) > 1
    )


def _not_named(listing: Listing, records: Iterable[Record], source: str) -> tuple[str, ...]:
    known = {r.path for r in records}
    return unnamed_images([path for path in listing.tiffs if path not in known], source)
