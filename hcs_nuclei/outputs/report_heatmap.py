"""A run's well table in, a plate map out: where each well stands, what it is, and its colour on a robust scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.columns import Measured, field_flags, well_columns
from hcs_nuclei.plate import PLATE_FORMATS, row_name

if TYPE_CHECKING:
    import pyarrow as pa

#: Distance between wells in a plate map, px, by wells of the format: large enough for its text where there is any.
_PITCH = {6: 96, 12: 88, 24: 76, 48: 68, 96: 62, 384: 40, 1536: 26}
#: From here on cells are too small to hold a number.
_TEXT_UP_TO = 384
#: With fewer wells than this the ends of a scale are its extremes; with more, outliers do not stretch it.
ROBUST_FROM = 20
#: Percentiles of the wells that are the ends of a robust scale.
ROBUST_PERCENTILES = (2, 98)
#: Columns that a well table has without a layout.
_OWN = frozenset(column.name for column in well_columns(Measured((), "")))
_DOSE, _UNIT = "Metadata_Concentration", "Metadata_Concentration_unit"
_TREATMENTS_SHOWN = 8
#: What is left of a difference that is none, such as that of the median of the negative control from itself.
_ROUNDING = 1e-12
_STATES = {"ok": "measured", "incomplete": "partial", "failed": "failed"}
_NOT_TREATMENTS = ("Median_", "MAD_", "Mean_", "Std_", "P05_", "P95_", "Metadata_Count_", "Metadata_Fraction_")
_NORMALISED = ("PercentOfControl_", "PercentInhibition_", "RobustZ_", "BScore_", "Loess_")


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the plate; `index` is the well's place in the lists of values, None where no well is expected."""

    name: str
    row: int
    column: int
    index: int | None


@dataclass(frozen=True, slots=True)
class PlateMap:
    """All that draws a plate map but its values: every place of the format, and for [time point][well] state and words.

    A state is ``measured``, ``partial`` (something is missing), ``empty`` (no nucleus), ``excluded`` (by hand, or too
    few fields count) or ``failed``. `controls` has each well's control type, empty where the layout is silent.
    `palette` (one hue to the next) and `diverging` (two hues) have 256 colours as ``#rrggbb``.
    """

    rows: tuple[str, ...]
    columns: int
    pitch: int
    text: bool
    cells: tuple[Cell, ...]
    states: tuple[tuple[str, ...], ...]
    words: tuple[tuple[str, ...], ...]
    controls: tuple[str, ...]
    palette: tuple[str, ...]
    diverging: tuple[str, ...]

    @property
    def wells(self) -> tuple[str, ...]:
        """Names of the expected wells, in the order of their values."""
        return tuple(cell.name for cell in self.cells if cell.index is not None)


def plate_map(wells: pa.Table, wells_in_format: int) -> PlateMap:
    """The plate map of a run.

    Args:
        wells: the well table, one row a well and time point, sorted by time point and place.
        wells_in_format: 6 … 1536.
    """
    names = [name for name in wells.column_names if not name.startswith(_NOT_TREATMENTS + _NORMALISED)]
    every = wells.select(names).to_pylist()
    times: dict[int, list[dict[str, Any]]] = {}
    for row in every:
        times.setdefault(row["Metadata_Timepoint"], []).append(row)
    first = next(iter(times.values()))
    places = {(row["Metadata_Row"], row["Metadata_Column"]): index for index, row in enumerate(first)}
    rows, columns = PLATE_FORMATS[wells_in_format]
    return PlateMap(
        rows=tuple(row_name(row) for row in range(1, rows + 1)),
        columns=columns,
        pitch=_PITCH[wells_in_format],
        text=wells_in_format <= _TEXT_UP_TO,
        cells=tuple(
            Cell(f"{row_name(row)}{column:02d}", row, column, places.get((row, column)))
            for row in range(1, rows + 1)
            for column in range(1, columns + 1)
        ),
        states=tuple(tuple(_state(row) for row in time) for time in times.values()),
        words=tuple(tuple(_words(row) for row in time) for time in times.values()),
        controls=tuple(str(row.get("Metadata_control_type") or "") for row in first),
        palette=_palette("viridis"),
        diverging=_palette("PuOr_r"),
    )


def robust_limits(values: npt.NDArray[np.float64], *, amount: bool) -> tuple[float, float]:
    """Ends of a colour scale: the 2nd and 98th percentile of `values`, NaN left out, of few values the extremes; from 0
    where `amount`; (0, 0) without a value.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 0.0
    ends = ROBUST_PERCENTILES if known.size >= ROBUST_FROM else (0, 100)
    low, high = (float(end) for end in np.percentile(known, ends))
    return min(low, 0.0) if amount else low, high


def colours(values: npt.NDArray[np.float64], limits: tuple[float, float], palette: Sequence[str]) -> list[str | None]:
    """The colour of each of `values` (n,) on a scale with these ends; None where there is no value."""
    low, high = limits
    span = high - low
    return [
        None if np.isnan(v) else palette[round(255 * min(max((v - low) / span, 0), 1)) if span else 0] for v in values
    ]


def is_light(colour: str) -> bool:
    """Whether dark text reads better on ``#rrggbb`` than white.

    WCAG 2: (1.05 / (L + 0.05)) against white equals ((L + 0.05) / 0.05) against black at L = 0.179.
    """
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return bool(linear @ np.array([0.2126, 0.7152, 0.0722]) > 0.179)


def number(value: float | None) -> str:
    """A value for people, three digits or more: ``0.25``, ``31.4``, ``1,284``; a dash for None."""
    if value is None:
        return "–"
    if abs(value) < _ROUNDING:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def compact(value: float | None) -> str:
    """A value in at most five characters, to stand in a well of the plate map: ``31.4``, ``128``, ``12k``, ``1.3M``."""
    if value is None:
        return "–"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (10 if letter == "k" else 1):
            return f"{value / size:.3g}{letter}" if value < 100 * size else f"{value / size:.0f}{letter}"
    return f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


def _state(row: Mapping[str, Any]) -> str:
    if row["status"] != "failed" and (row["Metadata_Excluded"] or row["Metadata_QC_TooFewFields"]):
        return "excluded"
    if row["status"] == "ok" and row["Metadata_Object_Count"] == 0:
        return "empty"
    return _STATES[row["status"]]


def _words(row: Mapping[str, Any]) -> str:
    """What is shown of a well when it is pointed at, line by line, beside the value that the map shows."""
    count, fields = row["Metadata_Object_Count"], row["Metadata_Site_Count"]
    expected = row["Metadata_Site_Count_Expected"]
    if count is None:
        first = f"{row['Metadata_Well']}: not measured"
    else:
        first = f"{row['Metadata_Well']}: {count:,} {'nucleus' if count == 1 else 'nuclei'}"
    lines = [first, *_treatment(row), f"{fields} of {expected} field{'s' if expected > 1 else ''} measured"]
    if row["Metadata_Site_Count_Valid"] < fields:
        lines[-1] += f", {row['Metadata_Site_Count_Valid']} count"
    for name, words in _FLAG_WORDS.items():
        flagged = row[f"{name}_Fields"]
        if flagged:
            lines.append(f"QC: {flagged} {words} field{'s' if flagged > 1 else ''}")
    for what, text in (("Excluded", _exclusion(row)), ("", row["error"])):
        if text:
            lines.append(f"{what}: {text}" if what else text[0].upper() + text[1:])
    if row["Metadata_QC_TooFewFields"] and row["status"] != "failed" and not row["Metadata_Excluded"]:
        lines.append("Too few fields count: no density, no aggregates")
    if row.get("Metadata_QC_FewNuclei"):
        lines.append("Few nuclei count: their medians and fractions enter no statistics")
    return "\n".join(lines)


def _exclusion(row: Mapping[str, Any]) -> str:
    """Why a well, or fields of it, were excluded, with who and when where that is known; empty where none was."""
    known = [row[name] for name in ("Metadata_Exclusion_Who", "Metadata_Exclusion_When") if row.get(name)]
    by = f" ({', '.join(known)})" if known else ""
    return (row["Metadata_Exclusion_Reason"] or "") + by


def flag_words(name: str) -> str:
    """``Metadata_QC_OutOfFocus`` → ``out of focus``."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name.removeprefix("Metadata_QC_")).strip()


_FLAG_WORDS = {column.name: flag_words(column.name) for column in field_flags()}


def _treatment(row: Mapping[str, Any]) -> list[str]:
    """What the plate's layout says of a well, line by line; a concentration has its unit beside it."""
    given = {name: value for name, value in row.items() if name not in _OWN and value is not None}
    unit = given.pop(_UNIT, None) if _DOSE in given else None
    return [
        f"{name.removeprefix('Metadata_').replace('_', ' ')}: {value}{f' {unit}' if unit and name == _DOSE else ''}"
        for name, value in list(given.items())[:_TREATMENTS_SHOWN]
    ]


def _palette(name: str) -> tuple[str, ...]:
    """256 colours of a map that is uniform to the eye and readable by colour-blind people."""
    from matplotlib import colormaps

    mapped = np.asarray(colormaps[name](np.arange(256)))[:, :3]
    return tuple("#{:02x}{:02x}{:02x}".format(*np.rint(255 * c).astype(int)) for c in mapped)
