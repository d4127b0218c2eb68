"""Zernike moments of every nucleus' shape, inside the smallest circle around its pixels' centres.

Named and defined as CellProfiler's AreaShape: the size of each moment over the circle's area, the same whichever way a
nucleus is turned or mirrored.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from hcs_nuclei.columns.options import ZERNIKE_ORDERS
from hcs_nuclei.measurement.hull import Hulls
from hcs_nuclei.measurement.insides import Insides
from hcs_nuclei.measurement.runs import Runs, firsts

Floats = npt.NDArray[np.float64]
#: Relative; a point this near a circle lies on it.
_TOLERANCE = 1e-9


def measure_zernike(runs: Runs, insides: Insides) -> dict[str, Floats]:
    """Every :data:`hcs_nuclei.columns.ZERNIKE` column, (n,) float64; NaN for a nucleus of one pixel.

    Args:
        runs: of the label image.
        insides: its nuclei's pixels.

    Source: Boland, Markey and Murphy 1998, Cytometry 33:366.
    """
    count = runs.numbers.size
    if not count:
        return {f"Nuclei_AreaShape_Zernike_{n}_{m}": np.empty(0) for n, m in ZERNIKE_ORDERS}
    y, x, radius = smallest_circles(runs)
    nucleus = np.repeat(np.arange(count), insides.areas)
    known = np.where(radius > 0, radius, np.nan)
    place = ((insides.x - x[nucleus]) + 1j * (insides.y - y[nucleus])) * (1 / known)[nucleus]
    square = np.minimum(place.real**2 + place.imag**2, 1.0)
    powers = list(itertools.accumulate(itertools.repeat(place, 9), np.multiply, initial=np.ones_like(place)))
    area = np.pi * known**2
    measured = {}
    for n, m in ZERNIKE_ORDERS:
        polynomial = np.zeros(square.shape)
        for coefficient in _radial_coefficients(n, m):
            polynomial = polynomial * square + coefficient
        values = polynomial * powers[m]
        real, imaginary = (np.bincount(nucleus, part, minlength=count) for part in (values.real, values.imag))
        measured[f"Nuclei_AreaShape_Zernike_{n}_{m}"] = np.hypot(real, imaginary) / area
    return measured


def _radial_coefficients(n: int, m: int) -> list[float]:
    """Of the radial polynomial over r^m, in r², from the highest power to the constant."""
    return [
        (-1) ** k
        * math.factorial(n - k)
        / (math.factorial(k) * math.factorial((n + m) // 2 - k) * math.factorial((n - m) // 2 - k))
        for k in range((n - m) // 2 + 1)
    ]


def smallest_circles(runs: Runs) -> tuple[Floats, Floats, Floats]:
    """(n,) centre y and x from the bounding box's corner, and radius, px, of the smallest circle around each nucleus.

    All nuclei at once: a circle through two or three vertices of the hull grows to hold the vertex farthest outside it
    until none is outside; it is always the smallest around the points it was made from.
    """
    hulls = Hulls(runs)
    right = hulls.chain >= hulls.count
    owner = np.where(right, hulls.chain - hulls.count, hulls.chain)
    order = np.argsort(owner, kind="stable")
    top, left = runs.row[runs.first], np.minimum.reduceat(runs.start, runs.first)
    owner = owner[order]
    points = (np.where(right, -hulls.x, hulls.x)[order] - left[owner]) + 1j * (hulls.y[order] - top[owner])
    first = firsts(owner)
    # Three places for the points that hold a circle; fewer are held twice.
    support = np.repeat(points[first][:, None], 3, axis=1)
    centre, radius = points[first].astype(complex), np.zeros(hulls.count)
    open_ones = np.arange(hulls.count)
    while open_ones.size:
        away = np.abs(points - centre[owner])
        farthest = np.maximum.reduceat(away, first)
        outside = open_ones[farthest[open_ones] > radius[open_ones] * (1 + _TOLERANCE) + _TOLERANCE]
        candidates = np.flatnonzero(away == np.repeat(farthest, np.diff(first, append=owner.size)))
        new = points[candidates[np.searchsorted(candidates, first[outside])]]
        support[outside], centre[outside], radius[outside] = _grown(support[outside], new)
        open_ones = outside
    return centre.imag, centre.real, radius


def _grown(
    support: npt.NDArray[np.complex128], new: npt.NDArray[np.complex128]
) -> tuple[npt.NDArray[np.complex128], ...]:
    """(k, 3) points, (k,) centre and (k,) radius of the smallest circle around each (k, 3) `support` and (k,) `new`.

    `new` lies outside the former circle, so it lies on the new one: with one or two of the others.
    """
    every = np.concatenate((support, new[:, None]), axis=1)
    best_radius = np.full(new.shape, np.inf)
    best_centre, best = np.zeros(new.shape, complex), support.copy()
    for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        centre = (support[:, a] + new) / 2 if a == b else _through(support[:, a], support[:, b], new)
        radius = np.abs(centre - new)
        holds = np.abs(every - centre[:, None]).max(axis=1) <= radius * (1 + _TOLERANCE) + _TOLERANCE
        better = holds & (radius < best_radius)
        best_radius[better], best_centre[better] = radius[better], centre[better]
        best[better] = np.stack((support[:, a], support[:, b], new), axis=1)[better]
    return best, best_centre, best_radius


def _through(
    a: npt.NDArray[np.complex128], b: npt.NDArray[np.complex128], c: npt.NDArray[np.complex128]
) -> npt.NDArray[np.complex128]:
    """(k,) centre of the circle through three points; NaN where they lie on a line."""
    u, v = a - c, b - c
    twice = 2 * (u.real * v.imag - u.imag * v.real)
    over = np.full(twice.shape, np.nan)
    np.divide(1, twice, out=over, where=twice != 0)
    centre: npt.NDArray[np.complex128] = c + 1j * (u * np.abs(v) ** 2 - v * np.abs(u) ** 2) * over
    return centre
