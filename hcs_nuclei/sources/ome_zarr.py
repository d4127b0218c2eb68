"""OME-Zarr plates: NGFF 0.4 in Zarr 2 and NGFF 0.5 in Zarr 3, this package's own among them.

::

    <plate>.zarr/                        any name
        .zattrs            or zarr.json  the plate: rows, columns, wells, acquisitions
        B/03/.zattrs       or zarr.json  the well: its fields, and the acquisition of each
        B/03/0/.zattrs     or zarr.json  the field: axes, level names, pixel size, channel names
        B/03/0/0/.zarray   or zarr.json  level 0: the array with axes (t)(c)(z)yx, whose planes are what is read

The plate says which wells, each well which fields are expected; the fields that are there say which planes. A plane of
which no chunk is there is missing (see :mod:`hcs_nuclei.sources.ome_zarr_arrays`).
"""

from __future__ import annotations

import errno
import json
import math
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hcs_nuclei.errors import NotAPlateError, PlaneError, listed
from hcs_nuclei.plate import Channel, Plate, RemoteFiles, parse_well, well_name
from hcs_nuclei.sources.assembly import (
    FieldKey,
    Position,
    Record,
    assemble_exactly,
    plate_format,
)
from hcs_nuclei.sources.ome_zarr_arrays import ArrayForm, pages_there, read_document, read_form
from hcs_nuclei.sources.promises import absent_channels, absent_times, named_absences
from hcs_nuclei.sources.staging import shared_staging

_UNITS_UM = {"micrometer": 1.0, "um": 1.0, "µm": 1.0, "nanometer": 1e-3, "millimeter": 1e3, "meter": 1e6}
_SPACE = ("y", "x")
#: Of groups and arrays, in Zarr 3 and 2.
DOCUMENTS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


class _Document(NamedTuple):
    """The OME attributes of one group, the file that they stand in, and the version of NGFF that it names."""

    name: str
    version: str
    ome: Mapping[str, Any]


class _Image(NamedTuple):
    """What a field's own attributes say: path of level 0, axes, pixel size, position of its first pixel, channels."""

    level: str
    axes: tuple[str, ...]
    pixel_size_um: float | None
    corner_um: tuple[float, float] | None
    channels: tuple[str, ...]


class _Kind(NamedTuple):
    """A plane as its place in an array says: channel, time point, z, and its page."""

    channel: str
    time: int
    z: int
    page: int


@dataclass
class _Found:
    """What the fields say, gathered while they are read."""

    records: list[Record] = field(default_factory=list)
    positions_um: dict[FieldKey, tuple[float, float]] = field(default_factory=dict)
    kinds: Counter[tuple[_Kind, ...]] = field(default_factory=Counter)
    lost: dict[FieldKey, str] = field(default_factory=dict)
    lost_wells: dict[Position, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    pixel_size_um: float | None = None
    inside: set[str] = field(default_factory=set)
    exists: Callable[[str], bool] = os.path.exists


def enclosing_plate(directory: Path) -> Path | None:
    """`directory`, or the one above it that is the plate whose row, well, field or array it is; None without one."""
    return next((place for place in (directory, *directory.parents[:4]) if is_plate(place)), None)


def plates_in(directory: Path) -> list[Path]:
    """The plates directly in `directory`, by name."""
    try:
        with os.scandir(directory) as entries:
            folders = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    return [Path(folder) for folder in folders if is_plate(Path(folder))]


def read(root: Path, remote: RemoteFiles | None = None) -> Plate:
    """The OME-Zarr plate in the directory `root`, or at the URL of `remote`, whose copies have their places in `root`.

    Raises:
        NotAPlateError: its metadata are damaged or of an unknown version, or none of its planes is there.
    """
    bring_documents(remote, [""])
    document = _document(str(root))
    plate = document.ome["plate"]
    wells = list(_wells(plate, root / document.name))
    found = _Found()
    if remote is not None:
        found.exists = lambda path: path.removeprefix(f"{root}/") in remote.files
    bring_documents(remote, (path for _, path in wells))
    skipped: list[str] = []
    fields: dict[Position, dict[int, str]] = {}
    images_of: dict[Position, tuple[str, list[tuple[str, int | None]]]] = {}
    for position, path in wells:
        if position in images_of or position in found.lost_wells:
            raise NotAPlateError(f"{root / document.name} lists the well {well_name(*position)} twice, also as {path}.")
        try:
            images_of[position] = path, _images_of_well(found, root, path)
        except (NotAPlateError, *_WRONG) as error:
            found.lost_wells[position] = _words(error, root)
    acquisition = _acquisition(plate, [number for _, images in images_of.values() for _, number in images])
    elsewhere = []
    for position, (path, images) in images_of.items():
        kept = [image for image, number in images if number in {None, acquisition}]
        skipped += [f"{path}/{image}" for image, number in images if number not in {None, acquisition}]
        fields[position] = dict(zip(_numbers(kept), (f"{path}/{image}" for image in kept), strict=True))
        elsewhere += [path] if images and not kept else []
    if remote is not None:
        paths = [path for images_here in fields.values() for path in images_here.values()]
        bring_documents(remote, paths)
        bring_documents(remote, _arrays(root, paths))
    for position, images_here in fields.items():
        for number, path in images_here.items():
            _read_field(found, root, path, (*position, number))
    _add_lost(found, fields)
    assembly = assemble_exactly(found.records, found.positions_um)
    names = {str(a.get("id")): str(a.get("name") or "") for a in _entries(plate.get("acquisitions"))}
    return Plate(
        root=root,
        vendor="ome-zarr",
        reason=f"its {document.name} describes a plate (NGFF {document.version})",
        name=str(plate.get("name") or "") or re.sub(r"(\.ome)?\.zarr$", "", root.name),
        acquisition=names.get(str(acquisition), "") if acquisition is not None else next(iter(names.values()), ""),
        wells=assembly.wells,
        channels=tuple(Channel(token, found.names.get(token) or token) for token in assembly.tokens),
        timepoints=len(assembly.times),
        pixel_size_um=found.pixel_size_um,
        wells_in_format=plate_format(assembly.wells),
        expected_from="metadata",
        warnings=(
            *absent_channels(
                {r.channel: found.names.get(r.channel, "") for r in found.records},
                assembly.tokens,
                "the plate's arrays",
            ),
            *absent_times((r.time for r in found.records), assembly.times, "the plate's arrays"),
            *(
                (f"{len(skipped):,} images of further acquisitions are not read, such as {listed(skipped, 2)}.",)
                if skipped
                else ()
            ),
            *(
                (f"{len(elsewhere):,} wells have no image of acquisition {acquisition}: {listed(elsewhere, 5)}.",)
                if elsewhere
                else ()
            ),
            *assembly.warnings,
        ),
        metadata_files=(document.name,),
        absent=named_absences(assembly.absent, found.names),
    )


def bring_documents(remote: RemoteFiles | None, groups: Iterable[str]) -> None:
    """Copy the documents of these groups and arrays of a plate at a URL, many at a time."""
    if remote is not None:
        names = [f"{group}/{name}".lstrip("/") for group in groups for name in DOCUMENTS]
        shared_staging().bring(remote, [name for name in names if name in remote.files])


def _arrays(root: Path, fields: Iterable[str]) -> Iterator[str]:
    """The array of each field whose attributes name one."""
    for path in fields:
        with suppress(NotAPlateError, *_WRONG):
            yield f"{path}/{_image(_document(f'{root}/{path}').ome).level}"


#: What reading through foreign JSON raises where it is not as the specification says.
_WRONG = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


def why_not(directory: Path) -> str:
    """Why a Zarr group in `directory` is no plate, in words; empty where there is no sign of a group."""
    signs = (".zgroup", ".zattrs", "zarr.json")
    if directory.suffix != ".zarr" and not any(os.path.lexists(directory / sign) for sign in signs):
        return ""
    try:
        return f"{directory / _document(str(directory), versions=False).name} describes no plate."
    except NotAPlateError as error:
        return str(error)


def is_plate(directory: Path) -> bool:
    """Whether the documents in `directory` describe a plate."""
    try:
        return "plate" in _document(str(directory), versions=False).ome
    except NotAPlateError:
        return False


def _document(group: str, *, versions: bool = True) -> _Document:
    for name in ("zarr.json", ".zattrs"):
        try:
            content = read_document(f"{group}/{name}")
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotAPlateError(f"{group}/{name} is a link, and is not followed. {_AGAIN}") from None
            raise NotAPlateError(f"{group}/{name} cannot be read: {error.strerror}.") from None
        try:
            attributes = json.loads(content)
            ome = attributes if name == ".zattrs" else attributes["attributes"]["ome"]
            parts = (ome, ome.get("plate"), ome.get("well"), *_entries(ome.get("multiscales")))
            told = {str(part["version"]) for part in parts if isinstance(part, dict) and "version" in part}
        except (RecursionError, *_WRONG) as error:
            raise NotAPlateError(f"{group}/{name} is not the metadata of OME-Zarr ({error!r}). {_AGAIN}") from None
        known = "0.4" if name == ".zattrs" else "0.5"
        if versions and told - {known}:
            raise NotAPlateError(
                f"{group}/{name} is of NGFF {', '.join(sorted(told - {known}))}; 0.4 (Zarr 2) and 0.5 (Zarr 3) "
                "can be read. Convert the plate to one of these."
            )
        return _Document(name, known, ome)
    raise NotAPlateError(f"{group} has no .zattrs or zarr.json. {_AGAIN}")


_AGAIN = "Copy it again, or convert the plate again."


def _entries(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _wells(plate: Mapping[str, Any], source: Path) -> Iterator[tuple[Position, str]]:
    """(row and column, path) of each well, in the order of the metadata; paths stay within the plate."""
    try:
        for well in plate["wells"]:
            path = _inside(well["path"])
            try:
                yield parse_well("".join(path.split("/"))), path
            except ValueError:  # rows and columns of another naming count by their places
                yield (int(well["rowIndex"]) + 1, int(well["columnIndex"]) + 1), path
    except _WRONG as error:
        raise NotAPlateError(f"{source} does not list its wells as NGFF does ({error!r}). {_AGAIN}") from None


def _inside(path: str) -> str:
    plain = posixpath.normpath(path)
    if plain.startswith(("/", "..")) or "\\" in plain or ":" in plain:
        raise ValueError(f"the path {path!r} is outside the plate directory")
    return plain


def _images_of_well(found: _Found, root: Path, path: str) -> list[tuple[str, int | None]]:
    """(path in the well, acquisition) of each field of a well."""
    images = _document(_within(found, root, path)).ome["well"]["images"]
    return [(_inside(image["path"]), _number(image.get("acquisition"))) for image in images]


def _number(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if (isinstance(value, float) and value.is_integer()) or (isinstance(value, str) and value.isdecimal()):
        return int(value)
    raise ValueError(f"the acquisition {value!r} is no number")


def _acquisition(plate: Mapping[str, Any], numbers: Iterable[int | None]) -> int | None:
    """The first acquisition of the plate's list that has images, else the lowest that images name."""
    there = {number for number in numbers if number is not None}
    named = []
    for entry in _entries(plate.get("acquisitions")):
        with suppress(ValueError):
            named.append(_number(entry.get("id")))
    return next((number for number in named if number in there), min(there, default=None))


def _within(found: _Found, root: Path, path: str) -> str:
    """`path` below `root`, which no link on the way leads out of; each directory is looked at once."""
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        place = f"{root}/{'/'.join(parts[:depth])}"
        if place in found.inside:
            continue
        if os.path.islink(place) and not Path(os.path.realpath(place)).is_relative_to(root):
            raise NotAPlateError(f"{path} is a link that leaves the plate directory, and is not followed.")
        found.inside.add(place)
    return f"{root}/{path}"


def _numbers(images: list[str]) -> list[int]:
    """Field numbers of a well's images: the number in each name, else their order from 0."""
    found = [re.findall(r"\d+", image) for image in images]
    numbers = [int(digits[-1][:9]) for digits in found if digits]
    return numbers if len(set(numbers)) == len(images) else list(range(len(images)))


def _read_field(found: _Found, root: Path, path: str, key: FieldKey) -> None:
    try:
        image = _image(_document(_within(found, root, path)).ome)
        array = f"{path}/{image.level}"
        stored = _within(found, root, array)
        form = read_form(stored)
        if form is None:
            raise NotAPlateError(f"{array} is not there, or has lost its zarr.json or .zarray.")
        kinds = _kinds(form.leading, image.axes)
    except (NotAPlateError, PlaneError, *_WRONG) as error:
        found.lost[key] = _words(error, root)
        return
    found.kinds[kinds] += 1
    for kind, there in zip(kinds, pages_there(stored, form, found.exists), strict=True):
        where, why = (array, "") if there else ("", f"no chunk of it is in {array}")
        found.records.append(Record(*key, kind.channel, kind.time, kind.z, False, where, why, kind.page))
    for number, name in enumerate(image.channels):
        found.names.setdefault(f"c{number}", name)
    found.pixel_size_um = found.pixel_size_um or image.pixel_size_um
    if image.corner_um is not None and image.pixel_size_um is not None:
        found.positions_um[key] = _centre(image.corner_um, form, image.pixel_size_um)


def _centre(corner_um: tuple[float, float], form: ArrayForm, pixel_size_um: float) -> tuple[float, float]:
    """(x, y) of the middle of a field, as instruments give it, from that of its first pixel."""
    height, width = form.shape[-2:]
    return corner_um[0] + (width - 1) / 2 * pixel_size_um, corner_um[1] + (height - 1) / 2 * pixel_size_um


@lru_cache(maxsize=64)
def _kinds(leading: tuple[int, ...], axes: tuple[str, ...]) -> tuple[_Kind, ...]:
    if axes[-2:] != _SPACE or len(axes) != len(leading) + 2 or not set(axes[:-2]) <= {"t", "c", "z"}:
        raise ValueError(f"its axes are {''.join(axes)} of {len(leading) + 2} in the array; expected (t)(c)(z)yx")
    if math.prod(leading) > 1_000_000:
        raise ValueError(f"its array says that it holds {math.prod(leading):,} planes")
    kinds = []
    for page in range(math.prod(leading)):
        rest, at = page, {"t": 0, "c": 0, "z": 0}
        for axis, length in zip(reversed(axes[:-2]), reversed(leading), strict=True):
            rest, at[axis] = divmod(rest, length)
        kinds.append(_Kind(f"c{at['c']}", at["t"], at["z"], page))
    return tuple(kinds)


def _image(ome: Mapping[str, Any]) -> _Image:
    """What the attributes of a field's group say."""
    multiscale = ome["multiscales"][0]
    axes = tuple(str(axis["name"]) for axis in multiscale["axes"])
    dataset = multiscale["datasets"][0]
    scale, translation = [1.0] * len(axes), [0.0] * len(axes)
    placed = False
    # First the level's own, then those of all levels: a scale stretches what was moved before it.
    for transform in (*dataset["coordinateTransformations"], *multiscale.get("coordinateTransformations", ())):
        if transform["type"] == "scale":
            factors = [float(factor) for factor in transform["scale"]]
            scale = [a * b for a, b in zip(scale, factors, strict=True)]
            translation = [a * b for a, b in zip(translation, factors, strict=True)]
        elif transform["type"] == "translation":
            translation = [a + float(b) for a, b in zip(translation, transform["translation"], strict=True)]
            placed = True
    unit = _UNITS_UM.get(str(multiscale["axes"][-1].get("unit", "")))
    size = scale[-1] * unit if unit else 0.0
    corner = (translation[-1] * unit, translation[-2] * unit) if placed and unit else None
    labels = tuple(str(channel.get("label") or "") for channel in _entries(ome.get("omero", {}).get("channels")))
    usable = math.isfinite(size) and size > 0 and (corner is None or all(map(math.isfinite, corner)))
    return _Image(_inside(str(dataset["path"])), axes, size if usable else None, corner if usable else None, labels)


def _add_lost(found: _Found, fields: Mapping[Position, Mapping[int, str]]) -> None:
    """Fields and wells that are promised and cannot be read lack the planes that most others have."""
    if not found.kinds:
        first = next(iter((*found.lost.values(), *found.lost_wells.values())), "it lists none")
        raise NotAPlateError(f"None of the plate's fields can be read: {first}. {_AGAIN}")
    usual_kinds = found.kinds.most_common(1)[0][0]
    count = Counter(number for numbers in fields.values() for number in numbers)
    usual = sorted(number for number, wells in count.items() if 2 * wells >= len(fields))
    lost = {(*well, number): words for well, words in found.lost_wells.items() for number in usual}
    for key, words in {**lost, **found.lost}.items():
        found.records += [Record(*key, k.channel, k.time, k.z, False, "", words, k.page) for k in usual_kinds]


def _words(error: Exception, root: Path) -> str:
    """The first sentence of an error, with paths relative to the plate: it goes into tables, which name no machine."""
    if isinstance(error, NotAPlateError | PlaneError):
        return str(error).replace(f"{root}{os.sep}", "").removesuffix(_AGAIN).rstrip(" .")
    return f"its metadata are not as NGFF has them ({error!r})"
