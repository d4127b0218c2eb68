"""CellVoyager's ``.mlf``, ``.mrf`` and ``.mes`` files in, records, plate and channels out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.plate import well_name
from hcs_nuclei.sources.assembly import FieldKey, Record
from hcs_nuclei.sources.metadata_xml import attributes, children, elements

Locate = Callable[[str], tuple[str, str]]


@dataclass(frozen=True)
class Measurement:
    """Every plane that was to be acquired, and where each field lies (µm, y pointing down)."""

    records: tuple[Record, ...]
    positions_um: dict[FieldKey, tuple[float, float]]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Detail:
    """The ``.mrf``: `begin` as the instrument writes it into directories (20230918_135839).

    What the file does not say is empty or 0.
    """

    name: str = ""
    begin: str = ""
    rows: int = 0
    columns: int = 0
    pixel_sizes_um: dict[str, float] = field(default_factory=dict)
    settings_file: str = ""


@dataclass(frozen=True)
class _Failure:
    """An ``ERR`` record; what it does not say (None) it says of all fields, channels."""

    row: int
    column: int
    time: int
    field: int | None
    channel: str | None
    words: str


def read_measurement(path: Path, locate: Locate) -> Measurement:
    """The ``.mlf`` at `path`; `locate` finds the file that it names, or says why that one is not to be read.

    Raises:
        NotAPlateError: it is damaged, or a record lacks a number that it needs.
    """
    images: list[Record] = []
    failures: list[_Failure] = []
    positions: dict[FieldKey, tuple[float, float]] = {}
    for _, element in elements(path, {"MeasurementRecord"}):
        values = attributes(element)
        text = (element.text or "").strip()
        try:
            if values.get("Type") == "ERR":
                failures.append(_failure(values, text))
                continue
            row, column, number = int(values["Row"]), int(values["Column"]), int(values["FieldIndex"])
            token = f"C{int(values['Ch']):02d}"
            time, z = int(values["TimePoint"]), int(values["ZIndex"])
            projection = bool(values.get("ZImageProcessing"))
            images.append(Record(row, column, number, token, time, z, projection, *locate(text)))
            if "X" in values and "Y" in values:  # the file's y points up
                positions.setdefault((row, column, number), (float(values["X"]), -float(values["Y"])))
        except (KeyError, ValueError) as error:
            raise NotAPlateError(
                f"{path}: the record of {text or 'an image'} lacks a number or holds something else ({error}). "
                "Copy the file again from the instrument."
            ) from None
    failed, warnings = _failed_planes(images, failures)
    return Measurement((*images, *failed), positions, warnings)


def read_detail(path: Path) -> Detail:
    """The ``.mrf`` at `path`.

    Raises:
        NotAPlateError: it is damaged.
    """
    name, sizes, top = "", {}, {}
    for tag, element in elements(path, {"MeasurementSamplePlate", "MeasurementChannel", "MeasurementDetail"}):
        values = attributes(element)
        if tag == "MeasurementSamplePlate":
            name = values.get("Name", "").replace("NoPlateID", "")  # so the CQ1 calls a plate that nobody named
        elif tag == "MeasurementChannel":
            size = _positive(values.get("HorizontalPixelDimension", ""))
            if size and values.get("Ch", "").isdigit():
                sizes[f"C{int(values['Ch']):02d}"] = size
        else:
            top = {**children(element), **values}
    begin = re.match(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)", top.get("BeginTime", ""))
    return Detail(
        name=name or top.get("Title", ""),
        begin="{}{}{}_{}{}{}".format(*begin.groups()) if begin else "",
        rows=int(_positive(top.get("RowCount", "")) or 0),
        columns=int(_positive(top.get("ColumnCount", "")) or 0),
        pixel_sizes_um=sizes,
        settings_file=top.get("MeasurementSettingFileName", "").replace("\\", "/").rpartition("/")[2],
    )


def read_channel_names(path: Path) -> dict[str, str]:
    """The fluorophore of each channel of the ``.mes`` at `path`, by token; empty texts where nobody entered one.

    Raises:
        NotAPlateError: it is damaged.
    """
    return {f"C{number:02d}": name for number, name in _fluorophores(elements(path, {"Channel"}))}


def _fluorophores(channels: Iterator[tuple[str, Element]]) -> Iterator[tuple[int, str]]:
    for _, element in channels:
        values = attributes(element)
        if values.get("Ch", "").isdigit():
            yield int(values["Ch"]), values.get("Fluorophore", "").strip()


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None


def _failure(values: dict[str, str], words: str) -> _Failure:
    row, column = int(values["Row"]), int(values["Column"])
    well_name(row, column)  # raises where they are on no plate
    return _Failure(
        row=row,
        column=column,
        time=int(values.get("TimePoint") or 1),
        field=int(values["FieldIndex"]) if values.get("FieldIndex") else None,
        channel=f"C{int(values['Ch']):02d}" if values.get("Ch") else None,
        words=words or "the instrument reports an error",
    )


def _failed_planes(images: list[Record], failures: list[_Failure]) -> tuple[list[Record], tuple[str, ...]]:
    """Planes that the failures cost: those that other fields of the time point have and the failed one has not."""
    kinds: dict[int, set[tuple[str, int, bool]]] = defaultdict(set)
    recorded: dict[tuple[FieldKey, int], set[tuple[str, int, bool]]] = defaultdict(set)
    for r in images:
        kinds[r.time].add((r.channel, r.z, r.projection))
        recorded[(r.row, r.column, r.field), r.time].add((r.channel, r.z, r.projection))
    fields = {r.field for r in images}
    failed: list[Record] = []
    harmless: list[_Failure] = []
    for f in failures:
        cost = []
        for number in fields if f.field is None else {f.field}:
            lost = kinds[f.time] - recorded[(f.row, f.column, number), f.time]
            cost += [
                Record(f.row, f.column, number, channel, f.time, z, projection, "", f.words)
                for channel, z, projection in sorted(lost)
                if f.channel in {None, channel}
            ]
        failed += cost
        if not cost:
            harmless.append(f)
    if not harmless:
        return failed, ()
    first = harmless[0]
    well = well_name(first.row, first.column)
    return failed, (
        f"{len(harmless)} errors of the instrument cost no image, the first in well {well}: {first.words}.",
    )
