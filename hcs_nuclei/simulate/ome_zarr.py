"""An OME-Zarr plate as converters write it: NGFF 0.4 in Zarr 2, or NGFF 0.5 in Zarr 3.

::

    <name>.zarr/                       0.4, as bioformats2raw: every row and column, tczyx, blosc, chunks in folders
        .zgroup  .zattrs
        B/02/0/0/.zarray  B/02/0/0/0/1/0/0/0
    <name>.ome.zarr/                   0.5, as ome-zarr-py: the rows and columns in use, cyx, zstd, chunks below c/
        zarr.json
        B/02/0/0/zarr.json  B/02/0/0/c/1/0/0
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.plate import row_name
from hcs_nuclei.simulate.acquisition import Acquisition, Picture

#: Edge of a chunk in pixels; larger fields have several.
_CHUNK = 512
#: Camera counts that viewers show as white.
_WHITE = 4095.0
_COLOURS = ("0000FF", "00FF00", "FF0000", "FF00FF")


def write_ome_zarr_04(out: Path, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
    """Write `pictures` as a plate of NGFF 0.4 under `out`; returns its ``<name>.zarr`` directory."""
    return _write(out / f"{plate.name}.zarr", "0.4", plate, pictures)


def write_ome_zarr(out: Path, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
    """Write `pictures` as a plate of NGFF 0.5 under `out`; returns its ``<name>.ome.zarr`` directory."""
    return _write(out / f"{plate.name}.ome.zarr", "0.5", plate, pictures)


def _write(root: Path, version: str, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
    write_group = partial(_write_group, version)
    write_group(root, {"plate": _plate(plate, version)})
    for row in dict.fromkeys(well.row for well in plate.wells):
        write_group(root / row_name(row), {})
    for well in plate.wells:
        images = [{"path": str(field), "acquisition": 0} for field in range(plate.fields)]
        write_group(root / row_name(well.row) / f"{well.column:02d}", {"well": {"images": images, "version": version}})
    for (well, field), taken in itertools.groupby(pictures, key=lambda picture: (picture.well, picture.field)):
        group = root / row_name(well.row) / f"{well.column:02d}" / str(field)
        write_group(group, _image(plate, field, version))
        pixels = np.stack([picture.pixels for picture in taken])
        half = pixels[:, ::2, ::2]
        for level, image in enumerate((pixels, half)):
            _write_array(group / str(level), image[None, :, None] if version == "0.4" else image, version)
    return root


def _write_group(version: str, group: Path, ome: dict[str, Any]) -> None:
    group.mkdir(parents=True)
    if version == "0.4":
        _write_json(group / ".zgroup", {"zarr_format": 2})
        _write_json(group / ".zattrs", ome)
    else:
        attributes = {"ome": {"version": version, **ome}} if ome else {}
        _write_json(group / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")


def _write_array(path: Path, pixels: npt.NDArray[np.uint16], version: str) -> None:
    import zarr

    edges = [min(side, _CHUNK) for side in pixels.shape[-2:]]
    chunks = (*(1 for _ in pixels.shape[:-2]), *edges)
    # Chunks of one value are written too: a chunk that is not there is a loss.
    config: Any = {"write_empty_chunks": True}
    if version == "0.4":
        array = zarr.create_array(
            path,
            shape=pixels.shape,
            chunks=chunks,
            dtype=pixels.dtype,
            zarr_format=2,
            chunk_key_encoding={"name": "v2", "separator": "/"},
            config=config,
        )
    else:
        array = zarr.create_array(
            path,
            shape=pixels.shape,
            chunks=chunks,
            dtype=pixels.dtype,
            dimension_names=("c", "y", "x"),
            config=config,
        )
    array[...] = pixels


def _plate(plate: Acquisition, version: str) -> dict[str, Any]:
    rows = [row_name(row) for row in range(1, plate.rows + 1)]
    columns = [f"{column:02d}" for column in range(1, plate.columns + 1)]
    if version == "0.5":
        rows = list(dict.fromkeys(row_name(well.row) for well in plate.wells))
        columns = sorted({f"{well.column:02d}" for well in plate.wells})
    return {
        "name": plate.name,
        "version": version,
        "field_count": plate.fields,
        "acquisitions": [{"id": 0, "name": "1001", "maximumfieldcount": plate.fields}],
        "rows": [{"name": name} for name in rows],
        "columns": [{"name": name} for name in columns],
        "wells": [
            {
                "path": f"{row_name(well.row)}/{well.column:02d}",
                "rowIndex": rows.index(row_name(well.row)),
                "columnIndex": columns.index(f"{well.column:02d}"),
            }
            for well in plate.wells
        ],
    }


def _image(plate: Acquisition, field: int, version: str) -> dict[str, Any]:
    """Attributes of a field: axes, two levels with their scale and place in µm, and what each channel is called."""
    names = "tczyx" if version == "0.4" else "cyx"
    kinds = {"t": "time", "c": "channel"}
    axes: list[dict[str, str]] = [{"name": name, "type": kinds.get(name, "space")} for name in names]
    for axis in axes:
        if axis["name"] in "zyx":
            axis["unit"] = "micrometer"
    x, y = (centre - (plate.size - 1) / 2 * plate.pixel_size_um for centre in plate.offset_um(field))
    before = [0.0] * (len(names) - 2)
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [*(1.0 for _ in before), *[plate.pixel_size_um * 2**level] * 2]},
                {"type": "translation", "translation": [*before, y, x]},
            ],
        }
        for level in range(2)
    ]
    channels = [
        {
            "label": name,
            "color": _COLOURS[number % len(_COLOURS)],
            "active": True,
            "window": {"min": 0.0, "max": 65535.0, "start": 0.0, "end": _WHITE},
        }
        for number, name in enumerate(plate.channels)
    ]
    # 0.5 says its version once, beside these; 0.4 says it within them.
    told = {"version": version} if version == "0.4" else {}
    return {
        "multiscales": [{"name": str(field), **told, "axes": axes, "datasets": datasets}],
        "omero": {**told, "channels": channels},
    }
