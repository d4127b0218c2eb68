"""One image seen mirrored and turned as well; what the network says of every view is brought back and averaged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hcs_nuclei.segmentation.targets import OFFSET_X, OFFSET_Y, TARGETS

#: How often an image may be seen: as it is; turned by half; mirrored both ways; all of that turned by a quarter.
VIEW_COUNTS = (1, 2, 4, 8)
#: Of each view in their order: mirrored along y, along x, and whether y and x change places before that.
_VIEWS = tuple((y, x, turned) for turned in (False, True) for y, x in ((1, 1), (-1, -1), (-1, 1), (1, -1)))
#: The channels of what was seen turned: what were offsets along y are those along x.
_TURNED = [{OFFSET_Y: OFFSET_X, OFFSET_X: OFFSET_Y}.get(channel, channel) for channel in range(TARGETS)]

Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


def predict_views(predict: Predict, image: npt.NDArray[np.float32], views: int) -> npt.NDArray[np.float32]:
    """The mean of what `predict` says of `image` seen in so many ways, in the image's own orientation.

    Args:
        predict: (y, x) image → (y, x, 5) float32, as the network's targets are.
        image: (y, x) float32.
        views: one of :data:`VIEW_COUNTS`; the time that it takes grows with it.

    Returns:
        (y, x, 5) float32.
    """
    if views not in VIEW_COUNTS:
        raise ValueError(f"{views} views; an image can be seen in {', '.join(map(str, VIEW_COUNTS))}")
    if views == 1:
        return predict(image)
    total = np.zeros((*image.shape, TARGETS), np.float32)
    for y, x, turned in _VIEWS[:views]:
        seen = image.T if turned else image
        maps = predict(np.ascontiguousarray(seen[::y, ::x]))[::y, ::x].copy()
        # Offsets have a direction, 0.5 is none: in a mirror they point the other way.
        for channel, direction in ((OFFSET_Y, y), (OFFSET_X, x)):
            if direction < 0:
                maps[..., channel] = 1 - maps[..., channel]
        total += maps.transpose(1, 0, 2)[..., _TURNED] if turned else maps
    total /= views
    return total
