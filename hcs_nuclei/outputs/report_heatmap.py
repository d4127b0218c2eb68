"""A run's well table in, a plate map out: where each well stands, its values, and their colours on a common scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hcs_nuclei.columns import Measured, well_columns
from hcs_nuclei.plate import PLATE_FORMATS, row_name

if TYPE_CHECKING:
    import pandas as pd

#: Distance between wells in a plate map, px, by wells of the format: large enough for its text where there is any.
_PITCH = {6: 96, 12: 88, 24: 76, 48: 68, 96: 62, 384: 40, 1536: 26}
#: From here on cells are too small to hold a number.
_TEXT_UP_TO = 384
#: With fewer wells than this the ends of a scale are its extremes; with more, outliers do not stretch it.
_ROBUST_FROM = 20
#: Columns that a well table has without a layout.
_OWN = frozenset(column.name for column in well_columns(Measured((), "")))
_DOSE, _UNIT = "Metadata_Concentration", "Metadata_Concentration_unit"
_TREATMENTS_SHOWN = 8
_STATES = {"ok": "measured", "incomplete": "partial", "failed": "failed"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity of every well on one colour scale.

    `values` is [time point][well], None where there is none; `low` and `high` are the ends of the scale, and `below`
    and `above` say whether values lie past them.
    """

    key: str
    label: str
    unit: str
    values: tuple[tuple[float | None, ...], ...]
    low: float
    high: float
    below: bool
    above: bool

    def colours(self) -> list[list[int]]:
        """[time point][well]: place on the scale, 0 … 255; -1 where there is no value."""
        span = self.high - self.low
        return [
            [-1 if v is None else round(255 * min(max((v - self.low) / span, 0), 1)) if span else 0 for v in row]
            for row in self.values
        ]

    def ticks(self) -> list[str]:
        """Five labels from the low to the high end, marked where values lie past an end."""
        ticks = [number(value) for value in np.linspace(self.low, self.high, 5)]
        return ["≤ " * self.below + ticks[0], *ticks[1:-1], "≥ " * self.above + ticks[-1]]


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the plate; `index` is the well's place in the lists of values, None where no well is expected."""

    name: str
    row: int
    column: int
    index: int | None


@dataclass(frozen=True, slots=True)
class PlateMap:
    """All that draws a plate map: every place of the format, metrics, and for [time point][well] state and words.

    A state is ``measured``, ``partial`` (something is missing), ``empty`` (no nucleus) or ``failed``. `palette` has
    256 colours as ``#rrggbb``; from `ink_from` on, dark text reads better on them than white.
    """

    rows: tuple[str, ...]
    columns: int
    pitch: int
    text: bool
    cells: tuple[Cell, ...]
    metrics: tuple[Metric, ...]
    states: tuple[tuple[str, ...], ...]
    words: tuple[tuple[str, ...], ...]
    palette: tuple[str, ...]
    ink_from: int

    def as_data(self) -> dict[str, Any]:
        """What the page's script needs, as plain data."""
        return {
            "palette": self.palette,
            "inkFrom": self.ink_from,
            "states": self.states,
            "words": self.words,
            "metrics": [
                {
                    "label": metric.label,
                    "unit": metric.unit,
                    "ticks": metric.ticks(),
                    "colours": metric.colours(),
                    "texts": [[compact(value) for value in row] for row in metric.values],
                }
                for metric in self.metrics
            ],
        }


def plate_map(
    wells: pd.DataFrame, wells_in_format: int, pixel_size_um: float | None, intensity: tuple[str, str] | None
) -> PlateMap:
    """The plate map of a run.

    Args:
        wells: the well table, one row a well and time point.
        wells_in_format: 6 … 1536.
        pixel_size_um: of all fields; None where areas stay in pixels.
        intensity: (channel, column of the well table) of the DNA intensity; None where there is none.
    """
    ordered = wells.sort_values(["Metadata_Timepoint", "Metadata_Row", "Metadata_Column"], kind="stable")
    times = [rows for _, rows in ordered.groupby("Metadata_Timepoint")]
    wells_of_a_time = zip(times[0]["Metadata_Row"], times[0]["Metadata_Column"], strict=True)
    places = {place: index for index, place in enumerate(wells_of_a_time)}
    rows, columns = PLATE_FORMATS[wells_in_format]
    metrics = _metrics(times, pixel_size_um, intensity)
    palette, ink_from = _palette()
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
        metrics=metrics,
        states=tuple(tuple(_state(row) for row in _rows(time)) for time in times),
        words=tuple(
            tuple(_words(row, [(m, m.values[t][i]) for m in metrics]) for i, row in enumerate(_rows(time)))
            for t, time in enumerate(times)
        ),
        palette=palette,
        ink_from=ink_from,
    )


def number(value: float | None) -> str:
    """A value for people, three digits or more: ``0.25``, ``31.4``, ``1,284``; a dash for None."""
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def compact(value: float | None) -> str:
    """A value in at most five characters, to stand in a well of the plate map: ``31.4``, ``128``, ``12k``, ``1.3M``."""
    if value is None:
        return "–"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (10 if letter == "k" else 1):
            return f"{value / size:.3g}{letter}" if value < 100 * size else f"{value / size:.0f}{letter}"
    return f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


def _metrics(
    times: Sequence[pd.DataFrame], pixel_size_um: float | None, intensity: tuple[str, str] | None
) -> tuple[Metric, ...]:
    area_unit, area_factor = ("px²", 1.0) if pixel_size_um is None else ("µm²", pixel_size_um**2)
    amounts = [
        ("count", "Nuclei per field", "nuclei", "Metadata_Object_Count_PerField", 1.0),
        ("density", "Density", "nuclei/mm²", "Metadata_Density_per_mm2", 1.0),
        ("fraction", "Nuclear area fraction", "% of the field", "Metadata_NuclearAreaFraction", 100.0),
    ]
    medians = [("area", "Median nuclear area", area_unit, "Median_Nuclei_AreaShape_Area", area_factor)]
    if intensity:
        channel, column = intensity
        medians.append(("dna", f"Median integrated {channel}", "camera counts", column, 1.0))
    found = [_metric(times, *amount, from_zero=True) for amount in amounts]
    found += [_metric(times, *median, from_zero=False) for median in medians]
    # The count stays whatever happens: a plate without any measured field is still drawn.
    return tuple(m for m in found if m.key == "count" or any(v is not None for row in m.values for v in row))


def _metric(
    times: Sequence[pd.DataFrame], key: str, label: str, unit: str, column: str, factor: float, *, from_zero: bool
) -> Metric:
    arrays = [time[column].to_numpy(dtype=np.float64, na_value=np.nan) * factor for time in times]
    known = np.concatenate(arrays)
    known = known[~np.isnan(known)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    start, end = (0.0 if from_zero else low), high
    if known.size >= _ROBUST_FROM and not from_zero:
        start, end = (float(v) for v in np.percentile(known, (2, 98)))
    values = tuple(tuple(None if np.isnan(v) else float(v) for v in array) for array in arrays)
    return Metric(key, label, unit, values, start, end, below=low < start, above=high > end)


def _rows(frame: pd.DataFrame) -> list[Mapping[str, Any]]:
    columns = [name for name in frame.columns if not name.startswith("Median_")]
    plain = frame[columns].astype(object)
    rows: list[Mapping[str, Any]] = plain.where(plain.notna(), None).to_dict("records")
    return rows


def _state(row: Mapping[str, Any]) -> str:
    if row["status"] == "ok" and row["Metadata_Object_Count"] == 0:
        return "empty"
    return _STATES[row["status"]]


def _words(row: Mapping[str, Any], values: Sequence[tuple[Metric, float | None]]) -> str:
    """What is shown of a well when it is pointed at, line by line."""
    count, fields = row["Metadata_Object_Count"], int(row["Metadata_Site_Count"])
    expected = int(row["Metadata_Site_Count_Expected"])
    if count is None:
        first = f"{row['Metadata_Well']}: not measured"
    else:
        first = f"{row['Metadata_Well']}: {int(count):,} {'nucleus' if count == 1 else 'nuclei'}"
    lines = [first, *_treatment(row), f"{fields} of {expected} field{'s' if expected > 1 else ''} measured"]
    for metric, value in values:
        if value is not None and not (metric.key == "count" and expected == 1):
            lines.append(f"{metric.label}: {number(value)} {metric.unit}")
    for name, words in (("Blank", "blank"), ("Saturated", "saturated")):
        flagged = row[f"Metadata_QC_{name}_Fields"]
        if flagged:
            lines.append(f"QC: {int(flagged)} {words} field{'s' if flagged > 1 else ''}")
    if row["error"]:
        lines.append(row["error"][0].upper() + row["error"][1:])
    return "\n".join(lines)


def _treatment(row: Mapping[str, Any]) -> list[str]:
    """What the plate's layout says of a well, line by line; a concentration has its unit beside it."""
    given = {name: value for name, value in row.items() if name not in _OWN and value is not None}
    unit = given.pop(_UNIT, None) if _DOSE in given else None
    return [
        f"{name.removeprefix('Metadata_').replace('_', ' ')}: {value}{f' {unit}' if unit and name == _DOSE else ''}"
        for name, value in list(given.items())[:_TREATMENTS_SHOWN]
    ]


def _palette() -> tuple[tuple[str, ...], int]:
    """Viridis, uniform to the eye and readable by colour-blind people, and from where dark text reads better on it."""
    from matplotlib import colormaps

    colours = np.asarray(colormaps["viridis"](np.arange(256)))[:, :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    # WCAG 2: (1.05 / (L + 0.05)) against white equals ((L + 0.05) / 0.05) against black at L = 0.179.
    ink_from = int(np.argmax(luminance > 0.179))
    return tuple("#{:02x}{:02x}{:02x}".format(*np.rint(255 * c).astype(int)) for c in colours), ink_from
