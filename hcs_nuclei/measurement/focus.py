"""A field's nuclear image in, how sharp it is out: by its power spectrum, its Laplacian and the rims of its nuclei.

None of the three changes when an image becomes brighter, darker or gains an offset. The first two look at the whole
image, so they see what the field shows as well as how sharply; the third looks at outlines alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

#: How far a rim is looked at, in and out: a quarter of a nucleus' diameter, within these limits, px.
NARROWEST_REACH, WIDEST_REACH = 3, 10
#: Fewer nuclei than this with a rim that can be looked at say nothing of a field, and a rim is at least so many places.
FEWEST_NUCLEI, FEWEST_PLACES = 3, 6
#: More places than this make no median better.
_MOST_PLACES = 6000
_COMPASS = np.array([(0, 3), (2, 2), (3, 0), (2, -2), (0, -3), (-2, -2), (-3, 0), (-2, 2)])


def reach_of(diameter_px: float) -> int:
    """How far from an outline its rim reaches, px, for nuclei of that diameter."""
    return int(min(max(round(diameter_px / 4), NARROWEST_REACH), WIDEST_REACH))


def power_log_log_slope(image: npt.NDArray[Any]) -> float:
    """Slope of log power over log spatial frequency: the steeper (more negative), the less fine detail; NaN if blank.

    Power is summed over rings one frequency wide, from the second to an eighth of the shorter edge, and fitted with a
    straight line. Rings are CellProfiler's, which counts negative frequencies one too low.

    Args:
        image: (y, x) in counts; at least 32 px along both edges, else NaN.

    Source: Field et al. 1997 (J Opt Soc Am A 4:2379); Bray et al. 2012 (J Biomol Screen 17:266);
    ``PowerLogLogSlope`` of CellProfiler's MeasureImageQuality and ``rps`` of centrosome.
    """
    widest = min(image.shape) // 8
    rings = np.arange(2, widest)
    if rings.size < 2 or image.min() == image.max():
        return float("nan")
    centred = image.astype(np.float32)
    centred -= np.float32(centred.mean(dtype=np.float64))
    # Only a quarter of the frequencies are looked at, so only a quarter of the columns is transformed the second time.
    columns = np.ascontiguousarray(fft.rfft(centred, axis=1)[:, : widest + 1].T)
    spectrum = fft.fft(columns, axis=1)[:, np.r_[0 : widest + 1, -widest - 1 : 0]]
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float64)
    x = np.arange(widest + 1)[:, None]
    y = np.r_[0 : widest + 1, -widest - 1 : 0][None, :]
    total = _in_rings(power, _radius(x), _radius(y), widest)
    total += _in_rings(power[1:], _radius(-x[1:]), _radius(-y), widest)  # the mirrored half, which rfft leaves out
    summed = total[rings]
    seen = summed > 0
    if seen.sum() < 2:
        return float("nan")
    log_ring, log_power = np.log(rings[seen]), np.log(summed[seen])
    log_ring -= log_ring.mean()
    return float((log_ring * log_power).sum() / (log_ring * log_ring).sum())


def _radius(frequency: Numbers) -> Numbers:
    return np.where(frequency < 0, -frequency - 1, frequency)


def _in_rings(power: Floats, x: Numbers, y: Numbers, widest: int) -> Floats:
    """(widest + 1,) power by ring; ring n holds radii from n - 1 to less than n, the last all that are farther out."""
    ring = np.minimum(np.sqrt(x * x + y * y).astype(np.intp) + 1, widest)
    return np.asarray(np.bincount(ring.ravel(), weights=power.ravel(), minlength=widest + 1), dtype=np.float64)


def laplacian_focus(image: npt.NDArray[Any]) -> float:
    """Variance of the Laplacian over that of the image, both free of pixel noise: more is sharper; NaN if blank.

    In each block of 2 × 2 pixels the sum over one diagonal and that over the other show the same place with noise of
    their own. So the covariance of two such images is the variance of what both show, and noise, which a Laplacian
    amplifies and which grows with brightness, averages out of it.

    Args:
        image: (y, x) in counts; NaN where nothing rises above noise.

    Source: variance of the Laplacian, Pech-Pacheco et al. 2000; the split against noise is ours.
    """
    height, width = (n // 2 * 2 for n in image.shape)
    if min(height, width) < 8:
        return float("nan")
    quarters = [image[y:height:2, x:width:2].astype(np.float32) for y, x in ((0, 0), (1, 1), (0, 1), (1, 0))]
    falling, rising = quarters[0], quarters[2]
    falling += quarters[1]
    rising += quarters[3]
    structure = _covariance(falling, rising)
    if structure <= 0:
        return float("nan")
    return _covariance(_laplacian(falling), _laplacian(rising)) / structure


def _laplacian(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    out = image[1:-1, 1:-1] * np.float32(-4)
    out += image[1:-1, :-2]
    out += image[1:-1, 2:]
    out += image[:-2, 1:-1]
    out += image[2:, 1:-1]
    return out


def _covariance(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    a = a - np.float32(a.mean(dtype=np.float64))
    b = b - np.float32(b.mean(dtype=np.float64))
    a *= b
    return float(a.mean(dtype=np.float64))


def edge_width(image: npt.NDArray[Any], labels: npt.NDArray[np.uint32], diameter_px: float) -> float:
    """Median over nuclei of how wide the step in brightness at the outline is, px: less is sharper; NaN below 3 nuclei.

    The mean profile of a nucleus across its outline, from a quarter of `diameter_px` inside to as far outside, gives
    the step's height (between its ends) and its steepest slope; their ratio is the width. Wherever in that range the
    step lies, it is found, so an outline that is drawn a pixel too wide or too tight changes little. A perfect step
    is 2 px wide, one blurred by a Gaussian about 2.5 of its sigmas. Only places with free background outside count.

    Args:
        image: (y, x) nuclear channel in counts.
        labels: (y, x) uint32 label image, 0 = background.
        diameter_px: a typical diameter of the plate's nuclei; the same for all fields that are to be compared.
    """
    reach = reach_of(diameter_px)
    number, profiles = _profiles(image, labels, reach)
    if not number.size:
        return float("nan")
    order = np.argsort(number, kind="stable")
    number = number[order]
    first = np.flatnonzero(np.r_[True, number[1:] != number[:-1]])
    places = np.diff(np.r_[first, number.size])
    mean = np.add.reduceat(profiles[order], first, axis=0) / places[:, None]
    step = mean[:, :2].mean(axis=1) - mean[:, -2:].mean(axis=1)
    slope = ((mean[:, :-2] - mean[:, 2:]) / 2).max(axis=1)
    good = (places >= FEWEST_PLACES) & (step > 0) & (slope > 0)
    return float(np.median(step[good] / slope[good])) if good.sum() >= FEWEST_NUCLEI else float("nan")


def _profiles(
    image: npt.NDArray[Any], labels: npt.NDArray[np.uint32], reach: int
) -> tuple[npt.NDArray[np.uint32], Floats]:
    """(p,) the nucleus of each place on an outline, and (p, 2 × reach + 1) the image from inside to outside there."""
    height, width = labels.shape
    margin = reach + 3
    flat = labels.reshape(-1)
    left = np.flatnonzero(flat[1:] != flat[:-1])
    one, other = flat[left], flat[left + 1]
    free = (one == 0) != (other == 0)
    place = np.where(one > 0, left, left + 1)[free]
    y, x = np.divmod(place, width)
    far = (y >= margin) & (y < height - margin) & (x >= margin) & (x < width - margin)
    y, x, place = y[far], x[far], place[far]
    number = flat[place]
    thin = -(-place.size // _MOST_PLACES)
    if thin > 1:  # by nuclei, numbered from top to bottom: one that is looked at keeps all of its outline
        kept = number % thin == 0
        y, x, place, number = y[kept], x[kept], place[kept], number[kept]
    # Outwards is away from where, three pixels around, the nucleus is.
    inside = flat[place[:, None] + _COMPASS @ np.array([width, 1])] == number[:, None]
    outward = -(inside @ _COMPASS.astype(np.float64))
    length = np.sqrt((outward * outward).sum(axis=1))
    known = length > 0
    y, x, number, outward = y[known], x[known], number[known], outward[known] / length[known, None]
    steps = np.arange(-reach, reach + 1)
    rows = np.rint(y[:, None] + outward[:, :1] * steps).astype(np.intp)
    columns = np.rint(x[:, None] + outward[:, 1:] * steps).astype(np.intp)
    at = rows * width + columns
    seen = flat[at]
    good = (seen[:, : reach + 1] == number[:, None]).all(axis=1) & (seen[:, reach + 2 :] == 0).all(axis=1)
    return number[good], image.reshape(-1)[at[good]].astype(np.float64)
