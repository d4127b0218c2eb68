"""Moments of every nucleus' pixels, as CellProfiler's AreaShape has them: spatial, central, normalised, Hu, inertia."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from hcs_nuclei.measurement.runs import Indices, Runs

Floats = npt.NDArray[np.float64]
_ORDERS = range(4)


def measure_moments(runs: Runs) -> dict[str, Floats]:
    """Every :data:`hcs_nuclei.columns.MOMENTS` column, (n,) float64 in the order of `runs.numbers`.

    `p` in a name is the power of the row, `q` that of the column, as in scikit-image. Spatial moments are from the
    corner of the nucleus' bounding box, in integers; central ones are summed about the pixel nearest the centroid and
    moved from there by less than a pixel, so that nothing cancels.

    Source of the invariants: Hu 1962, IRE Transactions on Information Theory 8:179.
    """
    if not runs.first.size:
        return {name: np.empty(0) for name in _names()}
    top = runs.row[runs.first]
    left = np.minimum.reduceat(runs.start, runs.first)
    spatial = _sums(runs, top, left)
    row, column = (np.rint(spatial[place] / spatial[0, 0]).astype(np.int64) for place in ((1, 0), (0, 1)))
    central = _moved(_sums(runs, top + row, left + column))
    normalised = {
        (p, q): central[p, q] / central[0, 0] ** ((p + q) / 2 + 1)
        for p, q in itertools.product(_ORDERS, _ORDERS)
        if p + q >= 2
    }
    area = central[0, 0]
    yy, xy, xx = central[2, 0] / area, central[1, 1] / area, central[0, 2] / area
    spread = np.hypot((xx - yy) / 2, xy)
    measured = (
        *(spatial[p, q] for p in range(3) for q in _ORDERS),
        *(central[p, q] for p in range(3) for q in _ORDERS),
        *normalised.values(),
        *_invariants(normalised),
        *(xx, -xy, -xy, yy),
        *((yy + xx) / 2 + spread, np.maximum((yy + xx) / 2 - spread, 0.0)),
    )
    return dict(zip(_names(), measured, strict=True))


def _names() -> list[str]:
    names = [f"{kind}Moment_{p}_{q}" for kind in ("Spatial", "Central") for p in range(3) for q in _ORDERS]
    names += [f"NormalizedMoment_{p}_{q}" for p, q in itertools.product(_ORDERS, _ORDERS) if p + q >= 2]
    names += [f"HuMoment_{k}" for k in range(7)]
    names += [f"InertiaTensor_{i}_{j}" for i in range(2) for j in range(2)]
    names += [f"InertiaTensorEigenvalues_{k}" for k in range(2)]
    return [f"Nuclei_AreaShape_{name}" for name in names]


def _sums(runs: Runs, row: Indices, column: Indices) -> dict[tuple[int, int], Floats]:
    """By (p, q) the (n,) sum of y^p x^q over each nucleus' pixels, y and x from (n,) `row` and `column`; exact."""
    y = runs.row - row[runs.nucleus]
    start, stop = runs.start - column[runs.nucleus], runs.stop - column[runs.nucleus]
    along = [_power_sum(stop, q) - _power_sum(start, q) for q in _ORDERS]
    return {(p, q): runs.total(y**p * along[q]).astype(np.float64) for p in _ORDERS for q in _ORDERS}


def _power_sum(stop: Indices, power: int) -> Indices:
    """0^power + … + (stop - 1)^power as a polynomial, so that differences are right for negative numbers as well."""
    if power == 0:
        return stop
    triangle = stop * (stop - 1) // 2
    if power == 1:
        return triangle
    return triangle * triangle if power == 3 else stop * (stop - 1) * (2 * stop - 1) // 6


def _moved(sums: dict[tuple[int, int], Floats]) -> dict[tuple[int, int], Floats]:
    """Moments about the centroid, from those about a pixel near it."""
    y, x = (sums[place] / sums[0, 0] for place in ((1, 0), (0, 1)))
    moved = {
        (p, q): sum(
            (
                math.comb(p, i) * math.comb(q, j) * (-y) ** (p - i) * (-x) ** (q - j) * sums[i, j]
                for i, j in itertools.product(range(p + 1), range(q + 1))
            ),
            np.zeros(y.shape),
        )
        for p, q in itertools.product(_ORDERS, _ORDERS)
    }
    return {**moved, (0, 1): np.zeros(y.shape), (1, 0): np.zeros(y.shape)}


def _invariants(nu: dict[tuple[int, int], Floats]) -> tuple[Floats, ...]:
    """Hu's seven invariants of the normalised moments, as scikit-image's ``moments_hu``."""
    a, b = nu[3, 0] + nu[1, 2], nu[2, 1] + nu[0, 3]
    c, d = nu[3, 0] - 3 * nu[1, 2], 3 * nu[2, 1] - nu[0, 3]
    across = nu[2, 0] - nu[0, 2]
    aa, bb = a * a, b * b
    return (
        nu[2, 0] + nu[0, 2],
        across**2 + 4 * nu[1, 1] ** 2,
        c * c + d * d,
        aa + bb,
        c * a * (aa - 3 * bb) + d * b * (3 * aa - bb),
        across * (aa - bb) + 4 * nu[1, 1] * a * b,
        d * a * (aa - 3 * bb) - c * b * (3 * aa - bb),
    )
