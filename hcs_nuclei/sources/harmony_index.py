"""A Harmony ``Index.idx.xml`` in, its plate, channels and images out, for versions V4 to V7; Columbus's as well.

Columbus's ``ImageIndex.ColumbusIDX.xml`` is the same in another namespace; several planes may share a file there, and
``BufferNo`` is the page (seen in the OME sample images of PerkinElmer-Columbus, zenodo 6327496).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.sources.metadata_xml import attributes as attributes_of
from hcs_nuclei.sources.metadata_xml import children, elements, local, records, root_tag

VERSIONS = ("V4", "V5", "V6", "V7")
COLUMBUS = "Columbus"
_OF_PLATE = ("PlateID", "Name", "MeasurementID", "PlateRows", "PlateColumns")
_OF_IMAGE = ("URL", "Row", "Col", "FieldID", "PlaneID", "TimepointID", "ChannelID", "State", "PositionX", "PositionY")
_OF_CHANNEL = ("ChannelName", "ImageResolutionX", "AcquisitionType")


class IndexedImage(NamedTuple):
    """One image of the index; `position_um` is (x, y) in micrometres, y pointing down (the file has metres, y up)."""

    url: str
    row: int
    column: int
    field: int
    plane: int
    time: int
    channel: int
    state: str
    position_um: tuple[float, float] | None
    page: int = 0
    page_named: bool = False


@dataclass
class HarmonyIndex:
    """The index: plate name, measurement, format (0 where it does not say), channel names by id, images in order.

    `acquisition_types` are Harmony's words for the optics of its channels, such as ``NonConfocal``.
    """

    version: str
    name: str = ""
    measurement: str = ""
    rows: int = 0
    columns: int = 0
    channels: dict[int, str] = field(default_factory=dict)
    pixel_size_um: float | None = None
    acquisition_types: set[str] = field(default_factory=set)
    images: list[IndexedImage] = field(default_factory=list)


def read_index(path: Path) -> HarmonyIndex:
    """The index at `path`.

    Raises:
        NotAPlateError: it is of a version that is not known, damaged, or an image has no number where it needs one.
    """
    index = HarmonyIndex(_version(path))
    for name, attributes, values in _entries(path, index.version):
        try:
            if name == "Image" and "URL" in values:  # the list of wells has elements of the same name
                _add_image(index, values)
            elif name == "Entry" and attributes.get("ChannelID"):
                _add_channel(index, int(attributes["ChannelID"]), values)
            elif name == "Plate" and not index.name:
                index.name = values.get("PlateID") or values.get("Name", "")
                index.measurement = values.get("MeasurementID", "")
                index.rows = int(values.get("PlateRows") or 0)
                index.columns = int(values.get("PlateColumns") or 0)
        except (KeyError, ValueError) as error:
            which = values.get("URL") or name
            raise NotAPlateError(
                f"{path}: the entry of {which} lacks a number or holds something else ({error}). "
                "Copy the index again from the instrument."
            ) from None
    return index


def _entries(path: Path, version: str) -> Iterator[tuple[str, dict[str, str], dict[str, str]]]:
    wanted = ("Plate", "Entry", "Image")
    if version != COLUMBUS:
        yield from records(path, wanted, (*_OF_PLATE, *_OF_IMAGE, *_OF_CHANNEL), plain="Images")
        return
    for name, element in elements(path, wanted):
        values = children(element)
        page = [child.get("BufferNo", "") for child in element if local(child.tag) == "URL"]
        yield name, attributes_of(element), {**values, "BufferNo": page[0] if page else ""}


def _version(path: Path) -> str:
    tag = root_tag(path)
    # V7 stands behind another prefix than V4 to V6 (http://www.perkinelmer.com/PEHH/), the end is the same.
    match = re.match(r"\{.*/Harmony(V\d+)\}|\{.*/(Columbus)\}", tag)
    version = (match[1] or match[2]) if match else tag
    if version not in (*VERSIONS, COLUMBUS):
        raise NotAPlateError(
            f"{path} is of Harmony version {version}; {', '.join(VERSIONS)} can be read. "
            "Export the measurement from Harmony again, or read the images by a pattern."
        )
    return version


def _add_image(index: HarmonyIndex, values: dict[str, str]) -> None:
    channel = int(values["ChannelID"])
    _add_channel(index, channel, values)
    index.images.append(
        IndexedImage(
            url=values["URL"],
            row=int(values["Row"]),
            column=int(values["Col"]),
            field=int(values["FieldID"]),
            plane=int(values.get("PlaneID") or 1),
            time=int(values.get("TimepointID") or 0),
            channel=channel,
            state=values.get("State", ""),
            position_um=_position(values),
            page=int(values.get("BufferNo") or 0),
            page_named=bool(values.get("BufferNo")),
        )
    )


def _add_channel(index: HarmonyIndex, channel: int, values: dict[str, str]) -> None:
    # Up to V5 with each image, from V6 once in Maps/Map/Entry.
    if values.get("ChannelName"):
        index.channels.setdefault(channel, values["ChannelName"])
    if values.get("AcquisitionType"):
        index.acquisition_types.add(values["AcquisitionType"])
    if index.pixel_size_um is None and values.get("ImageResolutionX"):
        size = float(values["ImageResolutionX"]) * 1e6
        index.pixel_size_um = size if math.isfinite(size) and size > 0 else None


def _position(values: dict[str, str]) -> tuple[float, float] | None:
    if not values.get("PositionX") or not values.get("PositionY"):
        return None
    x, y = float(values["PositionX"]) * 1e6, -float(values["PositionY"]) * 1e6
    return (x, y) if math.isfinite(x) and math.isfinite(y) else None
