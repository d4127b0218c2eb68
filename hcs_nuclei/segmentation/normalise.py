"""A raw image in, a float32 image out whose background is near 0 and whose nuclei are near 1, whatever the camera."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

LOW_PERCENTILE = 1.0
HIGH_PERCENTILE = 99.8
#: The contrast that counts as 1 is at least this many standard deviations of the pixel noise: a field of pure noise
#: spans about 5 between the two percentiles, so it stays small instead of being stretched until it looks like nuclei.
NOISE_FLOOR = 12.0
#: Normalised values are kept in this range: one hot pixel or one bright nucleus must not swamp the network.
VALUE_RANGE = (-1.0, 4.0)
#: An image is light, its nuclei dark, where the median lies above this share of the range between the two percentiles.
#: Of 664 images of DSB2018 fluorescence reaches 0.19 (0.34 in the crowded sections of S-BSST265), brightfield begins
#: at 0.82 and stained sections at 0.52. A grey image must be lighter: a field full of nuclei is no brightfield.
LIGHT_COLOUR, LIGHT_GREY = 0.5, 0.7
#: The same share below which an image is not light whose darkest value is left out: in noise alone it is 0.45.
_FLAT = 1 / 3
#: A margin is at most so much of an image; of what it encloses so much may have its value, as dead pixels have; and the
#: background lies above it by so much of the contrast. Where a background was cut off, its value is all over the image.
_LARGEST_MARGIN, _DARK_WITHIN, _LEAST_STEP = 0.5, 1e-3, 0.1
#: What a rectangle fills of its own bounding box, and one that was turned of each edge of the image.
_RECTANGLE, _TURNED = 0.98, 0.5


def normalise(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Shift and scale `image` so that its 1st percentile is 0 and its 99.8th is 1, with a floor set by its noise.

    A margin without light, as images have that were aligned or joined, counts as background and for no percentile.

    Args:
        image: (y, x), any integer or float dtype, camera counts.

    Returns:
        (y, x) float32 in [-1, 4]; all zeros where every pixel is the same or none is finite.

    Source: percentile normalisation as in Schmidt et al. 2018 (StarDist); the noise floor is ours.
    """
    pixels = np.array(image, dtype=np.float32)
    known = np.isfinite(pixels) if image.dtype.kind == "f" else np.True_
    lit: npt.NDArray[np.bool_] | None = None
    if known.all():
        counts = image if image.dtype.kind == "u" else pixels
        low, high = _percentiles(counts)
        if (lit := _lit(counts, _LEAST_STEP * (high - low))) is not None:
            low, high = _percentiles(counts[lit])
    elif known.any():
        low, high = _percentiles(pixels[known])
        pixels = without_gaps(pixels)
    else:
        return np.zeros(pixels.shape, np.float32)
    contrast = max(high - low, NOISE_FLOOR * noise_level(pixels, lit))
    if lit is not None:
        pixels[~lit] = np.median(pixels[lit])
    if contrast <= 0:
        # A few nuclei on a background without noise, as in fields whose background was cut off.
        contrast = float(pixels.max()) - low
    if contrast <= 0:
        return np.zeros(pixels.shape, np.float32)
    pixels -= np.float32(low)
    pixels *= np.float32(1.0 / contrast)
    return np.clip(pixels, *VALUE_RANGE, out=pixels)


def within_margin(image: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """(y, x) what lies within the margin without light of (y, x) `image` in camera counts; None where it has none."""
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        return None
    return _lit(image, 0.0)


def _lit(image: npt.NDArray[Any], least_step: float) -> npt.NDArray[np.bool_] | None:
    """(y, x) what lies within the margin without light of (y, x) `image`; None where there is none.

    A margin has the darkest value, which is nowhere else and more than `least_step` below all others, and holds a
    corner. What it encloses is a rectangle, or one that was turned, which reaches all four edges: a nucleus on a
    background that was cut off is neither.
    """
    darkest = image.min()
    if not (image[[0, 0, -1, -1], [0, -1, 0, -1]] == darkest).any():
        return None
    dark = image == darkest
    if not LOW_PERCENTILE / 100 < dark.mean() <= _LARGEST_MARGIN:
        return None
    lit = ~dark
    within = _between_ends(lit, 0) & _between_ends(lit, 1)
    if (dark & within).sum() > _DARK_WITHIN * image.size:
        return None
    rows, columns = np.flatnonzero(within.any(axis=1)), np.flatnonzero(within.any(axis=0))
    box = within[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    edges = (within[0], within[-1], within[:, 0], within[:, -1])
    if box.mean() < _RECTANGLE and min(edge.mean() for edge in edges) < _TURNED:
        return None
    step = _percentiles(image[within])[0] - float(darkest)
    return within if step > least_step else None


def _between_ends(lit: npt.NDArray[np.bool_], axis: int) -> npt.NDArray[np.bool_]:
    """Whether there is a lit pixel on either side along `axis`, or here."""
    before = np.logical_or.accumulate(lit, axis)
    return before & np.flip(np.logical_or.accumulate(np.flip(lit, axis), axis), axis)


def without_gaps(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(y, x) `image` with its median, for most of a field is background, where a value is none or infinite."""
    known = np.isfinite(image) if image.dtype.kind == "f" else np.True_
    if known.all() or not known.any():
        return image
    return np.where(known, image, np.median(image[known]))


def to_grey(image: npt.NDArray[Any], *, nuclei: Literal["bright", "dark"] | None = None) -> npt.NDArray[Any]:
    """(y, x) of (y, x) or colour, nuclei brighter than what surrounds them; the dtype stays.

    Args:
        image: (y, x), (y, x, 3) or (y, x, 4), any integer or float dtype; the fourth channel is opacity and left out.
        nuclei: whether they are brighter or darker than what surrounds them; None tells it from how light the image is.

    Colour with a light background is a stained section: of its colours red is what haematoxylin absorbs and eosin does
    not, so red is taken and inverted. Grey with a light background is brightfield, and inverted. Any other colour
    image is a rendered fluorescence image: its brightest colour at each pixel.

    Raises:
        ValueError: the image has another shape, or no pixels.
    """
    if image.size == 0:
        raise ValueError(f"its shape is {image.shape}: it has no pixels")
    if image.dtype.kind == "b":
        image = image.astype(np.uint8)
    if image.ndim == 2:
        return _inverted(image) if _is_light(image, LIGHT_GREY, nuclei) else image
    if image.ndim != 3 or image.shape[2] not in (1, 2, 3, 4):
        raise ValueError(f"its shape is {image.shape}; expected (y, x) or colour (y, x, 3)")
    colours = image[..., : 3 if image.shape[2] >= 3 else 1]
    first = np.ascontiguousarray(colours[..., 0])
    if all(np.array_equal(first, colours[..., i]) for i in range(1, colours.shape[2])):
        return to_grey(first, nuclei=nuclei)
    return _inverted(first) if _is_light(first, LIGHT_COLOUR, nuclei) else np.asarray(colours.max(axis=2))


def _is_light(image: npt.NDArray[Any], share: float, nuclei: str | None) -> bool:
    known = image[np.isfinite(image)] if image.dtype.kind == "f" else image
    if nuclei is not None or not known.size:
        return nuclei == "dark"

    def height(pixels: npt.NDArray[Any]) -> float:
        """Of the median in the range of the pixels, from 0 to 1."""
        low, middle, high = np.percentile(pixels, [LOW_PERCENTILE, 50.0, HIGH_PERCENTILE])
        return float((middle - low) / (high - low)) if high > low else 0.5

    if height(known) <= share:
        return False
    # Where images were aligned or joined, a margin without light reaches below the darkest background.
    darkest = known.min()
    if not (image[[0, 0, -1, -1], [0, -1, 0, -1]] == darkest).any():
        return True
    lit = known[known > darkest]
    return not lit.size or height(lit) >= _FLAT


def _inverted(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if image.dtype.kind == "f":
        known = image[np.isfinite(image)]
        return np.asarray(known.max() - image)
    if image.dtype.kind == "i":  # the range of a signed type may hold no difference of two of its values
        least, most = int(image.min()), int(image.max())
        return np.asarray(least + most - image.astype(np.int64)).astype(image.dtype)
    return np.asarray(image.max() - image)


def noise_level(image: npt.NDArray[Any], within: npt.NDArray[np.bool_] | None = None) -> float:
    """Standard deviation of the pixel noise of (y, x) `image`, in its own unit, nearly untouched by what it shows.

    From the median absolute difference of horizontal neighbours on every third row, of those that both lie `within`
    (y, x); slow gradients and the few outlines do not move a median.
    """
    rows = image[::3].astype(np.float32)
    steps = np.abs(rows[:, 1:] - rows[:, :-1])
    if within is not None:
        steps = steps[within[::3, 1:] & within[::3, :-1]]
    return float(np.median(steps) * 1.4826 / np.sqrt(2.0)) if steps.size else 0.0


def _percentiles(image: npt.NDArray[Any]) -> tuple[float, float]:
    if image.dtype in (np.uint8, np.uint16):
        # A histogram of 65,536 bins is exact for cameras and ten times as fast as sorting a field.
        cumulative = np.cumsum(np.bincount(image.ravel(), minlength=1))
        ranks = np.array([LOW_PERCENTILE, HIGH_PERCENTILE]) / 100.0 * cumulative[-1]
        low, high = np.searchsorted(cumulative, ranks)
        return float(low), float(high)
    low, high = np.percentile(image, [LOW_PERCENTILE, HIGH_PERCENTILE], method="inverted_cdf")
    return float(low), float(high)
