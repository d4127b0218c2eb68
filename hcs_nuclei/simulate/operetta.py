"""A Harmony 5 export (PerkinElmer / Revvity Operetta, Opera, Phenix), written as the instrument's software writes it.

::

    <name>__2024-01-09T10_00_00-Measurement 1/Images/Index.idx.xml
    <name>__2024-01-09T10_00_00-Measurement 1/Images/r02c02f01p01-ch1sk1fk1fl1.tiff
    <name>__2024-01-09T10_00_00-Measurement 1/Assaylayout/<name>.xml
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import tifffile

from hcs_nuclei.simulate.acquisition import Acquisition, Picture
from hcs_nuclei.simulate.design import WellDesign
from hcs_nuclei.simulate.optics import CAMERA_MAX, Shading

_NAMESPACE = "http://www.perkinelmer.com/PEHH/HarmonyV5"
_SCHEMA = 'xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
_HEAD = '\ufeff<?xml version="1.0" encoding="utf-8"?>\n'
_TIME = "2024-01-09T10:00:00"
#: Excitation and emission in nm by channel name.
_WAVELENGTHS = {"DAPI": (375, 456), "HOECHST": (375, 456), "FITC": (475, 525), "GFP": (475, 525), "CY5": (630, 708)}


def write_operetta(out: Path, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
    """Write `pictures` as a Harmony export under `out`; returns its measurement directory."""
    root = out / f"{plate.name}__{_TIME.replace(':', '_')}-Measurement 1"
    images = root / "Images"
    images.mkdir(parents=True)
    layout = root / "Assaylayout"
    layout.mkdir()
    per_cm = 1e4 / plate.pixel_size_um
    for picture in pictures:
        tifffile.imwrite(
            images / _file_name(picture.well, picture.field, picture.channel),
            picture.pixels,
            photometric="minisblack",
            compression="lzw",
            rowsperstrip=picture.pixels.shape[0],
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
            software="simulated",
            metadata=None,
        )
    _write(images / "Index.idx.xml", _index(plate))
    _write(layout / f"{plate.name}.xml", _assay_layout(plate))
    return root


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\r\n") as file:
        file.write(_HEAD)
        file.writelines(f"{line}\n" for line in lines)


def _file_name(well: WellDesign, field: int, channel: int) -> str:
    return f"r{well.row:02d}c{well.column:02d}f{field + 1:02d}p01-ch{channel + 1}sk1fk1fl1.tiff"


def _index(plate: Acquisition) -> Iterator[str]:
    """The lines of Index.idx.xml: the plate, its wells, the channels' flat fields, every image."""
    name = escape(plate.name)
    yield f'<EvaluationInputData {_SCHEMA} Version="1" xmlns="{_NAMESPACE}">'
    yield "  <User>simulated</User>\n  <InstrumentType>Sonata</InstrumentType>\n  <Plates>\n    <Plate>"
    yield f"      <PlateID>{name}</PlateID>\n      <MeasurementID>{plate.guid('operetta')}</MeasurementID>"
    yield f"      <MeasurementStartTime>{_TIME}.0000000+00:00</MeasurementStartTime>\n      <Name>{name}</Name>"
    yield f"      <PlateTypeName>{plate.wells_in_format} simulated</PlateTypeName>"
    yield f"      <PlateRows>{plate.rows}</PlateRows>\n      <PlateColumns>{plate.columns}</PlateColumns>"
    for well in plate.wells:
        yield f'      <Well id="{well.row:02d}{well.column:02d}" />'
    yield "    </Plate>\n  </Plates>\n  <Wells>"
    for well in plate.wells:
        yield f"    <Well>\n      <id>{well.row:02d}{well.column:02d}</id>"
        yield f"      <Row>{well.row}</Row>\n      <Col>{well.column}</Col>"
        for field in range(plate.fields):
            for channel in range(len(plate.channels)):
                yield f'      <Image id="{_image_id(well, field, channel)}" />'
        yield "    </Well>"
    yield "  </Wells>\n  <Maps>\n    <Map>"
    for number, (channel_name, shading) in enumerate(zip(plate.channels, plate.shading, strict=True), start=1):
        profile = _flatfield(number, channel_name, shading, plate.size)
        yield f'      <Entry ChannelID="{number}">\n        <FlatfieldProfile>{escape(profile)}</FlatfieldProfile>'
        yield "      </Entry>"
    yield "    </Map>\n  </Maps>\n  <Images>"
    for well in plate.wells:
        for field in range(plate.fields):
            for channel in range(len(plate.channels)):
                yield _image(plate, well, field, channel)
    yield "  </Images>\n</EvaluationInputData>"


def _image_id(well: WellDesign, field: int, channel: int) -> str:
    return f"{well.row:02d}{well.column:02d}K1F{field + 1}P1R{channel + 1}"


def _image(plate: Acquisition, well: WellDesign, field: int, channel: int) -> str:
    """One ``Image`` element; lengths are in metres and y points up, as Harmony has them."""
    x, y = plate.offset_um(field)
    excitation, emission = _WAVELENGTHS.get(plate.channels[channel].upper(), (550, 600))
    resolution = f"{plate.pixel_size_um * 1e-6:.10G}"
    values = [
        ("id", _image_id(well, field, channel)),
        ("State", "Ok"),
        ("URL", _file_name(well, field, channel)),
        ("Row", well.row),
        ("Col", well.column),
        ("FieldID", field + 1),
        ("PlaneID", 1),
        ("TimepointID", 0),
        ("ChannelID", channel + 1),
        ("FlimID", 1),
        ("ChannelName", escape(plate.channels[channel])),
        ("ImageType", "Signal"),
        ("AcquisitionType", "NonConfocal"),
        ("IlluminationType", "Epifluorescence"),
        ("ChannelType", "Fluorescence"),
        ('ImageResolutionX Unit="m"', resolution),
        ('ImageResolutionY Unit="m"', resolution),
        ("ImageSizeX", plate.size),
        ("ImageSizeY", plate.size),
        ("BinningX", 2),
        ("BinningY", 2),
        ("MaxIntensity", CAMERA_MAX),
        ("CameraType", "Simulated"),
        ('PositionX Unit="m"', f"{x * 1e-6:.9G}"),
        ('PositionY Unit="m"', f"{-y * 1e-6:.9G}"),
        ('PositionZ Unit="m"', "2E-05"),
        ('AbsPositionZ Unit="m"', "0.1375"),
        ('MeasurementTimeOffset Unit="s"', 0),
        ("AbsTime", f"{_TIME}.000+00:00"),
        ('MainExcitationWavelength Unit="nm"', excitation),
        ('MainEmissionWavelength Unit="nm"', emission),
        ('ObjectiveMagnification Unit=""', 20),
        ('ObjectiveNA Unit=""', "0.8"),
        ('ExposureTime Unit="s"', "0.1"),
    ]
    lines = (f"      <{tag}>{value}</{tag.split()[0]}>" for tag, value in values)
    return '    <Image Version="1">\n' + "\n".join(lines) + "\n    </Image>"


def _flatfield(number: int, channel: str, shading: Shading, size: int) -> str:
    """Acapella's notation of the illumination, the very one that the simulated lamp has."""
    one, x, y, xx, xy, yy = shading.coefficients
    profile = (
        f"{{Coefficients: [[{one:.6g}], [{x:.6g}, {y:.6g}], [{xx:.6g}, {xy:.6g}, {yy:.6g}]], Dims: [{size}, {size}], "
        f"Origin: [{(size - 1) / 2:g}, {(size - 1) / 2:g}], Scale: [{1 / size:.8g}, {1 / size:.8g}], Type: Polynomial}}"
    )
    ground = f"{{Character: NonFlat, Profile: {profile}, Quality: 1.0}}"
    return (
        f"{{Background: {ground}, Channel: {number}, ChannelName: {channel}, Foreground: {ground}, "
        "Version: Acapella:2013}"
    )


def _assay_layout(plate: Acquisition) -> Iterator[str]:
    """The lines of the assay layout: compound and concentration of every well of the plate, empty ones too."""
    designs = {(well.row, well.column): well for well in plate.wells}
    layers = {
        "Compound": ("string", {place: well.compound for place, well in designs.items()}),
        "Concentration": ("double", {place: f"{well.concentration_um:g}" for place, well in designs.items()}),
    }
    yield f'<AssayLayout {_SCHEMA} xmlns="{_NAMESPACE}">'
    yield f"  <PlateCols>{plate.columns}</PlateCols>\n  <PlateRows>{plate.rows}</PlateRows>"
    for name, (kind, values) in layers.items():
        yield f"  <Layer>\n    <Name>{name}</Name>\n    <ValueType>{kind}</ValueType>"
        for row in range(1, plate.rows + 1):
            for column in range(1, plate.columns + 1):
                value = values.get((row, column))
                element = f"<Value>{escape(value)}</Value>" if value else "<Value />"
                yield f"    <Well>\n      <Row>{row}</Row>\n      <Col>{column}</Col>\n      {element}"
                yield "      <Color>4294967295</Color>\n    </Well>"
        yield "  </Layer>"
    yield "</AssayLayout>"
