"""A run's well table in, every column of numbers out as the report shows it: with a name, a unit, a group, its values.

The values of all columns travel in one packed block, which is an eighth of what they would be as text.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.columns import AGGREGATES
from hcs_nuclei.columns.statistics import is_of_nuclei

if TYPE_CHECKING:
    import pyarrow as pa

#: Where a well's values would make more than this, columns at the end of the list stay out, and the report says so:
#: 1536 wells with 2,600 columns.
_MOST_VALUES = 4_000_000
FEW_NUCLEI = "Metadata_QC_FewNuclei"
_NO_READOUT = {"Metadata_Row", "Metadata_Column", "Metadata_Timepoint"}
_NORMALISED = {
    "PercentOfControl_": "per cent of control",
    "PercentInhibition_": "per cent inhibition",
    "RobustZ_": "robust z",
    "BScore_": "B-score",
    "Loess_": "loess",
}
#: What lies at the middle of a scale with two hues: no difference from the negative control.
_CENTRES = {"PercentOfControl_": 100.0, "RobustZ_": 0.0, "BScore_": 0.0}
_NAMES = {
    "Metadata_Density_per_mm2": "Density",
    "Metadata_Object_Count_PerField": "Nuclei per field",
    "Metadata_Object_Count": "Nuclei",
    "Metadata_NuclearAreaFraction": "Nuclear area fraction",
    "Metadata_Site_Count_Expected": "Fields expected",
    "Metadata_Site_Count": "Fields measured",
    "Metadata_Site_Count_Valid": "Fields that count",
    "Metadata_Excluded": "Excluded by hand",
    "Metadata_QC_TooFewFields": "Too few fields",
    "Metadata_QC_FewNuclei": "Few nuclei",
    "Metadata_Count_Aggregated": "Nuclei in the aggregates",
}
_FIRST = ("Metadata_Density_per_mm2", "Metadata_Object_Count_PerField", "Metadata_NuclearAreaFraction")
#: Amounts: where the low end of a scale means none.
_AMOUNTS = ("Metadata_Object_", "Metadata_Site_", "Metadata_Count_", "Metadata_QC_", "Metadata_Excluded")
_MAIN, _FLAGS, _CLASSES, _COUNTS, _TREATMENT = (
    "Main readouts",
    "Quality flags",
    "Classes and gates",
    "Counts and fields",
    "Treatment",
)


@dataclass(frozen=True, slots=True)
class WellColumn:
    """One column of the well table.

    `label` names it for people, `group` where it stands in the list; `values` are float64 [time point, well] in `unit`,
    NaN where a well has none. `whole` says that they are whole numbers, `amount` that their scale begins at 0, `centre`
    where a scale with two hues has its middle, None for a scale with one end to the other.
    """

    name: str
    label: str
    group: str
    unit: str
    meaning: str
    values: npt.NDArray[np.float64]
    whole: bool
    amount: bool
    centre: float | None

    def about(self) -> dict[str, Any]:
        """What the page's script needs beside the values, as plain data."""
        names = ("name", "label", "group", "unit", "meaning", "whole", "amount", "centre")
        return {**{name: getattr(self, name) for name in names}, "ofNuclei": is_of_nuclei(self.name)}


@dataclass(frozen=True, slots=True)
class WellColumns:
    """The columns of a run in the order of the list, the main readouts first, and how many of it stay out."""

    columns: tuple[WellColumn, ...]
    without_values: int
    too_many: int

    def packed(self) -> str:
        """All values as [column, time point, well] float32, deflated and in base64.

        Whole numbers are exact (to 16,777,216); others have 16 significant bits, five digits, where three are shown.
        Bytes of equal weight stand together, since those compress.
        """
        values = np.array([column.values for column in self.columns], dtype="<f4")
        bits = values.view("<u4")
        parts = np.array([not column.whole for column in self.columns])
        bits[parts] = (bits[parts] + np.uint32(0x80)) & np.uint32(0xFFFFFF00)
        planes = bits.reshape(-1).view(np.uint8).reshape(-1, 4).T
        return base64.b64encode(zlib.compress(planes.tobytes(), 6)).decode()

    def named(self, name: str) -> WellColumn | None:
        """The column of that name; None where it is not listed."""
        return next((column for column in self.columns if column.name == name), None)

    def in_statistics(self, column: WellColumn) -> npt.NDArray[np.float64]:
        """A column's values [time point, well] that statistics are made of: of nuclei, none of wells with few."""
        few = self.named(FEW_NUCLEI)
        if few is None or not is_of_nuclei(column.name):
            return column.values
        return np.where(few.values == 1, np.nan, column.values)


def well_columns_of(table: pa.Table, readouts: Sequence[str], pixel_size_um: float | None) -> WellColumns:
    """The columns of numbers and flags of a well table, sorted by time point and place.

    Args:
        table: as ``wells.parquet`` has it, units and meanings with it.
        readouts: columns that are listed first.
        pixel_size_um: what px are turned into µm with; None where they stay.
    """
    times = len(np.unique(table["Metadata_Timepoint"].to_numpy()))
    found = []
    for field in table.schema:
        if field.name in _NO_READOUT or not _is_number(field):
            continue
        values = table[field.name].cast("float64").to_numpy(zero_copy_only=False).reshape(times, -1)
        if not np.isnan(values).all() or field.name == "Metadata_Object_Count_PerField":
            found.append(_column(field, values, readouts, pixel_size_um))
    numbers = sum(_is_number(field) and field.name not in _NO_READOUT for field in table.schema)
    first = dict.fromkeys((*_FIRST, *readouts))
    order = {name: place for place, name in enumerate(first)}
    found.sort(key=lambda column: (_rank(column.group), order.get(column.name, len(order))))
    most = max(_MOST_VALUES // max(table.num_rows, 1), 1)
    return WellColumns(tuple(found[:most]), numbers - len(found), max(len(found) - most, 0))


def _is_number(field: pa.Field) -> bool:
    return str(field.type) in {"bool", "int32", "int64", "uint32", "float", "double"}


def _column(
    field: pa.Field, values: npt.NDArray[np.float64], readouts: Sequence[str], pixel_size_um: float | None
) -> WellColumn:
    described = field.metadata or {}
    unit, meaning = (described.get(key, b"").decode() for key in (b"unit", b"meaning"))
    factor = 1.0
    if pixel_size_um and unit in {"px", "px²"}:
        unit, factor = {"px": ("µm", pixel_size_um), "px²": ("µm²", pixel_size_um**2)}[unit]
    elif unit == "0-1" and "Fraction" in field.name:
        unit, factor = "%", 100.0
    label, group = _named(field.name)
    if field.name == "Metadata_Density_per_mm2":
        unit = "nuclei/mm²"
    return WellColumn(
        name=field.name,
        label=label,
        group=_MAIN if field.name in {*_FIRST, *readouts} else group,
        unit=unit,
        meaning=meaning,
        values=values * factor,
        whole=str(field.type) not in {"float", "double"},
        amount=field.name.startswith((*_AMOUNTS, "Metadata_Fraction_", *_FIRST)),
        centre=next((centre for start, centre in _CENTRES.items() if field.name.startswith(start)), None),
    )


def _named(name: str) -> tuple[str, str]:
    """(label, group) of a column by its name."""
    for start, kind in _NORMALISED.items():
        if name.startswith(start):
            rest = name.removeprefix(start)
            inner = _named(rest if f"Metadata_{rest}" not in _NAMES else f"Metadata_{rest}")[0]
            return f"{inner}, {kind}", kind[0].upper() + kind[1:]
    for start in AGGREGATES:
        if name.startswith(f"{start}Nuclei_"):
            category, _, rest = name.removeprefix(f"{start}Nuclei_").partition("_")
            return f"{start[:-1]} {rest.replace('_', ' ')}", f"{start[:-1]}: {category}"
    plain = name.removeprefix("Metadata_")
    if name in _NAMES:
        return _NAMES[name], _FLAGS if "QC" in name or name.endswith("Excluded") else _COUNTS
    if plain.startswith("QC_"):
        return f"{_words(plain[3:].removesuffix('_Fields'))} fields", _FLAGS
    if plain.startswith(("Count_", "Fraction_")):
        kind, _, rest = plain.partition("_")
        return f"{kind} {rest.replace('_', ' ')}", _CLASSES
    return plain.replace("_", " "), _TREATMENT


def _words(name: str) -> str:
    """``OutOfFocus`` → ``Out of focus``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def _rank(group: str) -> int:
    fixed = (_MAIN, _FLAGS, *(kind[0].upper() + kind[1:] for kind in _NORMALISED.values()), _CLASSES, _COUNTS)
    if group in fixed:
        return fixed.index(group)
    if group == _TREATMENT:
        return len(fixed)
    return len(fixed) + 1 + [start[:-1] for start in AGGREGATES].index(group.partition(":")[0])
