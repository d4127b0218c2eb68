"""A Yokogawa CellVoyager measurement (CV7000, CV8000; CQ1), written as the instrument's software writes it.

::

    <name>_20240109_100000/<name>/MeasurementData.mlf       every image
    <name>_20240109_100000/<name>/MeasurementDetail.mrf     pixel size, channels
    <name>_20240109_100000/<name>/<name>.mes                the settings: light, filters, fluorophores
    <name>_20240109_100000/<name>/<name>.wpp                the plate product
    <name>_20240109_100000/<name>/<name>_B02_T0001F001L01A01Z01C01.tif
    <name>_20240109_100000/<name>/SC_…_M01_CH01.tif, DC_…   shading and dark references, which are no fields

    20240109T100000_<name>/MeasurementData.mlf …            the CQ1: wells are numbered row by row, nobody enters what
    20240109T100000_<name>/MeasurementProtocol.mes          a channel shows, and there are no references
    20240109T100000_<name>/Image/W0014F0001T0001Z001C1.tif
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import tifffile

from hcs_nuclei.simulate.acquisition import Acquisition, Picture
from hcs_nuclei.simulate.design import WellDesign
from hcs_nuclei.simulate.optics import CAMERA_OFFSET

_NAMESPACE = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
_TIME = "2024-01-09T10:00:00.000+00:00"
_LEVEL = 10000
#: Excitation in nm and emission filter by channel name.
_OPTICS = {"DAPI": (405, "BP445/45"), "HOECHST": (405, "BP445/45"), "FITC": (488, "BP525/50"), "GFP": (488, "BP525/50")}
_OTHER_OPTICS = (561, "BP600/37")


@dataclass(frozen=True, slots=True)
class YokogawaMeasurement:
    """How one of the instruments measures; called, it writes a plate as a :data:`Writer` does."""

    system: str
    cq1: bool = False

    def __call__(self, out: Path, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
        """Write `pictures` as a measurement under `out`; returns its dated directory."""
        return _write_measurement(self, out, plate, pictures)

    def folder(self, plate: Acquisition) -> str:
        """The folder of the measurement with all its files."""
        return f"20240109T100000_{plate.name}" if self.cq1 else f"{plate.name}_20240109_100000/{plate.name}"

    def settings_file(self, plate: Acquisition) -> str:
        """Name of the settings."""
        return "MeasurementProtocol.mes" if self.cq1 else f"{plate.name}.mes"

    def file_name(self, plate: Acquisition, well: WellDesign, field: int, channel: int) -> str:
        """An image's name, as the records have it; `field` and `channel` count from 0."""
        if self.cq1:
            number = (well.row - 1) * plate.columns + well.column
            return f"Image/W{number:04d}F{field + 1:04d}T0001Z001C{channel + 1}.tif"
        return f"{plate.name}_{well.name}_T0001F{field + 1:03d}L01A{channel + 1:02d}Z01C{channel + 1:02d}.tif"


write_cellvoyager = YokogawaMeasurement("CV8000")
write_cq1 = YokogawaMeasurement("CQ1", cq1=True)


def _write_measurement(
    instrument: YokogawaMeasurement, out: Path, plate: Acquisition, pictures: Iterable[Picture]
) -> Path:
    folder = out / instrument.folder(plate)
    (folder / "Image" if instrument.cq1 else folder).mkdir(parents=True)
    for picture in pictures:
        name = instrument.file_name(plate, picture.well, picture.field, picture.channel)
        tifffile.imwrite(folder / name, picture.pixels, photometric="minisblack", rowsperstrip=16, metadata=None)
    if not instrument.cq1:
        _write_references(folder, plate)
    for file_name, lines, mark in (
        ("MeasurementData.mlf", _data(instrument, plate), ""),
        ("MeasurementDetail.mrf", _detail(instrument, plate), "\ufeff"),
        (instrument.settings_file(plate), _settings(instrument, plate), "\ufeff"),
        (f"{plate.name}.wpp", _product(plate), "\ufeff"),
    ):
        with (folder / file_name).open("w", encoding="utf-8", newline="\n") as file:
            file.write(mark + _HEAD)
            file.writelines(f"{line}\n" for line in lines)
    return out / instrument.folder(plate).partition("/")[0]


def _write_references(folder: Path, plate: Acquisition) -> None:
    """The images of the light alone, and of none."""
    for channel, shading in enumerate(plate.shading):
        reference = np.rint(CAMERA_OFFSET + shading.over((plate.size, plate.size)) * _LEVEL).astype(np.uint16)
        tifffile.imwrite(folder / _shading_name(plate, channel), reference, photometric="minisblack", metadata=None)
    dark = np.full((plate.size, plate.size), round(CAMERA_OFFSET), np.uint16)
    tifffile.imwrite(folder / "DC_DCAM#1_CAM3.tif", dark, photometric="minisblack", metadata=None)


def _shading_name(plate: Acquisition, channel: int) -> str:
    _, emission = _OPTICS.get(plate.channels[channel].upper(), _OTHER_OPTICS)
    return f"SC_{emission.replace('/', '-')}_20x v2_M01_CH{channel + 1:02d}.tif"


def _data(instrument: YokogawaMeasurement, plate: Acquisition) -> Iterator[str]:
    """The lines of MeasurementData.mlf: one record an image, stage positions in µm with y pointing up."""
    yield f'<bts:MeasurementData bts:Version="1.0" {_NAMESPACE}>'
    for well in plate.wells:
        for field in range(plate.fields):
            x, y = plate.offset_um(field)
            for channel in range(len(plate.channels)):
                yield (
                    f'<bts:MeasurementRecord bts:Type="IMG" bts:Time="{_TIME}" bts:Column="{well.column}" '
                    f'bts:Row="{well.row}" bts:TimePoint="1" bts:FieldIndex="{field + 1}" bts:ZIndex="1" '
                    f'bts:TimelineIndex="1" bts:ActionIndex="{channel + 1}" bts:Action="2D" bts:X="{x:.1f}" '
                    f'bts:Y="{-y:.1f}" bts:Z="0.0" bts:Ch="{channel + 1}">'
                    f"{instrument.file_name(plate, well, field, channel)}</bts:MeasurementRecord>"
                )
    yield "</bts:MeasurementData>"


def _detail(instrument: YokogawaMeasurement, plate: Acquisition) -> Iterator[str]:
    """The lines of MeasurementDetail.mrf: the plate, and each channel's pixel size in µm."""
    title = quoteattr(plate.name)
    yield (
        f'<bts:MeasurementDetail bts:Version="1.0" bts:OperatorName="simulated" bts:Title={title} bts:Application="" '
        f'bts:BeginTime="{_TIME}" bts:EndTime="{_TIME}" '
        f'bts:MeasurementSettingFileName="{instrument.settings_file(plate)}" '
        f'bts:ColumnCount="{plate.columns}" bts:RowCount="{plate.rows}" bts:TimePointCount="1" '
        f'bts:FieldCount="{plate.fields}" bts:ZCount="1" bts:TargetSystem="{instrument.system}" '
        f'bts:ReleaseNumber="R2.06.03" bts:Status="0" {_NAMESPACE}>'
    )
    yield (
        f'  <bts:MeasurementSamplePlate bts:Name={title} bts:WellPlateFileName="{plate.name}.wpi" '
        f'bts:WellPlateProductFileName="{plate.name}.wpp" />'
    )
    for channel in range(len(plate.channels)):
        shading = "" if instrument.cq1 else _shading_name(plate, channel)
        yield (
            f'  <bts:MeasurementChannel bts:Ch="{channel + 1}" '
            f'bts:HorizontalPixelDimension="{plate.pixel_size_um:g}" '
            f'bts:VerticalPixelDimension="{plate.pixel_size_um:g}" bts:CameraNumber="3" bts:InputBitDepth="16" '
            f'bts:InputLevel="{_LEVEL}" bts:HorizontalPixels="{plate.size}" bts:VerticalPixels="{plate.size}" '
            f'bts:FilterWheelPosition="6" bts:FilterPosition="{channel + 1}" '
            f'bts:ShadingCorrectionSource="{shading}" bts:ObjectiveMagnificationRatio="1" '
            f'bts:OriginalHorizontalPixels="{plate.size}" bts:OriginalVerticalPixels="{plate.size}" />'
        )
    yield "</bts:MeasurementDetail>"


def _settings(instrument: YokogawaMeasurement, plate: Acquisition) -> Iterator[str]:
    """The lines of the .mes file: wells and points to image, and what each channel is."""
    yield (
        f'<bts:MeasurementSetting bts:Version="1.0" bts:ProductID="{plate.name}" bts:Application="" '
        f'bts:Columns="{plate.columns}" bts:Rows="{plate.rows}" {_NAMESPACE}>'
    )
    yield "  <bts:Timelapse>"
    yield '    <bts:Timeline bts:Name="Time Line 1" bts:InitialTime="0" bts:Period="0" bts:Interval="0">'
    yield '      <bts:WellSequence bts:IsSelected="true">'
    for well in plate.wells:
        yield f'        <bts:TargetWell bts:Column="{well.column}" bts:Row="{well.row}">true</bts:TargetWell>'
    yield '      </bts:WellSequence>\n      <bts:PointSequence bts:Method="FixedPosition">'
    yield '        <bts:FixedPosition bts:IsProportional="false">'
    for field in range(plate.fields):
        x, y = plate.offset_um(field)
        yield f'          <bts:Point bts:X="{x:g}" bts:Y="{-y:g}" />'
    yield "        </bts:FixedPosition>\n      </bts:PointSequence>"
    yield '      <bts:ActionList bts:RunMode="sequential" bts:AFSearch="afparam">'
    for channel in range(len(plate.channels)):
        yield '        <bts:ActionAcquire2D bts:XOffset="0" bts:YOffset="0" bts:AFShiftBase="5">'
        yield f"          <bts:Ch>{channel + 1}</bts:Ch>\n        </bts:ActionAcquire2D>"
    yield "      </bts:ActionList>\n    </bts:Timeline>\n  </bts:Timelapse>\n  <bts:ChannelList>"
    for channel, name in enumerate(plate.channels):
        excitation, emission = _OPTICS.get(name.upper(), _OTHER_OPTICS)
        shown = "" if instrument.cq1 else f' bts:InputLevel="{_LEVEL}" bts:Fluorophore={quoteattr(name)}'
        yield (
            f'    <bts:Channel bts:Ch="{channel + 1}" bts:Target="{excitation}" bts:ObjectiveID="20200" '
            f'bts:Objective="20x v2" bts:Magnification="20" bts:MethodID="1" bts:Method="Confocal Fluorescence" '
            f'bts:FilterID="{channel + 1}" bts:Acquisition="{emission}" bts:ExposureTime="100" bts:Binning="2" '
            f'bts:Kind="ConfocalFluorescence" bts:CameraType="DCAM"{shown}>'
        )
        yield f"      <bts:LightSourceName>{excitation}nm</bts:LightSourceName>\n    </bts:Channel>"
    yield "  </bts:ChannelList>\n</bts:MeasurementSetting>"


def _product(plate: Acquisition) -> Iterator[str]:
    """The lines of the .wpp file: the plate as its maker sells it, lengths in mm."""
    pitch = 9 * 12 / plate.columns
    yield (
        f'<bts:WellPlateProduct bts:Version="1.0" bts:Name="{plate.wells_in_format} simulated" '
        f'bts:ProductID="{plate.name}" bts:Manufacturer="simulated" bts:Width="127.6" bts:Depth="85.75" '
        f'bts:Columns="{plate.columns}" bts:Rows="{plate.rows}" bts:ColumnPitch="{pitch:g}" bts:RowPitch="{pitch:g}" '
        f'bts:Usage="Assay" bts:Locked="false" {_NAMESPACE} />'
    )
