"""A field that is turned by 90° on the stage has the same neighbours and the same rings."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from measurement_fields import Labels, blobs, ellipse

from hcs_nuclei.measurement import measure_nuclei
from hcs_nuclei.measurement.reach import Reach

REACH = Reach(ring_gap=1.0, ring_width=5.0, neighbours=40.0)


def apart(seed: int) -> Labels:
    """Ellipses that lean every way, no two of which are near enough to share a ring's pixel; the edges cut some.

    Its edges are two tiles of local background long, since tiles are counted from one corner.
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros((208, 208), dtype=np.uint32)
    for number, (row, column) in enumerate(np.ndindex(4, 4), start=1):
        one = ellipse(rng.uniform(6, 11), rng.uniform(4, 6), rng.uniform(0, 180))
        top, left = 50 * row + rng.integers(0, 8), 50 * column + rng.integers(0, 8)
        labels[top : top + one.shape[0], left : left + one.shape[1]] = number * one
    return labels[8:-8, 8:-8]


def turned(labels: Labels, quarters: int) -> dict[str, npt.NDArray[Any]]:
    """What is measured of a field that is turned by so many quarters, with an image that is turned with it."""
    image = np.random.default_rng(0).uniform(100, 4000, labels.shape)
    field, light = (np.ascontiguousarray(np.rot90(array, quarters)) for array in (labels, image))
    return measure_nuclei(field, {"DAPI": light}, nuclear="DAPI", saturation=None, reach=REACH)


FIELDS = {"apart": apart(0), "apart, others": apart(1), "crowded": blobs(0), "crowded, others": blobs(1)}


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize(
    ("field", "features", "number"),
    [
        *((field, "Nuclei_Neighbors_", 6) for field in FIELDS),
        *((field, "Nuclei_Ring_", 7) for field in ("apart", "apart, others")),
    ],
)
def test_neighbours_and_rings_of_nuclei_that_stand_apart_do_not_know_which_way_is_up(
    field: str, features: str, number: int, quarters: int
) -> None:
    upright, other = turned(FIELDS[field], 0), turned(FIELDS[field], quarters)
    names = [name for name in upright if name.startswith(features)]
    assert len(names) == number
    for name in names:
        np.testing.assert_allclose(other[name], upright[name], rtol=1e-9, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_of_crowded_nuclei_only_pixels_that_are_as_near_to_another_change_rings(quarters: int) -> None:
    # Such a pixel goes by direction (find_rings): a ring may lose to its neighbour what another turn would give it.
    upright, other = turned(FIELDS["crowded"], 0), turned(FIELDS["crowded"], quarters)
    areas, of_other = upright["Nuclei_Ring_Area"], other["Nuclei_Ring_Area"]
    assert of_other.sum() == areas.sum()
    assert np.abs(of_other - areas).sum() < 0.02 * areas.sum()
