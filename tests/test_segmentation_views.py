"""An image seen mirrored and turned: every view once, and what is said of it brought back to where it belongs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from segmentation_samples import crowded_scene

from hcs_nuclei.segmentation.targets import OFFSET_X, OFFSET_Y, TARGETS, make_targets
from hcs_nuclei.segmentation.views import VIEW_COUNTS, predict_views


def _knows_all(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A network that is always right, since the image holds the labels."""
    return make_targets(image.astype(np.int32))


@pytest.mark.parametrize("views", VIEW_COUNTS)
def test_what_is_right_in_every_view_stays_right(views: int) -> None:
    labels = crowded_scene(np.random.default_rng(3), (90, 140), (5, 12), 40).astype(np.float32)

    seen = predict_views(_knows_all, labels, views)

    assert seen.dtype == np.float32
    # Not to the last bit: which of two equally far pixels the distance transform takes depends on the direction.
    np.testing.assert_allclose(seen, _knows_all(labels), atol=2e-6)


@pytest.mark.parametrize("views", VIEW_COUNTS)
def test_every_view_is_another(views: int) -> None:
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    seen: list[bytes] = []

    def look(view: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        assert view.flags.c_contiguous
        seen.append(bytes(view.shape) + view.tobytes())
        return np.zeros((*view.shape, TARGETS), np.float32)

    predict_views(look, image, views)
    assert len(set(seen)) == len(seen) == views
    assert seen[0] == bytes(image.shape) + image.tobytes()


def test_what_depends_on_the_direction_is_averaged_out() -> None:
    def leans(view: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        maps = np.zeros((*view.shape, TARGETS), np.float32)
        maps[...] = np.linspace(0, 1, view.shape[1], dtype=np.float32)[None, :, None]
        return maps

    once, all_ways = (predict_views(leans, np.zeros((20, 20), np.float32), views) for views in (1, 8))
    assert np.ptp(once[..., 0]) == 1
    np.testing.assert_allclose(all_ways[..., :OFFSET_Y], 0.5, atol=1e-6)
    # Both of its offsets grow with x wherever x is in a view: along y that stands for nothing and cancels, along x for
    # a true direction in half of the views and for nothing in the others.
    assert np.ptp(all_ways[..., OFFSET_X]) == pytest.approx(0.5)


def test_a_number_of_views_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="3 views; an image can be seen in 1, 2, 4, 8"):
        predict_views(_knows_all, np.zeros((4, 4), np.float32), 3)
