"""Tiles: every pixel is kept once, with context round it, and comes back where it was."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_nuclei.segmentation.predict import OVERLAP_PX, TILE_PX, tile_for
from hcs_nuclei.segmentation.tiling import cut, plan_tiles

#: (height, width, (height, width) of a tile, overlap) of fields from one pixel to several tiles.
EDGES = st.tuples(st.integers(8, 32), st.integers(8, 32))
FIELDS = st.tuples(st.integers(1, 90), st.integers(1, 90), EDGES).flatmap(
    lambda sizes: st.tuples(*map(st.just, sizes), st.integers(0, min(sizes[2]) * 3 // 4))
)
Field = tuple[int, int, tuple[int, int], int]


@given(FIELDS)
def test_every_pixel_is_kept_from_exactly_one_tile(field: Field) -> None:
    height, width, tile, overlap = field
    times = np.zeros((height, width), int)
    for t in plan_tiles(height, width, tile=tile, overlap=overlap):
        times[t.target] += 1
        assert times[t.target].shape == tuple(part.stop - part.start for part in t.keep)

    assert (times == 1).all()


@given(FIELDS)
def test_every_kept_pixel_has_its_context_or_the_edge_of_the_field(field: Field) -> None:
    height, width, tile, overlap = field
    for t in plan_tiles(height, width, tile=tile, overlap=overlap):
        for start, keep, length, edge in zip((t.top, t.left), t.keep, (height, width), tile, strict=True):
            assert start >= 0
            assert start + edge <= max(length, edge)
            assert 0 <= keep.start < keep.stop <= edge
            assert start + keep.start == 0 or keep.start >= overlap // 2
            assert start + keep.stop == length or edge - keep.stop >= overlap // 2


@given(FIELDS, st.integers(1, 5))
def test_what_is_cut_and_put_back_is_the_field(field: Field, batch: int) -> None:
    height, width, tile, overlap = field
    image = np.random.default_rng(0).random((height, width), np.float32)
    tiles = plan_tiles(height, width, tile=tile, overlap=overlap)
    back = np.full((height, width), np.nan, np.float32)
    blocks = list(cut(image, tiles, tile=tile, batch=batch))
    for t, pixels in zip(tiles, np.concatenate(blocks), strict=False):
        back[t.target] = pixels[t.keep][..., 0]

    np.testing.assert_array_equal(back, image)
    assert {block.shape for block in blocks} == {(batch, *tile, 1)}
    assert len(blocks) == -(-len(tiles) // batch)
    assert not np.concatenate(blocks)[len(tiles) :].any()


@pytest.mark.parametrize(
    ("size", "tiles"), [(256, 1), (512, 1), (576, 1), (577, 4), (1080, 4), (1104, 4), (1105, 9), (2048, 16), (2160, 16)]
)
def test_common_cameras_need_so_many_tiles(size: int, tiles: int) -> None:
    assert len(plan_tiles(size, size, tile=tile_for((size, size)), overlap=OVERLAP_PX)) == tiles


@pytest.mark.parametrize(
    ("shape", "tile"),
    [((1, 96), (96, 96)), ((97, 256), (192, 288)), ((520, 696), (576, 576)), ((2160, 300), (576, 384))],
)
def test_a_tile_is_hardly_larger_than_a_small_field(shape: tuple[int, int], tile: tuple[int, int]) -> None:
    assert tile_for(shape) == tile


def test_tiles_are_spread_evenly() -> None:
    plan = plan_tiles(TILE_PX, 2048, tile=(TILE_PX, TILE_PX), overlap=OVERLAP_PX)
    lefts = [t.left for t in plan]

    assert lefts[0] == 0
    assert lefts[-1] == 2048 - TILE_PX
    steps = [b - a for a, b in pairwise(lefts)]
    assert max(steps) - min(steps) <= 1


def test_beyond_a_small_field_lies_its_mirror_image() -> None:
    image = np.arange(6, dtype=np.float32).reshape(2, 3)
    (block,) = cut(image, plan_tiles(2, 3, tile=(4, 5), overlap=1), tile=(4, 5), batch=1)

    above, below = [0, 1, 2, 2, 1], [3, 4, 5, 5, 4]
    np.testing.assert_array_equal(block[0, ..., 0], [above, below, below, above])


@pytest.mark.parametrize(
    ("height", "width", "tile", "overlap"), [(0, 5, 8, 2), (5, 0, 8, 2), (5, 5, 8, 8), (5, 5, 8, -1), (5, 5, 0, 0)]
)
def test_sizes_that_cannot_be_tiled_are_refused(height: int, width: int, tile: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="cannot tile"):
        plan_tiles(height, width, tile=(tile, tile), overlap=overlap)
