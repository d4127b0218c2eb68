"""An IN Cell Analyzer ``.xdce`` in, its plate, waves, plan and images out.

What the elements mean is taken from Bio-Formats' ``InCellReader`` and from published exports.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from xml.etree.ElementTree import Element

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.plate import PLATE_FORMATS
from hcs_nuclei.sources.assembly import Position
from hcs_nuclei.sources.metadata_xml import elements, local

#: 1536 wells × 9 fields × 4 waves × 9 planes fit; each costs some 500 bytes, and a file of a few kB could ask for more.
_MOST_PLANNED = 500_000
_WANTED = frozenset(
    {
        "ImageStack",
        "Creation",
        "Plate",
        "Exclude",
        "offset_point",
        "TimeSchedule",
        "Wavelength",
        "ObjectiveCalibration",
        "Image",
        "Images",
    }
)


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """One image of the index: row and column from 1; field, time, wave and z from 0, as the file has them.

    `position_um` is (x, y) on the plate in micrometres, y pointing down.
    """

    filename: str
    row: int
    column: int
    field: int
    time: int
    wave: int
    z: int
    position_um: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Planned:
    """A plane that the plan promises and the index does not list: the acquisition ended before it."""

    row: int
    column: int
    field: int
    time: int
    wave: int
    z: int


@dataclass
class XdceIndex:
    """The index; what it does not say is empty, 0 or None.

    `waves` are (excitation, emission) by number, `plan_fields` and `plan_times` how many the protocol has, `promised`
    how many images the index says that the plate has.
    """

    name: str = ""
    created: str = ""
    rows: int = 0
    columns: int = 0
    promised: int = 0
    plan_fields: int = 0
    plan_times: int = 0
    pixel_size_um: float | None = None
    waves: dict[int, tuple[str, str]] = field(default_factory=dict)
    excluded: set[Position] = field(default_factory=set)
    images: list[IndexedImage] = field(default_factory=list)


def read_xdce(path: Path) -> XdceIndex:
    """The index at `path`.

    Raises:
        NotAPlateError: it is damaged, or an image has no number where it needs one.
    """
    index = XdceIndex()
    for name, element in elements(path, _WANTED):
        try:
            if name == "Image":
                index.images.append(_image(element))
            else:
                _add(index, name, element)
        except (KeyError, ValueError) as error:
            which = element.get("filename") or f"<{name}>"
            raise NotAPlateError(
                f"{path}: the entry of {which} lacks a number or holds something else ({error}). "
                "Copy the index again from the instrument."
            ) from None
    return index


def planned_planes(index: XdceIndex) -> Iterator[Planned]:
    """What the index promises beyond the images that it lists; nothing where it lists as many as it promises.

    A field has the planes (time, wave, z) that any listed one has, since a wave may have fewer z than another.
    """
    if index.promised <= len(index.images):
        return
    kinds = sorted({(i.time, i.wave, i.z) for i in index.images})
    numbers = sorted({i.field for i in index.images} | set(range(min(index.plan_fields, index.promised))))
    wells = _planned_wells(index, len(numbers) * len(kinds))
    if len(wells) * len(numbers) * len(kinds) > min(index.promised, _MOST_PLANNED):
        return  # not every field was to have every plane, so that the missing ones cannot be told
    listed = {(i.row, i.column, i.field, i.time, i.wave, i.z) for i in index.images}
    for well, number, kind in product(wells, numbers, kinds):
        if (*well, number, *kind) not in listed:
            yield Planned(*well, number, *kind)


def _planned_wells(index: XdceIndex, planes: int) -> list[Position]:
    """The wells that were to be imaged, `planes` in each.

    All that are not excluded, if that is as many images as the index promises; else those that it lists, for it can
    leave wells out in ways that are not known.
    """
    listed = {(i.row, i.column) for i in index.images}
    if (index.rows, index.columns) in PLATE_FORMATS.values():
        plate = product(range(1, index.rows + 1), range(1, index.columns + 1))
        chosen = {well for well in plate if well not in index.excluded}
        if len(chosen) * planes == index.promised and listed <= chosen:
            return sorted(chosen)
    return sorted(listed)


def _add(index: XdceIndex, name: str, element: Element) -> None:
    if name == "ImageStack":
        index.name = element.get("PlateID", "").strip()
    elif name == "Creation":
        index.created = f"{element.get('date', '')} {element.get('time', '').partition('.')[0]}".strip()
    elif name == "Plate":
        index.rows = int(element.get("rows") or 0)
        index.columns = int(element.get("columns") or 0)
    elif name == "Exclude":
        index.excluded.add((int(element.attrib["row"]), int(element.attrib["col"])))
    elif name == "offset_point":
        index.plan_fields += 1
    elif name == "TimeSchedule":
        enabled = element.get("enabled", "true").lower() == "true"
        index.plan_times = sum(local(e.tag) == "TimePoint" for e in element.iter()) if enabled else 1
    elif name == "Wavelength":
        # A fused wave is made of others by software; no image is taken of it.
        if element.get("fusion_wave", "false").lower() != "true":
            number = int(element.get("index") or len(index.waves))
            index.waves.setdefault(number, (_name(element, "ExcitationFilter"), _name(element, "EmissionFilter")))
    elif name == "ObjectiveCalibration":
        size = float(element.get("pixel_width") or 0)
        index.pixel_size_um = size if math.isfinite(size) and size > 0 else None
    elif name == "Images":
        index.promised = int(element.get("number") or 0)


def _image(element: Element) -> IndexedImage:
    parts = {local(e.tag): e for e in element.iter()}
    place = parts.get("PlatePosition_um")
    x, y = (place.get("x"), place.get("y")) if place is not None else (None, None)
    numbers = parts["Identifier"].attrib
    image = IndexedImage(
        filename=element.attrib["filename"],
        row=int(parts["Row"].attrib["number"]),
        column=int(parts["Column"].attrib["number"]),
        field=int(numbers["field_index"]),
        time=int(numbers["time_index"]),
        wave=int(numbers["wave_index"]),
        z=int(numbers["z_index"]),
        position_um=(float(x), float(y)) if x and y else None,
    )
    if min(image.field, image.time, image.wave, image.z) < 0:
        raise ValueError("a negative number")
    return image


def _name(element: Element, child: str) -> str:
    return next((e.get("name", "").strip() for e in element if local(e.tag) == child), "")
