"""A MetaXpress plate (Molecular Devices ImageXpress), exported or raw, as the instrument's software writes it.

::

    <name>_Plate_1001/<name>.HTD                                    exported
    <name>_Plate_1001/TimePoint_1/<name>.HTD
    <name>_Plate_1001/TimePoint_1/<name>_B02_s1_w1.TIF      _s only with several sites, _w only with several channels
    <name>/2024-01-09/1001/<name>_B02_s1_w1<GUID>.tif       raw: nothing but the images
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import tifffile

from hcs_nuclei.simulate.acquisition import Acquisition, Picture

_RUN = 1001
_TIME = "20240109 10:00:00.000"
#: Emission wavelength in nm by channel name; MetaXpress states one for each.
_WAVELENGTHS = {"DAPI": 452, "HOECHST": 452, "FITC": 520, "GFP": 520, "TRITC": 580, "TEXAS RED": 624, "CY5": 692}


def write_imagexpress(out: Path, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
    """Write `pictures` as a MetaXpress export under `out`; returns its ``<name>_Plate_<id>`` directory."""
    root = out / f"{plate.name}_Plate_{_RUN}"
    images = root / "TimePoint_1"
    images.mkdir(parents=True)
    for folder in (root, images):
        (folder / f"{plate.name}.HTD").write_bytes(_htd(plate).encode("latin-1"))
    for picture in pictures:
        _write_image(images / f"{_stem(plate, picture)}.TIF", plate, picture)
    return root


def write_imagexpress_raw(out: Path, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
    """Write `pictures` as MetaXpress keeps them itself, under `out`; returns the plate's directory."""
    root = out / plate.name
    images = root / "2024-01-09" / str(_RUN)
    images.mkdir(parents=True)
    for picture in pictures:
        guid = plate.guid("raw", picture.well.name, picture.field, picture.channel).upper()
        _write_image(images / f"{_stem(plate, picture)}{guid}.tif", plate, picture)
    return root


def _stem(plate: Acquisition, picture: Picture) -> str:
    site = f"_s{picture.field + 1}" if plate.fields > 1 else ""
    wave = f"_w{picture.channel + 1}" if len(plate.channels) > 1 else ""
    return f"{plate.name}_{picture.well.name}{site}{wave}"


def _write_image(path: Path, plate: Acquisition, picture: Picture) -> None:
    tifffile.imwrite(
        path,
        picture.pixels,
        photometric="minisblack",
        description=_metaseries(plate, picture),
        software="MetaSeries",
        rowsperstrip=16,
        metadata=None,
        extratags=[(306, "s", 0, _TIME, True)],
    )


def _htd(plate: Acquisition) -> str:
    """The text of the .HTD file: what the plate should hold; lines end as on Windows."""
    chosen = {(well.row, well.column) for well in plate.wells}
    rows, columns = plate.grid
    lines = [
        '"HTSInfoFile", Version 1.0',
        f'"Description", "1t-{len(plate.wells)}w-{plate.fields}s-{len(plate.channels)}c-1z, simulated"',
        '"PlateType", 2',
        '"TimePoints", 1',
        '"ZSeries", FALSE',
        '"ZSteps", 0',
        '"ZProjection", FALSE',
        f'"XWells", {plate.columns}',
        f'"YWells", {plate.rows}',
    ]
    for row in range(1, plate.rows + 1):
        flags = ((row, column) in chosen for column in range(1, plate.columns + 1))
        lines.append(f'"WellsSelection{row}", {_flags(flags)}')
    lines += [f'"Sites", {_flags([plate.fields > 1])}', f'"XSites", {columns}', f'"YSites", {rows}']
    if plate.fields > 1:
        for row in range(rows):
            flags = (row * columns + column < plate.fields for column in range(columns))
            lines.append(f'"SiteSelection{row + 1}", {_flags(flags)}')
    lines += [f'"Waves", {_flags([len(plate.channels) > 1])}', f'"NWavelengths", {len(plate.channels)}']
    lines += [f'"WaveName{number}", "{name}"' for number, name in enumerate(plate.channels, start=1)]
    lines += [f'"WaveCollect{number}", 1' for number in range(1, len(plate.channels) + 1)]
    lines += [f'"UniquePlateIdentifier", "{plate.guid("imagexpress")}"', '"EndFile"']
    return "\r\n".join(lines) + "\r\n"


def _flags(values: Iterable[bool]) -> str:
    return ", ".join("TRUE" if value else "FALSE" for value in values)


def _metaseries(plate: Acquisition, picture: Picture) -> str:
    """The MetaSeries XML of a TIFF's description; ASCII, so the micrometre is ``um``."""
    name = plate.channels[picture.channel]
    # MetaXpress measures from the plate's corner; well A01 of a 96-well plate is centred at (14.3, 11.2) mm.
    pitch = 9000.0 * 12 / plate.columns
    first_x, first_y = 9800 + pitch / 2, 6700 + pitch / 2
    x, y = plate.offset_um(picture.field)
    stage_x = first_x + (picture.well.column - 1) * pitch + x
    stage_y = first_y + (picture.well.row - 1) * pitch + y
    notes = f"Plate Name: {plate.name}\r\nExposure: 100 ms\r\nBinning: 2 x 2\r\nShading: Off\r\nSimulated"
    about = quoteattr(notes, {"\r": "&#13;", "\n": "&#10;"})
    site_row, site_column = divmod(picture.field, plate.grid[1])
    plane = [
        _prop("plane-type", "string", "plane"),
        _prop("pixel-size-x", "int", picture.pixels.shape[1]),
        _prop("pixel-size-y", "int", picture.pixels.shape[0]),
        _prop("bits-per-pixel", "int", 16),
        _prop("scale-min", "int", 0),
        _prop("scale-max", "int", 4095),
        _prop("spatial-calibration-state", "bool", "on"),
        _prop("spatial-calibration-x", "float", f"{plate.pixel_size_um:g}"),
        _prop("spatial-calibration-y", "float", f"{plate.pixel_size_um:g}"),
        _prop("spatial-calibration-units", "string", "um"),
        _prop("image-name", "string", name),
        _prop("plane-guid", "guid", f"{{{plate.guid(picture.well.name, picture.field, name).upper()}}}"),
        _prop("acquisition-time-local", "time", _TIME),
        _prop("modification-time-local", "time", _TIME),
        _prop("stage-position-x", "float", f"{stage_x:g}"),
        _prop("stage-position-y", "float", f"{stage_y:g}"),
        _prop("stage-label", "string", f"{picture.well.name} : Site {picture.field + 1}"),
        _prop("z-position", "float", "9988.88"),
        _prop("wavelength", "float", _WAVELENGTHS.get(name.upper(), 600)),
        _prop("camera-binning-x", "int", 2),
        _prop("camera-binning-y", "int", 2),
        _prop("_IllumSetting_", "string", name),
        _prop("_MagNA_", "float", "0.75"),
        _prop("_MagRI_", "float", "1"),
        _prop("_MagSetting_", "string", "20X Plan Apo Lambda"),
        _prop("Camera Bit Depth", "float", "12", custom=True),
        _prop("Exposure Time", "string", "100 ms", custom=True),
        _prop("ImageXpress Micro X", "float", f"{stage_x:g}", custom=True),
        _prop("ImageXpress Micro Y", "float", f"{stage_y:g}", custom=True),
        _prop("OffsetFromWellCenterUmX", "float", f"{x:g}", custom=True),
        _prop("OffsetFromWellCenterUmY", "float", f"{y:g}", custom=True),
        _prop("ShadingCorrection", "string", "Off", custom=True),
        _prop("SiteX", "float", site_column + 1, custom=True),
        _prop("SiteY", "float", site_row + 1, custom=True),
    ]
    return "\n".join(
        [
            "<MetaData>",
            f'<prop id="Description" type="string" value={about}/>',
            _prop("MetaDataVersion", "float", 1),
            _prop("ApplicationName", "string", "MetaMorph"),
            _prop("ApplicationVersion", "string", "6.7.0.211"),
            "<PlaneInfo>",
            *plane,
            "</PlaneInfo>",
            "<SetInfo>",
            _prop("number-of-planes", "int", 1),
            "</SetInfo>",
            "</MetaData>",
        ]
    )


def _prop(name: str, kind: str, value: object, custom: bool = False) -> str:
    tag = "custom-prop" if custom else "prop"
    return f"<{tag} id={quoteattr(name)} type={quoteattr(kind)} value={quoteattr(str(value))}/>"
