"""Shapes and names in, NGFF 0.5 metadata as ``zarr.json`` documents out, built and checked by ome-zarr-models.

A field group is described at once (image levels, labels group, label levels), because the models check what holds
between them: axes against dimension names, and as many label levels as image levels.

Source: https://ngff.openmicroscopy.org/0.5/ and the Zarr 3 specification with its ``sharding_indexed`` codec.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ome_zarr_models.common.omero import Channel as OmeroChannel
from ome_zarr_models.common.omero import Omero, Window
from ome_zarr_models.v05.axes import Axis
from ome_zarr_models.v05.base import BaseZarrAttrs
from ome_zarr_models.v05.hcs import HCSAttrs
from ome_zarr_models.v05.image import Image, ImageAttrs
from ome_zarr_models.v05.image_label import ImageLabelAttrs
from ome_zarr_models.v05.image_label_types import Label, Source
from ome_zarr_models.v05.labels import LabelsAttrs
from ome_zarr_models.v05.multiscales import Dataset, Multiscale
from ome_zarr_models.v05.plate import Acquisition, Column, Plate, Row, WellInPlate
from ome_zarr_models.v05.well import WellAttrs
from ome_zarr_models.v05.well_types import WellImage, WellMeta
from pydantic_zarr.v3 import ArraySpec, GroupSpec

#: A pyramid ends with the first level whose larger side is at most this: a thumbnail.
THUMBNAIL_PX = 256
#: Largest edge of an inner chunk: what a viewer fetches at once.
CHUNK_PX = 512
#: On a 1080 × 1080 field of counts, level 3 makes 8 % less at four times the time.
ZSTD_LEVEL = 1


@dataclass(frozen=True, slots=True)
class FieldForm:
    """What the metadata of a field depend on; equal for most fields of a plate, so documents are made once.

    `shape` is (t, y, x) in pixels; `dtype` is the image's (``uint8`` or ``uint16``); `pixel_size_um` is None where
    unknown: scales then count pixels and name no unit.
    """

    shape: tuple[int, int, int]
    dtype: str
    time_axis: bool
    pixel_size_um: float | None
    channel_name: str


def level_shapes(height: int, width: int) -> list[tuple[int, int]]:
    """(y, x) of each pyramid level, the full one first; every level halves both sides, rounding down."""
    shapes = [(height, width)]
    while max(shapes[-1]) > THUMBNAIL_PX and min(shapes[-1]) > 1:
        shapes.append((shapes[-1][0] // 2, shapes[-1][1] // 2))
    return shapes


def chunk_edges(height: int, width: int) -> tuple[int, int]:
    """(y, x) of an inner chunk: the side in equal parts of at most :data:`CHUNK_PX`, so that little is padding."""
    return _part(height), _part(width)


def _part(side: int) -> int:
    parts = -(-side // CHUNK_PX)
    return -(-side // parts)


def group_document(attributes: Mapping[str, Any] | None = None) -> bytes:
    """``zarr.json`` of a group with these attributes."""
    return _encode({"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})})


def field_documents(form: FieldForm, window: tuple[float, float]) -> dict[str, bytes]:
    """Every ``zarr.json`` of a field by the path of its node ("" is the image group, then "0", "labels/nuclei/0", …).

    `window` is what viewers show as black and white, in camera counts.
    """
    documents, image = _field_documents(form)
    limit = 255.0 if form.dtype == "uint8" else 65535.0
    shown = Window(min=0.0, max=limit, start=window[0], end=window[1])
    channel = OmeroChannel.model_validate(
        {"label": form.channel_name, "color": "FFFFFF", "active": True, "window": shown}
    )
    ome = {**image, "omero": Omero(channels=[channel]).model_dump(mode="json")}
    return {"": group_document({"ome": ome}), **documents}


def well_document(fields: Iterable[int], fingerprint: str) -> bytes:
    """``zarr.json`` of a well that holds these fields, carrying the fingerprint of what they were made from."""
    images = [WellImage(path=str(number), acquisition=None) for number in sorted(fields)]
    ome = WellAttrs(version="0.5", well=WellMeta(images=images, version="0.5"))
    return group_document({"ome": _dump(ome), "hcs_nuclei": {"fingerprint": fingerprint}})


def plate_document(name: str, acquisition: str, wells: Mapping[tuple[str, str], int]) -> bytes:
    """``zarr.json`` of a plate.

    `wells` maps (row name, column name) in row-major order to the number of fields; empty gives a bare group, for
    the specification has no plate without wells. Rows and columns are those that hold wells: readers such as
    ome-zarr allocate every place of the grid.
    """
    if not wells:
        return group_document()
    rows = list(dict.fromkeys(row for row, _ in wells))
    columns = sorted({column for _, column in wells})
    most = max(wells.values())
    plate = Plate(
        version="0.5",
        name=name,
        field_count=most,
        rows=[Row(name=row) for row in rows],
        columns=[Column(name=column) for column in columns],
        wells=[
            WellInPlate(path=f"{row}/{column}", rowIndex=rows.index(row), columnIndex=columns.index(column))
            for row, column in wells
        ],
        acquisitions=[Acquisition(id=0, name=acquisition, maximumfieldcount=most)] if acquisition else None,
    )
    return group_document({"ome": _dump(HCSAttrs(version="0.5", plate=plate))})


@lru_cache(maxsize=32)
def _field_documents(form: FieldForm) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Documents of everything below the image group, and the image group's own ``ome`` attribute."""
    image_levels = _levels(form, form.dtype, ("c", "y", "x"))
    label_levels = _levels(form, "uint32", ("y", "x"))
    label_attributes = ImageLabelAttrs.model_validate(
        {
            "version": "0.5",
            "multiscales": [_multiscale(form, ("y", "x"), "nuclei", "nearest")],
            "image-label": Label(version="0.5", source=Source(image="../../")),
        }
    )
    image_attributes = ImageAttrs(
        version="0.5", multiscales=[_multiscale(form, ("c", "y", "x"), form.channel_name, "mean")]
    )
    nuclei: GroupSpec[Any, Any] = GroupSpec(attributes={"ome": _dump(label_attributes)}, members=label_levels)
    labels: GroupSpec[Any, Any] = GroupSpec(
        attributes={"ome": _dump(LabelsAttrs(version="0.5", labels=["nuclei"]))}, members={"nuclei": nuclei}
    )
    checked = Image(
        attributes=BaseZarrAttrs[ImageAttrs](ome=image_attributes), members={**image_levels, "labels": labels}
    )
    if checked.labels is None:
        raise AssertionError("a field's labels are part of its group")
    documents = {level: _encode(spec.model_dump(mode="json")) for level, spec in image_levels.items()}
    documents["labels"] = group_document(labels.attributes)
    documents["labels/nuclei"] = group_document(nuclei.attributes)
    for level, spec in label_levels.items():
        documents[f"labels/nuclei/{level}"] = _encode(spec.model_dump(mode="json"))
    return documents, _dump(image_attributes)


def _levels(form: FieldForm, dtype: str, axes: tuple[str, ...]) -> dict[str, ArraySpec[Any]]:
    leading = (1,) * (len(axes) - 2)
    time = (form.shape[0],) if form.time_axis else ()
    names = (*(("t",) if form.time_axis else ()), *axes)
    specs = {}
    for level, (height, width) in enumerate(level_shapes(*form.shape[1:])):
        edges = chunk_edges(height, width)
        inner = (*(1 for _ in time), *leading, *edges)
        whole = (*time, *leading, *(-(-side // edge) * edge for side, edge in zip((height, width), edges, strict=True)))
        specs[str(level)] = ArraySpec[Any].model_validate(
            {
                "attributes": {},
                "shape": (*time, *leading, height, width),
                "data_type": dtype,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": whole}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "fill_value": 0,
                "codecs": (_sharding(inner, dtype),),
                "dimension_names": names,
            }
        )
    return specs


def _sharding(inner: tuple[int, ...], dtype: str) -> Any:
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": inner,
            "codecs": [
                {"name": "bytes"} if dtype == "uint8" else little,
                {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
            ],
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": "end",
        },
    }


def _multiscale(form: FieldForm, axes: tuple[str, ...], name: str, method: str) -> Multiscale:
    time = (Axis(name="t", type="time"),) if form.time_axis else ()
    unit = {} if form.pixel_size_um is None else {"unit": "micrometer"}
    space = (Axis(name="y", type="space", **unit), Axis(name="x", type="space", **unit))
    leading = (*time, *(Axis(name=axis, type="channel") for axis in axes[:-2]))
    edge = 1.0 if form.pixel_size_um is None else form.pixel_size_um
    datasets = tuple(
        Dataset.build(path=str(level), scale=[1.0] * len(leading) + [edge * 2**level] * 2, translation=None)
        for level in range(len(level_shapes(*form.shape[1:])))
    )
    return Multiscale(axes=(*leading, *space), datasets=datasets, name=name, type=method)


def _dump(model: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def _encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode()
