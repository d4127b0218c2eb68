"""A label image in, what the network learns to predict out: nucleus, touching border, distance, offsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

#: Order of the network's output channels.
NUCLEUS, BORDER, DISTANCE, OFFSET_Y, OFFSET_X = range(5)
TARGETS = 5


def make_targets(labels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Targets of one label image.

    Args:
        labels: (y, x) integers, 0 = background.

    Returns:
        (y, x, 5) float32 in [0, 1]: *nucleus* (1 inside any nucleus), *border* (1 where two nuclei meet, ±1 to ±3 px
        by the size of the smaller), *distance* (to the nearest pixel that is not this nucleus, 1 at its deepest pixel),
        *offset y* and *offset x* (from the nucleus's centre, 0.5 there, 0 and 1 as far from it as its farthest pixel;
        0.5 on the background).

    Source: the touching-border target of the DSB2018 winners (Topcoder), the distance target of Naylor et al. 2018,
    normalised per nucleus so that one threshold seeds small and large nuclei alike; the offsets jump where nuclei meet,
    as HoVer-Net's do (Graham et al. 2019).
    """
    targets = np.zeros((*labels.shape, TARGETS), np.float32)
    targets[..., OFFSET_Y] = targets[..., OFFSET_X] = 0.5
    inside = labels > 0
    if not inside.any():
        return targets
    targets[..., NUCLEUS] = inside
    meeting = _meeting_pixels(labels)
    targets[..., BORDER] = _border(labels, meeting)
    free = inside & ~meeting
    # A crop from the middle of one nucleus has no pixel that a distance could be measured from.
    distance = np.ones(free.shape) if free.all() else ndimage.distance_transform_edt(free)
    deepest = np.zeros(int(labels.max()) + 1)
    np.maximum.at(deepest, labels[inside], distance[inside])
    deepest[deepest == 0] = 1.0
    targets[..., DISTANCE] = distance / deepest[labels]
    targets[..., OFFSET_Y], targets[..., OFFSET_X] = _offsets(labels)
    return targets


def _offsets(labels: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    offsets = np.full((2, *labels.shape), 0.5, np.float32)
    inside = np.nonzero(labels)
    for offset, share in zip(offsets, offsets_from_centre(labels[inside], *inside), strict=True):
        offset[inside] = 0.5 + 0.5 * share
    return offsets[0], offsets[1]


def offsets_from_centre(
    number: npt.NDArray[Any], y: npt.NDArray[np.intp], x: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How far every pixel lies from the centre of its nucleus.

    Args:
        number: (n,) the nucleus, from 1, that the pixels at (n,) `y` and (n,) `x` belong to.

    Returns:
        (n,) float64 down and (n,) float64 right, in [-1, 1]: 0 at the centre, 1 as far as the nucleus's farthest pixel.
    """
    area = np.maximum(np.bincount(number), 1)
    down, right = (axis - (np.bincount(number, weights=axis) / area)[number] for axis in (y, x))
    reach = np.ones(area.size)
    np.maximum.at(reach, number, np.hypot(down, right))
    return down / reach[number], right / reach[number]


def _meeting_pixels(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixels of a nucleus with a pixel of another nucleus among their four neighbours."""
    meeting = np.zeros(labels.shape, bool)
    for a, b in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        differ = (labels[a] != labels[b]) & (labels[a] > 0) & (labels[b] > 0)
        meeting[a] |= differ
        meeting[b] |= differ
    return meeting


def _border(labels: npt.NDArray[Any], meeting: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where two nuclei meet or nearly meet: pixels within reach of two labels, the reach growing with size."""
    area = np.bincount(labels.ravel())
    border = meeting.copy()
    # Two nuclei a pixel or two apart are merged by a blurred prediction as surely as touching ones.
    lowest = np.where(labels > 0, labels, np.iinfo(labels.dtype).max)
    largest = ndimage.maximum_filter(labels, size=3)
    smallest = ndimage.minimum_filter(lowest, size=3)
    border |= (labels == 0) & (largest > 0) & (largest != smallest)
    for reach, minimum in ((1, 300), (2, 2000)):
        large = (area[labels] >= minimum) & (labels > 0) & meeting
        if large.any():
            border |= ndimage.binary_dilation(large, iterations=reach)
    return border
