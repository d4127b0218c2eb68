"""Moments against scikit-image, and what may move or turn them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from measurement_fields import blobs, ellipse, rectangle
from skimage.measure import regionprops

from hcs_nuclei.columns import MOMENTS
from hcs_nuclei.measurement.moments import measure_moments
from hcs_nuclei.measurement.runs import find_runs

PREFIX = "Nuclei_AreaShape_"


def moments_of(labels: npt.NDArray[np.uint32]) -> dict[str, npt.NDArray[np.float64]]:
    """All moments, without their prefix."""
    return {name.removeprefix(PREFIX): values for name, values in measure_moments(find_runs(labels)).items()}


@pytest.mark.parametrize("labels", [blobs(1), np.zeros((5, 6), np.uint32)], ids=["nuclei", "none"])
def test_all_columns_and_no_others_are_measured(labels: npt.NDArray[np.uint32]) -> None:
    measured = measure_moments(find_runs(labels))
    assert list(measured) == [column.name for column in MOMENTS]
    assert {values.shape for values in measured.values()} == {(len(np.unique(labels)) - 1,)}


@pytest.mark.parametrize("seed", range(2))
def test_agrees_with_scikit_image(seed: int) -> None:
    labels = blobs(seed)
    measured = moments_of(labels)
    for n, region in enumerate(regionprops(labels.astype(np.int64))):
        scale = np.sqrt(region.area)
        for name, values in measured.items():
            kind, *numbers = name.split("_")
            place = tuple(map(int, numbers))
            expected, size = {
                "SpatialMoment": lambda p, r=region: (r.moments[p], 1.0),
                "CentralMoment": lambda p, r=region, s=scale: (r.moments_central[p], s ** (sum(p) + 2)),
                "NormalizedMoment": lambda p, r=region: (r.moments_normalized[p], 1.0),
                "HuMoment": lambda p, r=region: (r.moments_hu[p], 1.0),
                "InertiaTensor": lambda p, r=region: (r.inertia_tensor[p], r.area),
                "InertiaTensorEigenvalues": lambda p, r=region: (r.inertia_tensor_eigvals[p[0]], r.area),
            }[kind](place)
            assert values[n] == pytest.approx(expected, rel=1e-9, abs=1e-9 * size), name


def test_spatial_moments_of_a_rectangle_are_exact() -> None:
    measured = moments_of(rectangle(4, 3))
    y, x = np.mgrid[:4, :3]
    for p in range(3):
        for q in range(4):
            assert measured[f"SpatialMoment_{p}_{q}"].item() == (y**p * x**q).sum()


def test_moving_and_other_nuclei_change_no_bit() -> None:
    labels = blobs(2)
    number = labels.max()
    together = moments_of(np.pad(labels, ((17, 3), (101, 8))))
    alone = moments_of(np.where(labels == number, labels, 0))
    for name, values in together.items():
        assert values[-1] == alone[name].item(), name


def test_turning_changes_no_invariant_but_the_sign_of_the_last() -> None:
    labels = ellipse(30, 12, 20)
    labels[: labels.shape[0] // 2, : labels.shape[1] // 2] = 0  # no symmetry
    before, turned, mirrored = (moments_of(np.ascontiguousarray(f(labels))) for f in (np.array, np.rot90, np.fliplr))
    for k in range(7):
        name = f"HuMoment_{k}"
        assert turned[name].item() == pytest.approx(before[name].item(), rel=1e-9)
        assert mirrored[name].item() == pytest.approx(before[name].item() * (-1 if k == 6 else 1), rel=1e-9)
