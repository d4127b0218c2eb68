"""A directory in, a :class:`~hcs_nuclei.plate.Plate` out: which vendor's, and where it begins and ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hcs_nuclei.errors import NotAPlateError, PlaneError, listed
from hcs_nuclei.plate import Plate, RemoteFiles
from hcs_nuclei.sources import (
    cellomics,
    cellvoyager,
    imagexpress,
    imagexpress_hcsai,
    incell,
    ome_tiff,
    ome_zarr,
    operetta,
    scanr,
)
from hcs_nuclei.sources.listing import BESIDE, IMAGE_SUFFIXES, Listing, plate_folder, survey
from hcs_nuclei.sources.pattern import read_by_pattern
from hcs_nuclei.sources.remote import address_of
from hcs_nuclei.sources.remote_listing import survey_remote
from hcs_nuclei.sources.staging import shared_staging


class Reader(NamedTuple):
    """One vendor's: `recognise` says why a listing is its plate (or None), `read` makes the plate of it."""

    name: str
    recognise: Callable[[Listing], str | None]
    read: Callable[[Listing, str], Plate]


#: In the order in which they are asked; MetaXpress's names are the least particular.
READERS = (
    Reader("CellVoyager (MeasurementData.mlf)", cellvoyager.recognise, cellvoyager.read),
    Reader("Operetta/Opera Phenix (Harmony's Index.idx.xml)", operetta.recognise, operetta.read),
    Reader("IN Cell Analyzer (.xdce, or A - 01(fld 1 wv 390 - Blue).tif)", incell.recognise, incell.read),
    Reader("scanR (data/B2--W00014--P00001--Z00000--T00000--DAPI.tif)", scanr.recognise, scanr.read),
    Reader("OME-TIFF (.companion.ome, or .ome.tif with a plate)", ome_tiff.recognise, ome_tiff.read),
    Reader("Cellomics (<plate>_<well>f00d0.tif)", cellomics.recognise, cellomics.read),
    Reader("ImageXpress HCS.ai (.jdce and image_metadata_1.csv)", imagexpress_hcsai.recognise, imagexpress_hcsai.read),
    Reader("ImageXpress (.HTD, or <plate>_<well>_s1_w1.tif)", imagexpress.recognise, imagexpress.read),
)


def open_plate(directory: Path | str, *, pattern: str | None = None, plate_name: str | None = None) -> Plate:
    """The plate in `directory`: its expected wells, fields and planes, and which of them are there; no pixels.

    Args:
        directory: any directory from the vendor's outermost to the one with the images; only ever read. Or its URL
            (``s3://``, ``gs://``, ``https://``): then its metadata are copied here, and tags of some images are read.
        pattern: a regular expression with named groups (see :mod:`hcs_nuclei.sources.pattern`) instead of a vendor.
        plate_name: instead of the vendor's barcode or plate name.

    Raises:
        NotAPlateError: not a directory, empty, of no known format, more than one plate, or damaged metadata.
        SettingsError: `pattern` is not usable.
    """
    place = address_of(directory)
    if isinstance(place, str):
        plate = _at_url(place, pattern)
    else:
        start = _directory(place)
        plate = _recognised(start) if pattern is None else read_by_pattern(start, pattern)
    return plate if plate_name is None else replace(plate, name=plate_name)


def _directory(directory: Path) -> Path:
    path = Path(os.path.expanduser(directory))  # unlike Path's own it leaves an unknown user as it is
    try:
        start = path.resolve()
        if not start.exists():
            raise NotAPlateError(f"There is no directory {path}. Check its name, and that its drive is mounted.")
        if not start.is_dir():
            raise NotAPlateError(f"{path} is a file; a plate is a directory. Name the directory that it lies in.")
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, NotAPlateError):
            raise
        raise NotAPlateError(f"The directory {path} cannot be read: {error}.") from None
    return start


def _recognised(directory: Path) -> Plate:
    store = ome_zarr.enclosing_plate(directory)  # before its many files are listed
    if store is not None:
        return ome_zarr.read(store)
    outer = _outermost(directory, os.path.isfile, _is_harmony)
    return _of_listings(directory, survey(outer), lambda: ome_zarr.plates_in(directory), ome_zarr.read)


def _of_listings(
    directory: Path,
    listings: list[Listing],
    stores_in: Callable[[], list[Path]],
    read_store: Callable[[Path], Plate],
) -> Plate:
    """The one plate among `listings`, else among the OME-Zarr stores, of which `stores_in` is asked then."""
    found = [(listing, *claim) for listing in listings if (claim := _claim(listing))]
    if not found:
        stores = stores_in()
        if stores:
            return read_store(_only(directory, stores))
        if not any(listing.files for listing in listings):
            problems = " ".join(problem for listing in listings for problem in listing.problems)
            why = f"no file is seen in it or below it. {problems}" if problems else "no file lies in it or below it."
            raise NotAPlateError(f"The directory {directory} is empty: {why}")
        raise NotAPlateError(_unrecognised(directory, listings))
    # What is named is meant: pictures that somebody made of a plate, in a folder inside it, are no second plate.
    own = [claim for claim in found if claim[0] is listings[0] and listings[0].root == directory]
    if len(found) > 1 and not own:
        names = [os.path.relpath(listing.root, directory) for listing, _, _ in found]
        raise NotAPlateError(f"{directory} holds {len(found)} plates: {listed(names, 10)}. Name one of them.")
    listing, reader, reason = own[0] if own else found[0]
    # Directories that were not entered and of whose files none was seen may be the plate's too.
    hidden = [
        p for other in listings if not other.files and other.root.is_relative_to(listing.root) for p in other.problems
    ]
    try:
        return reader.read(replace(listing, problems=(*listing.problems, *hidden)), reason)
    except NotAPlateError as error:
        raise NotAPlateError(f"{error} It is read so because {reason}.") from None


def _only(directory: Path, plates: list[Path]) -> Path:
    if len(plates) > 1:
        names = listed([plate.name for plate in plates], 10)
        raise NotAPlateError(f"{directory} holds {len(plates)} plates: {names}. Name one of them.")
    return plates[0]


def _claim(listing: Listing) -> tuple[Reader, str] | None:
    for reader in READERS:
        reason = reader.recognise(listing)
        if reason is not None:
            return reader, reason
    return None


def _outermost(directory: Path, is_file: Callable[[Path], bool], is_harmony: Callable[[Path], bool]) -> Path:
    """`directory`, or the plate's that it is an inner one of (``TimePoint_1/ZStep_2``, ``Images``)."""
    outer = directory
    while plate_folder(outer.name) == "" and outer.name.lower() not in {"images", "assaylayout"} and outer.name:
        outer = outer.parent
    # Anybody may call a folder Images or data: only the vendors' belong to the directory above it.
    if outer.name.lower() in BESIDE:
        beside = BESIDE[outer.name.lower()]
        return outer.parent if any(is_file(outer.parent / name) for name in beside) else outer
    return outer.parent if outer.name.lower() == "images" and is_harmony(outer) else outer


def _is_harmony(directory: Path) -> bool:
    try:
        with os.scandir(directory) as entries:
            return _are_harmony(entry.name for entry in entries)
    except OSError as error:
        raise NotAPlateError(f"The directory {directory} cannot be read: {error.strerror}.") from None


def _are_harmony(names: Iterable[str]) -> bool:
    return any(name.lower() in operetta.INDEX_NAMES or operetta.matched(name) for name in names)


def _at_url(url: str, pattern: str | None) -> Plate:
    """The plate at `url`, in words and paths as if it lay there and not, in part, here."""
    staging = shared_staging()
    try:
        remote = staging.remote(url).list_files()
        if pattern is None:
            plate = _recognised_remote(remote)
        else:
            place = staging.place_of(url)
            plate = read_by_pattern(place, pattern, survey_remote(place, remote))
            plate = replace(plate, remote=_below(remote, plate.root))
        assert plate.remote is not None
        # The layout, the shading and the end of the measurement are read from these later.
        kept = [name for name in plate.metadata_files if not name.lower().endswith(IMAGE_SUFFIXES)]
        staging.bring(plate.remote, kept)
    except (NotAPlateError, PlaneError) as error:
        raise NotAPlateError(staging.in_words(str(error))) from None
    return replace(plate, warnings=tuple(staging.in_words(warning) for warning in plate.warnings))


def _recognised_remote(remote: RemoteFiles) -> Plate:
    staging = shared_staging()
    directory = staging.place_of(remote.url)
    store = _enclosing_store(remote)
    if store is not None:
        return _read_store(store, staging.place_of(store.url))
    outer = _outermost(
        directory,
        lambda path: staging.remote(staging.url_of(path.parent)).has(path.name),
        lambda place: place == directory and _are_harmony(remote.files),
    )
    if outer != directory and staging.url_of(outer):
        remote = staging.remote(staging.url_of(outer)).list_files()
    here = staging.place_of(remote.url)

    def stores_in() -> list[Path]:
        ome_zarr.bring_documents(remote, {name.partition("/")[0] for name in remote.files})
        return ome_zarr.plates_in(here)

    listings = survey_remote(here, remote)
    plate = _of_listings(directory, listings, stores_in, lambda root: _read_store(_below(remote, root), root))
    return plate if plate.remote else replace(plate, remote=_below(remote, plate.root))


def _read_store(remote: RemoteFiles, root: Path) -> Plate:
    return replace(ome_zarr.read(root, remote), remote=remote)


def _enclosing_store(remote: RemoteFiles) -> RemoteFiles | None:
    """What lies in the OME-Zarr plate that is at a URL, or that has it as a row, well, field or array; None without."""
    ome_zarr.bring_documents(remote, [""])
    if not any(name in remote.files for name in ome_zarr.DOCUMENTS):
        return None
    staging = shared_staging()
    place = staging.place_of(remote.url)
    if ome_zarr.is_plate(place):
        return remote
    for outer in place.parents[:4]:
        above = staging.remote(url) if (url := staging.url_of(outer)) else None
        for name in ome_zarr.DOCUMENTS[:2]:
            if above is not None and above.has(name):
                above.fetch(name, outer / name)
                if ome_zarr.is_plate(outer):
                    return above.list_files()
    return None


def _below(remote: RemoteFiles, root: Path) -> RemoteFiles:
    """What lies below the URL whose copies have their places in `root`."""
    url = shared_staging().url_of(root)
    before = f"{url.removeprefix(remote.url).strip('/')}/".lstrip("/")
    return RemoteFiles(
        url, {name.removeprefix(before): file for name, file in remote.files.items() if name.startswith(before)}
    )


def _unrecognised(directory: Path, listings: list[Listing]) -> str:
    tried = "\n".join(f"  {name}" for name in (*(reader.name for reader in READERS), "OME-Zarr (a group with a plate)"))
    images = [listing.root / name for listing in listings for name in listing.images[:1]]
    if images:
        example = f"An image there is called {os.path.relpath(images[0], directory)}."
    else:
        some = next(listing.root / listing.files[0] for listing in listings if listing.files)
        example = f"It holds no .tif, .tiff or .png file; one of its files is {os.path.relpath(some, directory)}."
    why_not = ome_zarr.why_not(directory) or imagexpress_hcsai.why_not(listings)
    return (
        f"{directory} is not recognised as a plate. {why_not}{' ' if why_not else ''}{example} Tried:\n{tried}\n"
        "If the names of its images say well, field and channel, give a pattern with named groups, such as "
        r"(?P<well>[A-P]\d{2})_f(?P<field>\d+)_(?P<channel>\w+)\.tif"
    )
