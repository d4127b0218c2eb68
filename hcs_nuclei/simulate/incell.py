"""An IN Cell Analyzer acquisition (Cytiva), written as the instrument's software writes it.

::

    <name>/<name>.xdce                                  the index of the images
    <name>/B - 02(fld 1 wv DAPI - DAPI).tif             excitation - emission; one z plane and time point: no token
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import tifffile

from hcs_nuclei.plate import row_name
from hcs_nuclei.simulate.acquisition import Acquisition, Picture
from hcs_nuclei.simulate.design import WellDesign

#: Excitation and emission in nm by channel name.
_WAVELENGTHS = {"DAPI": (390, 435), "HOECHST": (390, 435), "FITC": (475, 511), "GFP": (475, 511), "CY5": (632, 679)}
_OTHER_WAVELENGTHS = (542, 597)
#: Centre of well A01 from the plate's corner in mm, and the distance of wells of a 96-well plate.
_FIRST_MM = (14.38, 11.24)
_PITCH_MM = 9.0


def write_incell(out: Path, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
    """Write `pictures` as an IN Cell acquisition under `out`; returns its directory."""
    root = out / plate.name
    root.mkdir(parents=True)
    for picture in pictures:
        name = _file_name(plate, picture.well, picture.field, picture.channel)
        tifffile.imwrite(root / name, picture.pixels, photometric="minisblack", rowsperstrip=16, metadata=None)
    with (root / f"{plate.name}.xdce").open("w", encoding="latin-1", newline="\r\n") as file:
        file.writelines(f"{line}\n" for line in _index(plate))
    return root


def _file_name(plate: Acquisition, well: WellDesign, field: int, channel: int) -> str:
    wave = plate.channels[channel]
    return f"{row_name(well.row)} - {well.column:02d}(fld {field + 1} wv {wave} - {wave}).tif"


def _index(plate: Acquisition) -> Iterator[str]:
    """The lines of the .xdce: protocol, then one element an image."""
    yield '<?xml version="1.0" encoding="ISO-8859-1" standalone="no"?>'
    yield "<ImageStack>"
    yield f'  <UUID value="{plate.guid("incell")}"/>'
    yield '  <Application name="IN Cell Analyzer 2000" software_version="simulated"/>'
    yield '  <Creation date="2024-01-09" time="10:00:00"/>'
    yield from _protocol(plate)
    images = len(plate.wells) * plate.fields * len(plate.channels)
    yield f'  <Images number="{images}" image_format="TIFF">'
    for well in plate.wells:
        for field in range(plate.fields):
            for channel in range(len(plate.channels)):
                yield from _image(plate, well, field, channel)
    yield "  </Images>"
    yield "</ImageStack>"


def _protocol(plate: Acquisition) -> Iterator[str]:
    pitch = _PITCH_MM * 12 / plate.columns
    x, y = _first_mm(plate)
    yield f"  <AutoLeadAcquisitionProtocol name={quoteattr(plate.name)}>"
    yield (
        f'    <ObjectiveCalibration magnification="20.0" numerical_aperture="0.75" objective_name="simulated 20X" '
        f'pixel_height="{plate.pixel_size_um:g}" pixel_width="{plate.pixel_size_um:g}" refractive_index="1.0" '
        f'unit="µm"/>'
    )
    yield '    <Camera name="simulated">\n      <Binning value="2 X 2"/>'
    yield f'      <Size height="{plate.size}" width="{plate.size}"/>\n    </Camera>'
    yield f'    <Plate columns="{plate.columns}" name="{plate.wells_in_format} wells, simulated" rows="{plate.rows}">'
    yield '      <NamingRows begin="A"/>\n      <NamingColumns begin="1"/>'
    yield f'      <TopLeftWellCenterOffset horizontal="{x:g}" vertical="{y:g}" unit="mm"/>'
    yield f'      <WellSpacing horizontal="{pitch:g}" vertical="{pitch:g}" unit="mm"/>\n    </Plate>\n    <PlateMap>'
    chosen = {(well.row, well.column) for well in plate.wells}
    for row in range(1, plate.rows + 1):
        for column in range(1, plate.columns + 1):
            if (row, column) not in chosen:
                yield f'      <Exclude col="{column}" row="{row}"/>'
    for field in range(plate.fields):
        dx, dy = plate.offset_um(field)
        yield f'      <offset_point index="{field}" x="{dx:g}" y="{dy:g}"/>'
    yield '      <TimeSchedule enabled="false"><Times><TimePoint index="0"/></Times></TimeSchedule>'
    yield '      <ZDimensionParameters number_of_slices="1"/>\n    </PlateMap>\n    <Wavelengths>'
    for channel, name in enumerate(plate.channels):
        excitation, emission = _WAVELENGTHS.get(name.upper(), _OTHER_WAVELENGTHS)
        yield f'      <Wavelength fusion_wave="false" imaging_mode="2-D" index="{channel}">'
        yield f'        <ExcitationFilter name={quoteattr(name)} unit="nm" wavelength="{excitation}"/>'
        yield f'        <EmissionFilter name={quoteattr(name)} unit="nm" wavelength="{emission}"/>'
        yield "      </Wavelength>"
    yield "    </Wavelengths>"
    yield "  </AutoLeadAcquisitionProtocol>"


def _image(plate: Acquisition, well: WellDesign, field: int, channel: int) -> Iterator[str]:
    pitch = 1000 * _PITCH_MM * 12 / plate.columns
    first_x, first_y = _first_mm(plate)
    dx, dy = plate.offset_um(field)
    x, y = 1000 * first_x + (well.column - 1) * pitch + dx, 1000 * first_y + (well.row - 1) * pitch + dy
    name = quoteattr(_file_name(plate, well, field, channel))
    yield f'    <Image acquisition_time_ms="0" filename={name}>'
    yield f'      <Well label="{row_name(well.row)} - {well.column}">'
    yield f'        <Row number="{well.row}"/>\n        <Column number="{well.column}"/>\n      </Well>'
    yield '      <FocusPosition unit="um" z="0.0"/>'
    yield f'      <PlatePosition_um x="{x:.2f}" y="{y:.2f}"/>'
    yield '      <Exposure time="100" unit="ms"/>'
    yield f'      <Identifier field_index="{field}" time_index="0" wave_index="{channel}" z_index="0"/>'
    yield "    </Image>"


def _first_mm(plate: Acquisition) -> tuple[float, float]:
    """Centre of well A01 in mm: the outer edges of the wells stay where those of a 96-well plate are."""
    shift = (_PITCH_MM * 12 / plate.columns - _PITCH_MM) / 2
    return _FIRST_MM[0] + shift, _FIRST_MM[1] + shift
