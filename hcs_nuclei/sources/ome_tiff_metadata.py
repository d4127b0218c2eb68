"""OME-XML in, its plate, fields and where each plane lies out: from a ``.companion.ome`` or a TIFF's description.

The OME model: https://docs.openmicroscopy.org/ome-model/ (schemas since 2011; in those before 2016 the plate has a
namespace of its own).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from hcs_nuclei.errors import NotAPlateError, PlaneError
from hcs_nuclei.sources.metadata_xml import elements, local, root_tag
from hcs_nuclei.sources.tiff import TiffSource, opened_tiff

PlaneKey = tuple[int, int, int]

_SAMPLE = re.compile(r"WellSample:\d+:\d+:(\d{1,6})")
_MICROMETRES = {"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "µm": 1.0, "μm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
#: 1536 wells × 9 fields × 4 channels × 10 planes fit; each costs some 500 bytes, and a few bytes could ask for any.
MOST_PLANES = 600_000


class PlaneSource(NamedTuple):
    """Where a plane is said to lie: a file's name and UUID (empty where they are not given), and the page in it."""

    file: str
    uuid: str
    page: int


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One field: names of its channels (empty where not given) and the source of each plane by (z, c, t) from 0.

    `sizes` are the numbers of z planes, channels and time points.
    """

    channels: tuple[str, ...]
    sizes: PlaneKey
    pixel_size_um: float | None
    planes: dict[PlaneKey, PlaneSource]


@dataclass(frozen=True, slots=True)
class WellSample:
    """A field's place on the plate: row, column and number within the well, all from 1, and its image's id."""

    row: int
    column: int
    field: int
    image: str


@dataclass
class OmeMetadata:
    """What one piece of OME-XML says; `metadata_file` where it only refers to another (``BinaryOnly``)."""

    path: Path
    uuid: str = ""
    metadata_file: str = ""
    plates: list[str] = field(default_factory=list)
    rows: int = 0
    columns: int = 0
    acquisitions: list[str] = field(default_factory=list)
    samples: list[WellSample] = field(default_factory=list)
    images: dict[str, OmeImage] = field(default_factory=dict)


def read_description(source: TiffSource) -> str:
    """The first page's description of a TIFF, empty where it has none or cannot be read; no pixels.

    Raises:
        PlaneError: it lies at a URL, and cannot be had.
    """
    try:
        with opened_tiff(source) as tiff:
            return tiff.pages.first.description
    except PlaneError:
        raise
    except Exception:  # whatever is in the file: the pixel reader names it when the plane is needed
        return ""


def tells_of_a_plate(description: str) -> bool:
    """Whether `description` is OME-XML with a plate, or refers to a file of such."""
    return "openmicroscopy.org/Schemas" in description and bool(
        re.search(r"<(?:\w+:)?(?:Plate|BinaryOnly)[\s/>]", description)
    )


def read_ome_xml(path: Path, description: str | None = None) -> OmeMetadata:
    """The OME-XML that the file at `path` is, or `description`, which that file holds.

    Raises:
        NotAPlateError: it is damaged, hostile, or a number is missing or too large.
    """
    content = None if description is None else re.sub(r"^\s*<\?xml[^>]*\?>", "", description).encode()
    metadata = OmeMetadata(path)
    plate = root_tag(path, content).rpartition("}")[0].replace("/Schemas/OME/", "/Schemas/SPW/") + "}Plate"
    planes = 0
    for name, element in elements(path, {"OME", "BinaryOnly", "Plate", "Image", plate}, content):
        try:
            if name == "Image":
                image = _image(element)
                planes += math.prod(image.sizes)
                if planes > MOST_PLANES:
                    raise ValueError(f"more than {MOST_PLANES:,} planes")
                metadata.images[element.attrib["ID"]] = image
            elif name == "OME":
                metadata.uuid = element.get("UUID", "").strip()
            elif name == "BinaryOnly":
                metadata.metadata_file = element.get("MetadataFile", "").strip()
            else:
                _add_plate(metadata, element)
        except (KeyError, ValueError) as error:
            which = f"{name} {element.get('ID', '')}".strip()
            raise NotAPlateError(
                f"{path}: its OME-XML of {which} lacks a number or holds something else ({error}). "
                "Export the plate again, or read the images by a pattern."
            ) from None
    return metadata


def _image(element: Element) -> OmeImage:
    pixels = next((e for e in element if local(e.tag) == "Pixels"), None)
    if pixels is None:
        return OmeImage((), (0, 0, 0), None, {})
    # A channel of several samples (RGB) is one plane.
    channels = tuple((e.get("Name") or e.get("Fluor") or "").strip() for e in pixels if local(e.tag) == "Channel")
    sizes = (int(pixels.attrib["SizeZ"]), len(channels) or int(pixels.attrib["SizeC"]), int(pixels.attrib["SizeT"]))
    if min(sizes) < 1 or math.prod(sizes) > MOST_PLANES:
        raise ValueError(f"{sizes[0]} z planes, {sizes[1]} channels, {sizes[2]} time points")
    entries = [e for e in pixels if local(e.tag) == "TiffData"]
    # What says less is taken to mean what the others leave over.
    entries.sort(key=lambda e: "IFD" not in e.attrib and "PlaneCount" not in e.attrib)
    order = pixels.get("DimensionOrder", "XYZCT")[2:]
    planes: dict[PlaneKey, PlaneSource] = {}
    told = 0
    for entry in entries:
        for key, source in _sources(entry, order, sizes):
            planes.setdefault(key, source)
            told += 1
        if told > 2 * math.prod(sizes) + len(entries):
            raise ValueError("its planes are told again and again")
    scale = _MICROMETRES.get(pixels.get("PhysicalSizeXUnit", "µm"))
    size = float(pixels.get("PhysicalSizeX") or 0) * (scale or 0)
    return OmeImage(channels, sizes, size if math.isfinite(size) and size > 0 else None, planes)


def _sources(entry: Element, order: str, sizes: PlaneKey) -> Iterator[tuple[PlaneKey, PlaneSource]]:
    """The planes of one TiffData, which counts on from its first plane in the order of the dimensions.

    Without PlaneCount it has one plane where it gives the IFD, else all that follow (the schema: all of the file's).
    """
    if sorted(order) != ["C", "T", "Z"]:
        raise ValueError(f"the order of dimensions XY{order}")
    axis = {"Z": 0, "C": 1, "T": 2}
    first = [int(entry.get(f"First{name}") or 0) for name in "ZCT"]
    if any(not 0 <= start < size for start, size in zip(first, sizes, strict=True)):
        return
    fast, middle, slow = (axis[name] for name in order)
    start = first[fast] + sizes[fast] * (first[middle] + sizes[middle] * first[slow])
    page = int(entry.get("IFD") or 0)
    left = math.prod(sizes) - start
    count = min(left, int(entry.get("PlaneCount") or (1 if "IFD" in entry.attrib else left)))
    name, uuid = next(
        ((e.get("FileName", "").strip(), (e.text or "").strip()) for e in entry if local(e.tag) == "UUID"), ("", "")
    )
    for offset in range(count):
        rest, at_fast = divmod(start + offset, sizes[fast])
        at_slow, at_middle = divmod(rest, sizes[middle])
        place = {fast: at_fast, middle: at_middle, slow: at_slow}
        yield (place[0], place[1], place[2]), PlaneSource(name, uuid, page + offset)


def _add_plate(metadata: OmeMetadata, element: Element) -> None:
    metadata.plates.append(element.get("Name", "").strip() or element.get("ExternalIdentifier", "").strip())
    metadata.rows, metadata.columns = int(element.get("Rows") or 0), int(element.get("Columns") or 0)
    metadata.acquisitions += [
        e.get("Name", "").strip() or e.get("ID", "") for e in element if local(e.tag) == "PlateAcquisition"
    ]
    wells = []
    for well in element:
        samples = [e for e in well if local(e.tag) == "WellSample"]
        if samples and local(well.tag) == "Well":
            wells.append((int(well.attrib["Row"]) + 1, int(well.attrib["Column"]) + 1, samples))
    by_id = [_numbers_by_id(samples) for *_, samples in wells]
    # If they mean nothing in one well, they mean nothing in the others.
    numbers = by_id if all(by_id) else [_ranks(samples) for *_, samples in wells]
    for (row, column, samples), of_well in zip(wells, numbers, strict=True):
        for number, sample in zip(of_well, samples, strict=True):
            image = next((e.get("ID", "") for e in sample if local(e.tag) == "ImageRef"), "")
            metadata.samples.append(WellSample(row, column, number, image))


def _numbers_by_id(samples: list[Element]) -> list[int]:
    """Field numbers from ids such as ``WellSample:0:13:2``, which keep their places where a field is left out."""
    matches = [_SAMPLE.fullmatch(sample.get("ID", "")) for sample in samples]
    numbers = [int(match[1]) + 1 for match in matches if match]
    return numbers if len(set(numbers)) == len(samples) else []


def _ranks(samples: list[Element]) -> list[int]:
    """Field numbers from the order of the samples' indices, which count over the whole plate."""
    indices = [int(sample.get("Index") or 0) for sample in samples]
    rank = {place: number for number, place in enumerate(sorted(range(len(samples)), key=indices.__getitem__), start=1)}
    return [rank[place] for place in range(len(samples))]
