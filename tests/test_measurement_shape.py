"""Shape against scikit-image, against exact figures, and against CellProfiler's own measurement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import tifffile
from measurement_fields import blobs, disk, ellipse, rectangle
from scipy import ndimage
from skimage.measure import regionprops, regionprops_table

from hcs_nuclei.columns import SHAPE
from hcs_nuclei.measurement import measure_nuclei
from hcs_nuclei.measurement.insides import find_insides
from hcs_nuclei.measurement.runs import find_runs
from hcs_nuclei.measurement.shape import measure_shape

#: Feature → scikit-image's name, and how far the two may differ (float rounding only).
SCIKIT_IMAGE = {
    "Area": ("area", 0),
    "Perimeter": ("perimeter", 1e-9),
    "Eccentricity": ("eccentricity", 1e-6),
    "Solidity": ("solidity", 0),
    "Extent": ("extent", 0),
    "MajorAxisLength": ("axis_major_length", 1e-9),
    "MinorAxisLength": ("axis_minor_length", 1e-6),
    "EquivalentDiameter": ("equivalent_diameter_area", 1e-9),
    "ConvexArea": ("area_convex", 0),
    "BoundingBoxArea": ("area_bbox", 0),
    "EulerNumber": ("euler_number", 0),
}
HARD_FIELDS = {f"blobs {seed}": blobs(seed) for seed in range(4)} | {"labels not consecutive": blobs(4) * 37}


def shape_of(labels: npt.NDArray[np.uint32]) -> dict[str, npt.NDArray[np.generic]]:
    """All shape columns, without their prefix."""
    runs = find_runs(labels)
    measured = measure_shape(labels, runs, find_insides(labels, runs))
    return {name.removeprefix("Nuclei_AreaShape_"): values for name, values in measured.items()}


def one(labels: npt.NDArray[np.uint32]) -> dict[str, float]:
    """The shape of the only nucleus."""
    return {name: values.item() for name, values in shape_of(labels).items()}


@pytest.mark.parametrize("labels", HARD_FIELDS.values(), ids=HARD_FIELDS)
@pytest.mark.parametrize("feature", SCIKIT_IMAGE)
def test_agrees_with_scikit_image(feature: str, labels: npt.NDArray[np.uint32]) -> None:
    name, tolerance = SCIKIT_IMAGE[feature]
    expected = regionprops_table(labels.astype(np.int64), properties=[name])[name]
    assert len(expected) > 30
    np.testing.assert_allclose(shape_of(labels)[feature], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("labels", HARD_FIELDS.values(), ids=HARD_FIELDS)
def test_orientation_centroid_and_edges_agree_with_scikit_image(labels: npt.NDArray[np.uint32]) -> None:
    expected = regionprops_table(labels.astype(np.int64), properties=["orientation", "centroid", "bbox"])
    measured = shape_of(labels)
    turn = measured["Orientation"] - np.degrees(expected["orientation"])
    # A nucleus without a long axis has no orientation.
    turn = np.abs((turn + 90) % 180 - 90)[measured["Eccentricity"] > 0.01]
    assert turn.size > 20
    assert turn.max() < 1e-6
    np.testing.assert_allclose(measured["Metadata_Center_Y"], expected["centroid-0"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(measured["Metadata_Center_X"], expected["centroid-1"], rtol=0, atol=1e-9)
    for side, edge, more in (("Top", 0, 0), ("Left", 1, 0), ("Bottom", 2, 1), ("Right", 3, 1)):
        np.testing.assert_array_equal(measured[f"Metadata_BoundingBox_{side}"] + more, expected[f"bbox-{edge}"])
    low = np.minimum(expected["bbox-0"], expected["bbox-1"]) == 0
    high = (expected["bbox-2"] == labels.shape[0]) | (expected["bbox-3"] == labels.shape[1])
    np.testing.assert_array_equal(measured["Metadata_QC_TouchesEdge"], low | high)
    assert 0 < np.count_nonzero(low | high) < low.size


def test_nucleus_as_wide_as_the_field_does_not_run_on_into_the_next_row() -> None:
    labels = np.zeros((9, 30), dtype=np.uint32)
    labels[2:7] = 3
    nucleus = one(labels)
    (expected,) = regionprops(labels.astype(np.int64))
    assert nucleus["Area"] == nucleus["BoundingBoxArea"] == 150
    assert nucleus["Metadata_Center_X"] == 14.5
    assert nucleus["MajorAxisLength"] == pytest.approx(expected.axis_major_length)
    assert nucleus["Perimeter"] == pytest.approx(expected.perimeter)
    assert nucleus["Metadata_QC_TouchesEdge"]


def feret_by_brute_force(points: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Smallest and largest caliper width over every direction that two of the points can give."""
    steps = (points[:, None] - points[None]).reshape(-1, 2)
    lengths = np.hypot(*steps.T)
    if not lengths.any():
        return 0.0, 0.0
    normals = np.unique(steps[lengths > 0][:, ::-1] * (-1, 1), axis=0)
    normals = normals / np.hypot(*normals.T)[:, None]
    reach = points @ normals.T
    return float((reach.max(axis=0) - reach.min(axis=0)).min()), float(lengths.max())


@pytest.mark.parametrize("labels", HARD_FIELDS.values(), ids=HARD_FIELDS)
def test_radii_agree_with_distance_transforms_of_each_nucleus(labels: npt.NDArray[np.uint32]) -> None:
    measured = shape_of(labels)
    for n, region in enumerate(regionprops(labels.astype(np.int64))):
        depths = ndimage.distance_transform_edt(np.pad(region.image, 1))
        inside = depths[depths > 0]
        assert measured["MaximumRadius"][n] == inside.max()
        assert measured["MedianRadius"][n] == np.median(inside)
        assert measured["MeanRadius"][n] == pytest.approx(inside.mean(), rel=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_feret_diameters_agree_with_brute_force(seed: int) -> None:
    labels = blobs(seed, shape=(60, 70), count=25)
    expected = [feret_by_brute_force(region.coords) for region in regionprops(labels.astype(np.int64))]
    measured = shape_of(labels)
    np.testing.assert_allclose(measured["MinFeretDiameter"], [low for low, _ in expected], rtol=0, atol=1e-9)
    np.testing.assert_allclose(measured["MaxFeretDiameter"], [high for _, high in expected], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("height", "width"), [(3, 3), (4, 9), (31, 12), (40, 40)])
def test_rectangle_is_exact(height: int, width: int) -> None:
    nucleus = one(rectangle(height, width))
    long, short = max(height, width), min(height, width)
    expected = {
        "Area": height * width,
        "BoundingBoxArea": height * width,
        "ConvexArea": height * width,
        "Solidity": 1,
        "Extent": 1,
        "Perimeter": 2 * (height - 1) + 2 * (width - 1),
        "MajorAxisLength": 4 * np.sqrt((long**2 - 1) / 12),
        "MinorAxisLength": 4 * np.sqrt((short**2 - 1) / 12),
        "Eccentricity": np.sqrt(1 - (short**2 - 1) / (long**2 - 1)),
        "MinFeretDiameter": short - 1,
        "MaxFeretDiameter": np.hypot(height - 1, width - 1),
        "EulerNumber": 1,
        "MaximumRadius": (short + 1) // 2,
        "Metadata_Center_Y": 3 + (height - 1) / 2,
        "Metadata_Center_X": 3 + (width - 1) / 2,
        "Metadata_QC_TouchesEdge": False,
    }
    assert {name: nucleus[name] for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("radius", [8, 13.5, 30])
def test_disk_is_round(radius: float) -> None:
    nucleus = one(disk(radius))
    assert nucleus["Eccentricity"] == 0
    assert nucleus["EquivalentDiameter"] == pytest.approx(2 * radius, rel=0.02)
    assert nucleus["MajorAxisLength"] == pytest.approx(2 * radius, rel=0.02)
    assert nucleus["MaxFeretDiameter"] == pytest.approx(2 * radius, abs=1)
    assert nucleus["MinFeretDiameter"] == pytest.approx(2 * radius, abs=1)
    assert nucleus["FormFactor"] == pytest.approx(1, abs=0.1)
    assert nucleus["Compactness"] == pytest.approx(1 / nucleus["FormFactor"], rel=1e-12)
    assert nucleus["Solidity"] > 0.92
    assert nucleus["EulerNumber"] == 1
    assert nucleus["MaximumRadius"] == pytest.approx(radius, abs=1)
    # A third of the radius and 1 - 1 / √2 of it, up to a pixel of outside, which is further by half a pixel or less.
    assert nucleus["MeanRadius"] == pytest.approx(radius / 3 + 0.4, abs=0.3)
    assert nucleus["MedianRadius"] == pytest.approx(radius * (1 - np.sqrt(0.5)) + 0.5, abs=0.5)


@pytest.mark.parametrize(("outer", "inner"), [(20, 8), (13.5, 10)])
def test_ring(outer: float, inner: float) -> None:
    labels = disk(outer)
    hole = disk(inner)
    margin = (labels.shape[0] - hole.shape[0]) // 2
    labels[margin : margin + hole.shape[0], margin : margin + hole.shape[1]][hole > 0] = 0
    nucleus, whole = one(labels), one(disk(outer))
    assert nucleus["EulerNumber"] == 0
    assert nucleus["Area"] == pytest.approx(np.pi * (outer**2 - inner**2), rel=0.03)
    assert nucleus["ConvexArea"] == whole["ConvexArea"]
    assert nucleus["MaxFeretDiameter"] == whole["MaxFeretDiameter"]
    # Border pixels of a hole lie outside it: its outline is half a pixel and more too far out.
    assert nucleus["Perimeter"] == pytest.approx(2 * np.pi * (outer + inner + 0.5), rel=0.07)
    assert nucleus["MaximumRadius"] == pytest.approx((outer - inner) / 2, abs=1)
    assert nucleus["MajorAxisLength"] == pytest.approx(2 * np.hypot(outer, inner), rel=0.02)
    assert nucleus["Eccentricity"] == 0


@pytest.mark.parametrize("degrees", [-75, -30, 0, 20, 45, 80])
def test_tilted_ellipse(degrees: float) -> None:
    nucleus = one(ellipse(30, 12, degrees))
    assert nucleus["Orientation"] == pytest.approx(degrees, abs=0.5)
    assert nucleus["MajorAxisLength"] == pytest.approx(60, rel=0.01)
    assert nucleus["MinorAxisLength"] == pytest.approx(24, rel=0.02)
    assert nucleus["Eccentricity"] == pytest.approx(np.sqrt(1 - (12 / 30) ** 2), abs=0.005)
    assert nucleus["MaxFeretDiameter"] == pytest.approx(60, abs=1)
    # Between pixel centres: a diagonal width falls short by up to the diagonal of a pixel.
    assert 24 - np.sqrt(2) <= nucleus["MinFeretDiameter"] <= 24


def test_horizontal_nucleus_is_at_90_degrees() -> None:
    assert abs(one(rectangle(5, 20))["Orientation"]) == 90


@pytest.mark.parametrize("length", [1, 2])
def test_nucleus_of_one_or_two_pixels_has_no_outline(length: int) -> None:
    nucleus = one(rectangle(1, length))
    assert nucleus["Area"] == nucleus["ConvexArea"] == length
    assert nucleus["Perimeter"] == nucleus["MinorAxisLength"] == nucleus["MinFeretDiameter"] == 0
    assert nucleus["MaxFeretDiameter"] == length - 1
    assert np.isnan(nucleus["FormFactor"])
    assert np.isnan(nucleus["Compactness"])


def test_deep_notch_is_filled_by_the_hull() -> None:
    labels = rectangle(41, 41)
    y, x = np.mgrid[-20:21, -20:21]
    labels[3:-3, 3:-3][np.abs(x) <= 12 - np.abs(y) // 2] = 0
    labels[3:-3, 3:23][np.abs(y[:, :20]) < 3] = 0  # open to the left
    nucleus = one(labels)
    assert nucleus["Area"] < 41 * 41 / 1.2
    assert nucleus["ConvexArea"] == 41 * 41


BOX = {f"Metadata_BoundingBox_{side}" for side in ("Left", "Top", "Right", "Bottom")}
POSITION = {"Metadata_Center_X", "Metadata_Center_Y", "Metadata_QC_TouchesEdge", *BOX}


def assert_same_bits(
    one_field: dict[str, npt.NDArray[np.generic]], other: dict[str, npt.NDArray[np.generic]], but: set[str]
) -> None:
    for name in one_field.keys() - but:
        np.testing.assert_array_equal(one_field[name], other[name], err_msg=name)


def test_moving_a_field_changes_no_bit() -> None:
    labels = blobs(5)
    moved = np.pad(labels, ((17, 3), (101, 8)))
    assert_same_bits(shape_of(labels), shape_of(moved), POSITION)
    np.testing.assert_allclose(
        shape_of(moved)["Metadata_Center_X"], shape_of(labels)["Metadata_Center_X"] + 101, rtol=0, atol=1e-9
    )


def test_turning_a_field_by_90_degrees_changes_no_bit_but_the_orientation() -> None:
    labels = blobs(6)
    before, after = shape_of(labels), shape_of(np.rot90(labels).copy())
    assert_same_bits(before, after, POSITION | {"Orientation"})
    tilted = before["Eccentricity"] > 0.01
    turn = np.abs(after["Orientation"] - before["Orientation"])[tilted]
    np.testing.assert_allclose(turn, 90, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(before["Metadata_QC_TouchesEdge"], after["Metadata_QC_TouchesEdge"])


def test_other_nuclei_change_no_bit() -> None:
    labels = blobs(7)
    together = shape_of(labels)
    for n, number in enumerate(np.unique(labels[labels > 0])):
        alone = shape_of(np.where(labels == number, labels, 0))
        assert {name: values[n] for name, values in together.items()} == pytest.approx(
            {name: values.item() for name, values in alone.items()}, rel=0, abs=0, nan_ok=True
        )


def test_all_columns_and_no_others_are_measured() -> None:
    features = {column.name.removeprefix("Nuclei_AreaShape_") for column in SHAPE}
    assert shape_of(disk(5)).keys() == features | POSITION


@pytest.fixture(scope="module")
def cellprofiler(shared_data: Path) -> tuple[dict[str, npt.NDArray[np.generic]], pd.DataFrame]:
    """Our measurement and CellProfiler's of the nuclei of which both hold the same pixels.

    Its threshold (Image.csv), smoothing (sigma 1) and filling give the same pixels wherever it did not split a clump.
    """
    folder = shared_data / "plates" / "cellomics"
    image = tifffile.imread(folder / "AS_09125_050116030001_D03f00d0.tif")
    theirs = pd.read_csv(folder / "cellprofiler" / "Nuclei.csv")
    threshold = pd.read_csv(folder / "cellprofiler" / "Image.csv")["Threshold_FinalThreshold_Nuclei"][0]
    smooth = ndimage.gaussian_filter(image / 255, 1, mode="constant")
    labels, _ = ndimage.label(ndimage.binary_fill_holes(smooth > threshold), np.ones((3, 3)))
    ours = measure_nuclei(labels.astype(np.uint32), {"DNA": image}, nuclear="DNA", saturation=None)
    found = np.stack([ours["Metadata_Center_Y"], ours["Metadata_Center_X"], ours["Nuclei_AreaShape_Area"]], axis=1)
    wanted = theirs[["AreaShape_Center_Y", "AreaShape_Center_X", "AreaShape_Area"]].to_numpy()
    n, k = np.nonzero(np.abs(found[:, None] - wanted).max(axis=-1) < 1e-6)
    assert n.size > 150
    return {name: values[n] for name, values in ours.items()}, theirs.iloc[k]


@pytest.mark.parametrize(
    "feature", [c.name for c in SHAPE if c.name.split("_")[-1] not in {"Orientation", "Solidity", "ConvexArea"}]
)
def test_agrees_with_cellprofiler(
    feature: str, cellprofiler: tuple[dict[str, npt.NDArray[np.generic]], pd.DataFrame]
) -> None:
    ours, theirs = cellprofiler
    np.testing.assert_allclose(ours[feature], theirs[feature.removeprefix("Nuclei_")], rtol=1e-9)


def test_orientation_and_solidity_agree_with_cellprofiler(
    cellprofiler: tuple[dict[str, npt.NDArray[np.generic]], pd.DataFrame],
) -> None:
    ours, theirs = cellprofiler
    turn = np.abs(ours["Nuclei_AreaShape_Orientation"] - np.degrees(theirs["AreaShape_Orientation"]))
    # Its scikit-image still had the sign wrong where both axes have the same second moment.
    assert np.count_nonzero(turn > 1e-9) <= 1
    # That scikit-image left out half of the hull's own border.
    ratio = theirs["AreaShape_Solidity"] / ours["Nuclei_AreaShape_Solidity"]
    assert 1 <= ratio.median() < 1.025


@pytest.mark.parametrize("feature", ["Integrated", "Mean", "Std", "Min", "Max"])
def test_intensity_agrees_with_cellprofiler(
    feature: str, cellprofiler: tuple[dict[str, npt.NDArray[np.generic]], pd.DataFrame]
) -> None:
    ours, theirs = cellprofiler
    scaled = theirs[f"Intensity_{feature}Intensity_DNA"] * 255
    np.testing.assert_allclose(ours[f"Nuclei_Intensity_{feature}Intensity_DNA"], scaled, rtol=1e-6)
