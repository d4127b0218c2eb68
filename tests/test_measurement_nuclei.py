"""The table of one field: its columns, its rows, its flags."""

from __future__ import annotations

from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from measurement_fields import blobs, renumbered

from hcs_nuclei.columns import Measured, nucleus_columns
from hcs_nuclei.measurement import measure_nuclei
from hcs_nuclei.settings import FeatureGroup

#: Columns of the nucleus table that others fill in.
NOT_MEASURED = {f"Metadata_{x}" for x in ("Plate", "Acquisition", "Well", "Row", "Column", "Field", "Timepoint")} | {
    "Metadata_Confidence",
    "Metadata_Position_Well_X_um",
    "Metadata_Position_Well_Y_um",
}
ALL = frozenset(get_args(FeatureGroup))


def channels_of(shape: tuple[int, int]) -> dict[str, npt.NDArray[np.generic]]:
    rng = np.random.default_rng(0)
    return {
        "DAPI": rng.integers(0, 4096, size=shape, dtype=np.uint16),
        "TexasRed": rng.normal(size=shape).astype(np.float32),
    }


@pytest.mark.parametrize("groups", [set(), *({group} for group in get_args(FeatureGroup)), set(get_args(FeatureGroup))])
@pytest.mark.parametrize("labels", [blobs(0), np.zeros((20, 30), dtype=np.uint32)], ids=["nuclei", "empty field"])
def test_columns_and_types_are_those_of_the_schema(labels: npt.NDArray[np.uint32], groups: set[str]) -> None:
    channels = channels_of(labels.shape)
    table = measure_nuclei(labels, channels, nuclear="DAPI", saturation={"DAPI": 4095}, groups=groups)
    expected = {
        c.name: np.dtype(c.dtype)
        for c in nucleus_columns(Measured(tuple(channels), "DAPI", frozenset(groups)))
        if c.name not in NOT_MEASURED
    }
    assert {name: values.dtype for name, values in table.items()} == expected
    assert {values.shape for values in table.values()} == {(len(np.unique(labels)) - 1,)}


def test_rows_are_the_labels_in_order_though_they_are_not_consecutive() -> None:
    labels = renumbered(blobs(0), 0)
    table = measure_nuclei(labels, channels_of(labels.shape), nuclear="DAPI", saturation=None)
    np.testing.assert_array_equal(table["Metadata_ObjectNumber"], np.unique(labels[labels > 0]))
    assert table["Metadata_ObjectNumber"].max() > 2**31


def test_renumbering_only_reorders_rows() -> None:
    labels = blobs(1)
    other = renumbered(labels, 1)
    channels = channels_of(labels.shape)
    before = measure_nuclei(labels, channels, nuclear="DAPI", saturation=None, groups=ALL)
    after = measure_nuclei(other, channels, nuclear="DAPI", saturation=None, groups=ALL)
    first_pixel = [np.flatnonzero(labels == number)[0] for number in before["Metadata_ObjectNumber"]]
    order = np.searchsorted(after["Metadata_ObjectNumber"], other.reshape(-1)[first_pixel])
    for name in before.keys() - {"Metadata_ObjectNumber"}:
        np.testing.assert_array_equal(before[name], after[name][order], err_msg=name)


def test_repeated_runs_give_the_same_bytes() -> None:
    labels = blobs(2)
    once, twice = (
        measure_nuclei(labels, channels_of(labels.shape), nuclear="DAPI", saturation=None, groups=ALL) for _ in range(2)
    )
    assert {n: v.tobytes() for n, v in once.items()} == {n: v.tobytes() for n, v in twice.items()}


@pytest.mark.parametrize(
    ("limits", "dapi", "fitc"),
    [
        pytest.param({"DAPI": 4095, "FITC": 4095}, [False, True], [True, True], id="both"),
        pytest.param({"DAPI": 4096, "FITC": 4095}, [False, False], [True, True], id="each its own"),
        pytest.param({"DAPI": 4095, "FITC": None}, [False, True], [False, False], id="none in one"),
        pytest.param({"DAPI": 4095}, [False, True], [False, False], id="nothing said of one"),
        pytest.param(None, [False, False], [False, False], id="nothing said"),
    ],
)
def test_one_saturated_pixel_flags_its_nucleus_in_its_channel(
    limits: dict[str, float | None] | None, dapi: list[bool], fitc: list[bool]
) -> None:
    labels = np.zeros((10, 10), dtype=np.uint32)
    labels[1:4, 1:4], labels[6:9, 6:9] = 5, 9
    images = {"DAPI": np.full((10, 10), 100, np.uint16), "FITC": np.full((10, 10), 4095, np.uint16)}
    images["DAPI"][7, 7] = 4095
    table = measure_nuclei(labels, images, nuclear="DAPI", saturation=limits)
    assert table["Metadata_QC_Saturated"].tolist() == dapi
    assert table["Metadata_QC_Saturated_DAPI"].tolist() == dapi
    assert table["Metadata_QC_Saturated_FITC"].tolist() == fitc


def test_views_are_measured_as_their_copies() -> None:
    labels, channels = blobs(3), channels_of((160, 190))
    turned = {name: image.T for name, image in channels.items()}
    view = measure_nuclei(labels.T, turned, nuclear="DAPI", saturation=None)
    copied = {name: image.copy() for name, image in turned.items()}
    copy = measure_nuclei(labels.T.copy(), copied, nuclear="DAPI", saturation=None)
    for name, values in view.items():
        np.testing.assert_array_equal(values, copy[name], err_msg=name)


def test_image_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"channel DAPI is \(9, 10\).*\(10, 10\)"):
        measure_nuclei(np.zeros((10, 10), np.uint32), {"DAPI": np.zeros((9, 10))}, nuclear="DAPI", saturation=None)


def test_missing_nuclear_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="DAPI is not among the channels FITC"):
        measure_nuclei(np.zeros((9, 9), np.uint32), {"FITC": np.zeros((9, 9))}, nuclear="DAPI", saturation=None)


def test_saturation_is_judged_on_the_camera_counts_where_images_are_corrected() -> None:
    labels = np.zeros((6, 12), np.uint32)
    labels[1:5, 1:5], labels[1:5, 7:11] = 1, 2
    raw = np.full(labels.shape, 900, np.uint16)
    raw[2, 2] = 4095
    corrected = np.full(labels.shape, 5000, np.float32)
    table = measure_nuclei(labels, {"DAPI": corrected}, nuclear="DAPI", saturation={"DAPI": 4095}, raw={"DAPI": raw})
    assert table["Metadata_QC_Saturated"].tolist() == [True, False]
    assert table["Nuclei_Intensity_MaxIntensity_DAPI"].tolist() == [5000, 5000]
