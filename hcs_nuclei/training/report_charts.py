"""Figures in, charts as inline SVG out: curves of training, of accuracy by threshold, and of confidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_WIDTH, _HEIGHT = 460, 228
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 30, 40
#: Up to so many points each has a dot: a line through two of them says little without.
_DOTS_UP_TO = 25


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: its name in the legend and its (x, y) points in order."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Curves:
    """A drawn chart with its title; `last` says where the lines end, in words."""

    title: str
    svg: str
    last: str


#: What the figures of an epoch are called in its history, and here.
_NAMES = {
    "loss": "Loss",
    "nucleus_accuracy": "Accuracy: share of pixels called rightly nucleus or background",
    "learning_rate": "Learning rate",
}


def training_curves(history: Sequence[Mapping[str, float]]) -> list[Curves]:
    """A chart of each figure of the epochs, training and validation together; empty without an epoch."""
    names = [name for name in (history[0] if history else ()) if name != "epoch" and not name.startswith("val_")]
    curves = []
    for name in names:
        lines = [
            Line(words, [(row["epoch"], row[key]) for row in history if math.isfinite(row.get(key, math.nan))])
            for words, key in (("training", name), ("validation", f"val_{name}"))
        ]
        lines = [line for line in lines if line.points]
        if lines:
            last = ", ".join(f"{line.name} {line.points[-1][1]:.4g}" for line in lines)
            title = _NAMES.get(name, name.replace("_", " ").capitalize())
            curves.append(Curves(title, line_chart(lines, title=title, x_label="epoch", whole_x=True), last))
    return curves


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_range: tuple[float, float] | None = None,
    whole_x: bool = False,
) -> str:
    """Lines over one x axis; the y axis spans the values, or `y_range`; `whole_x` marks only integers on x."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    y_ticks = ticks(*(y_range or (min(ys), max(ys))))
    low, high = y_range or (min(y_ticks[0], min(ys)), max(y_ticks[-1], max(ys)))
    x_ticks = ticks(min(xs), max(xs), least=1.0 if whole_x else 0.0)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    span_x, span_y = (max(xs) - min(xs)) or 1.0, (high - low) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        middle = 0.5 if max(xs) == min(xs) else (x - min(xs)) / span_x
        return _LEFT + middle * (right - _LEFT), bottom - (y - low) / span_y * (bottom - _TOP)

    parts = [_frame(x_ticks, y_ticks, place, x_label)]
    for number, line in enumerate(lines):
        spots = [place(x, y) for x, y in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
        dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in spots if len(spots) <= _DOTS_UP_TO]
        parts.append(f'<g class="line line{number}"><path d="M{path}"/>{"".join(dots)}</g>')
    parts.append(_legend([line.name for line in lines]))
    return _svg(title, "".join(parts))


def reliability_diagram(confidence: Mapping[str, Any]) -> str:
    """Share of right predictions by their confidence, beside what a calibrated model would reach, and their number."""
    side, top, strip = 210, 12, 44
    left, bottom = 52, top + side
    parts = ['<g class="grid">']
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        x, y = left + tick * side, bottom - tick * side
        parts.append(
            f'<path d="M{left} {y:.1f}h{side}"/><text class="y" x="{left - 7}" y="{y + 4:.1f}">{tick:.1f}</text>'
        )
        parts.append(f'<text x="{x:.1f}" y="{bottom + strip + 26}">{tick:.1f}</text>')
    parts.append("</g>")
    most = max(max(one["nuclei"] for one in confidence["bins"]), 1)
    for one in confidence["bins"]:
        if not one["nuclei"]:
            continue
        x, wide = left + one["from"] * side + 1, side / len(confidence["bins"]) - 2
        high, count = one["right"] * side, max(one["nuclei"] / most * (strip - 6), 1)
        claimed = bottom - one["confidence"] * side
        words = (
            f"{one['nuclei']:,} nuclei of confidence {one['from']:.1f} to {one['to']:.1f}: "
            f"mean {one['confidence']:.3f}, right {one['right']:.3f}"
        )
        parts.append(
            f'<g class="bin"><title>{words}</title>'
            f'<rect class="reached" x="{x:.1f}" y="{bottom - high:.1f}" width="{wide:.1f}" height="{high:.1f}"/>'
            f'<path class="claimed" d="M{x:.1f} {claimed:.1f}h{wide:.1f}"/>'
            f'<rect class="count" x="{x:.1f}" y="{bottom + 8}" width="{wide:.1f}" height="{count:.1f}"/></g>'
        )
    parts.append(
        f'<path class="ideal" d="M{left} {bottom}l{side} {-side}"/>'
        f'<text class="label" x="{left + side / 2}" y="{bottom + strip + 46}">confidence</text>'
        f'<text class="label" transform="translate(14 {top + side / 2}) rotate(-90)">share right</text>'
        f'<text class="label" transform="translate(14 {bottom + 8 + strip / 2}) rotate(-90)">nuclei</text>'
    )
    box = f"0 0 {left + side + 14} {bottom + strip + 54}"
    return (
        f'<svg class="chart square" viewBox="{box}" role="img" aria-label="Reliability diagram">{"".join(parts)}</svg>'
    )


def ticks(low: float, high: float, *, least: float = 0.0) -> list[float]:
    """Round values from `low` to `high`, four to eight of them, at least `least` apart."""
    if not high > low:
        return [low]
    rough = max((high - low) / 5, least)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _frame(x_ticks: Sequence[float], y_ticks: Sequence[float], place: Any, x_label: str) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = ['<g class="grid">']
    for tick in y_ticks:
        y = place(0, tick)[1]
        parts.append(
            f'<path d="M{_LEFT} {y:.1f}H{right}"/><text class="y" x="{_LEFT - 7}" y="{y + 4:.1f}">{tick:g}</text>'
        )
    for tick in x_ticks:
        x = place(tick, 0)[0]
        parts.append(f'<path d="M{x:.1f} {bottom}v5"/><text x="{x:.1f}" y="{bottom + 19}">{tick:g}</text>')
    parts.append("</g>")
    parts.append(f'<text class="label" x="{(_LEFT + right) / 2}" y="{_HEIGHT - 4}">{escape(x_label)}</text>')
    return "".join(parts)


def _legend(names: Sequence[str]) -> str:
    """Above the frame, where no line is."""
    parts, x = [], float(_LEFT)
    for number, name in enumerate(names):
        parts.append(
            f'<g class="line line{number}"><path d="M{x:.0f} 11h18"/></g>'
            f'<text class="name" x="{x + 23:.0f}" y="15">{escape(name)}</text>'
        )
        x += 23 + 7 * len(name) + 16
    return "".join(parts)


def _svg(title: str, inside: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{inside}</svg>'
