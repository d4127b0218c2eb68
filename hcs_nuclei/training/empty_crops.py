"""Crops for training that show no nucleus: what a camera sees where there is none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.transform import resize

from hcs_nuclei.segmentation.normalise import normalise
from hcs_nuclei.segmentation.scale import LARGEST_SCALE

#: Share of them that are dusty.
DUSTY_SHARE = 0.6


def empty_crop(size: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(size, size) float32, normalised: noise, uneven light and dust, so that an empty field gives no nuclei."""
    # Half of them as an image is looked at in which all that was found is small.
    scale = float(np.exp(rng.uniform(0, np.log(LARGEST_SCALE)))) if rng.random() < 0.5 else 1.0
    own = round(size / scale)
    noise = rng.normal(0, 1, (own, own))
    if rng.random() < 0.3:
        noise = ndimage.gaussian_filter(noise, rng.uniform(0.5, 3))
        noise /= max(float(noise.std()), 1e-6)
    kind = rng.random()
    if kind < 0.3:
        noise = noise + 6 * (slow_field((own, own), rng, 0.8) - 1)
    elif kind < 0.6:
        noise = noise + float(np.exp(rng.uniform(np.log(3), np.log(300)))) * _glow(own, rng)
    if rng.random() < DUSTY_SHARE:
        noise = noise + float(np.exp(rng.uniform(np.log(5), np.log(300)))) * _dust(own, rng)
    image = normalise(noise)
    if own != size:
        image = resize(image, (size, size), order=1, mode="symmetric", anti_aliasing=False, preserve_range=True)
    return np.asarray(np.clip(image * rng.uniform(0.3, 1.5), -1, 4), dtype=np.float32)


def _dust(size: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(size, size): hot pixels, specks smaller than any nucleus, now and then a fibre; each up to 1 high."""
    dust = np.zeros((size, size))
    y, x = np.mgrid[:size, :size]
    for _ in range(int(rng.integers(1, 16))):
        (top, left), height = rng.integers(0, size, 2), np.exp(rng.uniform(-2.5, 0))
        kind = rng.random()
        if kind < 0.45:
            dust[top : top + int(rng.integers(1, 5)), left : left + int(rng.integers(1, 5))] += height
        elif kind < 0.95:
            squares = (y - top) ** 2 + (x - left) ** 2
            dust += height * np.exp(-squares / (2 * rng.uniform(0.5, 1.5) ** 2))
        else:
            turn, half = rng.uniform(0, np.pi), rng.uniform(10, 60)
            across = (y - top) * np.cos(turn) + (x - left) * np.sin(turn)
            along = (x - left) * np.cos(turn) - (y - top) * np.sin(turn)
            dust += height * np.exp(-((across / rng.uniform(0.6, 1.8)) ** 2) / 2) * (np.abs(along) < half)
    return dust


def _glow(size: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(size, size): one to three bright spots without an edge, wider than any nucleus; lamps and media make them."""
    y, x = np.mgrid[:size, :size]
    glow = np.zeros((size, size))
    for _ in range(int(rng.integers(1, 4))):
        centre, width = rng.uniform(-0.2 * size, 1.2 * size, 2), rng.uniform(0.11, 0.8, 2) * size
        distance = ((y - centre[0]) / width[0]) ** 2 + ((x - centre[1]) / width[1]) ** 2
        glow += rng.uniform(0.3, 1.0) * np.exp(-distance / 2)
    return glow


def slow_field(shape: tuple[int, ...], rng: np.random.Generator, strength: float) -> npt.NDArray[np.float64]:
    """(y, x) float64 around 1: a slope and a bow over the whole image, of up to `strength` each."""
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    a, b, c = rng.uniform(-strength, strength, 3)
    return np.asarray(1 + a * y + b * x + c * (x * x + y * y - 0.6))
