"""Convex hulls of all nuclei at once, from the first and last pixel of each of their rows; exact, in integers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hcs_nuclei.measurement.runs import Indices, Runs, expand, firsts, lasts

_FAR = np.iinfo(np.int64).max


class Hulls:
    """The convex hulls of n nuclei's pixel centres, each as a left and a mirrored right chain from top to bottom.

    Chain k < n is the left one of nucleus k, chain n + k its right one with columns negated, so that both are lower
    envelopes of x over y and one piece of code serves both.
    """

    def __init__(self, runs: Runs) -> None:
        self.count = runs.numbers.size
        row_first = firsts(runs.nucleus * (runs.shape[0] + 1) + runs.row)
        row_last = lasts(row_first, runs.row.size)
        nucleus, row = runs.nucleus[row_first], runs.row[row_first]
        left, right = runs.start[row_first], runs.stop[row_last] - 1
        chain = np.concatenate((nucleus, nucleus + self.count))
        y = np.concatenate((row, row))
        x = np.concatenate((left, -right))
        kept = _lower_envelope(chain, y, x)
        self.chain: Indices = chain[kept]
        self.y: Indices = y[kept]
        self.x: Indices = x[kept]

    def areas(self) -> Indices:
        """(n,) pixels whose centre lies in or on the hull of the nucleus' pixels.

        A pixel counts as the diamond through the middles of its four edges, as in scikit-image's
        ``convex_hull_image``: the hull of the diamonds is the hull of the centres widened by one diamond, and the hull
        of the centres is straight between rows, so a row's leftmost column follows from the chain on this row and half
        a row above and below it.
        """
        dy, dx = np.diff(self.y, append=0), np.diff(self.x, append=0)
        bottom = lasts(firsts(self.chain), self.chain.size)
        dy[bottom], dx[bottom] = 1, 0  # each chain's lowest row stands alone
        step = expand(np.zeros_like(dy), dy)
        x, dx_row, dy_row = np.repeat(self.x, dy), np.repeat(dx, dy), np.repeat(dy, dy)
        # Ceilings of exact fractions: on the row less half a pixel, and half a row below it.
        on_row = x - (dy_row - 2 * dx_row * step) // (2 * dy_row)
        below = x - (-dx_row * (2 * step + 1)) // (2 * dy_row)
        first = firsts(np.repeat(self.chain, dy))
        below[lasts(first, below.size)] = _FAR
        above = np.roll(below, 1)  # a chain's top row meets the _FAR of the chain before it
        leftmost = np.minimum(on_row, np.minimum(below, above))
        widths = np.add.reduceat(1 - 2 * leftmost, first) if first.size else first
        return (widths[: self.count] + widths[self.count :]) // 2

    def feret_diameters(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(n,) smallest and (n,) largest distance in px of two parallel lines that hold all pixel centres between them.

        Every vertex is compared with every other of its nucleus (some 16 of them); the smallest width is found
        against one of the hull's edges, the largest is a distance between two vertices.
        """
        if not self.count:
            return np.empty(0), np.empty(0)
        nucleus, y, x = self._polygons()
        first = firsts(nucleus)
        last = lasts(first, nucleus.size)
        sizes = last - first + 1
        following = np.arange(1, nucleus.size + 1)
        following[last] = first
        edge_y, edge_x = y[following] - y, x[following] - x
        partners = np.repeat(sizes, sizes)
        other = expand(np.repeat(first, sizes), partners)
        to_y, to_x = y[other] - np.repeat(y, partners), x[other] - np.repeat(x, partners)
        block = np.cumsum(partners) - partners
        reach = np.maximum.reduceat(to_y * to_y + to_x * to_x, block)
        cross = np.abs(np.repeat(edge_y, partners) * to_x - np.repeat(edge_x, partners) * to_y)
        length = np.hypot(edge_y, edge_x)
        width = np.full(length.shape, np.inf)
        np.divide(np.maximum.reduceat(cross, block), length, out=width, where=length > 0)
        smallest = np.minimum.reduceat(width, first)
        smallest[np.isinf(smallest)] = 0.0  # a single pixel has no edge
        return smallest, np.sqrt(np.maximum.reduceat(reach, first))

    def _polygons(self) -> tuple[Indices, Indices, Indices]:
        """(v,) nucleus, y and x of the hulls' vertices, in order around each nucleus."""
        is_right = self.chain >= self.count
        nucleus = np.where(is_right, self.chain - self.count, self.chain)
        # Down the left chain, up the right one.
        order = np.lexsort((np.where(is_right, -self.y, self.y), is_right, nucleus))
        return nucleus[order], self.y[order], np.where(is_right, -self.x, self.x)[order]


def _lower_envelope(chain: Indices, y: Indices, x: Indices) -> Indices:
    """Indices of the vertices of each chain's lower convex envelope x(y); y rises within a chain.

    A point on or above the line between its two neighbours is no vertex, whatever else is removed at the same time,
    so each round drops all of those; chains without one are done.
    """
    alive = np.arange(chain.size)
    done = []
    while alive.size:
        c, py, px = chain[alive], y[alive], x[alive]
        drop = np.zeros(alive.shape, dtype=bool)
        span_y, span_x = py[2:] - py[:-2], px[2:] - px[:-2]
        above = (px[1:-1] - px[:-2]) * span_y >= span_x * (py[1:-1] - py[:-2])
        drop[1:-1] = above & (c[2:] == c[:-2])
        changed = np.zeros(int(chain[-1]) + 1, dtype=bool)
        changed[c[drop]] = True
        going_on = changed[c]
        done.append(alive[~going_on])
        alive = alive[going_on & ~drop]
    return np.sort(np.concatenate(done)) if done else alive
