"""The well table of a run in, a picture of the plate out: nuclei in every well, as SVG in a ``data:`` address."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hcs_nuclei.outputs.report_heatmap import PlateMap, colours, compact, is_light, plate_map, robust_limits

#: Of a well, beside its colour: a fault must not be told by colour alone.
_STROKES = {
    "measured": "stroke='none'",
    "empty": "stroke='#888'",
    "partial": "stroke='#c2410c' stroke-width='2.5' stroke-dasharray='4 2'",
    "excluded": "stroke='#666' stroke-width='1.5' stroke-dasharray='1 2'",
    "failed": "stroke='#b91c1c' stroke-width='2.5'",
}
_MEANING = {"partial": "fields are missing", "excluded": "does not count", "failed": "not measured"}
_LEFT, _TOP, _LEGEND = 34, 26, 34
#: Width of the largest pictures, in px: the room beside the menu of Prefect's page.
_WIDTH = 900


def plate_picture(wells: pa.Table, wells_in_format: int) -> str:
    """A picture of the first time point, as the address of an image: colours and numbers are nuclei in each well.

    Args:
        wells: the well table, one row a well and time point, sorted by time point and place.
        wells_in_format: 6 … 1536.
    """
    plate = plate_map(wells, wells_in_format)
    first = wells.slice(0, len(plate.wells))
    counts = np.array([np.nan if n is None else n for n in first["Metadata_Object_Count"].to_pylist()], float)
    svg = "".join(_svg(plate, counts))
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _svg(plate: PlateMap, counts: npt.NDArray[np.float64]) -> Iterator[str]:
    pitch = min(plate.pitch, 56)
    width = _LEFT + plate.columns * pitch + 8
    height = _TOP + len(plate.rows) * pitch + _LEGEND
    shown = min(width, _WIDTH)
    yield (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{shown}' "
        f"height='{round(height * shown / width)}' font-family='sans-serif' font-size='{min(13, pitch * 0.42):.0f}' "
        f"text-anchor='middle'><rect width='{width}' height='{height}' fill='#fff'/>"
    )
    for column in range(1, plate.columns + 1):
        yield f"<text x='{_LEFT + (column - 0.5) * pitch:.0f}' y='{_TOP - 8}' fill='#555'>{column}</text>"
    for row, name in enumerate(plate.rows):
        yield f"<text x='{_LEFT / 2:.0f}' y='{_TOP + (row + 0.62) * pitch:.0f}' fill='#555'>{name}</text>"
    limits = robust_limits(counts, amount=True)
    filled = colours(counts, limits, plate.palette)
    for cell in plate.cells:
        x, y, side = _LEFT + (cell.column - 1) * pitch + 2, _TOP + (cell.row - 1) * pitch + 2, pitch - 4
        if cell.index is None:
            yield f"<rect x='{x}' y='{y}' width='{side}' height='{side}' rx='3' fill='#f3f3f3'/>"
            continue
        colour, stroke = filled[cell.index] or "#ffffff", _STROKES[plate.states[0][cell.index]]
        yield f"<rect x='{x}' y='{y}' width='{side}' height='{side}' rx='3' fill='{colour}' {stroke}/>"
        if plate.text and pitch >= 30:
            count = counts[cell.index]
            ink = "#111" if is_light(colour) else "#fff"
            words = compact(None if np.isnan(count) else float(count))
            yield f"<text x='{x + side / 2:.0f}' y='{y + side * 0.62:.0f}' fill='{ink}'>{words}</text>"
    yield from _legend(plate, limits, _TOP + len(plate.rows) * pitch + 10)
    yield "</svg>"


def _legend(plate: PlateMap, limits: tuple[float, float], y: int) -> Iterator[str]:
    """The scale, and what frames mean, of those that there are."""
    stops = "".join(f"<stop offset='{i / 8:.3f}' stop-color='{plate.palette[round(i * 255 / 8)]}'/>" for i in range(9))
    yield f"<defs><linearGradient id='scale'>{stops}</linearGradient></defs><g text-anchor='start' font-size='12'>"
    low, high = (compact(round(limit)) for limit in limits)
    yield f"<rect x='{_LEFT}' y='{y}' width='90' height='12' fill='url(#scale)'/>"
    yield f"<text x='{_LEFT + 98}' y='{y + 11}'>{low} … {high} nuclei a well</text>"
    x = _LEFT + 250
    for state, meaning in _MEANING.items():
        if state in plate.states[0]:
            yield f"<rect x='{x}' y='{y}' width='14' height='14' rx='3' fill='#fff' {_STROKES[state]}/>"
            yield f"<text x='{x + 22}' y='{y + 12}'>{meaning}</text>"
            x += 150
    yield "</g>"
