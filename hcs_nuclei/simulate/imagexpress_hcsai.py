"""An ImageXpress HCS.ai acquisition (Molecular Devices), written as MetaXpress Acquire writes it.

::

    <name>_20240109_100000/<name>.mxprotocol                              what was to be done
    <name>_20240109_100000/experiment/<name>.jdce                         plate, pixel size, channels (JSON)
    <name>_20240109_100000/experiment/image_metadata_1.csv                every image
    <name>_20240109_100000/experiment/timepoint0/<name>_t0_B02_s0_w0_z0.tif    fields and channels count from 0
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tifffile

from hcs_nuclei.plate import row_name
from hcs_nuclei.simulate.acquisition import Acquisition, Picture

_DATE, _CLOCK = "2024-01-09", "10:00:00"
#: The same moment in seconds since 1970.
_SECONDS = 1704794400
_FOLDER = "timepoint0"
#: Emission in nm by channel name.
_WAVELENGTHS = {"DAPI": 440, "HOECHST": 440, "FITC": 520, "GFP": 520, "CY5": 692}
#: Centre of well A01 from the plate's corner and the distance of wells of a 96-well plate, µm.
_FIRST_UM = (14400.0, 11300.0)
_PITCH_UM = 9000.0


def write_imagexpress_hcsai(out: Path, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
    """Write `pictures` as an HCS.ai acquisition under `out`; returns its dated directory."""
    root = out / f"{plate.name}_{_DATE.replace('-', '')}_{_CLOCK.replace(':', '')}"
    experiment = root / "experiment"
    (experiment / _FOLDER).mkdir(parents=True)
    with (experiment / "image_metadata_1.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        for number, picture in enumerate(pictures):
            row = _row(plate, picture)
            tifffile.imwrite(
                experiment / _FOLDER / row["ImageFileName"],
                picture.pixels,
                photometric="minisblack",
                rowsperstrip=16,
                metadata=None,
            )
            if number == 0:
                table.writerow(row)
            table.writerow(row.values())
    _write_json(experiment / f"{plate.name}.jdce", _description(plate))
    _write_json(root / f"{plate.name}.mxprotocol", _protocol(plate))
    return root


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=4, ensure_ascii=False), encoding="utf-8")


def _row(plate: Acquisition, picture: Picture) -> dict[str, Any]:
    """One line of the table; lengths are in µm and y points down."""
    well, pixels = picture.well, picture.pixels
    x, y = plate.offset_um(picture.field)
    first_x, first_y, pitch = _grid_um(plate)
    return {
        "FovUuid": plate.guid("hcsai", well.name, picture.field),
        "Well": f"{row_name(well.row)} - {well.column}",
        "Row": well.row,
        "Column": well.column,
        "Field": picture.field,
        "Wavelength": picture.channel,
        "Timepoint": 0,
        "ZIndex": 0,
        "ImageStartXPx": 0,
        "ImageStartYPx": 0,
        "ImageSizeXPx": pixels.shape[1],
        "ImageSizeYPx": pixels.shape[0],
        "ImageSubFolderPath": _FOLDER,
        "ImageFileName": f"{plate.name}_t0_{well.name}_s{picture.field}_w{picture.channel}_z0.tif",
        "TimeStampSec": _SECONDS,
        "ExposureTimeMs": 100,
        "ExcitationEmissionFilter": plate.channels[picture.channel],
        "MinIntensity": int(pixels.min()),
        "MaxIntensity": int(pixels.max()),
        "MeanIntensity": float(pixels.mean()),
        "PositionXUm": round(first_x + (well.column - 1) * pitch + x, 2),
        "PositionYUm": round(first_y + (well.row - 1) * pitch + y, 2),
        "PositionZUm": 18444.72,
        "FieldOffsetPointX": x,
        "FieldOffsetPointY": y,
        "TemperatureC": 23.0,
        "CO2": 0.0,
        "Annotations": "",
        "Checksum": "",
        "O2Level": 20.0,
    }


def _grid_um(plate: Acquisition) -> tuple[float, float, float]:
    """(x, y) of well A01's centre and the distance of wells: the wells' outer edges stay where they are."""
    pitch = _PITCH_UM * 12 / plate.columns
    return _FIRST_UM[0] + (pitch - _PITCH_UM) / 2, _FIRST_UM[1] + (pitch - _PITCH_UM) / 2, pitch


def _description(plate: Acquisition) -> dict[str, Any]:
    """The content of the .jdce file."""
    first_x, first_y, pitch = (length / 1000 for length in _grid_um(plate))
    labware = f"{plate.wells_in_format} wells, simulated"
    return {
        "Version": "1.1",
        "ImageStack": {
            "PlateId": f"{plate.name} {_DATE}, {_CLOCK}",
            "Uuid": plate.guid("hcsai"),
            "Application": {"Name": "MetaXpress Acquire", "SoftwareLabel": "simulated"},
            "Creation": {"Date": _DATE, "Time": _CLOCK, "TimeZoneOffset": "0"},
            "ImageFormat": "TIFF",
            "LargeImage": False,
            "AutoLeadAcquisitionProtocol": {
                "Camera": {"Size": {"Width": plate.size, "Height": plate.size}, "Binning": "2 X 2"},
                "ObjectiveCalibration": {
                    "Unit": "µm",
                    "ObjectiveName": "20X Plan Apo Lambda D",
                    "PixelWidth": plate.pixel_size_um,
                    "PixelHeight": plate.pixel_size_um,
                },
                "Plate": {
                    "Name": labware,
                    "Rows": plate.rows,
                    "Columns": plate.columns,
                    # The instrument writes millimetres and calls them so.
                    "TopLeftWellCenterOffset": {"Unit": "µm", "Horizontal": first_x, "Vertical": first_y},
                    "WellSpacing": {"Unit": "µm", "Horizontal": pitch, "Vertical": pitch},
                },
                "Wavelengths": [_wavelength(index, name) for index, name in enumerate(plate.channels)],
                "PlateMap": {
                    "ZDimensionParameters": {"Enabled": False, "Step": 0.0, "NumberOfSlices": 1, "Variable": False},
                    "TimeSchedule": {
                        "Enabled": False,
                        "NumberOfTimepoints": 1,
                        "Times": [{"Ms": 0}],
                        "Variable": False,
                    },
                },
                "ProjectInformation": {"Project": {"Name": plate.name}, "User": {"Name": "simulated"}},
                "CollectionComplete": True,
            },
            "Operator": {"Login": "simulated"},
            "SpecimenHolder": {
                "Type": "plate",
                "Label": labware,
                "Barcode": "",
                "Description": f"ProtocolName: {plate.name}",
            },
            "ImageMetadataFiles": ["image_metadata_1.csv"],
        },
    }


def _wavelength(index: int, name: str) -> dict[str, Any]:
    light = {"Name": name, "Wavelength": _WAVELENGTHS.get(name.upper(), 600), "Unit": "nm"}
    return {
        "Index": index,
        "ImagingMode": "2-D",
        "ZSlice": 1,
        "ZStep": 0.0,
        "EmissionFilter": light,
        "ExcitationFilter": light,
    }


def _protocol(plate: Acquisition) -> dict[str, Any]:
    """The content of the .mxprotocol file: which wells and sites were to be imaged, counted from 0."""
    sites = []
    for field in range(plate.fields):
        row, column = divmod(field, plate.grid[1])
        x, y = plate.offset_um(field)
        sites.append({"siteColumn": column, "siteRow": row, "xOffsetFromWellCenterUm": x, "yOffsetFromWellCenterUm": y})
    wells = [{"column": well.column - 1, "row": well.row - 1} for well in plate.wells]
    data = {"siteList": {"sitePositions": sites}, "wellList": {"wellPositions": wells}}
    definition = {"acquisitionName": plate.name, "barcode": ""}
    protocol = {"data": data, "protocolDefinition": definition, "protocolName": plate.name, "protocolVersion": "2.0"}
    return {
        "acquisitionEngineProtocol": {
            "commandData": {"acquisitionEngineProtocol": protocol},
            "commandName": "RunProtocol",
        }
    }
