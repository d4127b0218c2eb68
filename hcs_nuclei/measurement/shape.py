"""Area, outline, ellipse, hull, depth and position of every nucleus of a label image.

Definitions are scikit-image's and so CellProfiler's, each nucleus measured as if it were alone in the field:
moments are of pixel centres; the perimeter is estimated from the border pixels' neighbourhoods; the convex hull is
that of the pixels, counted in pixels; Feret diameters run, as CellProfiler's do, between pixel centres (a row of
three pixels is 2 px long).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hcs_nuclei.measurement.hull import Hulls
from hcs_nuclei.measurement.insides import Insides, sort_within, total_of
from hcs_nuclei.measurement.runs import Indices, Runs, lasts

Floats = npt.NDArray[np.float64]


def measure_shape(labels: npt.NDArray[np.uint32], runs: Runs, insides: Insides) -> dict[str, npt.NDArray[np.generic]]:
    """Position, edge flag and every :data:`hcs_nuclei.columns.SHAPE` column, (n,) in the order of `runs.numbers`.

    Args:
        labels: (y, x) uint32 label image, 0 = background.
        runs: its runs.
        insides: its nuclei's pixels.

    The perimeter of nuclei of one or two pixels is 0, and their form factor and compactness are NaN.
    """
    area = runs.areas.astype(np.float64)
    top, bottom, left, right = _bounding_boxes(runs)
    box = ((bottom - top) * (right - left)).astype(np.float64)
    perimeter = _perimeters(labels, runs)
    roundness = np.full(area.shape, np.nan)
    np.divide(4 * np.pi * area, perimeter**2, out=roundness, where=perimeter > 0)
    hulls = Hulls(runs)
    convex = hulls.areas().astype(np.float64)
    min_feret, max_feret = hulls.feret_diameters()
    on_edge = (top == 0) | (left == 0) | (bottom == runs.shape[0]) | (right == runs.shape[1])
    shape = {
        "Area": area,
        "Perimeter": perimeter,
        "FormFactor": roundness,
        "Compactness": 1 / roundness,
        "Solidity": area / convex,
        "ConvexArea": convex,
        "Extent": area / box,
        "BoundingBoxArea": box,
        "EquivalentDiameter": np.sqrt(4 * area / np.pi),
        "MaxFeretDiameter": max_feret,
        "MinFeretDiameter": min_feret,
        "EulerNumber": _euler_numbers(runs).astype(np.float64),
        **_radii(insides),
    }
    center_y, center_x, ellipse = _ellipses(runs, top, left)
    return {
        "Metadata_Center_X": center_x,
        "Metadata_Center_Y": center_y,
        "Metadata_BoundingBox_Left": left.astype(np.float64),
        "Metadata_BoundingBox_Top": top.astype(np.float64),
        "Metadata_BoundingBox_Right": right - 1.0,
        "Metadata_BoundingBox_Bottom": bottom - 1.0,
        "Metadata_QC_TouchesEdge": on_edge,
        **{f"Nuclei_AreaShape_{name}": values for name, values in (shape | ellipse).items()},
    }


def _bounding_boxes(runs: Runs) -> tuple[Indices, Indices, Indices, Indices]:
    """(n,) first row, row after the last, first column, column after the last of each nucleus."""
    if not runs.first.size:
        return (runs.first,) * 4
    left = np.minimum.reduceat(runs.start, runs.first)
    right = np.maximum.reduceat(runs.stop, runs.first)
    return runs.row[runs.first], runs.row[lasts(runs.first, runs.row.size)] + 1, left, right


def _ellipses(runs: Runs, top: Indices, left: Indices) -> tuple[Floats, Floats, dict[str, Floats]]:
    """(n,) centroid y and x in px, and the ellipse with the same second moments, as scikit-image's ``regionprops``.

    Sums are taken from the corner of each nucleus' own bounding box, in integers: the same nucleus gives the same
    bits wherever in the field it lies and whatever lies beside it.
    """
    y = runs.row - top[runs.nucleus]
    start, stop = runs.start - left[runs.nucleus], runs.stop - left[runs.nucleus]
    length = stop - start
    x_run = length * (start + stop - 1) // 2
    xx_run = _sum_of_squares(stop) - _sum_of_squares(start)
    sums = (length, y * length, x_run, y * y * length, y * x_run, xx_run)
    n, sy, sx, syy, sxy, sxx = (runs.total(s).astype(np.float64) for s in sums)
    var_y, var_x = (n * syy - sy * sy) / (n * n), (n * sxx - sx * sx) / (n * n)
    cov = (n * sxy - sy * sx) / (n * n)
    mean, spread = (var_y + var_x) / 2, np.hypot((var_y - var_x) / 2, cov)
    major = mean + spread
    minor = np.maximum(mean - spread, 0.0)
    flattening = np.zeros(n.shape)
    np.divide(2 * spread, major, out=flattening, where=major > 0)
    ellipse = {
        "MajorAxisLength": 4 * np.sqrt(major),
        "MinorAxisLength": 4 * np.sqrt(minor),
        "Eccentricity": np.sqrt(np.minimum(flattening, 1.0)),
        "Orientation": np.degrees(0.5 * np.arctan2(2 * cov, var_y - var_x)),
    }
    return sy / n + top, sx / n + left, ellipse


def _sum_of_squares(stop: Indices) -> Indices:
    """0² + 1² + … + (stop - 1)²."""
    return (stop - 1) * stop * (2 * stop - 1) // 6


def _euler_numbers(runs: Runs) -> Indices:
    """(n,) pieces less holes of each nucleus, where pieces hang together over corners and holes over edges.

    Runs are the points of a graph and touching runs of rows below one another its lines: its points less its lines are
    its pieces less its circles, and each circle holds one hole.
    """
    stride = runs.shape[1] + 2
    line = (runs.nucleus * (runs.shape[0] + 1) + runs.row) * stride
    below = line + stride
    begun = np.searchsorted(line + runs.start, below + runs.stop, side="right")
    ended = np.searchsorted(line + runs.stop, below + runs.start, side="left")
    return runs.total(1 - (begun - ended))


def _radii(insides: Insides) -> dict[str, Floats]:
    """(n,) largest, mean and median distance in px of a nucleus' pixels to the nearest pixel outside it."""
    depth2, areas, starts = insides.depth2, insides.areas, insides.starts
    fits = depth2.max(initial=0) <= np.iinfo(np.uint16).max
    ordered = depth2.astype(np.uint16 if fits else np.int64)
    sort_within(ordered, areas)
    depths = np.sqrt(ordered, dtype=np.float64)
    return {
        "MaximumRadius": depths[starts + areas - 1],
        "MeanRadius": total_of(depths, starts) / areas,
        "MedianRadius": (depths[starts + (areas - 1) // 2] + depths[starts + areas // 2]) / 2,
    }


def _step_classes() -> npt.NDArray[np.int8]:
    """What a border pixel adds to the perimeter, by 2 × its border neighbours over edges + 10 × those over corners.

    1: one straight step, 2: one diagonal step, 3: half of each, 0: nothing; the table of K. Benkrid and D. Crookes,
    "Design and FPGA implementation of a perimeter estimator" (2000), which scikit-image's ``perimeter`` uses.
    """
    classes = np.zeros(49, dtype=np.int8)
    classes[[4, 6, 14, 16, 24, 26]] = 1
    classes[[20, 32]] = 2
    classes[[12, 22]] = 3
    return classes


_STEP_CLASSES = _step_classes()


def _perimeters(labels: npt.NDArray[np.uint32], runs: Runs) -> Floats:
    """(n,) length of each outline in px, through the centres of the border pixels (4-neighbourhood)."""
    height, width = runs.shape
    padded = np.zeros((height + 2, width + 2), dtype=labels.dtype)
    padded[1:-1, 1:-1] = labels
    differs_y = padded[1:, 1:-1] != padded[:-1, 1:-1]
    differs_x = padded[1:-1, 1:] != padded[1:-1, :-1]
    border = differs_y[1:] | differs_y[:-1]
    border |= differs_x[:, 1:]
    border |= differs_x[:, :-1]
    flat = np.flatnonzero(border)
    flat = flat[labels.reshape(-1)[flat] != 0]
    stride = width + 2
    at = (flat // max(width, 1) + 1) * stride + flat % max(width, 1) + 1
    label = padded.reshape(-1)[at]
    outline = np.zeros(padded.size, dtype=labels.dtype)
    outline[at] = label
    code = np.zeros(at.shape, dtype=np.int8)
    for step, weight in ((1, 2), (stride, 2), (stride - 1, 10), (stride + 1, 10)):
        for neighbour in (at - step, at + step):
            code += np.int8(weight) * (outline[neighbour] == label)
    nucleus = np.searchsorted(runs.numbers, label)
    counts = np.bincount(nucleus * 4 + _STEP_CLASSES[code], minlength=4 * runs.numbers.size).reshape(-1, 4)
    diagonal = float(np.sqrt(2))
    lengths: Floats = counts[:, 1] + counts[:, 2] * diagonal + counts[:, 3] * ((1 + diagonal) / 2)
    return lengths
