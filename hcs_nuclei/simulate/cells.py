"""Cells of one field in, as values: what each nucleus is, how its outline runs, where it lies; no pixels yet.

Sizes, eccentricities and the spread of intensities follow what was measured on the fluorescence images of the 2018
Data Science Bowl (BBBC038): median eccentricity 0.76 (10 to 90 %: 0.55 to 0.88), standard deviation of the logarithm
of area 0.4 to 0.6 and of mean intensity 0.3 to 0.45.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["interphase", "mitotic", "dying"]
#: Directions at which an outline is sampled; 256 keep the error under 0.2 px for a nucleus of 60 px.
ANGLES = 256

_THETA = np.arange(ANGLES) * (2 * np.pi / ANGLES)
_TRIES = 80
#: Mean counts above background of a G1 nucleus of the nominal diameter: a fifth of a 12-bit camera's range.
_G1_SIGNAL = 850.0


@dataclass(frozen=True, slots=True)
class Phenotype:
    """What a treatment makes of the cells; the defaults are an untreated, growing culture.

    `diameter` and `brightness` are factors on the nucleus; `mitotic`, `dying`, `positive` (marker in the nucleus)
    and `g2` (doubled DNA) are fractions of the cells, 0 to 1; `sociable` is the share that settles touching another.
    """

    diameter: float = 1.0
    brightness: float = 1.0
    mitotic: float = 0.035
    dying: float = 0.02
    positive: float = 0.06
    g2: float = 0.22
    sociable: float = 0.24


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its nucleus's place (pixels, centre of the first pixel 0), outline, stain and marker.

    `radii` are distances in pixels from (y, x) to the outline at :data:`ANGLES` directions, float64, counted from +x
    towards +y. `dna` is the DNA content in genome copies (G1 2, G2 and mitosis 4). `signal` is the mean nuclear stain
    over the nucleus in counts. `softness_px` is the width of the edge, larger where the cell is out of focus.
    """

    y: float
    x: float
    radii: npt.NDArray[np.float64]
    kind: Kind
    dna: float
    signal: float
    softness_px: float
    positive: bool


def grow_cells(
    rng: np.random.Generator, shape: tuple[int, int], nuclei: int, diameter_px: float, phenotype: Phenotype
) -> list[Cell]:
    """`nuclei` cells, or as many as find room, on a field of `shape` (height, width) pixels.

    Centres may lie slightly outside, so that the field's edge cuts some nuclei. Cells prefer some regions to others,
    and :attr:`Phenotype.sociable` of them touch or slightly overlap a neighbour.
    """
    cells: list[Cell] = []
    ground = _Ground(rng, shape, phenotype.sociable)
    while len(cells) < nuclei:
        kind = _kind(rng, phenotype)
        family = 2 if kind == "mitotic" and rng.random() < 0.35 and len(cells) + 2 <= nuclei else 1
        first = _cell(rng, kind, diameter_px, phenotype, daughter=family == 2)
        place = ground.settle(first.radii)
        if place is None:
            break
        cells.append(_moved(first, *place))
        if family == 2 and (sister := _sister(rng, cells[-1], ground)) is not None:
            cells.append(sister)
    return cells


def outline(
    rng: np.random.Generator,
    area: float,
    elongation: float,
    roughness: float,
    dent: float = 0.0,
    squareness: float = 2.0,
) -> npt.NDArray[np.float64]:
    """Radii in pixels, float64 ``[ANGLES]``, of a smooth closed outline of `area` px² at a random orientation.

    `elongation` is the ratio of the ellipse's axes; `roughness` the relative size of its irregularities; `dent` the
    depth of one notch relative to the radius (negative: a bulge), which makes kidneys and blebs. `squareness` is the
    exponent of a superellipse: 2 an ellipse, larger a bar with blunt ends.
    """
    tilted = _THETA - rng.uniform(0, 2 * np.pi)
    along, across = np.abs(np.cos(tilted)) / elongation**0.5, np.abs(np.sin(tilted)) * elongation**0.5
    radii = (along**squareness + across**squareness) ** (-1 / squareness)
    for order in range(2, 7):
        radii *= 1 + roughness * rng.normal() * (2 / order) * np.cos(order * _THETA + rng.uniform(0, 2 * np.pi))
    radii *= 1 - dent * np.exp(5 * (np.cos(_THETA - rng.uniform(0, 2 * np.pi)) - 1))
    enclosed = 0.5 * float(np.sum(radii**2)) * (2 * np.pi / ANGLES)
    return np.asarray(radii * np.sqrt(area / enclosed), dtype=np.float64)


def _kind(rng: np.random.Generator, phenotype: Phenotype) -> Kind:
    draw = rng.random()
    if draw < phenotype.mitotic:
        return "mitotic"
    return "dying" if draw < phenotype.mitotic + phenotype.dying else "interphase"


def _cell(rng: np.random.Generator, kind: Kind, diameter_px: float, phenotype: Phenotype, daughter: bool) -> Cell:
    """A cell at (0, 0); a `daughter` is one of the two plates of an anaphase."""
    nominal = np.pi / 4 * (diameter_px * phenotype.diameter) ** 2
    if kind == "interphase":
        dna = _interphase_dna(rng, phenotype.g2)
        area = nominal * (dna / 2) ** 0.6 * rng.lognormal(-0.08, 0.24)
        dent = rng.uniform(0.12, 0.38) if rng.random() < 0.3 else 0.0
        radii = outline(rng, area, min(1.1 + rng.lognormal(-1.05, 0.65), 3.2), rng.uniform(0.02, 0.06), dent)
    elif kind == "mitotic":
        dna = 2.0 if daughter else 4.0
        area = nominal * (0.3 if daughter else 0.5) * rng.lognormal(0, 0.12)
        prometaphase = not daughter and rng.random() < 0.4
        elongation = rng.uniform(1.1, 1.5) if prometaphase else rng.uniform(2.0, 3.0)
        radii = outline(rng, area, elongation, 0.08, squareness=2.0 if prometaphase else 2.7)
    else:
        dna = rng.uniform(1.0, 3.0)
        area = nominal * rng.uniform(0.16, 0.42)
        radii = outline(rng, area, rng.uniform(1.0, 1.3), 0.05, -rng.uniform(0.0, 0.5))
    # A condensed nucleus is thicker than wide-field optics resolve: less than inversely proportional to its area.
    signal = _G1_SIGNAL * phenotype.brightness * (dna / 2) * (nominal / area) ** (1.0 if kind == "interphase" else 0.85)
    signal *= rng.lognormal(0, 0.09) * (rng.uniform(0.3, 0.6) if kind == "interphase" and rng.random() < 0.08 else 1)
    softness = (
        rng.lognormal(-0.7, 0.25)
        * (diameter_px / 22) ** 0.5
        * (2.2 if kind == "interphase" and rng.random() < 0.06 else 1)
    )
    positive = bool(rng.random() < phenotype.positive)
    return Cell(0.0, 0.0, radii, kind, float(dna), float(signal), float(softness), positive)


def _interphase_dna(rng: np.random.Generator, g2: float) -> float:
    """2 in G1, 4 in G2, between in S; the share of S stays at 18 %."""
    draw = rng.random()
    if draw < g2:
        return 4.0
    return float(rng.uniform(2, 4)) if draw < g2 + 0.18 else 2.0


def _moved(cell: Cell, y: float, x: float) -> Cell:
    return Cell(y, x, cell.radii, cell.kind, cell.dna, cell.signal, cell.softness_px, cell.positive)


def _sister(rng: np.random.Generator, cell: Cell, ground: _Ground) -> Cell | None:
    """The other plate of an anaphase, parallel to `cell`, across its short axis; None where there is no room."""
    narrow = int(np.argmin(cell.radii[: ANGLES // 2] + cell.radii[ANGLES // 2 :]))
    distance = rng.uniform(1.1, 2.6) * float(cell.radii[narrow] + cell.radii[narrow + ANGLES // 2])
    y, x = cell.y + distance * np.sin(_THETA[narrow]), cell.x + distance * np.cos(_THETA[narrow])
    return _moved(cell, y, x) if ground.claim(cell.radii, y, x, 1.0) else None


class _Ground:
    """Where cells lie so far, and where the next one may settle."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int], sociable: float) -> None:
        self._rng = rng
        self._shape = shape
        self._sociable = sociable
        self._centres = np.zeros((0, 2))
        self._radii: list[npt.NDArray[np.float64]] = []
        self._waves = [(*rng.normal(0, 4 / max(shape), 2), rng.uniform(0, 2 * np.pi)) for _ in range(4)]

    def settle(self, radii: npt.NDArray[np.float64]) -> tuple[float, float] | None:
        """Centre (y, x) for a nucleus of these radii, now taken; None where no room was found."""
        touching = bool(self._radii) and self._rng.random() < self._sociable
        for attempt in range(_TRIES):
            if touching and attempt < _TRIES // 2:
                y, x = self._beside(radii)
                gap = 0.9
            else:
                y, x = self._anywhere(radii)
                gap = 1.12
            if self.claim(radii, y, x, gap):
                return y, x
        return None

    def claim(self, radii: npt.NDArray[np.float64], y: float, x: float, gap: float) -> bool:
        """Take (y, x) if no centre is nearer than `gap` times the sum of both radii on the line between them."""
        if self._outside(radii, y, x):
            return False
        offsets = self._centres - (y, x)
        distances = np.hypot(offsets[:, 0], offsets[:, 1])
        for near in np.flatnonzero(distances < 6 * radii.max()):
            direction = np.arctan2(offsets[near, 0], offsets[near, 1])
            if distances[near] < gap * (_radius(radii, direction) + _radius(self._radii[near], direction + np.pi)):
                return False
        self._centres = np.vstack([self._centres, (y, x)])
        self._radii.append(radii)
        return True

    def _outside(self, radii: npt.NDArray[np.float64], y: float, x: float) -> bool:
        margin = 0.3 * radii.min()
        height, width = self._shape
        return not (-margin <= y <= height - 1 + margin and -margin <= x <= width - 1 + margin)

    def _beside(self, radii: npt.NDArray[np.float64]) -> tuple[float, float]:
        neighbour = int(self._rng.integers(len(self._radii)))
        direction = self._rng.uniform(0, 2 * np.pi)
        reach = _radius(self._radii[neighbour], direction) + _radius(radii, direction + np.pi)
        distance = self._rng.uniform(0.9, 1.06) * reach
        y, x = self._centres[neighbour]
        return float(y + distance * np.sin(direction)), float(x + distance * np.cos(direction))

    def _anywhere(self, radii: npt.NDArray[np.float64]) -> tuple[float, float]:
        margin = 0.3 * radii.min()
        while True:
            y = self._rng.uniform(-margin, self._shape[0] - 1 + margin)
            x = self._rng.uniform(-margin, self._shape[1] - 1 + margin)
            comfort = sum(np.cos(2 * np.pi * (y * fy + x * fx) + phase) for fy, fx, phase in self._waves)
            if self._rng.random() < 0.6 + 0.35 * comfort:
                return float(y), float(x)


def _radius(radii: npt.NDArray[np.float64], direction: float) -> float:
    return float(radii[round(direction / (2 * np.pi) * ANGLES) % ANGLES])
