"""A generator in, one field of view out: images of every channel and the label image that is their truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hcs_nuclei.errors import SettingsError
from hcs_nuclei.simulate.cells import ANGLES, Cell, Kind, Phenotype, grow_cells
from hcs_nuclei.simulate.optics import BACKGROUND, Image, Shading, add_debris, add_spot, enlarge, expose

#: Edge of the tile of texture: large against a nucleus, small against a field.
_POOL = 384
#: Fewer visible pixels than this are no nucleus that anybody could mark; such a cell is left out altogether.
_SMALLEST_PX = 10
#: How far a cell's window reaches, in radii of its nucleus: past where `_cytoplasm` has faded to nothing.
_CELL_REACH = 3.8


@dataclass(frozen=True, slots=True)
class SimulatedNucleus:
    """Truth of one nucleus: its label, the centroid (pixels) and area (px²) of what is visible, and what it is.

    `dna_content` is in genome copies (G1 2, G2 and mitosis 4); `positive` says whether its marker is in the nucleus.
    """

    label: int
    y: float
    x: float
    area: int
    kind: Kind
    dna_content: float
    positive: bool


@dataclass(frozen=True, slots=True)
class SimulatedField:
    """One field: uint16 images by channel name, the uint32 label image (1 … n, 0 background), and its nuclei."""

    images: Mapping[str, npt.NDArray[np.uint16]]
    labels: npt.NDArray[np.uint32]
    nuclei: tuple[SimulatedNucleus, ...]


def simulate_field(
    rng: np.random.Generator,
    *,
    size: int | tuple[int, int],
    nuclei: int,
    diameter_px: float = 22.0,
    channels: Sequence[str] = ("DAPI", "FITC"),
    phenotype: Phenotype | None = None,
    shading: Mapping[str, Shading] | None = None,
    debris_per_megapixel: float = 12.0,
    defocus: float = 1.0,
) -> SimulatedField:
    """Simulate one field of view; the same generator state gives the same pixels.

    `size` is the edge, or (height, width), in pixels; `nuclei` how many there shall be (fewer where they find no
    room); `diameter_px` the diameter of a typical nucleus in G1. The first of `channels` is the nuclear stain, each
    further one a protein that is in the cytoplasm, or in the nucleus of "positive" cells. `shading` gives each
    channel's illumination; without it, each field draws its own. `defocus` is how many times wider than in focus a
    point is. Images hold 12-bit counts (0 … 4095).

    Raises:
        SettingsError: a size, count or diameter that makes no field, or no channel.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 16 or nuclei < 0 or not 4 <= diameter_px <= 400 or not channels:
        raise SettingsError(
            f"cannot simulate a field of {height} x {width} px with {nuclei} nuclei of {diameter_px:g} px in "
            f"{len(channels)} channels; expected 16 px or more, 0 nuclei or more, 4 to 400 px and a channel"
        )
    for_cells, for_drawing, *for_channels = rng.spawn(2 + len(channels))
    cells = grow_cells(for_cells, (height, width), nuclei, diameter_px, phenotype or Phenotype())
    textures = _Textures(for_drawing, diameter_px)
    stain, labels = _draw_nuclei(for_drawing, (height, width), cells, textures)
    images: dict[str, npt.NDArray[np.uint16]] = {}
    for number, (name, own) in enumerate(zip(channels, for_channels, strict=True)):
        light = stain if number == 0 else _draw_marker(own, (height, width), cells, textures)
        add_debris(own, light, debris_per_megapixel / (1 + number))
        images[name] = expose(
            own,
            light,
            shading[name] if shading is not None else Shading.random(own),
            background=own.uniform(BACKGROUND - 15, BACKGROUND + 15),
            blur_px=own.uniform(0.8, 1.25) * (diameter_px / 22) ** 0.5 * defocus,
        )
    return _with_truth(images, labels, cells)


class _Textures:
    """A tile of fine and of coarse noise (float32, mean 0, sd 1, periodic) from which every nucleus takes a piece."""

    def __init__(self, rng: np.random.Generator, diameter_px: float) -> None:
        self._rng = rng
        fine, coarse = (
            _standardised(
                ndimage.gaussian_filter(rng.standard_normal((_POOL, _POOL), dtype=np.float32), sigma, mode="wrap")
            )
            for sigma in (0.045 * diameter_px, 0.13 * diameter_px)
        )
        self._tile = _standardised(fine + coarse)
        self.coarse = coarse

    def piece(self, height: int, width: int) -> Image:
        """A random piece of the tile, float32 (height, width)."""
        top, left = self._rng.integers(0, _POOL, 2)
        rows, columns = (top + np.arange(height)) % _POOL, (left + np.arange(width)) % _POOL
        return np.asarray(self._tile[rows[:, None], columns[None, :]])


def _standardised(image: Image) -> Image:
    return np.asarray((image - image.mean()) / image.std(), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Window:
    """The pixels around a cell: its polar coordinates there, and where the window meets the field.

    `rho` is the distance from the centre in units of the outline's radius (1 on the outline), `theta` the direction,
    `radius` that radius in pixels: float32, all of the window's shape. `inner` cuts the part that is in the field out
    of the window, `outer` is that part's place in the field.
    """

    rho: Image
    theta: Image
    radius: Image
    inner: tuple[slice, slice]
    outer: tuple[slice, slice]


def _window(cell: Cell, shape: tuple[int, int], reach: float, margin_px: float) -> _Window | None:
    """The window of `reach` outline radii and a margin around `cell`; None where it does not meet the field."""
    half = int(np.ceil(reach * cell.radii.max() + margin_px))
    top, left = round(cell.y) - half, round(cell.x) - half
    edge = 2 * half + 1
    rows = slice(max(top, 0), min(top + edge, shape[0]))
    columns = slice(max(left, 0), min(left + edge, shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    dy = (np.arange(edge, dtype=np.float32) + np.float32(top - cell.y))[:, None]
    dx = (np.arange(edge, dtype=np.float32) + np.float32(left - cell.x))[None, :]
    theta = np.arctan2(dy, dx)
    radius = cell.radii.astype(np.float32)[np.rint(theta * (ANGLES / (2 * np.pi))).astype(np.intp) % ANGLES]
    inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    return _Window(np.sqrt(dy * dy + dx * dx) / radius, theta, radius, inner, (rows, columns))


def _draw_nuclei(
    rng: np.random.Generator, shape: tuple[int, int], cells: Sequence[Cell], textures: _Textures
) -> tuple[Image, npt.NDArray[np.uint32]]:
    """Nuclear stain (float32 counts) and labels (uint32, the cell's place in `cells` + 1).

    Nuclei are transparent, so stain adds up where two overlap; the label goes to the nucleus whose middle is nearer.
    """
    light = np.zeros(shape, np.float32)
    labels = np.zeros(shape, np.uint32)
    nearest = np.ones(shape, np.float32)
    for label, cell in enumerate(cells, start=1):
        window = _window(cell, shape, 1.0, 5 * cell.softness_px)
        if window is None:
            continue
        light[window.outer] += _stain(rng, cell, window, textures)[window.inner]
        rho = window.rho[window.inner]
        mine = rho < nearest[window.outer]
        nearest[window.outer][mine] = rho[mine]
        labels[window.outer][mine] = label
        if cell.kind == "dying":
            _scatter_fragments(rng, light, cell)
    return light, labels


def _stain(rng: np.random.Generator, cell: Cell, window: _Window, textures: _Textures) -> Image:
    """The nucleus's stain over its window, float32, mean over the nucleus ``cell.signal`` counts."""
    rho = window.rho
    condensed = cell.kind != "interphase"
    body = 1 - np.float32(rng.uniform(0.1, 0.35)) * rho * rho
    if not condensed:
        rim = np.float32(max(0.0, rng.normal(0.08, 0.12)))
        lit = 0.6 + 0.4 * np.cos(window.theta - np.float32(rng.uniform(0, 2 * np.pi)))
        body += rim * lit * np.exp(-(((rho - np.float32(0.84)) / np.float32(0.11)) ** 2))
        for _ in range(rng.integers(0, 4)):
            body *= _nucleolus(rng, cell, window)
    contrast = np.float32(rng.uniform(0.03, 0.08) if condensed else rng.uniform(0.1, 0.22))
    body = np.maximum(body, 0.05) * (1 + contrast * textures.piece(*rho.shape))
    depth = np.clip((1 - rho) * window.radius / np.float32(cell.softness_px), -12, 12)
    body = body / (1 + np.exp(-depth))
    return np.asarray(body * np.float32(cell.signal / float(body[rho < 1].mean())), dtype=np.float32)


def _nucleolus(rng: np.random.Generator, cell: Cell, window: _Window) -> Image:
    """A dark spot somewhere inside the nucleus, as a factor, float32 of the window's shape."""
    size = float(cell.radii.mean())
    angle = int(rng.integers(ANGLES))
    away = rng.uniform(0, 0.6) * cell.radii[angle]
    turn = np.float32(angle * 2 * np.pi / ANGLES)
    distance = window.rho * window.radius
    squared = distance * distance + np.float32(away**2) - np.float32(2 * away) * distance * np.cos(window.theta - turn)
    sigma = rng.uniform(0.1, 0.18) * size
    return np.asarray(1 - np.float32(rng.uniform(0.12, 0.42)) * np.exp(squared * np.float32(-0.5 / sigma**2)))


def _scatter_fragments(rng: np.random.Generator, light: Image, cell: Cell) -> None:
    """Up to three small bodies that a dying nucleus has shed: bright, but no nuclei."""
    size = float(cell.radii.mean())
    for _ in range(rng.integers(0, 4)):
        angle, away = rng.uniform(0, 2 * np.pi), size * rng.uniform(1.5, 2.6)
        sigma = max(0.8, size * rng.uniform(0.1, 0.22))
        add_spot(light, cell.y + away * np.sin(angle), cell.x + away * np.cos(angle), sigma, 0.5 * cell.signal)


def _draw_marker(rng: np.random.Generator, shape: tuple[int, int], cells: Sequence[Cell], textures: _Textures) -> Image:
    """A protein's light (float32 counts): around the nucleus, or, in positive cells, mostly inside it."""
    # Half the resolution is enough for what is smooth, and a quarter of the work.
    half = (-(-shape[0] // 2), -(-shape[1] // 2))
    cytoplasm = np.zeros(half, np.float32)
    levels = rng.lognormal(5.6, 0.3, len(cells)).astype(np.float32)
    for cell, level in zip(cells, levels, strict=True):
        shrunk = replace(cell, y=(cell.y - 0.5) / 2, x=(cell.x - 0.5) / 2, radii=cell.radii / 2)
        window = _window(shrunk, half, _CELL_REACH, 0.0)
        if window is not None:
            share = np.float32((0.5 if cell.positive else 1.0) * (0.4 if cell.kind == "dying" else 1.0))
            sheet = level * share * _cytoplasm(rng, window)
            np.maximum(cytoplasm[window.outer], sheet, out=cytoplasm[window.outer])
    rows, columns = np.arange(half[0]) % _POOL, np.arange(half[1]) % _POOL
    cytoplasm *= 1 + np.float32(0.14) * textures.coarse[rows[:, None], columns[None, :]]
    light = enlarge(cytoplasm, shape, 2)
    for cell, level in zip(cells, levels, strict=True):
        tight = _window(cell, shape, 1.0, 3.0)
        if tight is None:
            continue
        edge = 1 / (1 + np.exp(np.clip((tight.rho[tight.inner] - 1) * tight.radius[tight.inner] / 0.8, -12, 12)))
        grain = 1 + np.float32(0.12) * textures.piece(*edge.shape)
        inside = level * np.float32(rng.uniform(1.5, 2.6) if cell.positive else rng.uniform(0.35, 0.6)) * grain
        light[tight.outer] += edge * (inside - light[tight.outer] if not cell.positive else inside)
    return light


def _cytoplasm(rng: np.random.Generator, window: _Window) -> Image:
    """How thick the cell is around its nucleus, 0 to 1, float32 of the window's part in the field."""
    theta, rho = window.theta[window.inner], window.rho[window.inner]
    first, second, third = rng.uniform(0, 2 * np.pi, 3).astype(np.float32)
    reach = np.float32(1.8) + np.float32(0.45) * np.cos(theta - first) + np.float32(0.4) * np.cos(2 * (theta - second))
    reach += np.float32(0.2) * np.cos(3 * (theta - third))
    return np.asarray(np.exp(-((rho / reach) ** 5)), dtype=np.float32)


def _with_truth(
    images: Mapping[str, npt.NDArray[np.uint16]], drawn: npt.NDArray[np.uint32], cells: Sequence[Cell]
) -> SimulatedField:
    """Number the visible nuclei 1 … n and state the truth of each."""
    areas = np.bincount(drawn.ravel(), minlength=len(cells) + 1)
    kept = [number for number in range(1, len(cells) + 1) if areas[number] >= _SMALLEST_PX]
    renumber = np.zeros(len(cells) + 1, np.uint32)
    renumber[kept] = np.arange(1, len(kept) + 1)
    labels = renumber[drawn]
    y, x = np.nonzero(drawn)
    here = drawn[y, x]
    y_sum, x_sum = (np.bincount(here, weights=coordinate, minlength=len(cells) + 1) for coordinate in (y, x))
    nuclei = tuple(
        SimulatedNucleus(
            label=label,
            y=float(y_sum[number] / areas[number]),
            x=float(x_sum[number] / areas[number]),
            area=int(areas[number]),
            kind=cells[number - 1].kind,
            dna_content=cells[number - 1].dna,
            positive=cells[number - 1].positive,
        )
        for label, number in enumerate(kept, start=1)
    )
    return SimulatedField(images, labels, nuclei)
