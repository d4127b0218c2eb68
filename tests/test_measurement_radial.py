"""Rings of light: disks whose rings are known, each nucleus counted pixel by pixel, and what may move or turn it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from measurement_fields import Labels, blobs, disk, ellipse
from scipy import ndimage

from hcs_nuclei.columns.options import radial_columns
from hcs_nuclei.measurement.insides import find_insides
from hcs_nuclei.measurement.radial import Rounds, measure_radial
from hcs_nuclei.measurement.runs import find_runs

Floats = npt.NDArray[np.float64]


def radial_of(image: npt.NDArray[Any], labels: Labels) -> dict[str, Floats]:
    """All of them, as ``FracAtD_1of4``."""
    measured = measure_radial(image, Rounds(find_insides(labels, find_runs(labels))), channel="C")
    return {
        name.removeprefix("Nuclei_RadialDistribution_").replace("_C_", "_"): values for name, values in measured.items()
    }


def image_for(labels: Labels, seed: int = 0) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(100, 4000, labels.shape).astype(np.uint16)


@pytest.mark.parametrize("labels", [blobs(1), np.zeros((5, 6), np.uint32)], ids=["nuclei", "none"])
def test_all_columns_and_no_others_are_measured(labels: Labels) -> None:
    measured = measure_radial(image_for(labels), Rounds(find_insides(labels, find_runs(labels))), channel="C")
    assert set(measured) == {column.name for column in radial_columns("C")}
    assert {values.shape for values in measured.values()} == {(len(np.unique(labels)) - 1,)}


@pytest.mark.parametrize("radius", [10, 25, 40])
def test_an_evenly_lit_disk_has_its_light_in_proportion_to_the_rings_areas(radius: int) -> None:
    labels = disk(radius)
    measured = radial_of(np.full(labels.shape, 700), labels)
    for ring in range(1, 5):
        assert measured[f"MeanFrac_{ring}of4"].item() == pytest.approx(1, rel=1e-9)
        assert measured[f"RadialCV_{ring}of4"].item() == pytest.approx(0, abs=1e-12)
        # Steps to eight neighbours are up to 8 % longer than the crow's flight, so inner rings are smaller.
        area = (2 * ring - 1) / 16
        assert measured[f"FracAtD_{ring}of4"].item() == pytest.approx(area, abs=0.06)
    assert sum(measured[f"FracAtD_{ring}of4"].item() for ring in range(1, 5)) == pytest.approx(1, rel=1e-12)


def test_light_in_the_middle_is_in_the_first_ring() -> None:
    labels = disk(20)
    middle = labels.shape[0] // 2
    image = np.zeros(labels.shape)
    image[middle, middle] = 50
    measured = radial_of(image, labels)
    assert [measured[f"FracAtD_{ring}of4"].item() for ring in range(1, 5)] == [1, 0, 0, 0]


def test_light_at_the_outline_is_in_the_last_ring() -> None:
    labels = disk(20)
    image = (labels > 0) & ~ndimage.binary_erosion(labels > 0)
    measured = radial_of(image.astype(float), labels)
    assert [measured[f"FracAtD_{ring}of4"].item() for ring in range(1, 5)] == [0, 0, 0, 1]


def test_a_nucleus_lit_from_one_side_varies_around_its_rings() -> None:
    labels = disk(20)
    image = np.broadcast_to(np.where(np.arange(labels.shape[1]) > labels.shape[1] // 2, 300.0, 100.0), labels.shape)
    measured = radial_of(image, labels)
    # Four wedges of 300 and four of 100: their deviation is 100 and their mean 200.
    assert measured["RadialCV_4of4"].item() == pytest.approx(0.5, abs=0.02)


def test_agrees_with_each_nucleus_by_itself() -> None:
    labels = blobs(0)
    image = image_for(labels).astype(np.float64)
    measured = radial_of(image, labels)
    for n, number in enumerate(np.unique(labels[labels > 0])):
        nucleus = np.pad(labels == number, 1)
        depth = ndimage.distance_transform_edt(nucleus)[1:-1, 1:-1]
        places = np.argwhere(labels == number)
        middle = places[np.argmax(depth[tuple(places.T)])]
        steps = np.abs(places - middle)
        away = steps.max(axis=1) + (np.sqrt(2) - 1) * steps.min(axis=1)
        ring = (4 * away / (away + depth[tuple(places.T)] + 0.001)).astype(int)
        values = image[tuple(places.T)]
        for k in range(4):
            share = values[ring == k].sum() / values.sum()
            assert measured[f"FracAtD_{k + 1}of4"][n] == pytest.approx(share, rel=1e-9)
            assert measured[f"MeanFrac_{k + 1}of4"][n] == pytest.approx(
                share / max((ring == k).mean(), 1e-15), rel=1e-9
            )


def test_moving_and_other_nuclei_change_no_bit() -> None:
    labels = blobs(2)
    image, number = image_for(labels, 2), labels.max()
    margins = ((17, 3), (101, 8))
    together = radial_of(np.pad(image, margins), np.pad(labels, margins))
    alone = radial_of(image, np.where(labels == number, labels, 0))
    for name, values in together.items():
        np.testing.assert_array_equal(values[-1], alone[name].item(), err_msg=name)


def test_turning_moves_no_light_between_rings() -> None:
    labels = ellipse(31, 14, 20)
    image = image_for(labels)
    before = radial_of(image, labels)
    after = radial_of(np.rot90(image), np.ascontiguousarray(np.rot90(labels)))
    for ring in range(1, 5):
        for name in ("FracAtD", "MeanFrac"):
            assert after[f"{name}_{ring}of4"].item() == pytest.approx(before[f"{name}_{ring}of4"].item(), rel=1e-9)


def test_shares_of_no_light_are_unknown() -> None:
    labels = disk(8)
    measured = radial_of(np.zeros(labels.shape, np.uint16), labels)
    assert np.isnan(measured["FracAtD_1of4"]).all()
    assert measured["RadialCV_1of4"].item() == 0
