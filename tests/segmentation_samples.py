"""Scenes of nuclei with known truth, and how much of each nucleus was found again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hcs_nuclei.segmentation.confidence import ConfidenceSettings, describe
from hcs_nuclei.segmentation.instances import InstanceSettings, keep, separate


def disks(shape: tuple[int, int], circles: Iterable[tuple[float, float, float]]) -> npt.NDArray[np.int32]:
    """Labels 1 … n of the (y, x, radius) `circles` in their order; where two overlap, the nearer centre wins."""
    y, x = np.indices(shape)
    nearest = np.full(shape, np.inf)
    labels = np.zeros(shape, np.int32)
    for number, (top, left, radius) in enumerate(circles, start=1):
        depth = np.hypot(y - top, x - left) / radius
        mine = (depth <= 1) & (depth < nearest)
        labels[mine] = number
        nearest[mine] = depth[mine]
    return labels


def crowded_scene(
    rng: np.random.Generator, shape: tuple[int, int], radii: tuple[float, float], nuclei: int
) -> npt.NDArray[np.int32]:
    """Round nuclei, about half of which touch one that was there before, some cut off by the edges; labels 1 … n."""
    placed: list[tuple[float, float, float]] = []
    for _ in range(20 * nuclei):
        radius = float(rng.uniform(*radii))
        y, x = rng.uniform(-0.3 * radius, np.array(shape) + 0.3 * radius)
        if placed and rng.random() < 0.5:
            top, left, other = placed[int(rng.integers(len(placed)))]
            angle = rng.uniform(0, 2 * np.pi)
            y, x = top + (radius + other) * np.sin(angle), left + (radius + other) * np.cos(angle)
        # Neighbours may be pressed together by a tenth, as nuclei in a dense culture are.
        apart = all(np.hypot(y - t, x - s) > 0.9 * (radius + r) for t, s, r in placed)
        within = -0.3 * radius < y < shape[0] + 0.3 * radius and -0.3 * radius < x < shape[1] + 0.3 * radius
        if apart and within:
            placed.append((float(y), float(x), radius))
        if len(placed) == nuclei:
            break
    return disks(shape, placed)


def best_overlaps(truth: npt.NDArray[Any], found: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """For each nucleus of `truth`, the IoU with the nucleus of `found` that covers it best; 0 where none does."""
    best = []
    for number, window in enumerate(ndimage.find_objects(truth), start=1):
        if window is None:
            continue
        mask = truth[window] == number
        overlaps = [0.0]
        for other in np.unique(found[window][mask]):
            if other:
                whole = np.count_nonzero(found == other)
                shared = np.count_nonzero(found[window][mask] == other)
                overlaps.append(shared / (whole + np.count_nonzero(mask) - shared))
        best.append(max(overlaps))
    return np.array(best)


def find_nuclei(
    maps: npt.NDArray[np.float32], settings: InstanceSettings, *, minimum_area_px: float
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    """Labels (y, x) and confidence (n,) of a network's output at native scale: what a segmenter does after it."""
    labels = separate(maps, settings)
    sure = ConfidenceSettings().of(describe(labels, maps, 20.0))
    return keep(labels, sure, minimum_area_px, settings.minimum_confidence)
