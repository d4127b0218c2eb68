"""Plates, field rows and nuclei made from counts, for the tests of what a run leaves on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hcs_nuclei.columns import FIELD_QUALITY, Measured, nucleus_columns, saturated_columns, saturated_fractions
from hcs_nuclei.outputs import write_well
from hcs_nuclei.outputs.tables import well_table_path
from hcs_nuclei.plate import Channel, Field, Plate, Well, parse_well

CHANNELS = ("DAPI", "FITC")
MEASURED = Measured(CHANNELS, "DAPI")
QUALITY = (*FIELD_QUALITY, *saturated_fractions(CHANNELS))


def make_plate(
    wells: Sequence[str] = ("B03",), fields: int = 2, timepoints: int = 1, name: str = "00123", acquisition: str = ""
) -> Plate:
    """A plate that expects these wells, each with fields 1 to `fields`."""
    sites = tuple(Field(number, ()) for number in range(1, fields + 1))
    return Plate(
        root=Path("/nowhere"),
        vendor="pattern",
        reason="a test",
        name=name,
        acquisition=acquisition,
        wells=tuple(Well(*parse_well(well), sites) for well in wells),
        channels=tuple(Channel(f"w{i}", channel) for i, channel in enumerate(CHANNELS, start=1)),
        timepoints=timepoints,
        pixel_size_um=0.5,
    )


def identity(plate: Plate, well: str, field: int, timepoint: int = 0) -> dict[str, Any]:
    """The identity columns of one field."""
    row, column = parse_well(well)
    return {
        "Metadata_Plate": plate.name,
        "Metadata_Acquisition": plate.acquisition,
        "Metadata_Well": well,
        "Metadata_Row": row,
        "Metadata_Column": column,
        "Metadata_Field": field,
        "Metadata_Timepoint": timepoint,
    }


def field_row(
    plate: Plate, well: str, field: int, count: int | None, timepoint: int = 0, **other: Any
) -> dict[str, Any]:
    """A row of the field table; a count of None is a field that was not measured."""
    measured = count is not None
    row = {
        **identity(plate, well, field, timepoint),
        "status": "ok" if measured else "unreadable",
        "error": "" if measured else "the file ends early",
        "Metadata_Object_Count": count,
        "Metadata_PixelSize_um": plate.pixel_size_um,
        "Metadata_Height": 200 if measured else None,
        "Metadata_Width": 100 if measured else None,
        "Metadata_Position_X": float("nan"),
        "Metadata_Position_Y": 0.1 + 0.2,
        **{c.name: (False if c.dtype == "bool" else 0.25) if measured else None for c in QUALITY},
    }
    return {**row, **other}


def nuclei(plate: Plate, well: str, field: int, count: int, timepoint: int = 0, **other: Any) -> dict[str, Any]:
    """`count` nuclei of one field; feature k of nucleus i is i + k / 100, identity is given as scalars."""
    numbers = np.arange(1, count + 1)
    mapping: dict[str, Any] = {
        column.name: numbers + k / 100
        for k, column in enumerate(nucleus_columns(MEASURED))
        if column.dtype == "float64"
    }
    mapping |= identity(plate, well, field, timepoint)
    mapping |= {
        "Metadata_ObjectNumber": numbers,
        "Metadata_Confidence": np.full(count, 0.75),
        "Metadata_QC_TouchesEdge": np.zeros(count, dtype=bool),
        "Metadata_QC_Saturated": np.zeros(count, dtype=bool),
        **{c.name: np.zeros(count, dtype=bool) for c in saturated_columns(CHANNELS)},
    }
    return {**mapping, **other}


def commit_well(run: Path, plate: Plate, well: str, counts: Sequence[int | None], fingerprint: str = "f") -> Path:
    """Commit a well whose fields 1, 2, … hold `counts` nuclei at the one time point."""
    path = well_table_path(run, well)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_well(
        path,
        nuclei=[nuclei(plate, well, n, c) for n, c in enumerate(counts, start=1) if c is not None],
        fields=[field_row(plate, well, n, c) for n, c in enumerate(counts, start=1)],
        fingerprint=fingerprint,
        measured=MEASURED,
    )
    return path


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and modification time of every file below `folder`, by relative name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
