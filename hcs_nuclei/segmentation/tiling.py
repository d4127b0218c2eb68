"""A field of any size in, overlapping tiles of one shape out, and back: little retracing, bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a field.

    `top`, `left`: where the tile's first pixel lies in the (padded) field. `keep` is the part of the tile that is
    written to the field, (y, x) slices in the tile; the rest is context that a neighbouring tile sees better.
    """

    top: int
    left: int
    keep: tuple[slice, slice]

    @property
    def target(self) -> tuple[slice, slice]:
        """Where `keep` belongs in the field."""
        y, x = self.keep
        return (
            slice(self.top + y.start, self.top + y.stop),
            slice(self.left + x.start, self.left + x.stop),
        )


def plan_tiles(height: int, width: int, *, tile: tuple[int, int], overlap: int) -> list[Tile]:
    """Tiles of `tile` (y, x) px that cover a field; each pixel is kept from exactly one tile.

    Neighbours share at least `overlap` px and split what they share in the middle, so every kept pixel has at least
    ``overlap / 2`` px of context, or the field's edge. A field smaller than a tile is one tile, to be padded.

    Raises:
        ValueError: a size is not positive, or the overlap is not smaller than the tile.
    """
    if height < 1 or width < 1 or not 0 <= overlap < min(tile):
        raise ValueError(f"cannot tile {height} × {width} px by {tile[0]} × {tile[1]} px with {overlap} px overlap")
    rows = _spans(height, tile[0], overlap)
    columns = _spans(width, tile[1], overlap)
    return [
        Tile(top, left, (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)))
        for top, y0, y1 in rows
        for left, x0, x1 in columns
    ]


def cut(
    image: npt.NDArray[np.float32], tiles: list[Tile], *, tile: tuple[int, int], batch: int
) -> Iterator[npt.NDArray[np.float32]]:
    """Batches (batch, *tile, 1) float32 of `image` (y, x); the last is filled up with zeros to the same shape.

    What lies beyond the field is its mirror image: a nucleus cut by the edge goes on, it does not end.
    """
    beyond = [(0, max(0, edge - length)) for edge, length in zip(tile, image.shape, strict=True)]
    padded = np.pad(image, beyond, mode="symmetric")
    for start in range(0, len(tiles), batch):
        block = np.zeros((batch, *tile, 1), np.float32)
        for i, t in enumerate(tiles[start : start + batch]):
            block[i, ..., 0] = padded[t.top : t.top + tile[0], t.left : t.left + tile[1]]
        yield block


def _spans(length: int, tile: int, overlap: int) -> list[tuple[int, int, int]]:
    """(start, first kept, past last kept) of the tiles along one axis, spread evenly."""
    if length <= tile:
        return [(0, 0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    cuts = [0, *((a + tile + b) // 2 for a, b in pairwise(starts)), length]
    return [(start, cuts[i], cuts[i + 1]) for i, start in enumerate(starts)]
