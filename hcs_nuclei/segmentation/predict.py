"""A raw field in, a label image out: normalise, rescale, network in tiles, rescale back, instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.segmentation.backend import gpu_visible
from hcs_nuclei.segmentation.confidence import FEATURES, ConfidenceSettings, describe
from hcs_nuclei.segmentation.evidence import evidence
from hcs_nuclei.segmentation.instances import InstanceSettings, keep, separate
from hcs_nuclei.segmentation.normalise import normalise
from hcs_nuclei.segmentation.scale import viewing_scale
from hcs_nuclei.segmentation.targets import TARGETS
from hcs_nuclei.segmentation.tiling import cut, plan_tiles

#: 576 px with 48 px overlap cover the common cameras (1080, 2048, 2160 px) with 13 to 27 % of pixels seen twice.
TILE_PX = 576
OVERLAP_PX = 48
#: The edges of a tile of a smaller image are the next multiples of this: few shapes to trace, and little beyond the
#: image to compute.
STEP_PX = 96
#: Objects smaller than this share of a typical nucleus are fragments of large ones, whatever the smallest area asked.
SMALLEST_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Segmentation:
    """`labels` (y, x) uint32, 1 … n without gaps, 0 = background; `confidence` (n,) float32 in [0, 1]."""

    labels: npt.NDArray[np.uint32]
    confidence: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Network output `maps` (y, x, 5) float32 in [0, 1] at the scale that it was made at; the raw `image` (y, x)."""

    maps: npt.NDArray[np.float32]
    image: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x) of the field."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def scale(self) -> float:
        """Pixels of the network for one of the field."""
        return float(self.maps.shape[0] / self.shape[0])

    @staticmethod
    def of_nothing(image: npt.NDArray[Any]) -> Prediction:
        """What a field that shows nothing at all is given without asking the network."""
        return Prediction(np.zeros((*image.shape, TARGETS), np.float32), image)


class Segmenter:
    """A network ready to segment: one traced function for each shape of tile, called from one thread.

    All fields of a plate have one shape. The batch is 1 on a CPU and 8 on a GPU; within one kind of device the same
    field gives the same bytes.
    """

    def __init__(
        self,
        network: Any,
        instances: InstanceSettings,
        training_diameter_px: float,
        confidence: ConfidenceSettings | None = None,
    ) -> None:
        self.instances = instances
        self.confidence = confidence or ConfidenceSettings()
        self.training_diameter_px = training_diameter_px
        self.on_gpu = gpu_visible()
        self._batch = 8 if self.on_gpu else 1
        self._network = network
        self._traced: dict[tuple[int, int], Any] = {}

    def scale_for(self, diameter_px: float | None) -> float:
        """Pixels of the network for one of the field; 1 without a diameter."""
        return 1.0 if diameter_px is None else viewing_scale(diameter_px, self.training_diameter_px)

    def predict(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Network output (y, x, 5) float32 in [0, 1] of a normalised (y, x) image, stitched from tiles."""
        edges = tile_for(image.shape)
        tiles = plan_tiles(*image.shape, tile=edges, overlap=OVERLAP_PX)
        if edges not in self._traced:
            self._traced[edges] = _trace(self._network, self._batch, edges)
        run = self._traced[edges]
        out = np.empty((*image.shape, TARGETS), np.float32)
        for number, block in enumerate(cut(image, tiles, tile=edges, batch=self._batch)):
            result = run(block)
            for i, tile in enumerate(tiles[number * self._batch : (number + 1) * self._batch]):
                out[tile.target] = result[i][tile.keep]
        return out

    def prediction_for(self, image: npt.NDArray[Any], diameter_px: float | None = None) -> Prediction:
        """Network output of a raw (y, x) `image` whose nuclei have that diameter, at the scale of training."""
        return self.prediction_at(image, self.scale_for(diameter_px))

    def prediction_at(self, image: npt.NDArray[Any], scale: float) -> Prediction:
        """Network output of a raw (y, x) `image`, rescaled by `scale` before it is seen."""
        pixels = normalise(image)
        if scale != 1.0:
            pixels = _rescaled(pixels, tuple(max(1, round(n * scale)) for n in image.shape))
        return Prediction(self.predict(pixels), image)

    def instances_of(self, prediction: Prediction, *, minimum_area_px: float) -> Segmentation:
        """Label image and confidences at the field's own size; CPU only, may run beside the network in a thread.

        What is found in a field that is far out of focus or saturated is kept, and believed less.
        """
        found, features = self.objects_of(prediction)
        smallest = self.smallest_area_px(prediction, minimum_area_px)
        labels, confidence = keep(found, self.confidence.of(features), smallest, self.instances.minimum_confidence)
        return Segmentation(labels, confidence * np.float32(evidence(prediction.image, labels)))

    def objects_of(self, prediction: Prediction) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Every object before any is dropped: labels (y, x) at the field's own size, 1 … n, and (n, 8) its features.

        Where the field was enlarged, nuclei are found on the network's grid, on which they are apart, and brought
        back; where it was shrunk, on the field's own, on which their outlines are smooth. What is lost on the way has
        no pixels or no features.
        """
        maps, shape = prediction.maps, prediction.shape
        if maps.shape[0] < shape[0]:
            labels = separate(_rescaled(maps, shape), self.instances, prediction.scale)
            seen = labels[_nearest(shape, maps.shape[:2])]
        else:
            seen = separate(maps, self.instances, prediction.scale)
            labels = seen if maps.shape[:2] == shape else seen[_nearest(maps.shape[:2], shape)]
        features = np.zeros((max(int(labels.max(initial=0)), int(seen.max(initial=0))), len(FEATURES)))
        described = describe(seen, maps, self.training_diameter_px)
        features[: len(described)] = described
        return labels, features

    def smallest_area_px(self, prediction: Prediction, minimum_area_px: float) -> float:
        """What is smaller is dropped, px² of the field: debris, and fragments of nuclei of the size looked for."""
        typical = np.pi / 4 * (self.training_diameter_px / prediction.scale) ** 2
        return max(minimum_area_px, SMALLEST_SHARE * typical)

    def __call__(
        self, image: npt.NDArray[Any], *, diameter_px: float | None = None, minimum_area_px: float = 20
    ) -> Segmentation:
        """Segment a raw (y, x) image of any integer or float dtype."""
        return self.instances_of(self.prediction_for(image, diameter_px), minimum_area_px=minimum_area_px)


def tile_for(shape: tuple[int, ...]) -> tuple[int, int]:
    """(y, x) edges in px of the tiles that an image of that shape is cut into."""
    height, width = (min(TILE_PX, -(-length // STEP_PX) * STEP_PX) for length in shape)
    return height, width


def _rescaled(image: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    from skimage.transform import resize

    shrinks = shape[0] < image.shape[0]
    out = resize(image, shape, order=1, mode="symmetric", anti_aliasing=shrinks, preserve_range=True)
    return np.asarray(out, dtype=np.float32)


def _nearest(source: tuple[int, ...], target: tuple[int, ...]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Index into a `source`-shaped image of the pixel under each pixel of a `target`-shaped one."""
    rows, columns = (
        np.minimum(((np.arange(m) + 0.5) * n / m).astype(np.intp), n - 1) for n, m in zip(source, target, strict=True)
    )
    return np.ix_(rows, columns)  # type: ignore[return-value]


def _trace(network: Any, batch: int, edges: tuple[int, int]) -> Any:
    import tensorflow as tf

    signature = [tf.TensorSpec((batch, *edges, 1), tf.float32)]

    # XLA was 15-65 % slower than oneDNN's kernels on CPUs, so the function is traced and not compiled.
    forward = tf.function(lambda block: network(block, training=False), input_signature=signature)
    concrete = forward.get_concrete_function()
    return lambda block: concrete(tf.constant(block)).numpy()
