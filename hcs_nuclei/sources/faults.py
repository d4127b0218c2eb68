"""A plate in, what is wrong with its files out: by their sizes, and by the tags of some; no pixels are read.

Every file is looked up once (``stat``). Tags are read of at most :data:`HEADERS` images: all of them where a plate
has no more, else those whose size is least like that of the others of their channel, and a sample spread evenly over
the plate. Where the sample shows that a channel is not compressed, every file that is too small for its pixels is
looked into as well, up to as many again: in an uncompressed plate no cut file is overlooked.
"""

from __future__ import annotations

import math
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

from hcs_nuclei.errors import NotAPlateError, PlaneError
from hcs_nuclei.plate import Field, Plane, Plate, Well
from hcs_nuclei.sources.expected_names import ExpectedNames
from hcs_nuclei.sources.planes import first_shape
from hcs_nuclei.sources.remote import at_once

if TYPE_CHECKING:
    import numpy as np

    Shape = tuple[tuple[int, int], np.dtype[Any]]

#: Tags of so many images are read at most, a second or two from a local disk.
HEADERS = 2_000

FaultKind = Literal["missing", "duplicate", "extra", "zero-byte", "truncated", "wrong-size", "wrong-type"]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
#: Kinds that cost a plane its pixels; the others are there beside what is used.
COSTLY = frozenset(KINDS) - {"duplicate", "extra"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one plane, in one word and in a sentence.

    `channel` is a token. `timepoint` is 0-based and `z` as the vendor counts; of a file that is not expected, both
    are as its name says. `path` is relative to the plate's root; of a missing plane it is the name that the other
    wells' names lead to, empty where they do not tell. `error` is empty for a plane that is simply not there.
    """

    kind: FaultKind
    well: str
    field: int
    channel: str
    timepoint: int
    z: int
    projection: bool
    path: str
    error: str


@dataclass(frozen=True, slots=True)
class FileCheck:
    """The faults of a plate in the order of its planes, and how they were found.

    `files` were looked up; of the `images` that are there and not empty, the tags of `headers` were read.
    """

    faults: tuple[Fault, ...]
    files: int
    headers: int
    images: int


class _There(NamedTuple):
    """A plane whose file is there; `size` in bytes, 0 where it is no plain file (a Zarr array is a directory)."""

    well: Well
    site: Field
    plane: Plane
    size: int


def check_files(plate: Plate, *, headers: int = HEADERS) -> FileCheck:
    """Every fault of `plate` that names, sizes and the tags of some images show.

    Tags are read of at most `headers` images, and of at most as many again that are too small for their pixels.

    Raises:
        NotAPlateError: the plate lies at a URL that does not answer any more.
    """
    faults = list(_by_names(plate))
    there: list[_There] = []
    for well, site, plane in _planes(plate):
        if plane.path:
            seen = _look_up(plate, well, site, plane)
            if isinstance(seen, Fault):
                faults.append(seen)
            else:
                there.append(seen)
    shapes: dict[tuple[str, int], Shape | PlaneError] = {}
    _read_tags(plate, _telling(there, headers), shapes)
    _read_tags(plate, _too_small(there, shapes)[:headers], shapes)
    faults += _by_tags(there, shapes)
    order = {(well.name, site.number): n for n, (well, site) in enumerate((w, f) for w in plate for f in w.fields)}
    faults.sort(key=lambda fault: order[fault.well, fault.field])
    files = len({plane.path for _, _, plane in _planes(plate) if plane.path})
    return FileCheck((*faults, *_extra(plate)), files, len(shapes), len(there))


def check_names(plate: Plate) -> FileCheck:
    """The faults of `plate` that its files' names alone show; nothing is looked up on the disk."""
    return FileCheck((*_by_names(plate), *_extra(plate)), 0, 0, 0)


def _planes(plate: Plate) -> Iterator[tuple[Well, Field, Plane]]:
    return ((well, site, plane) for well in plate for site in well.fields for plane in site.planes)


def _by_names(plate: Plate) -> Iterator[Fault]:
    names = ExpectedNames(plate)
    for well, site, plane in _planes(plate):
        if not plane.path:
            yield replace(_fault("missing", well, site, plane, plane.error), path=names.of(well, site, plane))
        for double in plane.doubles:
            words = f"{double} is the same plane as {plane.path}, which is the one that is used."
            yield replace(_fault("duplicate", well, site, plane, words), path=double)


def _look_up(plate: Plate, well: Well, site: Field, plane: Plane) -> _There | Fault:
    if plate.remote is not None:
        file = plate.remote.files.get(plane.path)
        if file is None or file.size:  # without a file of its own, it is an array
            return _There(well, site, plane, file.size if file else 0)
        return _fault("zero-byte", well, site, plane, f"{plane.path} is empty (0 bytes).")
    try:
        status = os.stat(os.path.join(plate.root, plane.path))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        return _fault("missing", well, site, plane, f"{plane.path} cannot be read: {why}.")
    if stat.S_ISDIR(status.st_mode):
        return _There(well, site, plane, 0)
    if not stat.S_ISREG(status.st_mode):
        return _fault("wrong-type", well, site, plane, f"{plane.path} is not a file.")
    if status.st_size == 0:
        return _fault("zero-byte", well, site, plane, f"{plane.path} is empty (0 bytes).")
    return _There(well, site, plane, status.st_size)


def _fault(kind: FaultKind, well: Well, site: Field, plane: Plane, words: str) -> Fault:
    return Fault(
        kind,
        well.name,
        site.number,
        plane.channel,
        plane.timepoint,
        plane.z,
        plane.projection,
        plane.path,
        words,
    )


def _telling(there: Sequence[_There], most: int) -> Sequence[_There]:
    """At most `most` images: half of them those of the oddest sizes, the rest spread evenly over the plate."""
    if len(there) <= most:
        return there
    sizes: dict[str, list[int]] = defaultdict(list)
    for image in there:
        sizes[image.plane.channel].append(image.size)
    usual = {channel: median(values) for channel, values in sizes.items()}

    def oddness(image: _There) -> float:
        return abs(math.log(max(image.size, 1) / max(usual[image.plane.channel], 1)))

    odd = sorted((i for i in there if oddness(i) > 0), key=oddness, reverse=True)[: most // 2]
    spread = most - len(odd)
    return [*odd, *(there[n * len(there) // spread] for n in range(spread))]


def _too_small(there: Sequence[_There], shapes: Mapping[tuple[str, int], Shape | PlaneError]) -> list[_There]:
    """Images whose files are smaller than the pixels of their channel, where it is stored without compression."""
    least: dict[str, int] = {}
    for image in there:
        shape = shapes.get((image.plane.path, image.plane.page))
        if shape is not None and not isinstance(shape, PlaneError):
            pixels = math.prod(shape[0]) * shape[1].itemsize
            compressed = image.size < pixels
            least[image.plane.channel] = 0 if compressed else min(pixels, least.get(image.plane.channel, pixels))
    return [image for image in there if 0 < image.size < least.get(image.plane.channel, 0)]


def _read_tags(plate: Plate, images: Iterable[_There], shapes: dict[tuple[str, int], Shape | PlaneError]) -> None:
    """Add what the tags of `images` say to `shapes`.

    Raises:
        NotAPlateError: the plate lies at a URL that does not answer any more.
    """

    def read(plane: Plane) -> Shape | PlaneError:
        try:
            return first_shape(plate.root, [plane], plate.remote)
        except PlaneError as error:
            if error.fault == "unreachable":
                raise NotAPlateError(f"The plate cannot be looked at: {error}") from None
            return error

    planes = {(i.plane.path, i.plane.page): i.plane for i in images}
    new = {key: plane for key, plane in planes.items() if key not in shapes}
    # A disk is read in order; a store answers many requests while one waits.
    found = map(read, new.values()) if plate.remote is None else at_once(read, new.values())
    shapes.update(zip(new, found, strict=True))


def _by_tags(there: Sequence[_There], shapes: Mapping[tuple[str, int], Shape | PlaneError]) -> Iterator[Fault]:
    """Images that cannot be read, and those of another size or depth than most of their channel."""
    read = [(image, shape) for image in there if (shape := shapes.get((image.plane.path, image.plane.page)))]
    counts: dict[str, Counter[Shape]] = defaultdict(Counter)
    for image, shape in read:
        if not isinstance(shape, PlaneError):
            counts[image.plane.channel][shape] += 1
            counts["*"][shape] += 1
    usual = {channel: _majority(count) for channel, count in counts.items()}
    for image, shape in read:
        if isinstance(shape, PlaneError):
            kind = cast(FaultKind, shape.fault)
            yield _fault(kind, image.well, image.site, image.plane, str(shape))
            continue
        most = usual[image.plane.channel] or usual["*"]
        if most is not None and shape != most:
            words = (
                f"{image.plane.path} is {_in_words(shape)}; most of its channel are {_in_words(most)} "
                "(inferred from the regularity of the plate)."
            )
            kind = "wrong-size" if shape[0] != most[0] else "wrong-type"
            yield _fault(kind, image.well, image.site, image.plane, words)


def _majority(count: Counter[Shape]) -> Shape | None:
    shape, number = count.most_common(1)[0]
    return shape if 2 * number > count.total() else None


def _in_words(shape: Shape) -> str:
    (height, width), dtype = shape
    return f"{width} × {height} pixels of {dtype.itemsize * 8} bits"


def _extra(plate: Plate) -> Iterator[Fault]:
    for e in plate.extra:
        words = f"{e.path} is there and not promised by the plate's metadata; it is {'' if e.used else 'not '}used."
        yield Fault("extra", e.well, e.field, e.channel, e.timepoint, e.z, e.projection, e.path, words)
