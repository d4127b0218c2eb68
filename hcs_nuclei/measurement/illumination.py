"""A plate's images in, how its light falls over the field out; and that taken out of an image again.

A surface over the field is a polynomial in x and y, both from -0.5 to 0.5 from one edge of the field to the other:
the coefficients of 1, x, y, x², xy, y², x³ … in this order, as Harmony writes them. So a profile is some twenty
numbers, the same for every image size, and what it was can be read in ``run.json``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.errors import ProfileError

#: Fewer fields than this are not estimated from: see the table in docs/decisions/0010-illumination.md.
FEWEST_FIELDS = 16
#: A gain below it multiplies noise by more than four, one above it leaves the rest of the field in the dark: no lamp
#: and no objective is like that, but a wrong file is, and a well's wall in the picture.
PLAUSIBLE_GAIN = (0.25, 2.5)
#: Root mean square error of an estimated gain, as two halves of the sample tell it, above which it is worth nothing.
WORST_UNCERTAINTY = 0.03

#: An estimate's degree: Harmony's own. Higher ones follow the cells.
_DEGREE = 4
#: The degree that a reference image is smoothed to: dust and single pixels are no illumination.
_REFERENCE_DEGREE = 6
_TILES = 32
_PARTS = 4
#: Which of a tile's 16 parts is its background, from the darkest: the nuclei of a dense field leave that many free.
_BACKGROUND_PART = 3
#: Tiles at the field's edge that the estimate does not look at: some cameras and exports have an odd first row.
_RIM = 1
#: Points on the photon transfer curve, and the share of their variance that a straight line has to explain.
_BINS = 12
_STRAIGHT = 0.8
_DIGITS = 7

Floats = npt.NDArray[np.float64]
Coefficients = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """How an instrument changes a picture: counts = `dark` + `gain` × light.

    `gain` is relative, 1 on the field's average. `dark` is in camera counts: what is not the specimen's light.
    """

    gain: Coefficients
    dark: Coefficients = (0.0,)

    @property
    def gain_range(self) -> tuple[float, float]:
        """Lowest and highest gain in the field."""
        gain = surface(self.gain, (64, 64))
        return float(gain.min()), float(gain.max())


def surface(coefficients: Coefficients, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """The polynomial at the centres of a field's pixels, float32 of `shape` (height, width)."""
    y, x = (((np.arange(edge) + 0.5) / edge - 0.5) for edge in shape)
    values = np.zeros(shape, np.float32)
    by_power: dict[int, Floats] = {}
    for coefficient, (of_x, of_y) in zip(coefficients, _powers(_degree(len(coefficients))), strict=True):
        by_power[of_y] = by_power.get(of_y, np.zeros(shape[1])) + coefficient * x**of_x
    # Products and sums of single elements only: a matrix product's rounding may depend on the number of threads.
    for of_y, row in by_power.items():
        values += (y**of_y).astype(np.float32)[:, None] * row.astype(np.float32)[None, :]
    return values


def correct(image: npt.NDArray[Any], profile: Profile) -> npt.NDArray[np.float32]:
    """`image` as if the light fell evenly: (image - dark) / gain + the average dark, camera counts, float32.

    The average dark is put back, so that a corrected image has the counts of an uncorrected one and nothing is clipped
    at 0 (as CIDRE does, Smith et al. 2015, Nature Methods 12:404).

    Args:
        image: (y, x) camera counts, any integer or float dtype.
    """
    shape = (image.shape[0], image.shape[1])
    corrected = image.astype(np.float32)
    corrected -= surface(profile.dark, shape)
    corrected /= surface(profile.gain, shape)
    corrected += np.float32(average(profile.dark))
    return corrected


def average(coefficients: Coefficients) -> float:
    """The mean of a polynomial over the field."""
    return math.fsum(
        c * _moment(a) * _moment(b) for c, (a, b) in zip(coefficients, _powers(_degree(len(coefficients))), strict=True)
    )


def plausible(profile: Profile) -> Profile:
    """`profile` with a gain of 1 on average, if any instrument could have it.

    Raises:
        ProfileError: numbers that are not finite, an average that is not positive, or a gain outside
            :data:`PLAUSIBLE_GAIN`.
    """
    level = average(profile.gain)
    if not all(map(math.isfinite, (*profile.gain, *profile.dark))) or not level > 0:
        raise ProfileError("it holds no light: its values are all zero, negative or no numbers")
    scaled = Profile(tuple(_round(c / level) for c in profile.gain), tuple(_round(c) for c in profile.dark))
    low, high = scaled.gain_range
    if low < PLAUSIBLE_GAIN[0] or high > PLAUSIBLE_GAIN[1]:
        raise ProfileError(
            f"it says that the light goes from {low:.2f} to {high:.2f} of its average over the field; from "
            f"{PLAUSIBLE_GAIN[0]:g} to {PLAUSIBLE_GAIN[1]:g} is believed"
        )
    return scaled


def profile_of_reference(flat: npt.NDArray[Any], dark: npt.NDArray[Any] | float = 0.0) -> Profile:
    """The profile of an image of an even fluorescent layer, and of one without light (or its counts).

    Args:
        flat: (y, x) counts, the dark included.
        dark: (y, x) counts, or one number for the whole field.

    Raises:
        ProfileError: no profile of an instrument, as :func:`plausible`, or an image smaller than 32 × 32 pixels.
    """
    without_light = (float(dark),) if isinstance(dark, float | int) else _fit(_reduced(dark, _TILES), _REFERENCE_DEGREE)
    light = _fit(_reduced(flat, _TILES), _REFERENCE_DEGREE)
    gain = [a - b for a, b in zip(light, (*without_light, *[0.0] * len(light)), strict=False)]
    return plausible(Profile(tuple(gain), without_light))


def estimate_profile(images: Iterable[npt.NDArray[Any]]) -> Profile:
    """The profile of one channel, from fields of many wells; images with one value only are left out.

    Cells lie everywhere on a plate, so what all fields have in common is the instrument's. Each field is reduced to
    32 × 32 tiles and each tile to its background, the fourth-darkest of its 16 parts. The median of that over all
    fields, each relative to its own average, fitted with a polynomial of degree 4, is the *shape* of the illumination.
    Its *strength* is not in it: the camera's offset, which no lamp shades, makes every background flatter. The offset
    is read off the pixels' noise, whose variance grows in proportion to the light (the photon transfer curve) and so
    is nothing where there is no light. Read noise makes that a little too low (by its variance over the counts per
    electron), which corrects a little too weakly, never too strongly.

    Args:
        images: (y, x) camera counts; read one at a time.

    Raises:
        ProfileError: too few fields, fields too small, halves of the sample that do not agree, or no plausible result.

    Source: what is common to many fields as illumination, Singh et al. 2014 (J Microsc 256:231); an offset and a
    multiplied light, Peng et al. 2017 (BaSiC, Nat Commun 8:14836); the offset from noise, Janesick et al. 1985 and
    EMVA standard 1288. The steps between are ours.
    """
    fields = [_backgrounds(image) for image in images if image.min() < image.max()]
    if len(fields) < FEWEST_FIELDS:
        raise ProfileError(f"{len(fields)} fields of the sample hold an image; {FEWEST_FIELDS} are needed")
    # A dead shutter with a hot pixel, or a background that was cut off: no light to tell a lamp by.
    lit = [field for field in fields if np.median(field[0]) > 0]
    if len(lit) < FEWEST_FIELDS:
        raise ProfileError(f"{len(lit)} fields of the sample have a background above 0; {FEWEST_FIELDS} are needed")
    levels, noise = (np.stack(kind) for kind in zip(*lit, strict=True))
    offset = _offset(levels, noise)
    shape = (_TILES, _TILES)
    halves = [surface(_gain(levels[i::2], offset), shape) for i in (0, 1)]
    # Each half is off by √2 times what the whole is, and their difference by √2 times that.
    uncertainty = float(np.sqrt(np.mean((halves[0] - halves[1]) ** 2))) / 2
    if not uncertainty <= WORST_UNCERTAINTY:
        raise ProfileError(
            f"two halves of the sample differ, so the estimate is uncertain by {uncertainty:.1%}; "
            f"at most {WORST_UNCERTAINTY:.0%} is believed"
        )
    return plausible(Profile(_gain(levels, offset), (offset,)))


def _gain(levels: Floats, offset: float) -> Coefficients:
    """Coefficients of the gain, from (fields, 32, 32) backgrounds in counts and the camera's offset."""
    averages = levels.mean(axis=(1, 2))
    shape = np.asarray(_fit(np.median(levels / averages[:, None, None], axis=0), _DEGREE, rim=_RIM))
    shape /= average(tuple(shape))
    level = float(np.median(averages))
    if not level > offset:
        raise ProfileError("its background is no brighter than the camera without light")
    gain = shape * level / (level - offset)
    gain[0] -= offset / (level - offset)
    return tuple(float(c) for c in gain)


def _offset(levels: Floats, noise: Floats) -> float:
    """Counts at which backgrounds (fields, 32, 32) of variance `noise` would have none; 0 where that cannot be told."""
    bounds = np.quantile(levels, np.linspace(0, 0.5, _BINS + 1))
    bins = [(levels >= low) & (levels <= high) for low, high in itertools.pairwise(bounds)]
    x = np.array([np.median(levels[here]) for here in bins])
    y = np.array([np.median(noise[here]) for here in bins])
    covariance, x_spread, y_spread = (
        float(np.sum((a - a.mean()) * (b - b.mean()))) for a, b in ((x, y), (x, x), (y, y))
    )
    # Noise that does not grow with the light is not the light's: a denoised or averaged image, or an even one.
    if covariance <= 0 or covariance**2 < _STRAIGHT * x_spread * y_spread:
        return 0.0
    slope = covariance / x_spread
    # No offset is above the darkest background; close to all of it, what is left is noise and no light.
    return min(max(0.0, float(x.mean() - y.mean() / slope)), float(bounds[0]), 0.9 * float(np.median(levels)))


def _backgrounds(image: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """(32, 32) background of the tiles of one field in counts, and (32, 32) variance of its pixels' noise."""
    values = image.astype(np.float32)
    # Mixed differences: blur leaves cells little of what changes from one pixel to the next in both directions.
    mixed = values[1:, 1:] - values[:-1, 1:] - values[1:, :-1] + values[:-1, :-1]
    parts, noise = _parts(values), _parts(mixed * mixed / 4)
    order = np.argsort(parts, axis=2, kind="stable")
    background = np.take_along_axis(parts, order[:, :, _BACKGROUND_PART : _BACKGROUND_PART + 1], axis=2)[:, :, 0]
    darker = np.take_along_axis(noise, order[:, :, : 2 * _BACKGROUND_PART], axis=2).mean(axis=2)
    return background, darker


def _parts(image: npt.NDArray[Any]) -> Floats:
    """(32, 32, 16) means of the parts of each tile."""
    parts = _reduced(image, _TILES * _PARTS).reshape(_TILES, _PARTS, _TILES, _PARTS)
    return parts.swapaxes(1, 2).reshape(_TILES, _TILES, _PARTS * _PARTS)


def _reduced(image: npt.NDArray[Any], edge: int) -> Floats:
    """(edge, edge) means of parts of `image` of nearly the same size."""
    if min(image.shape) < edge:
        raise ProfileError(
            f"an image of {image.shape[1]} × {image.shape[0]} pixels is too small; {edge} × {edge} are needed"
        )
    values = image.astype(np.float64)
    for axis in (0, 1):
        bounds = np.rint(np.arange(edge) * (image.shape[axis] / edge)).astype(np.intp)
        sizes = np.diff(np.append(bounds, image.shape[axis]))
        values = np.add.reduceat(values, bounds, axis=axis) / (sizes[:, None] if axis == 0 else sizes[None, :])
    return values


def _fit(values: Floats, degree: int, rim: int = 0) -> Coefficients:
    """Coefficients of the polynomial of `degree` that is nearest to `values` (y, x), without the `rim` outermost."""
    inside = tuple(slice(rim, edge - rim) for edge in values.shape)
    y, x = (((np.arange(edge) + 0.5) / edge - 0.5)[part] for edge, part in zip(values.shape, inside, strict=True))
    columns = [np.outer(y**b, x**a).ravel() for a, b in _powers(degree)]
    solution, *_ = np.linalg.lstsq(np.stack(columns, axis=1), values[inside].ravel(), rcond=None)
    return tuple(float(c) for c in solution)


def _powers(degree: int) -> Sequence[tuple[int, int]]:
    """(power of x, power of y) of each coefficient."""
    return [(total - of_y, of_y) for total in range(degree + 1) for of_y in range(total + 1)]


def _degree(coefficients: int) -> int:
    """The degree of a polynomial with that many coefficients."""
    degree = (math.isqrt(8 * coefficients + 1) - 3) // 2
    if (degree + 1) * (degree + 2) != 2 * coefficients:
        raise ValueError(f"{coefficients} coefficients make no polynomial in x and y; expected 1, 3, 6, 10, 15 …")
    return degree


def _moment(power: int) -> float:
    return 0.0 if power % 2 else 0.5**power / (power + 1)


def _round(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")
