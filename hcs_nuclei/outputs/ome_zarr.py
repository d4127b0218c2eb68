"""Fields' images and label images in, one OME-Zarr plate (NGFF 0.5, Zarr 3) out, and back.

::

    plate.ome.zarr/
    ├── zarr.json                      plate metadata: begin_store, finish_store (one process)
    └── B/
        ├── zarr.json                  row: begin_store
        └── 03/                        well: its WellWriter alone, put in place by one rename
            ├── zarr.json              its fields, and the fingerprint of what they were made from
            └── 1/                     field, axes (t)cyx: the nuclear channel
                ├── 0, 1, …            one array a pyramid level, one shard an array
                └── labels/nuclei/0, 1, …   axes (t)yx, uint32, 0 = background

A well that is interrupted leaves a temporary directory in its row; :func:`begin_store` removes it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hcs_nuclei.files import replace_file, sweep, temporary_path, write_synced
from hcs_nuclei.plate import Channel, Plate, Well, parse_well, row_name, row_number

_METADATA = "zarr.json"
#: Percentiles of the smallest level that viewers show as black and white, unless the plate has a window of its own.
_WINDOW_PERCENTILES = (1.0, 99.8)
_ABSENT = 2**64 - 1


def begin_store(store: Path, plate: Plate) -> None:
    """Make the plate group and the groups of its rows, and remove what a killed run left; one process, before wells.

    A new plate is a bare group until :func:`finish_store`, for the specification knows no plate without wells. What is
    there already is not touched: its list of wells is made right at the end, so remaking one well changes nothing else.
    """
    from hcs_nuclei.outputs import ngff

    store.mkdir(parents=True, exist_ok=True)
    sweep(store)
    for row in dict.fromkeys(row_name(well.row) for well in plate.wells):
        (store / row).mkdir(exist_ok=True)
        sweep(store / row)
        replace_file(store / row / _METADATA, ngff.group_document())
    if not (store / _METADATA).is_file():
        finish_store(store, plate)


def finish_store(store: Path, plate: Plate) -> None:
    """Make the plate list exactly the wells that are on disk; one process, after the wells. Unchanged is untouched."""
    from hcs_nuclei.outputs import ngff

    wells = {position: _field_count(store.joinpath(*position)) for position in _wells_on_disk(store)}
    replace_file(store / _METADATA, ngff.plate_document(plate.name, plate.acquisition, wells))


class WellWriter:
    """Writes one well's group, whole or not at all: fields are added, :meth:`commit` puts the group in its place.

    The group is built in a temporary directory of its row, which this writer alone owns; leaving the context without
    a commit removes it and leaves a former group as it was.

    Args:
        store: a store that :func:`begin_store` made.
        well: which well.
        channel: the nuclear channel, for its name.
        pixel_size_um: edge of a pixel in micrometres, None where unknown.
        timepoints: of the plate; with more than one the arrays have a t axis.
        image: whether the nuclear channel's pixels are written; without them the image is valid and reads as zeros.
        window: camera counts that viewers show as black and white, the same for the whole plate; None takes it from
            each field.
    """

    def __init__(
        self,
        store: Path,
        well: Well,
        *,
        channel: Channel,
        pixel_size_um: float | None,
        timepoints: int,
        image: bool = True,
        window: tuple[float, float] | None = None,
    ) -> None:
        self._place = well_path(store, well)
        self._temporary = temporary_path(self._place)
        self._channel = channel
        self._pixel_size_um = pixel_size_um
        self._timepoints = timepoints
        self._image = image
        self._window = window
        self._fields: set[int] = set()

    def __enter__(self) -> Self:
        self._temporary.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._temporary.exists():
            shutil.rmtree(self._temporary)

    def add_field(self, number: int, image: npt.NDArray[Any], labels: npt.NDArray[np.uint32]) -> None:
        """Write one field.

        Args:
            number: the field's number, as in the vendor's file names.
            image: (t, y, x), uint8 or uint16, camera counts of the nuclear channel.
            labels: (t, y, x), uint32, 0 = background, a number is one nucleus.

        Raises:
            ValueError: the field was added before, or shapes or types are not these.
        """
        from hcs_nuclei.outputs import ngff

        self._check(number, image, labels)
        shape: tuple[int, int, int] = image.shape
        time_axis = self._timepoints > 1
        form = ngff.FieldForm(shape, image.dtype.name, time_axis, self._pixel_size_um, self._channel.name)
        sizes = ngff.level_shapes(*shape[1:])
        images, label_images = [image], [labels]
        for height, width in sizes[1:]:
            images.append(_halve_by_mean(images[-1]))
            label_images.append(np.ascontiguousarray(label_images[-1][:, ::2, ::2][:, :height, :width]))
        group = self._temporary / str(number)
        for node, document in ngff.field_documents(form, self._window or self._window_of(images[-1])).items():
            (group / node).mkdir()
            write_synced(group / node / _METADATA, document)
        for level, size in enumerate(sizes):
            if self._image:
                key = "c/" + "/".join("0" * (4 if time_axis else 3))
                _write_shard(group / str(level) / key, images[level], ngff.chunk_edges(*size), ngff.ZSTD_LEVEL)
            key = "c/" + "/".join("0" * (3 if time_axis else 2))
            place = group / "labels" / "nuclei" / str(level) / key
            _write_shard(place, label_images[level], ngff.chunk_edges(*size), ngff.ZSTD_LEVEL)
        self._fields.add(number)

    def commit(self, fingerprint: str) -> None:
        """Put the well in its place, instead of a former one; with no field added there is no well afterwards.

        An interruption between the two renames leaves no well, which is then made again.
        """
        from hcs_nuclei.outputs import ngff

        former = temporary_path(self._place)
        if self._fields:
            write_synced(self._temporary / _METADATA, ngff.well_document(self._fields, fingerprint))
        if self._place.exists():
            os.rename(self._place, former)
        if self._fields:
            os.rename(self._temporary, self._place)
        if former.exists():
            shutil.rmtree(former)

    def _check(self, number: int, image: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        where = f"well {self._place.parent.name}{self._place.name}, field {number}"
        if number in self._fields:
            raise ValueError(f"{where} was added before")
        if image.ndim != 3 or image.shape[0] != self._timepoints or 0 in image.shape:
            raise ValueError(f"{where}: the image is {image.shape}; expected ({self._timepoints}, y, x)")
        if labels.shape != image.shape:
            raise ValueError(f"{where}: the labels are {labels.shape}; expected the image's {image.shape}")
        if image.dtype.name not in {"uint8", "uint16"} or labels.dtype.name != "uint32":
            raise ValueError(
                f"{where}: image {image.dtype}, labels {labels.dtype}; expected uint8 or uint16, and uint32"
            )

    def _window_of(self, smallest: npt.NDArray[Any]) -> tuple[float, float]:
        if not self._image:
            return 0.0, float(np.iinfo(smallest.dtype).max)
        start, end = np.percentile(smallest, _WINDOW_PERCENTILES)
        return float(start), float(max(end, start + 1))


def well_fingerprint(store: Path, well: Well | str) -> str | None:
    """The fingerprint that the well's group was committed with; None where there is no such group."""
    try:
        document = json.loads((well_path(store, well) / _METADATA).read_bytes())
        return str(document["attributes"]["hcs_nuclei"]["fingerprint"])
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return None


def level_count(store: Path, well: Well | str, field: int) -> int:
    """Number of pyramid levels of a field, the same for image and labels.

    Raises:
        FileNotFoundError: the field is not in the store.
    """
    document = json.loads((well_path(store, well) / str(field) / _METADATA).read_bytes())
    return len(document["attributes"]["ome"]["multiscales"][0]["datasets"])


def read_level(store: Path, well: Well | str, field: int, level: int = 0, *, labels: bool = False) -> npt.NDArray[Any]:
    """One pyramid level of a field, (t, y, x): camera counts of the nuclear channel, or uint32 labels.

    Raises:
        FileNotFoundError: the field or level is not in the store.
    """
    import zarr

    group = well_path(store, well) / str(field)
    array = zarr.open_array((group / "labels" / "nuclei" if labels else group) / str(level), mode="r")
    pixels = np.asarray(array[...])
    height, width = pixels.shape[-2:]
    return pixels.reshape(-1, height, width)


def well_path(store: Path, well: Well | str) -> Path:
    """Where the group of a well is."""
    row, column = parse_well(well) if isinstance(well, str) else (well.row, well.column)
    return store / row_name(row) / f"{column:02d}"


def _wells_on_disk(store: Path) -> list[tuple[str, str]]:
    """(row name, column name) of every well that is there, row-major."""
    found = [
        (document.parent.parent.name, document.parent.name)
        for document in store.glob(f"*/*/{_METADATA}")
        if re.fullmatch(r"[A-Z]{1,2}", document.parent.parent.name) and re.fullmatch(r"\d\d", document.parent.name)
    ]
    return sorted(found, key=lambda place: (row_number(place[0]), place[1]))


def _field_count(well: Path) -> int:
    return len(json.loads((well / _METADATA).read_bytes())["attributes"]["ome"]["well"]["images"])


def _halve_by_mean(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(t, y, x) → half of both sides: mean of 2 × 2 pixels, halves rounded up; an odd last row or column drops out."""
    height, width = image.shape[1] // 2 * 2, image.shape[2] // 2 * 2
    total = image[:, 0:height:2, 0:width:2].astype(np.uint32)
    for y, x in ((0, 1), (1, 0), (1, 1)):
        total += image[:, y:height:2, x:width:2]
    return ((total + 2) >> 2).astype(image.dtype)


def _write_shard(path: Path, pixels: npt.NDArray[Any], edges: tuple[int, int], level: int) -> None:
    """One array (t, y, x) as one Zarr 3 shard: compressed inner chunks, then the index of their places, then its CRC.

    Chunks of zeros are left out, and a shard without chunks is not written: both read as zeros. Written here and not
    by zarr 3.1, whose write of one 1080 × 1080 field with its labels (8 arrays) costs 115 ms of CPU against 20 ms;
    the tests read every shard with zarr.
    """
    import google_crc32c
    from imagecodecs import zstd_encode

    times, height, width = pixels.shape
    rows, columns = -(-height // edges[0]), -(-width // edges[1])
    index = np.full((times, rows, columns, 2), _ABSENT, dtype="<u8")
    parts: list[bytes] = []
    offset = 0
    for place in np.ndindex(times, rows, columns):
        y, x = place[1] * edges[0], place[2] * edges[1]
        part = pixels[place[0], y : y + edges[0], x : x + edges[1]]
        if not part.any():
            continue
        chunk = np.zeros(edges, dtype=pixels.dtype.newbyteorder("<"))
        chunk[: part.shape[0], : part.shape[1]] = part
        parts.append(bytes(zstd_encode(chunk.tobytes(), level=level)))
        index[place] = offset, len(parts[-1])
        offset += len(parts[-1])
    if parts:
        table = index.tobytes()
        parts += [table, google_crc32c.value(table).to_bytes(4, "little")]
        path.parent.mkdir(parents=True)
        write_synced(path, b"".join(parts))
