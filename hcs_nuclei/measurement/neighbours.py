"""Who lies near whom: neighbours, distances between centres and touching outlines of all nuclei of a field.

Named and defined as CellProfiler's MeasureObjectNeighbors with the distance method Adjacent; ``Within`` alone is our
own: nuclei whose centre is within a distance. Only what the field shows is known: a nucleus at its edge may have
neighbours outside.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from hcs_nuclei.measurement.runs import Indices, Runs

Floats = npt.NDArray[np.float64]


def measure_neighbours(
    labels: npt.NDArray[np.uint32], runs: Runs, center_y: Floats, center_x: Floats, *, distance_px: float | None
) -> dict[str, Floats]:
    """Every :data:`hcs_nuclei.columns.NEIGHBOURS` column, (n,) float64 in the order of `runs.numbers`.

    Distances are NaN where a field has no other nucleus (or no second other one), counts are 0 there.

    Args:
        labels: (y, x) uint32 label image, 0 = background.
        runs: its runs.
        center_y, center_x: (n,) centroids in px.
        distance_px: how far apart two centres may be for a neighbour, px; None counts none (NaN).
    """
    touching, on_outline, neighbours = _contacts(labels, runs)
    tree = cKDTree(np.stack((center_y, center_x), axis=1))
    first, second, angle = _nearest(tree)
    within = np.full(tree.n, np.nan)
    if distance_px is not None and tree.n:
        within = tree.query_ball_point(tree.data, distance_px, return_length=True) - 1
    measured = {
        "NumberOfNeighbors_Adjacent": neighbours,
        "PercentTouching_Adjacent": 100 * touching / on_outline,
        "NumberOfNeighbors_Within": within,
        "FirstClosestDistance_Adjacent": first,
        "SecondClosestDistance_Adjacent": second,
        "AngleBetweenNeighbors_Adjacent": angle,
    }
    return {f"Nuclei_Neighbors_{name}": values.astype(np.float64) for name, values in measured.items()}


def _nearest(tree: cKDTree) -> tuple[Floats, Floats, Floats]:
    """(n,) distance of each centre to the nearest and the second nearest other one, px, and the angle between the two.

    The angle is 0 to 180 degrees, at the nucleus.
    """
    distance, other = tree.query(tree.data, k=[2, 3]) if tree.n else (np.empty((0, 2)), np.empty((0, 2), np.int64))
    known = np.isfinite(distance)
    first, second = np.where(known, distance, np.nan).T
    angle = np.full(first.shape, np.nan)
    both = known[:, 1] & (first > 0)
    here, (to_first, to_second) = tree.data[both], other[both].T
    if here.size:
        a, b = tree.data[to_first] - here, tree.data[to_second] - here
        crossed = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
        angle[both] = np.degrees(np.arctan2(np.abs(crossed), (a * b).sum(axis=1)))
    return first, second, angle


def _contacts(labels: npt.NDArray[np.uint32], runs: Runs) -> tuple[Indices, Indices, Indices]:
    """(n,) outline pixels that touch another nucleus, (n,) outline pixels, (n,) other nuclei that share an edge.

    An outline pixel has something else than its nucleus, or the field's edge, over one of its edges or corners, and
    touches likewise.
    """
    height, width = runs.shape
    count = runs.numbers.size
    padded = np.zeros((height + 2, width + 2), dtype=labels.dtype)
    padded[1:-1, 1:-1] = labels
    stride = width + 2
    at = _outline(padded)
    flat = padded.reshape(-1)
    own = flat[at]
    nucleus = np.searchsorted(runs.numbers, own)
    touches = np.zeros(at.shape, dtype=bool)
    pairs = [np.empty(0, np.int64)]
    for step in (1, stride, stride - 1, stride + 1):
        for neighbour in (flat[at - step], flat[at + step]):
            contact = (neighbour != own) & (neighbour != 0)
            touches |= contact
            if step in (1, stride):
                pairs.append(nucleus[contact] * count + np.searchsorted(runs.numbers, neighbour[contact]))
    met = np.unique(np.concatenate(pairs)) // max(count, 1)
    return (
        np.bincount(nucleus[touches], minlength=count),
        np.bincount(nucleus, minlength=count),
        np.bincount(met, minlength=count),
    )


def _outline(padded: npt.NDArray[np.uint32]) -> Indices:
    """Flat indices of the outline pixels in a label image with a rim of 0."""
    inner = padded[1:-1, 1:-1]
    border = np.zeros(inner.shape, dtype=bool)
    for dy, dx in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        border |= padded[dy : dy + inner.shape[0], dx : dx + inner.shape[1]] != inner
    border &= inner != 0
    row, column = np.nonzero(border)
    outline: Indices = (row + 1) * padded.shape[1] + column + 1
    return outline
