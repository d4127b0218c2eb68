"""Annotated images in, batches of augmented crops with their targets out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label
from skimage.transform import resize

from hcs_nuclei.segmentation.backend import import_keras
from hcs_nuclei.segmentation.diameter import median_diameter
from hcs_nuclei.segmentation.normalise import normalise
from hcs_nuclei.segmentation.scale import viewing_scale
from hcs_nuclei.segmentation.targets import TARGETS, make_targets
from hcs_nuclei.training.annotations import AnnotatedImage
from hcs_nuclei.training.empty_crops import empty_crop, slow_field

Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]
#: Share of crops that show no nucleus at all (noise, gradients, dust), so that an empty field gives none.
EMPTY_SHARE = 0.05
#: Share of crops that are spoilt: far out of focus, or saturated with light around what is too bright. Their nuclei are
#: to be found, with less certainty.
SPOILT_SHARE = 0.06
#: Share of crops into which nuclei of a second crop are pasted, across and beside those of the first.
PASTE_SHARE = 0.3
#: How much of the augmentation is left while the learning rate falls.
CALM_STRENGTH = 0.4
#: Share of the crops by modality, where a data set says what its images are.
MODALITY_SHARES = {"histology": 0.13, "brightfield": 0.05}
#: Share of the crops of an image that are made at the scale at which the image will be looked at, where that is another
#: than its own.
VIEWED_SHARE = 0.5
#: Images with a larger median diameter, px, are brought to that scale before anything else: a crop would show none of
#: their nuclei whole.
LARGEST_PX = 60.0


@dataclass(frozen=True, slots=True)
class Source:
    """One annotated image, ready to be cut.

    `image` (y, x) normalised float32, `labels` (y, x) int32; `scale` is that at which a network will look at it.
    """

    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    scale: float


def make_source(annotated: AnnotatedImage) -> Source:
    """Normalise an annotated image, and shrink it where its nuclei are large."""
    image, labels = normalise(annotated.image), annotated.labels
    diameter = median_diameter(labels.astype(np.uint32))[0]
    scale = viewing_scale(diameter) if diameter else 1.0
    if diameter > LARGEST_PX:
        shape = tuple(max(1, round(n * scale)) for n in image.shape)
        image = resize(image, shape, order=1, anti_aliasing=True, preserve_range=True).astype(np.float32)
        labels = resize(labels, shape, order=0, anti_aliasing=False, preserve_range=True).astype(np.int32)
        scale = 1.0
    return Source(image, labels, scale)


def random_crop(
    sources: Sequence[Source],
    weights: npt.NDArray[np.float64],
    size: int,
    rng: np.random.Generator,
    strength: float = 1.0,
) -> Pair:
    """One augmented crop: image (size, size) float32, labels (size, size) int32.

    Rotation by any angle, scale from 0.55 to 1.75 (log-uniform), mirror, pasted nuclei, gain, offset, gamma, a slow
    gradient, blur, noise, loss of focus and saturation, each in a share of the crops that `strength` (0 to 1) is
    multiplied with; quarter turns and mirrors always. Outside of the source image lies its mirror.
    """
    if rng.random() < EMPTY_SHARE:
        return empty_crop(size, rng), np.zeros((size, size), np.int32)
    source = sources[int(rng.choice(len(sources), p=weights))]
    scale = source.scale if source.scale != 1 and rng.random() < VIEWED_SHARE else 1.0
    if rng.random() < 0.7 * strength:
        scale *= float(np.exp(rng.uniform(np.log(0.55), np.log(1.75))))
    turned = rng.random() < 0.3 * strength
    image, labels = _place(source, size, scale, turned, rng)
    if rng.random() < PASTE_SHARE * strength:
        image, labels = _paste((image, labels), _place(source, size, scale, turned, rng), rng)
    return _recolour(image, rng, strength), labels


def _place(source: Source, size: int, scale: float, turned: bool, rng: np.random.Generator) -> Pair:
    angle = rng.uniform(0, 2 * np.pi) if turned else float(rng.integers(4)) * np.pi / 2
    span = size / scale
    centre = [
        rng.uniform(span / 2, length - span / 2) if length > span else length / 2 + rng.uniform(-0.1, 0.1) * span
        for length in source.image.shape
    ]
    if scale == 1.0 and not turned:
        # On the pixels' own grid: between them the image would be smoothed, and the outlines off by half a pixel.
        centre = [float(np.round(c)) for c in centre]
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < 0.5:
        rotation[:, 1] *= -1
    matrix = rotation / scale
    offset = np.array(centre) - 0.5 - matrix @ np.full(2, (size - 1) / 2)
    # Shrinking without a blur before it would alias; enlarging needs none.
    image = ndimage.gaussian_filter(source.image, 0.4 / scale) if scale < 0.8 else source.image
    moved = ndimage.affine_transform(image, matrix, offset, (size, size), order=1, mode="mirror")
    numbers = ndimage.affine_transform(source.labels, matrix, offset, (size, size), order=0, mode="mirror")
    return moved, _number_apart(numbers)


def _paste(onto: Pair, other: Pair, rng: np.random.Generator) -> Pair:
    """A third of the nuclei of `other` on `onto`, each with a soft rim, half of the times shining through.

    Nuclei that touch and overlap are what a network gets wrong and what images show too few of.

    Source: copy-paste augmentation (Ghiasi et al. 2021), with light adding up as it does in a microscope.
    """
    image, labels = onto
    count = int(other[1].max())
    chosen = np.zeros(count + 1, bool)
    chosen[1:] = rng.random(count) < rng.uniform(0.1, 0.6)
    mask = chosen[other[1]]
    if not mask.any():
        return onto
    rim = ndimage.gaussian_filter(mask.astype(np.float32), 0.7)
    ground = float(np.percentile(other[0], 5))
    gain = np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    light = rim * (other[0] - ground) * gain
    lit = image + light if rng.random() < 0.5 else image * (1 - rim) + rim * ground + light
    labels = np.where(mask, other[1] + int(labels.max()), labels)
    return lit, _without_remnants(_number_apart(labels))


def _without_remnants(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """`labels` without regions of fewer than 12 px: what is left of a nucleus under another is not seen as one."""
    return np.asarray(np.where(np.bincount(labels.ravel())[labels] >= 12, labels, 0))


def _number_apart(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """`labels` with a number of its own for every region: a nucleus and its mirror image are two nuclei to look at.

    With one number for both, no border would part them where they meet, and the depth of one would scale the other's.
    A nucleus that is annotated in pieces is learnt piece by piece for the same reason, and judged as one.
    """
    return np.asarray(label(labels, connectivity=2), dtype=np.int32)


def _recolour(
    image: npt.NDArray[np.float32], rng: np.random.Generator, strength: float = 1.0
) -> npt.NDArray[np.float32]:
    out = image.astype(np.float64)
    if rng.random() < 0.5 * strength:
        top = max(float(out.max()), 1e-3)
        out = np.clip(out / top, 0, 1) ** float(np.exp(rng.uniform(-0.6, 0.6))) * top
    if rng.random() < SPOILT_SHARE * strength:
        out = spoil(out, rng)
    elif rng.random() < 0.3 * strength:
        out = ndimage.gaussian_filter(out, rng.uniform(0.3, 1.8))
    if rng.random() < 0.3 * strength:
        out = out * slow_field(out.shape, rng, 0.4) + (slow_field(out.shape, rng, 0.2) - 1)
    if rng.random() < 0.4 * strength:
        out = out + rng.normal(0, rng.uniform(0.01, 0.12), out.shape)
    out = out * float(np.exp(rng.uniform(-0.7, 0.5))) + rng.uniform(-0.1, 0.1)
    return np.clip(out, -1, 4).astype(np.float32)


def spoil(image: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A normalised (y, x) image far out of focus, or with light scattered around the nuclei and cut off above a cap."""
    if rng.random() < 0.5:
        return np.asarray(ndimage.gaussian_filter(image, rng.uniform(2.0, 7.0)))
    scattered = 0.5 * image + 0.5 * ndimage.gaussian_filter(image, rng.uniform(1.0, 5.0))
    low, top = np.percentile(scattered, (1, 99.8))
    cap = low + max(top - low, 1e-3) * np.exp(rng.uniform(np.log(0.05), np.log(0.5)))
    return np.asarray(np.minimum(scattered, cap) / max(cap, 1e-3))


def make_dataset(
    annotated: Sequence[AnnotatedImage],
    *,
    size: int,
    batch: int,
    batches: int,
    seed: int,
    calm_from_epoch: int | None = None,
    workers: int = 1,
) -> Any:
    """A ``keras.utils.PyDataset`` of `batches` batches an epoch: (batch, size, size, 1) and (batch, size, size, 5).

    Every crop is drawn from a generator seeded by (`seed`, epoch, batch): the same crops in every run, wherever
    training was resumed. Images are drawn by :func:`sampling_weights`. From epoch `calm_from_epoch` on (the first is 0)
    they are altered less, so that the network ends on outlines as they were drawn and not as they were resampled.
    """
    import_keras()
    from keras.utils import PyDataset

    sources = [make_source(a) for a in annotated]
    weights = sampling_weights(sources, [a.modality for a in annotated])

    class Crops(PyDataset):  # type: ignore[misc]
        epoch = 0

        def __len__(self) -> int:
            return batches

        def on_epoch_end(self) -> None:
            self.epoch += 1

        def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
            rng = np.random.default_rng([seed, self.epoch, index])
            calm = calm_from_epoch is not None and self.epoch >= calm_from_epoch
            images = np.empty((batch, size, size, 1), np.float32)
            targets = np.empty((batch, size, size, TARGETS), np.float32)
            for i in range(batch):
                image, labels = random_crop(sources, weights, size, rng, CALM_STRENGTH if calm else 1.0)
                images[i, ..., 0] = image
                targets[i] = make_targets(labels)
            return images, targets

    return Crops(workers=workers, use_multiprocessing=False, max_queue_size=8)


def sampling_weights(sources: Sequence[Source], modalities: Sequence[str]) -> npt.NDArray[np.float64]:
    """How likely each image is drawn: by the square root of its area; histology and brightfield by their shares."""
    weights = np.sqrt([float(source.image.size) for source in sources])
    kinds = np.array([m if m in MODALITY_SHARES else "" for m in modalities])
    present = {kind: MODALITY_SHARES.get(kind, 0.0) for kind in set(kinds.tolist())}
    if "" in present:
        present[""] = 1.0 - sum(present.values())
    for kind, share in present.items():
        weights[kinds == kind] *= share / weights[kinds == kind].sum()
    return np.asarray(weights / weights.sum())


def fixed_crops(
    annotated: Sequence[AnnotatedImage], *, size: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The middle of every image, unaltered: (n, size, size, 1) and targets (n, size, size, 5), for validation loss."""
    images = np.zeros((len(annotated), size, size, 1), np.float32)
    targets = np.zeros((len(annotated), size, size, TARGETS), np.float32)
    for i, pair in enumerate(annotated):
        source = make_source(pair)
        image, labels = source.image, source.labels
        missing = [max(0, size - n) for n in image.shape]
        if any(missing):
            image = np.pad(image, [(0, m) for m in missing], mode="symmetric")
            labels = np.pad(labels, [(0, m) for m in missing], mode="symmetric")
        top, left = ((n - size) // 2 for n in image.shape)
        window = (slice(top, top + size), slice(left, left + size))
        images[i, ..., 0] = image[window]
        targets[i] = make_targets(_number_apart(labels[window]))
    return images, targets
