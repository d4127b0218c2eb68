"""An image and its label image in, how far the image lets anybody tell where a nucleus ends out.

The confidence of a nucleus is calibrated on images that people could annotate. Far out of focus, or where the camera's
limit has cut off what is inside a nucleus, there is nothing that it was calibrated on: there it is believed less.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hcs_nuclei.segmentation.normalise import without_gaps

#: Width of the nuclei's outlines as a share of their diameter, by their contrast to the whole background: up to the
#: first an image is in focus, from the second on little but its place is known of a nucleus. As the model outlines
#: them, 108 annotated fluorescence images have 0.17 (median) to 0.35; nuclei of 24 px blurred by 9 px have 0.47.
IN_FOCUS, OUT_OF_FOCUS = 0.35, 0.55
#: The same by their contrast to what is near them: 0.17 to 0.28, stained sections 0.08 to 0.26, transmitted light 0.14
#: to 0.21; blurred ones 0.40.
NEAR_IN_FOCUS, NEAR_OUT_OF_FOCUS = 0.3, 0.4
#: Share of the nuclei's pixels that have the image's highest value: of 108 annotated images it is 0.15 at most.
UNSATURATED, SATURATED = 0.2, 0.5
#: What is left of a confidence where either is at its worst.
LEAST = 0.2

#: Blur of the filter that the gradient is taken with, and of the pixels themselves, as a width of outlines in px.
_OWN_WIDTH_PX = 2.5
#: Diameter below which a nucleus is all outline, px.
_SMALLEST_PX = 5.0


def evidence(image: npt.NDArray[Any], labels: npt.NDArray[np.uint32]) -> float:
    """How far the confidence of this image's nuclei can be believed: 1 in an ordinary image, down to 0.04.

    Args:
        image: (y, x), any integer or float dtype; nuclei brighter than what surrounds them.
        labels: (y, x) uint32, 1 … n, 0 = background.
    """
    inside = labels > 0
    if not inside.any():
        return 1.0
    image = without_gaps(image)
    saturated = np.count_nonzero(image[inside] >= image.max()) / np.count_nonzero(inside)
    width, near = outline_widths(image, labels)
    # Out of focus is what both call so: in tissue and in transmitted light the way to the background is long, and what
    # is near a nucleus far out of focus has its light.
    focus = max(_left(width, IN_FOCUS, OUT_OF_FOCUS), _left(near, NEAR_IN_FOCUS, NEAR_OUT_OF_FOCUS))
    return focus * _left(saturated, UNSATURATED, SATURATED)


def outline_widths(image: npt.NDArray[Any], labels: npt.NDArray[np.uint32]) -> tuple[float, float]:
    """Median width of the nuclei's outlines as a share of their diameters, whatever the brightness and the scale.

    A nucleus's contrast over the mean gradient on its outline: the contrast to the whole background, and to what lies
    within half a diameter of nuclei; 0 where no nucleus is brighter than that. `image` and `labels` as for
    :func:`evidence`.
    """
    pixels = np.asarray(image, dtype=np.float32)
    number = labels.astype(np.intp)
    count = int(number.max(initial=0))
    padded = np.pad(number, 1, mode="edge")  # the image's edge is no outline
    outline = np.zeros(number.shape, bool)
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        outline |= padded[dy : dy + number.shape[0], dx : dx + number.shape[1]] != number
    outline &= number > 0

    def mean(where: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        here = number[where]
        total = np.bincount(here, weights=values[where], minlength=count + 1)
        return np.asarray(total / np.maximum(np.bincount(here, minlength=count + 1), 1))[1:]

    inside = number > 0
    diameter = 2 * np.sqrt(np.bincount(number.ravel(), minlength=count + 1)[1:] / np.pi)
    large = diameter >= _SMALLEST_PX
    if not large.any():
        return 0.0, 0.0
    reach = max(round(float(np.median(diameter[large])) / 2), 3)
    near = ndimage.maximum_filter(inside.view(np.uint8), 2 * reach + 1) > 0
    light = mean(inside, pixels)
    slope = mean(outline, ndimage.gaussian_gradient_magnitude(pixels, 1.0))

    def width(around: npt.NDArray[np.float32]) -> float:
        contrast = light - (float(np.median(around)) if around.size else float(pixels.min()))
        seen = large & (contrast > 0) & (slope > 0)
        if not seen.any():
            return 0.0
        own = np.maximum((contrast[seen] / slope[seen]) ** 2 - _OWN_WIDTH_PX**2, 0)
        return float(np.median(np.sqrt(own) / diameter[seen]))

    return width(pixels[~inside]), width(pixels[near & ~inside])


def _left(value: float, good: float, bad: float) -> float:
    return 1 - (1 - LEAST) * float(np.clip((value - good) / (bad - good), 0, 1))
