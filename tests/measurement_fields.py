"""Label images that are hard to measure, for the tests of measurement."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial

Labels = npt.NDArray[np.uint32]


def blobs(seed: int, shape: tuple[int, int] = (160, 190), count: int = 40) -> Labels:
    """Irregular nuclei that touch each other and the edges, some hollow or in pieces; a few of one or two pixels."""
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.normal(size=shape), 3) > -0.02
    centres = rng.uniform((0, 0), shape, size=(count, 2))
    _, nearest = spatial.cKDTree(centres).query(np.argwhere(np.ones(shape)))
    labels = np.where(mask, nearest.reshape(shape) + 1, 0).astype(np.uint32)
    for n, (y, x) in enumerate(rng.integers((2, 2), np.subtract(shape, 3), size=(6, 2))):
        labels[y - 1 : y + 2, x - 1 : x + 3] = 0
        labels[y, x : x + 1 + n % 2] = count + 1 + n
    return labels


def renumbered(labels: Labels, seed: int) -> Labels:
    """`labels` with every label replaced by another, up to the largest uint32; order is not kept."""
    rng = np.random.default_rng(seed)
    numbers = np.unique(labels[labels > 0])
    table = np.zeros(int(labels.max()) + 1, dtype=np.uint32)
    table[numbers] = rng.choice(2**32 - 1, size=numbers.size, replace=False) + 1
    return table[labels]


def disk(radius: float) -> Labels:
    """One round nucleus, a margin of a few pixels around it."""
    return ellipse(radius, radius, 0)


def ellipse(major: float, minor: float, degrees: float) -> Labels:
    """One elliptic nucleus by its semi-axes; `degrees` leans the long one from vertical down to the right."""
    half = int(np.ceil(major)) + 3
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    angle = np.radians(degrees)
    along = y * np.cos(angle) + x * np.sin(angle)
    across = -y * np.sin(angle) + x * np.cos(angle)
    return ((along / major) ** 2 + (across / minor) ** 2 <= 1).astype(np.uint32)


def rectangle(height: int, width: int) -> Labels:
    """One upright rectangular nucleus, 3 px of background around it."""
    return np.pad(np.ones((height, width), dtype=np.uint32), 3)
