"""An OME-TIFF plate, as Bio-Formats and others write one: a companion file with the metadata, pixels in the TIFFs.

::

    <name>/<name>.companion.ome        OME-XML: the plate, and which page of which file is which plane
    <name>/<name>_B02.ome.tiff         a well: its fields one after another, a page for each channel
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import quoteattr

import tifffile

from hcs_nuclei.simulate.acquisition import Acquisition, Picture
from hcs_nuclei.simulate.design import WellDesign

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_SCHEMA = (
    f'xmlns="{_NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    f'xsi:schemaLocation="{_NAMESPACE} {_NAMESPACE}/ome.xsd"'
)
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'


def write_ome_tiff(out: Path, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
    """Write `pictures` as OME-TIFFs with a companion file under `out`; returns their directory."""
    root = out / plate.name
    root.mkdir(parents=True)
    for well, of_well in groupby(pictures, key=lambda picture: picture.well):
        with tifffile.TiffWriter(root / _file_name(plate, well), ome=False) as tiff:
            for page, picture in enumerate(of_well):
                description = _binary_only(plate, well) if page == 0 else None
                tiff.write(
                    picture.pixels, photometric="minisblack", rowsperstrip=16, description=description, metadata=None
                )
    with (root / _companion(plate)).open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in _metadata(plate))
    return root


def _file_name(plate: Acquisition, well: WellDesign) -> str:
    return f"{plate.name}_{well.name}.ome.tiff"


def _companion(plate: Acquisition) -> str:
    return f"{plate.name}.companion.ome"


def _uuid(plate: Acquisition, *what: object) -> str:
    return f"urn:uuid:{plate.guid('ome-tiff', *what)}"


def _binary_only(plate: Acquisition, well: WellDesign) -> str:
    """The OME-XML of a TIFF whose metadata are in the companion file."""
    return (
        f'{_HEAD}<OME {_SCHEMA} UUID="{_uuid(plate, well.name)}"><BinaryOnly '
        f'MetadataFile={quoteattr(_companion(plate))} UUID="{_uuid(plate)}"/></OME>'
    )


def _metadata(plate: Acquisition) -> Iterator[str]:
    """The lines of the companion file: the plate, then an image for each field."""
    yield _HEAD
    yield f'<OME {_SCHEMA} Creator="simulated" UUID="{_uuid(plate)}">'
    yield (
        f'  <Plate ID="Plate:0" Name={quoteattr(plate.name)} Rows="{plate.rows}" Columns="{plate.columns}" '
        'RowNamingConvention="letter" ColumnNamingConvention="number">'
    )
    images = range(len(plate.wells) * plate.fields)
    for number, well in enumerate(plate.wells):
        yield f'    <Well ID="Well:0:{number}" Row="{well.row - 1}" Column="{well.column - 1}">'
        for field in range(plate.fields):
            x, y = plate.offset_um(field)
            image = number * plate.fields + field
            yield (
                f'      <WellSample ID="WellSample:0:{number}:{field}" Index="{image}" PositionX="{x:g}" '
                f'PositionXUnit="µm" PositionY="{y:g}" PositionYUnit="µm"><ImageRef ID="Image:{image}"/></WellSample>'
            )
        yield "    </Well>"
    yield f'    <PlateAcquisition ID="PlateAcquisition:0:0" MaximumFieldCount="{plate.fields}">'
    for image in images:
        yield f'      <WellSampleRef ID="WellSample:0:{image // plate.fields}:{image % plate.fields}"/>'
    yield "    </PlateAcquisition>\n  </Plate>"
    for image in images:
        well = plate.wells[image // plate.fields]
        yield from _image(plate, image, well, image % plate.fields)
    yield "</OME>"


def _image(plate: Acquisition, image: int, well: WellDesign, field: int) -> Iterator[str]:
    channels = len(plate.channels)
    file = quoteattr(_file_name(plate, well))
    yield f'  <Image ID="Image:{image}" Name="{well.name}, field {field + 1}">'
    yield (
        f'    <Pixels ID="Pixels:{image}" DimensionOrder="XYCZT" Type="uint16" SizeX="{plate.size}" '
        f'SizeY="{plate.size}" SizeC="{channels}" SizeZ="1" SizeT="1" PhysicalSizeX="{plate.pixel_size_um:g}" '
        f'PhysicalSizeXUnit="µm" PhysicalSizeY="{plate.pixel_size_um:g}" PhysicalSizeYUnit="µm">'
    )
    for channel, name in enumerate(plate.channels):
        yield f'      <Channel ID="Channel:{image}:{channel}" Name={quoteattr(name)} SamplesPerPixel="1"/>'
    for channel in range(channels):
        page = field * channels + channel
        yield f'      <TiffData FirstZ="0" FirstC="{channel}" FirstT="0" IFD="{page}" PlaneCount="1">'
        yield f"        <UUID FileName={file}>{_uuid(plate, well.name)}</UUID>\n      </TiffData>"
    yield "    </Pixels>\n  </Image>"
