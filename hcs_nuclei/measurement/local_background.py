"""The light around a nucleus that is not its own: from what of the field is free of nuclei, near it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Edge of a part in px: its mean has a quarter of a pixel's noise.
PART = 4
#: Edge of a tile in parts; a nucleus' surroundings are its tile and the eight around it.
_TILE = 24
#: Fewer free parts than this tell nothing.
FEWEST_PARTS = 32


@dataclass(frozen=True, slots=True)
class FreeParts:
    """Which parts of 4 × 4 px of a field are free of nuclei, they and the eight around them.

    Attributes:
        free: (rows, columns) of parts.
        tile: (n, 2) row and column of the tile that each nucleus' centre lies in.
    """

    free: npt.NDArray[np.bool_]
    tile: npt.NDArray[np.int64]

    def within(self, lit: npt.NDArray[np.bool_] | None) -> FreeParts:
        """Those that lie wholly in `lit`, (y, x); all of them for None."""
        return self if lit is None else FreeParts(self.free & (_sums(lit) == PART**2), self.tile)


def find_free_parts(labels: npt.NDArray[np.uint32], center_y: Floats, center_x: Floats) -> FreeParts:
    """The free parts of (y, x) `labels`, of whose nuclei the centres are (n,) `center_y` and `center_x`, px."""
    occupied = np.pad(_sums(labels != 0) > 0, 1)
    grown = occupied[:-2] | occupied[1:-1] | occupied[2:]
    grown = grown[:, :-2] | grown[:, 1:-1] | grown[:, 2:]
    tile = np.stack((center_y, center_x), axis=1) // (PART * _TILE)
    return FreeParts(~grown, tile.astype(np.int64))


def measure_local_background(image: npt.NDArray[Any], parts: FreeParts) -> Floats:
    """(n,) local background of each nucleus in (y, x) `image`, counts.

    The lower quartile of the means of the free parts of 4 × 4 px in the tile of 96 × 96 px that holds the nucleus'
    centre and the eight around it, so that neither cytoplasm nor debris is background as long as a quarter of it is
    free of them; where fewer than 32 parts are free there, of those of the whole field, and NaN where it has fewer.
    """
    means = _sums(image) / PART**2
    everywhere = _lower_quartile(means[parts.free])
    tiles, which = np.unique(parts.tile, axis=0, return_inverse=True)
    levels = np.empty(len(tiles))
    for n, (row, column) in enumerate(tiles.tolist()):
        around = np.s_[max(row - 1, 0) * _TILE : (row + 2) * _TILE, max(column - 1, 0) * _TILE : (column + 2) * _TILE]
        level = _lower_quartile(means[around][parts.free[around]])
        levels[n] = everywhere if np.isnan(level) else level
    return levels[which.reshape(-1)]


def _sums(image: npt.NDArray[Any]) -> Floats:
    """Sums over the parts that lie wholly in (y, x) `image`, in float64."""
    height, width = (edge // PART * PART for edge in image.shape)
    whole = image[:height, :width]
    rows = np.zeros((height // PART, width))
    for step in range(PART):
        rows += whole[step::PART]
    sums: Floats = rows.reshape(height // PART, width // PART, PART).sum(axis=2)
    return sums


def _lower_quartile(values: Floats) -> float:
    """The value that a quarter of `values` lie below; NaN of too few."""
    if values.size < FEWEST_PARTS:
        return float("nan")
    rank = (values.size - 1) // 4
    return float(np.partition(values, rank)[rank])
