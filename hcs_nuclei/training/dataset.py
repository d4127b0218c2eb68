"""Annotated images in, batches of augmented crops with their targets out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label

from hcs_nuclei.segmentation.backend import import_keras
from hcs_nuclei.segmentation.normalise import normalise
from hcs_nuclei.segmentation.targets import TARGETS, make_targets
from hcs_nuclei.training.annotations import AnnotatedImage

Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]
#: Share of crops that show no nucleus at all (noise, gradients, dust), so that an empty field gives none.
EMPTY_SHARE = 0.03


def random_crop(pairs: Sequence[Pair], weights: npt.NDArray[np.float64], size: int, rng: np.random.Generator) -> Pair:
    """One augmented crop: image (size, size) float32, labels (size, size) int32.

    Rotation by any angle, scale from 0.55 to 1.75 (log-uniform), mirror, gain, offset, gamma, a slow gradient, blur
    and noise. Outside of the source image lies its mirror.
    """
    if rng.random() < EMPTY_SHARE:
        return _empty(size, rng), np.zeros((size, size), np.int32)
    image, labels = pairs[int(rng.choice(len(pairs), p=weights))]
    image, labels = _place(image, labels, size, rng)
    return _recolour(image, rng), labels


def _place(image: npt.NDArray[np.float32], labels: npt.NDArray[np.int32], size: int, rng: np.random.Generator) -> Pair:
    scale = float(np.exp(rng.uniform(np.log(0.55), np.log(1.75)))) if rng.random() < 0.7 else 1.0
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.3 else float(rng.integers(4)) * np.pi / 2
    span = size / scale
    centre = [
        rng.uniform(span / 2, length - span / 2) if length > span else length / 2 + rng.uniform(-0.1, 0.1) * span
        for length in image.shape
    ]
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < 0.5:
        rotation[:, 1] *= -1
    matrix = rotation / scale
    offset = np.array(centre) - 0.5 - matrix @ np.full(2, (size - 1) / 2)
    # Shrinking without a blur before it would alias; enlarging needs none.
    source = ndimage.gaussian_filter(image, 0.4 / scale) if scale < 0.8 else image
    moved = ndimage.affine_transform(source, matrix, offset, (size, size), order=1, mode="mirror")
    numbers = ndimage.affine_transform(labels, matrix, offset, (size, size), order=0, mode="mirror")
    return moved, _number_apart(numbers)


def _number_apart(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """`labels` with a number of its own for every region: a nucleus and its mirror image are two nuclei to look at.

    With one number for both, no border would part them where they meet, and the depth of one would scale the other's.
    """
    return np.asarray(label(labels, connectivity=2), dtype=np.int32)


def _recolour(image: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    out = image.astype(np.float64)
    if rng.random() < 0.5:
        top = max(float(out.max()), 1e-3)
        out = np.clip(out / top, 0, 1) ** float(np.exp(rng.uniform(-0.6, 0.6))) * top
    if rng.random() < 0.3:
        out = ndimage.gaussian_filter(out, rng.uniform(0.3, 1.8))
    if rng.random() < 0.3:
        out = out * _slow_field(out.shape, rng, 0.4) + (_slow_field(out.shape, rng, 0.2) - 1)
    if rng.random() < 0.4:
        out = out + rng.normal(0, rng.uniform(0.01, 0.12), out.shape)
    out = out * float(np.exp(rng.uniform(-0.7, 0.5))) + rng.uniform(-0.1, 0.1)
    return np.clip(out, -1, 4).astype(np.float32)


def _slow_field(shape: tuple[int, ...], rng: np.random.Generator, strength: float) -> npt.NDArray[np.float64]:
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    a, b, c = rng.uniform(-strength, strength, 3)
    return np.asarray(1 + a * y + b * x + c * (x * x + y * y - 0.6))


def _empty(size: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    noise = rng.normal(0, 1, (size, size))
    if rng.random() < 0.3:
        noise = ndimage.gaussian_filter(noise, rng.uniform(0.5, 3))
        noise /= max(float(noise.std()), 1e-6)
    if rng.random() < 0.5:
        noise = noise + 6 * (_slow_field((size, size), rng, 0.8) - 1)
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(1, 12))):
            y, x = rng.integers(0, size, 2)
            noise[y : y + int(rng.integers(1, 4)), x : x + int(rng.integers(1, 4))] += rng.uniform(5, 60)
    return np.asarray(np.clip(normalise(noise) * rng.uniform(0.3, 1.5), -1, 4), dtype=np.float32)


def make_dataset(
    annotated: Sequence[AnnotatedImage], *, size: int, batch: int, batches: int, seed: int, workers: int = 1
) -> Any:
    """A ``keras.utils.PyDataset`` of `batches` batches an epoch: (batch, size, size, 1) and (batch, size, size, 3).

    Every crop is drawn from a generator seeded by (`seed`, epoch, batch): the same crops in every run, wherever
    training was resumed. Larger images are drawn more often, by the square root of their area.
    """
    import_keras()
    from keras.utils import PyDataset

    pairs: list[Pair] = [(normalise(a.image), a.labels) for a in annotated]
    weights = np.sqrt([image.size for image, _ in pairs])
    weights = weights / weights.sum()

    class Crops(PyDataset):  # type: ignore[misc]
        epoch = 0

        def __len__(self) -> int:
            return batches

        def on_epoch_end(self) -> None:
            self.epoch += 1

        def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
            rng = np.random.default_rng([seed, self.epoch, index])
            images = np.empty((batch, size, size, 1), np.float32)
            targets = np.empty((batch, size, size, TARGETS), np.float32)
            for i in range(batch):
                image, labels = random_crop(pairs, weights, size, rng)
                images[i, ..., 0] = image
                targets[i] = make_targets(labels)
            return images, targets

    return Crops(workers=workers, use_multiprocessing=False, max_queue_size=8)


def fixed_crops(
    annotated: Sequence[AnnotatedImage], *, size: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The middle of every image, unaltered: (n, size, size, 1) and targets (n, size, size, 3), for validation loss."""
    images = np.zeros((len(annotated), size, size, 1), np.float32)
    targets = np.zeros((len(annotated), size, size, TARGETS), np.float32)
    for i, pair in enumerate(annotated):
        image, labels = normalise(pair.image), pair.labels
        missing = [max(0, size - n) for n in image.shape]
        if any(missing):
            image = np.pad(image, [(0, m) for m in missing], mode="symmetric")
            labels = _number_apart(np.pad(labels, [(0, m) for m in missing], mode="symmetric"))
        top, left = ((n - size) // 2 for n in image.shape)
        window = (slice(top, top + size), slice(left, left + size))
        images[i, ..., 0] = image[window]
        targets[i] = make_targets(labels[window])
    return images, targets
