"""Light in, camera counts out: blur, haze, dust, uneven illumination, offset, noise, a 12-bit camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

#: Largest count of the simulated 12-bit camera; files hold 16 bit, as real ones do.
CAMERA_MAX = 4095
#: Counts of the simulated camera in the dark.
CAMERA_OFFSET = 100.0
#: Counts of the medium's and the plate's own light in the middle of the field, on average over fields.
BACKGROUND = 60.0
_COUNTS_PER_ELECTRON = 0.45
_READ_NOISE = 3.0
_HAZE = 0.1

Image = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shading:
    """Illumination over the field, one per channel and instrument: a polynomial of degree 2, about 1 in the middle.

    `coefficients` are those of 1, x, y, x², xy, y², with x and y running from -0.5 to 0.5 across the field.
    """

    coefficients: tuple[float, float, float, float, float, float] = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    @classmethod
    def random(cls, rng: np.random.Generator) -> Shading:
        """A vignette that loses 15 to 35 % in the corners, its centre a little off the field's."""
        fall = rng.uniform(0.3, 0.7)
        y, x = rng.normal(0, 0.08, 2)
        ratio = rng.uniform(0.8, 1.25)
        return cls((1.0, 2 * fall * x, 2 * fall * y / ratio, -fall, 0.05 * rng.normal(), -fall / ratio))

    def over(self, shape: tuple[int, int]) -> Image:
        """Relative illumination, float32 of `shape` (height, width)."""
        one, cx, cy, cxx, cxy, cyy = self.coefficients
        y = ((np.arange(shape[0], dtype=np.float32) + 0.5) / shape[0] - 0.5)[:, None]
        x = ((np.arange(shape[1], dtype=np.float32) + 0.5) / shape[1] - 0.5)[None, :]
        return np.asarray((one + cx * x + cxx * x * x) + (cy * y + cyy * y * y) + cxy * y * x, dtype=np.float32)


def expose(
    rng: np.random.Generator, light: Image, shading: Shading, *, background: float, blur_px: float
) -> npt.NDArray[np.uint16]:
    """The camera's picture, uint16 in 0 … :data:`CAMERA_MAX`, of `light` (float32 counts above background, 2-D).

    `background` is the medium's and the plate's own light in counts; `blur_px` the standard deviation of the point
    spread function. Shot noise is drawn as a normal deviate of the right variance: at the 50 electrons and more of
    every pixel it cannot be told from a Poisson one, and takes a fifth of the time.
    """
    sharp = ndimage.gaussian_filter(light, blur_px, truncate=3.0)
    picture = sharp + _haze(light, 8 * blur_px)
    picture += background
    picture *= shading.over((light.shape[0], light.shape[1]))
    np.maximum(picture, 0, out=picture)
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    noise *= np.sqrt(picture * np.float32(_COUNTS_PER_ELECTRON) + np.float32(_READ_NOISE**2))
    picture += noise
    picture += np.float32(CAMERA_OFFSET + 0.5)
    return np.asarray(np.clip(picture, 0, CAMERA_MAX), dtype=np.uint16)


def add_debris(rng: np.random.Generator, light: Image, per_megapixel: float) -> None:
    """Dust on `light` (changed in place): sharp specks, wide out-of-focus smudges, now and then a fibre."""
    count = rng.poisson(per_megapixel * light.size / 1e6)
    for _ in range(count):
        smudge = rng.random() < 0.15
        sigma = rng.uniform(12, 30) if smudge else rng.lognormal(0.1, 0.4)
        height = rng.uniform(15, 60) if smudge else rng.lognormal(5.6, 0.8)
        y, x = rng.random(2) * light.shape
        add_spot(light, y, x, sigma, height)
    if rng.random() < 0.02 * count:
        _add_fibre(rng, light)


def enlarge(coarse: Image, shape: tuple[int, int], factor: int) -> Image:
    """`coarse` on a grid `factor` times finer, linearly interpolated, float32 of `shape`."""
    rows, columns = (
        np.clip((np.arange(edge) - (factor - 1) / 2) / factor, 0, n - 1)
        for edge, n in zip(shape, coarse.shape, strict=True)
    )
    # Transposing the small one, not the large one, keeps both passes in memory order.
    return _stretch(np.ascontiguousarray(_stretch(np.ascontiguousarray(coarse.T), columns).T), rows)


def _haze(light: Image, sigma_px: float) -> Image:
    """Light from above and below the focus: a wide blur, made on a grid four times coarser, float32 like `light`."""
    height, width = light.shape
    padded = np.pad(light, ((0, -height % 4), (0, -width % 4)), mode="edge")
    coarse = np.add.reduceat(
        np.add.reduceat(padded, np.arange(0, padded.shape[0], 4), axis=0), np.arange(0, padded.shape[1], 4), axis=1
    )
    coarse = ndimage.gaussian_filter(coarse, sigma_px / 4, truncate=3.0) * np.float32(_HAZE / 16)
    return enlarge(coarse, (height, width), 4)


def _stretch(image: Image, rows: npt.NDArray[np.float64]) -> Image:
    """`image` at fractional `rows`, linearly interpolated."""
    lower = np.minimum(rows.astype(np.intp), max(image.shape[0] - 2, 0))
    upper = np.minimum(lower + 1, image.shape[0] - 1)
    share = (rows - lower).astype(np.float32)[:, None]
    return np.asarray(image[lower] * (1 - share) + image[upper] * share, dtype=np.float32)


def add_spot(light: Image, y: float, x: float, sigma: float, height: float) -> None:
    """Add a round spot to `light` (changed in place): centre and standard deviation in pixels, height in counts."""
    reach = int(3.5 * sigma) + 1
    rows = np.arange(max(0, int(y) - reach), min(light.shape[0], int(y) + reach + 1))
    columns = np.arange(max(0, int(x) - reach), min(light.shape[1], int(x) + reach + 1))
    if not (rows.size and columns.size):
        return
    vertical = np.exp(-0.5 * ((rows - y) / sigma) ** 2)
    horizontal = np.exp(-0.5 * ((columns - x) / sigma) ** 2)
    light[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += height * vertical[:, None] * horizontal[None, :]


def _add_fibre(rng: np.random.Generator, light: Image) -> None:
    """A lint fibre: a smooth random walk of spots, a few hundred pixels long."""
    y, x = rng.random(2) * light.shape
    heading, turn = rng.uniform(0, 2 * np.pi), 0.0
    height = rng.uniform(40, 120)
    for _ in range(int(rng.uniform(60, 200))):
        turn = 0.9 * turn + rng.normal(0, 0.02)
        heading += turn
        y, x = y + np.sin(heading), x + np.cos(heading)
        add_spot(light, y, x, 1.1, height)
