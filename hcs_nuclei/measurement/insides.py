"""The pixels of all nuclei of one field and how deep inside each lies: found once, for shape and every channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hcs_nuclei.measurement.runs import Indices, Runs, expand

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Insides:
    """The p pixels of the n nuclei of one field, nucleus after nucleus, each nucleus' row by row.

    Attributes:
        pixels: (p,) flat indices into the field.
        areas: (n,) pixels in each nucleus; they sum to p.
        y, x: (p,) row and column from the corner of the nucleus' bounding box.
        depth2: (p,) squared distance to the nearest pixel outside the nucleus, px², 1 or more; the field has one row
            and column of outside around it.
        edge: (e,) index into the p of each pixel with a neighbour over an edge that is in the field and not in the
            nucleus.
        edge_areas: (n,) such pixels in each nucleus; they sum to e.
    """

    pixels: Indices
    areas: Indices
    y: Indices
    x: Indices
    depth2: Indices
    edge: Indices
    edge_areas: Indices

    @property
    def starts(self) -> Indices:
        """(n,) index of each nucleus' first pixel."""
        return np.cumsum(self.areas) - self.areas


def find_insides(labels: npt.NDArray[np.uint32], runs: Runs) -> Insides:
    """The pixels of every nucleus of (y, x) `labels`, whose runs are `runs`."""
    count = runs.numbers.size
    lengths = runs.stop - runs.start
    pixels = runs.pixels()
    depth2 = _squared_depths(labels, pixels, lengths)
    left = np.minimum.reduceat(runs.start, runs.first) if count else runs.first
    top = runs.row[runs.first]
    edge = np.flatnonzero(depth2 == 1)
    edge = edge[_beside_others(labels, pixels[edge])]
    nucleus = np.repeat(np.arange(count), runs.areas)
    return Insides(
        pixels,
        runs.areas,
        y=np.repeat(runs.row - top[runs.nucleus], lengths),
        x=expand(runs.start - left[runs.nucleus], lengths),
        depth2=depth2,
        edge=edge,
        edge_areas=np.bincount(nucleus[edge], minlength=count),
    )


def sort_within(values: npt.NDArray[Any], areas: Indices) -> None:
    """Sort (p,) `values` in place within each of consecutive groups of (n,) `areas`.

    One short sort per group beats any sort of the whole: n log n of a small n, in cache.
    """
    kind: Literal["stable", "quicksort"] = "stable" if values.dtype.itemsize <= 2 else "quicksort"  # small: by radix
    stops = np.cumsum(areas)
    for start, stop in zip((stops - areas).tolist(), stops.tolist(), strict=True):
        values[start:stop].sort(kind=kind)


def total_of(values: Floats, starts: Indices) -> Floats:
    """(n,) sum over each of consecutive groups, of which none is empty, that begin at (n,) `starts`."""
    return np.add.reduceat(values, starts) if starts.size else np.empty(0)


def _squared_depths(labels: npt.NDArray[np.uint32], pixels: Indices, lengths: Indices) -> Indices:
    """(p,) squared Euclidean distance of each pixel to the nearest one that is not of its nucleus, exact.

    In two steps as Felzenszwalb and Huttenlocher (2012, Theory of Computing 8:415): along columns, then the lower
    envelope of parabolas along rows, here by trying every distance up to the largest. Each run has a pixel of outside
    before and after it, so that no distance reaches from one run into another.
    """
    at = np.arange(pixels.size) + np.repeat(np.arange(1, lengths.size + 1), lengths)
    along_columns = np.zeros(pixels.size + lengths.size + 1, dtype=np.int32)
    along_columns[at] = _depths_along_columns(labels)[pixels]
    along_columns *= along_columns
    depth2 = along_columns.copy()
    away = 1
    while away * away < depth2.max(initial=0):
        beside = along_columns + np.int32(away * away)
        np.minimum(depth2[away:], beside[:-away], out=depth2[away:])
        np.minimum(depth2[:-away], beside[away:], out=depth2[:-away])
        away += 1
    return depth2[at].astype(np.int64)


def _depths_along_columns(labels: npt.NDArray[np.uint32]) -> npt.NDArray[np.int32]:
    """(y × x,) distance of each pixel of a nucleus to the nearest one in its column that is not of it; 0 elsewhere."""
    height, width = labels.shape
    changed = np.ones((width, height), dtype=bool)  # the field is cut at its top and bottom
    np.not_equal(labels[1:], labels[:-1], out=changed[:, 1:].T)
    starts = np.flatnonzero(changed)
    lengths = np.diff(starts, append=changed.size)
    column, row = np.divmod(starts, max(height, 1))
    inside = labels[row, column] != 0
    column, row, lengths = column[inside], row[inside], lengths[inside]
    step = expand(np.zeros_like(lengths), lengths)
    depths = np.zeros(labels.size, dtype=np.int32)
    at = np.repeat(row * width + column, lengths) + step * width
    depths[at] = np.minimum(step + 1, np.repeat(lengths, lengths) - step)
    return depths


def _beside_others(labels: npt.NDArray[np.uint32], pixels: Indices) -> npt.NDArray[np.bool_]:
    """(e,) whether each of (e,) `pixels` has a neighbour over an edge, in the field, with another label."""
    height, width = labels.shape
    flat = labels.reshape(-1)
    row, column = np.divmod(pixels, max(width, 1))
    own = flat[pixels]
    beside = np.zeros(pixels.shape, dtype=bool)
    for step, in_field in ((-1, column > 0), (1, column < width - 1), (-width, row > 0), (width, row < height - 1)):
        beside |= flat[np.where(in_field, pixels + step, pixels)] != own
    return beside
