"""A Keras network in, its picture out: stages of layers of one resolution, drawn as a U from left to right."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

#: Edge of the image that sizes are given for, px: a multiple of what any of our architectures halves.
INPUT_PX = 256
_TOP, _ROW, _LEFT, _GAP = 46, 84, 108, 26
#: Least width of a stage, gap between its slabs, and the picture's width above which slabs get thinner.
_ROOM, _BETWEEN, _WIDEST = 34.0, 2.0, 1280
#: Height of a slab at full resolution, px; each halving takes a part of it, so that the lowest can still be seen.
_TALL, _SHRINK = 58, 0.86


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer: its output is `height` × `width` × `channels` for an input of :data:`INPUT_PX`.

    `inputs` are the places of the layers that it reads from, -1 for the image; `weighted` says that it convolves.
    """

    name: str
    kind: str
    height: int
    width: int
    channels: int
    parameters: int
    flops: int
    weighted: bool
    inputs: tuple[int, ...]

    @property
    def level(self) -> int:
        """Halvings of the image; a few px of padding make no difference."""
        return max(round(math.log2(INPUT_PX / max(self.height, 1))), 0)


@dataclass(frozen=True, slots=True)
class Stage:
    """Layers in a row of one resolution; `widths` are the channels after each of its convolutions."""

    level: int
    size: int
    widths: tuple[int, ...]
    channels: int
    parameters: int
    flops: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """Stages in the order of their computation; `skips` are (from, to) places of stages that are not neighbours."""

    layers: tuple[LayerRow, ...]
    stages: tuple[Stage, ...]
    skips: tuple[tuple[int, int], ...]


def read_architecture(network: Any) -> Architecture:
    """The stages of a functional Keras network of one image input of any channels and any size."""
    channels = network.inputs[0].shape[-1]
    rows = _read_layers(network, channels)
    stages = [Stage(0, INPUT_PX, (), channels, 0, 0)]
    place: list[int] = []
    skips: list[tuple[int, int]] = []
    for row in rows:
        sources = [0 if i < 0 else place[i] for i in row.inputs]
        latest = max(sources, default=0)
        begins = row.level != stages[latest].level or latest != len(stages) - 1 or latest == 0
        if begins:
            stages.append(Stage(row.level, row.height, (), 0, 0, 0))
        here = len(stages) - 1
        place.append(here)
        # A stage that goes on from one which is not before it in the row needs a line of its own.
        skips += [(s, here) for s in sources if s not in (here, here - 1) and (s, here) not in skips]
        stage = stages[here]
        stages[here] = replace(
            stage,
            size=min(stage.size, row.height),
            widths=(*stage.widths, row.channels) if row.weighted else stage.widths,
            channels=row.channels,
            parameters=stage.parameters + row.parameters,
            flops=stage.flops + row.flops,
        )
    return Architecture(tuple(rows), tuple(stages), tuple(skips))


def _read_layers(network: Any, channels: int) -> list[LayerRow]:
    """The layers of `network` in the order of their computation, with the shapes that they have for such an image."""
    import keras

    every = keras.Model(network.inputs, [layer.output for layer in network.layers])
    specs = every.compute_output_spec(keras.KerasTensor((1, INPUT_PX, INPUT_PX, channels)))
    shapes = {id(layer.output): spec.shape for layer, spec in zip(network.layers, specs, strict=True)}
    places = {id(network.inputs[0]): -1}
    rows: list[LayerRow] = []
    for layer in network.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        inputs = [id(tensor) for tensor in (layer.input if isinstance(layer.input, list) else [layer.input])]
        rows.append(_row(layer, shapes[id(layer.output)], shapes[inputs[0]], tuple(places[i] for i in inputs)))
        places[id(layer.output)] = len(rows) - 1
    return rows


def _row(layer: Any, shape: Sequence[int], before: Sequence[int], inputs: tuple[int, ...]) -> LayerRow:
    """One layer with an output of `shape` (1, y, x, channels), which it makes of one of the shape `before`."""
    kernel = getattr(layer, "kernel", None)
    # A transposed convolution multiplies its kernel with every pixel that comes in, others for each that goes out.
    pixels = math.prod(before[1:3]) if "Transpose" in type(layer).__name__ else math.prod(shape[1:3])
    return LayerRow(
        name=layer.name,
        kind=type(layer).__name__,
        height=int(shape[1]),
        width=int(shape[2]),
        channels=int(shape[3]),
        parameters=layer.count_params(),
        flops=0 if kernel is None else 2 * pixels * math.prod(kernel.shape),
        weighted=kernel is not None,
        inputs=inputs,
    )


def draw(architecture: Architecture) -> str:
    """The picture as an inline SVG: a slab for each convolution, as wide as its channels and as high as its level."""
    stages = architecture.stages
    levels = max(stage.level for stage in stages) + 1
    total = max(sum(stage.flops for stage in stages), 1)
    scale, most = 1.0, _WIDEST - _LEFT - len(stages) * _GAP
    while scale > 0.2 and sum(max(_body(stage, scale), _ROOM) for stage in stages) > most:
        scale *= 0.95
    spans, x = [], float(_LEFT)
    for stage in stages:
        body = _body(stage, scale)
        room = max(body, _ROOM)
        spans.append((x + (room - body) / 2, x + (room + body) / 2))
        x += room + _GAP
    width, height = round(x + 20), _TOP + levels * _ROW + 10
    parts = [*_level_lines(stages, width)]
    for number, (before, after) in enumerate(pairwise(stages)):
        parts.append(_arrow(before, after, spans[number][1], spans[number + 1][0]))
    parts += [_skip(stages, spans, skip) for skip in architecture.skips]
    for number, (stage, span) in enumerate(zip(stages, spans, strict=True)):
        share = f"{100 * stage.flops / total:.0f} %" if stage.widths else ""
        parts.append(_stage(stage, span, "image" if number == 0 else share))
    end = _middle(stages[-1].level)
    parts.append(f'<path class="flow" d="M{spans[-1][1] + 3:.1f} {end}h14"/>')
    return (
        f'<svg class="architecture" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{len(stages) - 1} stages of layers on {levels} levels of resolution">'
        '<defs><marker id="tip-of-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L8 4L0 8Z"/></marker></defs>{"".join(parts)}</svg>'
    )


def _middle(level: int) -> float:
    return _TOP + (level + 0.5) * _ROW - 8


def _height(level: int) -> float:
    return _TALL * float(_SHRINK**level)


def _slabs(stage: Stage) -> list[float]:
    """Width of each slab, with a gap of :data:`_BETWEEN` after it."""
    return [2 + 0.9 * math.sqrt(n) for n in stage.widths or (stage.channels,)]


def _body(stage: Stage, scale: float) -> float:
    slabs = _slabs(stage)
    return scale * (sum(slabs) + _BETWEEN * (len(slabs) - 1))


def _stage(stage: Stage, span: tuple[float, float], below: str) -> str:
    high, middle, x = _height(stage.level), _middle(stage.level), span[0]
    scale = (span[1] - span[0]) / _body(stage, 1.0)
    slabs = []
    for thick in _slabs(stage):
        place = f'x="{x:.1f}" y="{middle - high / 2:.1f}" width="{scale * thick:.1f}" height="{high:.1f}"'
        slabs.append(f'<rect {place} rx="1.5"/>')
        x += scale * (thick + _BETWEEN)
    centre = (span[0] + span[1]) / 2
    title = (
        f"{stage.size} × {stage.size} px: {_count(len(stage.widths), 'convolution')} of "
        f"{', '.join(map(str, stage.widths))} channels, {stage.parameters:,} parameters"
        if stage.widths
        else f"{stage.size} × {stage.size} px, {stage.channels} channels"
    )
    return (
        f'<g class="stage"><title>{title}</title>{"".join(slabs)}'
        f'<text x="{centre:.1f}" y="{middle - high / 2 - 6:.1f}">{_widths(stage)}</text>'
        f'<text class="share" x="{centre:.1f}" y="{middle + high / 2 + 13:.1f}">{below}</text></g>'
    )


def _widths(stage: Stage) -> str:
    """The channels of its convolutions in a few characters: ``64``, ``32 · 32 · 16`` or ``17 × ≤ 576``."""
    if not stage.widths:
        return str(stage.channels)
    if len(set(stage.widths)) == 1:
        return f"{len(stage.widths)} × {stage.widths[0]}" if len(stage.widths) > 1 else str(stage.widths[0])
    if len(stage.widths) <= 3:
        return " · ".join(map(str, stage.widths))
    return f"{len(stage.widths)} × ≤ {max(stage.widths)}"


def _arrow(before: Stage, after: Stage, left: float, right: float) -> str:
    start, end = _middle(before.level), _middle(after.level)
    if start == end:
        return f'<path class="flow" d="M{left + 3:.1f} {start}H{right - 3:.1f}"/>'
    # Out of the side of one and into the side of the other, with the turn in the gap between them.
    turn = (left + right) / 2
    return f'<path class="flow" d="M{left + 3:.1f} {start}H{turn:.1f}V{end}H{right - 3:.1f}"/>'


def _skip(stages: Sequence[Stage], spans: Sequence[tuple[float, float]], skip: tuple[int, int]) -> str:
    """A line on the lower side of the slabs, so that it runs beside the arrows and not on them."""
    first, last = skip
    y = _middle(stages[first].level) + 0.3 * _height(stages[first].level)
    end = _middle(stages[last].level) + 0.3 * _height(stages[last].level)
    path = f"M{spans[first][1] + 3:.1f} {y:.1f}H{spans[last][0] - 3:.1f}"
    if stages[first].level != stages[last].level:
        path = f"M{spans[first][1] + 3:.1f} {y:.1f}H{spans[last][0] - 12:.1f}V{end:.1f}h9"
    return f'<path class="skip" d="{path}"/>'


def _level_lines(stages: Iterable[Stage], width: int) -> Iterable[str]:
    for level in sorted({stage.level for stage in stages}):
        y = _middle(level)
        part = "full size" if level == 0 else f"1/{2**level}"
        yield f'<path class="level" d="M{_LEFT - 12} {y}H{width - 4}"/>'
        yield f'<text class="level" x="8" y="{y - 2}">{part}</text>'
        yield f'<text class="level quiet" x="8" y="{y + 14}">{INPUT_PX // 2**level} px</text>'


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"
