"""A raw field in, a label image out: normalise, rescale, network in tiles, rescale back, instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.segmentation.backend import gpu_visible
from hcs_nuclei.segmentation.instances import InstanceSettings, find_nuclei
from hcs_nuclei.segmentation.normalise import normalise
from hcs_nuclei.segmentation.targets import TARGETS
from hcs_nuclei.segmentation.tiling import cut, plan_tiles

#: 576 px with 48 px overlap cover the common cameras (1080, 2048, 2160 px) with 13 to 27 % of pixels seen twice.
TILE_PX = 576
OVERLAP_PX = 48
#: Fields are rescaled where the factor to the training diameter lies outside of this: the network has seen the rest,
#: and rescaling costs outlines (shrinking) or time (enlarging). Chosen on validation images.
NATIVE_SCALES = (1 / 1.6, 1.4)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """`labels` (y, x) uint32, 1 … n without gaps, 0 = background; `confidence` (n,) float32 in [0, 1]."""

    labels: npt.NDArray[np.uint32]
    confidence: npt.NDArray[np.float32]


class Segmenter:
    """A network ready to segment: one traced function of one fixed shape, called from one thread.

    The batch is 1 on a CPU and 8 on a GPU; within one kind of device the same field gives the same bytes.
    """

    def __init__(self, network: Any, instances: InstanceSettings, training_diameter_px: float) -> None:
        self.instances = instances
        self.training_diameter_px = training_diameter_px
        self.on_gpu = gpu_visible()
        self._batch = 8 if self.on_gpu else 1
        self._run = _compile(network, self._batch)

    def scale_for(self, diameter_px: float | None) -> float:
        """Factor from the field's pixels to the network's; exactly 1 near 1 or without a diameter."""
        if diameter_px is None:
            return 1.0
        scale = self.training_diameter_px / diameter_px
        return 1.0 if NATIVE_SCALES[0] <= scale <= NATIVE_SCALES[1] else scale

    def predict(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Network output (y, x, 3) float32 in [0, 1] of a normalised (y, x) image, stitched from tiles."""
        tiles = plan_tiles(*image.shape, tile=TILE_PX, overlap=OVERLAP_PX)
        out = np.empty((*image.shape, TARGETS), np.float32)
        for number, block in enumerate(cut(image, tiles, tile=TILE_PX, batch=self._batch)):
            result = self._run(block)
            for i, tile in enumerate(tiles[number * self._batch : (number + 1) * self._batch]):
                out[tile.target] = result[i][tile.keep]
        return out

    def prediction_for(self, image: npt.NDArray[Any], diameter_px: float | None = None) -> npt.NDArray[np.float32]:
        """Network output (y, x, 3) at the resolution of the raw (y, x) `image`, seen at the scale of training."""
        pixels = normalise(image)
        scale = self.scale_for(diameter_px)
        if scale == 1.0:
            return self.predict(pixels)
        from skimage.transform import resize

        shape = tuple(max(1, round(n * scale)) for n in image.shape)
        small = resize(pixels, shape, order=1, mode="symmetric", anti_aliasing=scale < 1, preserve_range=True)
        seen = self.predict(small.astype(np.float32))
        back = resize(seen, image.shape, order=1, mode="symmetric", anti_aliasing=False, preserve_range=True)
        return np.asarray(back, dtype=np.float32)

    def instances_of(self, prediction: npt.NDArray[np.float32], *, minimum_area_px: float) -> Segmentation:
        """Label image and confidences from network output; CPU only, may run beside the network in another thread."""
        return Segmentation(*find_nuclei(prediction, self.instances, minimum_area_px=minimum_area_px))

    def __call__(
        self, image: npt.NDArray[Any], *, diameter_px: float | None = None, minimum_area_px: float = 20
    ) -> Segmentation:
        """Segment a raw (y, x) image of any integer or float dtype."""
        return self.instances_of(self.prediction_for(image, diameter_px), minimum_area_px=minimum_area_px)


def _compile(network: Any, batch: int) -> Any:
    import tensorflow as tf

    signature = [tf.TensorSpec((batch, TILE_PX, TILE_PX, 1), tf.float32)]

    # XLA was 15-65 % slower than oneDNN's kernels on CPUs, so the function is traced and not compiled.
    forward = tf.function(lambda block: network(block, training=False), input_signature=signature)
    concrete = forward.get_concrete_function()
    return lambda block: concrete(tf.constant(block)).numpy()
