"""A label image as runs of equal labels along its rows, grouped by nucleus: what every measurement starts from.

A field of 400 nuclei has some 10,000 runs but 200,000 pixels, so what runs can answer (areas, moments, row ends)
costs next to nothing, and pixels come out grouped by nucleus without being sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of all nuclei of one field, ordered by nucleus, then row, then column.

    Attributes:
        shape: rows and columns of the label image.
        numbers: (n,) uint32, the distinct non-zero labels, ascending; "nucleus" below is an index into it.
        first: (n,) index of each nucleus' first run.
        nucleus: (r,) nucleus of each run.
        row: (r,) row of each run.
        start: (r,) column of each run's first pixel.
        stop: (r,) column after each run's last pixel.
    """

    shape: tuple[int, int]
    numbers: npt.NDArray[np.uint32]
    first: Indices
    nucleus: Indices
    row: Indices
    start: Indices
    stop: Indices

    @property
    def areas(self) -> Indices:
        """(n,) pixels in each nucleus."""
        return self.total(self.stop - self.start)

    def total(self, per_run: Indices) -> Indices:
        """(n,) sum over each nucleus' runs of (r,) `per_run`."""
        return np.add.reduceat(per_run, self.first) if self.first.size else self.first

    def pixels(self) -> Indices:
        """(p,) flat indices of all pixels of all nuclei, nucleus after nucleus in the order of `numbers`."""
        lengths = self.stop - self.start
        return expand(self.row * self.shape[1] + self.start, lengths)


def expand(start: Indices, lengths: Indices) -> Indices:
    """Consecutive numbers from each of (k,) `start`, as many as (k,) `lengths` says, one after the other."""
    ends = np.cumsum(lengths)
    count = int(ends[-1]) if ends.size else 0
    return np.repeat(start - (ends - lengths), lengths) + np.arange(count)


def firsts(groups: npt.NDArray[np.integer[Any]]) -> Indices:
    """(s,) index of the first element of each stretch of equal values in (k,) `groups`."""
    changed = np.ones(groups.shape, dtype=bool)
    np.not_equal(groups[1:], groups[:-1], out=changed[1:])
    return np.flatnonzero(changed)


def lasts(first: Indices, count: int) -> Indices:
    """(s,) index of the last element of each stretch, from (s,) `first` and the number of elements, `count`."""
    return np.append(first[1:], count)[: first.size] - 1


def find_runs(labels: npt.NDArray[np.uint32]) -> Runs:
    """The runs of every nucleus of (y, x) integer `labels`, 0 = background; labels need not be consecutive."""
    height, width = labels.shape
    changed = np.ones(labels.shape, dtype=bool)  # a run never crosses into the next row
    np.not_equal(labels[:, 1:], labels[:, :-1], out=changed[:, 1:])
    starts = np.flatnonzero(changed)
    stops = np.append(starts[1:], labels.size)
    values = labels.reshape(-1)[starts]
    foreground = np.flatnonzero(values)
    values = values[foreground]
    # Stable, so that runs stay in scan order; NumPy sorts 16-bit integers by radix, ten times as fast.
    fits = values.max(initial=0) <= np.iinfo(np.uint16).max
    order = np.argsort(values.astype(np.uint16) if fits else values, kind="stable")
    starts, lengths = starts[foreground][order], (stops - starts)[foreground][order]
    values = values[order]
    first = firsts(values)
    nucleus = np.repeat(np.arange(first.size), lasts(first, values.size) - first + 1)
    row, start = np.divmod(starts, max(width, 1))
    return Runs((height, width), values[first].astype(np.uint32), first, nucleus, row, start, start + lengths)
