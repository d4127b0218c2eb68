"""A Harmony or Columbus export (PerkinElmer / Revvity Operetta, Opera, Phenix), as the instrument's software writes it.

::

    <name>__2024-01-09T10_00_00-Measurement 1/Assaylayout/<name>.xml        not of Columbus
    <name>__2024-01-09T10_00_00-Measurement 1/Images/
        Index.idx.xml                         Harmony 4, 5; what a channel is stands with each image
        r02c02f01p01-ch1sk1fk1fl1.tiff
        Index.xml                             Harmony 6; 7 beside Images/: what a channel is stands once, in Maps
        r02c02f01p01-ch01t01.tiff
        ImageIndex.ColumbusIDX.xml            Columbus
        002002-1-001001001.tif
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import tifffile

from hcs_nuclei.simulate.acquisition import Acquisition, Picture
from hcs_nuclei.simulate.design import WellDesign
from hcs_nuclei.simulate.optics import BACKGROUND, CAMERA_MAX, CAMERA_OFFSET, Shading

_SCHEMA = 'xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
_HEAD = '\ufeff<?xml version="1.0" encoding="utf-8"?>\n'
_TIME = "2024-01-09T10:00:00"
#: Excitation and emission in nm by channel name.
_WAVELENGTHS = {"DAPI": (375, 456), "HOECHST": (375, 456), "FITC": (475, 525), "GFP": (475, 525), "CY5": (630, 708)}


@dataclass(frozen=True, slots=True)
class HarmonyExport:
    """How one version of the software exports; called, it writes a plate as a :data:`Writer` does.

    `index` is the path of the image index. With `channels_once` it says what a channel is once, and files are named
    by time point.
    """

    namespace: str
    index: str = "Images/Index.idx.xml"
    channels_once: bool = False
    columbus: bool = False

    def __call__(self, out: Path, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
        """Write `pictures` as an export under `out`; returns its measurement directory."""
        return _write_export(self, out, plate, pictures)

    def file_name(self, well: WellDesign, field: int, channel: int) -> str:
        """Name of the one file of a plane; `field` and `channel` count from 0."""
        if self.columbus:
            return f"{well.row:03d}{well.column:03d}-1-{field + 1:03d}001{channel + 1:03d}.tif"
        plane = f"r{well.row:02d}c{well.column:02d}f{field + 1:02d}p01"
        return plane + (f"-ch{channel + 1:02d}t01.tiff" if self.channels_once else f"-ch{channel + 1}sk1fk1fl1.tiff")

    def well_id(self, well: WellDesign) -> str:
        """How the index calls a well."""
        return f"{well.row:03d}{well.column:03d}" if self.columbus else f"{well.row:02d}{well.column:02d}"


write_operetta = HarmonyExport("http://www.perkinelmer.com/PEHH/HarmonyV5")
write_harmony_4 = HarmonyExport("http://www.perkinelmer.com/PEHH/HarmonyV4")
write_harmony_6 = HarmonyExport(
    "http://www.perkinelmer.com/PEHH/HarmonyV6", index="Images/Index.xml", channels_once=True
)
write_harmony_7 = HarmonyExport("43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7", index="Index.xml", channels_once=True)
write_columbus = HarmonyExport(
    "http://www.perkinelmer.com/Columbus", index="Images/ImageIndex.ColumbusIDX.xml", columbus=True
)


def _write_export(export: HarmonyExport, out: Path, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
    root = out / f"{plate.name}__{_TIME.replace(':', '_')}-Measurement 1"
    images = root / "Images"
    images.mkdir(parents=True)
    per_cm = 1e4 / plate.pixel_size_um
    for picture in pictures:
        tifffile.imwrite(
            images / export.file_name(picture.well, picture.field, picture.channel),
            picture.pixels,
            photometric="minisblack",
            compression="lzw",
            rowsperstrip=picture.pixels.shape[0],
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
            software="simulated",
            metadata=None,
        )
    _write(root / export.index, _index(export, plate))
    if not export.columbus:
        (root / "Assaylayout").mkdir()
        _write(root / "Assaylayout" / f"{plate.name}.xml", _assay_layout(export, plate))
    return root


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\r\n") as file:
        file.write(_HEAD)
        file.writelines(f"{line}\n" for line in lines)


def _index(export: HarmonyExport, plate: Acquisition) -> Iterator[str]:
    """The lines of the index: the plate, its wells, the channels' flat fields, every image."""
    name = escape(plate.name)
    yield f'<EvaluationInputData {_SCHEMA} Version="1" xmlns="{export.namespace}">'
    yield "  <User>simulated</User>\n  <InstrumentType>Sonata</InstrumentType>\n  <Plates>\n    <Plate>"
    yield f"      <PlateID>{name}</PlateID>\n      <MeasurementID>{plate.guid('operetta')}</MeasurementID>"
    yield f"      <MeasurementStartTime>{_TIME}.0000000+00:00</MeasurementStartTime>\n      <Name>{name}</Name>"
    yield f"      <PlateTypeName>{plate.wells_in_format} simulated</PlateTypeName>"
    yield f"      <PlateRows>{plate.rows}</PlateRows>\n      <PlateColumns>{plate.columns}</PlateColumns>"
    for well in plate.wells:
        yield f'      <Well id="{export.well_id(well)}" />'
    yield "    </Plate>\n  </Plates>\n  <Wells>"
    for well in plate.wells:
        yield f"    <Well>\n      <id>{export.well_id(well)}</id>"
        yield f"      <Row>{well.row}</Row>\n      <Col>{well.column}</Col>"
        for field in range(plate.fields):
            for channel in range(len(plate.channels)):
                yield f'      <Image id="{_image_id(export, well, field, channel)}" />'
        yield "    </Well>"
    yield "  </Wells>\n  <Maps>"
    if export.channels_once:
        yield "    <Map>"
        for channel in range(len(plate.channels)):
            yield f'      <Entry ChannelID="{channel + 1}">'
            yield from _elements(itertools.chain(*_about_channel(plate, channel)), 8)
            yield "      </Entry>"
        yield "    </Map>"
    yield "    <Map>"
    for number, (channel_name, shading) in enumerate(zip(plate.channels, plate.shading, strict=True), start=1):
        profile = _flatfield(number, channel_name, shading, plate.size)
        yield f'      <Entry ChannelID="{number}">\n        <FlatfieldProfile>{escape(profile)}</FlatfieldProfile>'
        yield "      </Entry>"
    yield "    </Map>\n  </Maps>\n  <Images>"
    for well in plate.wells:
        for field in range(plate.fields):
            for channel in range(len(plate.channels)):
                yield from _image(export, plate, well, field, channel)
    yield "  </Images>\n</EvaluationInputData>"


def _image_id(export: HarmonyExport, well: WellDesign, field: int, channel: int) -> str:
    return f"{export.well_id(well)}K1F{field + 1}P1R{channel + 1}"


def _image(export: HarmonyExport, plate: Acquisition, well: WellDesign, field: int, channel: int) -> Iterator[str]:
    """One ``Image`` element; lengths are in metres and y points up, as Harmony has them."""
    x, y = plate.offset_um(field)
    yield '    <Image Version="1">'
    values: list[tuple[str, object]] = [
        ("id", _image_id(export, well, field, channel)),
        ("State", "Ok"),
        ('URL BufferNo="0"' if export.columbus else "URL", export.file_name(well, field, channel)),
        ("Row", well.row),
        ("Col", well.column),
        ("FieldID", field + 1),
        ("PlaneID", 1),
        ("TimepointID", 1 if export.columbus else 0),
        ("ChannelID", channel + 1),
        ("FlimID", 1),
    ]
    camera, light = ([], []) if export.channels_once else _about_channel(plate, channel)
    values += [
        *camera,
        ('PositionX Unit="m"', f"{x * 1e-6:.9G}"),
        ('PositionY Unit="m"', f"{-y * 1e-6:.9G}"),
        ('PositionZ Unit="m"', "2E-05"),
        ('AbsPositionZ Unit="m"', "0.1375"),
        ('MeasurementTimeOffset Unit="s"', 0),
        ("AbsTime", f"{_TIME}.000+00:00"),
        *light,
    ]
    yield from _elements(values, 6)
    yield "    </Image>"


def _elements(values: Iterable[tuple[str, object]], indent: int) -> Iterator[str]:
    return (f"{' ' * indent}<{tag}>{value}</{tag.split()[0]}>" for tag, value in values)


def _about_channel(plate: Acquisition, channel: int) -> tuple[list[tuple[str, object]], list[tuple[str, object]]]:
    """What the index says of a channel's camera and light: with each of its images, or once."""
    excitation, emission = _WAVELENGTHS.get(plate.channels[channel].upper(), (550, 600))
    resolution = f"{plate.pixel_size_um * 1e-6:.10G}"
    camera: list[tuple[str, object]] = [
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
    ]
    light: list[tuple[str, object]] = [
        ('MainExcitationWavelength Unit="nm"', excitation),
        ('MainEmissionWavelength Unit="nm"', emission),
        ('ObjectiveMagnification Unit=""', 20),
        ('ObjectiveNA Unit=""', "0.8"),
        ('ExposureTime Unit="s"', "0.1"),
    ]
    return camera, light


def _flatfield(number: int, channel: str, shading: Shading, size: int) -> str:
    """Acapella's notation of the illumination, the very one that the simulated lamp has.

    The foreground is the lamp's; a background is the camera's offset as well, so it is flatter.
    """
    lamp = shading.coefficients
    level = CAMERA_OFFSET + BACKGROUND * (lamp[0] + (lamp[3] + lamp[5]) / 12)
    background = [(BACKGROUND * c + (CAMERA_OFFSET if i == 0 else 0)) / level for i, c in enumerate(lamp)]
    return (
        f"{{Background: {{Character: NonFlat, Mean: {level:.6g}, Profile: {_polynomial(background, size)}, "
        f"Quality: 1.0}}, Channel: {number}, ChannelName: {channel}, Foreground: {{Character: NonFlat, "
        f"Profile: {_polynomial(lamp, size)}, Quality: 1.0}}, Version: Acapella:2013}}"
    )


def _polynomial(coefficients: Sequence[float], size: int) -> str:
    one, x, y, xx, xy, yy = coefficients
    return (
        f"{{Coefficients: [[{one:.6g}], [{x:.6g}, {y:.6g}], [{xx:.6g}, {xy:.6g}, {yy:.6g}]], Dims: [{size}, {size}], "
        f"Origin: [{(size - 1) / 2:g}, {(size - 1) / 2:g}], Scale: [{1 / size:.8g}, {1 / size:.8g}], Type: Polynomial}}"
    )


def _assay_layout(export: HarmonyExport, plate: Acquisition) -> Iterator[str]:
    """The lines of the assay layout: compound and concentration of every well of the plate, empty ones too."""
    designs = {(well.row, well.column): well for well in plate.wells}
    layers = {
        "Compound": ("string", {place: well.compound for place, well in designs.items()}),
        "Concentration": ("double", {place: f"{well.concentration_um:g}" for place, well in designs.items()}),
    }
    yield f'<AssayLayout {_SCHEMA} xmlns="{export.namespace}">'
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
