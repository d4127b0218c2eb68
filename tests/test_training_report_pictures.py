"""The pictures of a report of a training: outlines, the network, curves, reliability."""

from __future__ import annotations

import base64
import io
import re
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from segmentation_samples import disks
from skimage.segmentation import find_boundaries

from hcs_nuclei.segmentation.mobilenet import mobilenetv2_unet
from hcs_nuclei.segmentation.network import flops_per_pixel, unet
from hcs_nuclei.segmentation.predict import Segmentation
from hcs_nuclei.training.annotations import AnnotatedImage
from hcs_nuclei.training.evaluation import Shown, evaluate
from hcs_nuclei.training.report_architecture import INPUT_PX, draw, read_architecture
from hcs_nuclei.training.report_charts import Line, line_chart, reliability_diagram, ticks, training_curves
from hcs_nuclei.training.report_pictures import BOTH, FOUND, TRUTH, make_picture

HISTORY = [
    {"epoch": 1, "loss": 2.0, "nucleus_accuracy": 0.8, "val_loss": 3.0, "val_nucleus_accuracy": 0.7},
    {"epoch": 2, "loss": 1.0, "nucleus_accuracy": 0.9, "val_loss": 2.5, "val_nucleus_accuracy": 0.85},
]


@cache
def _network() -> Any:
    return unet((4, 8, 12), 4)


def _colours(address: str) -> npt.NDArray[np.uint8]:
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))


def _drawn(address: str, *colours: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    pixels = _colours(address)
    is_one = np.zeros(pixels.shape[:2], bool)
    for colour in colours:
        is_one |= (pixels == (*colour, 255)).all(axis=2)
    return is_one


def _shown(image: npt.NDArray[Any], truth: npt.NDArray[Any], found: npt.NDArray[Any]) -> Shown:
    pair = AnnotatedImage("x", image, truth, "val", "")
    evaluation = evaluate([pair], lambda _: Segmentation(found.astype(np.uint32), np.ones(found.max(), np.float32)))
    return evaluation.best[0]


@pytest.mark.parametrize(("shape", "factor"), [((512, 400), 1), ((256, 200), 2), ((100, 120), 4)])
def test_outlines_are_those_of_the_truth_and_of_what_was_found(shape: tuple[int, int], factor: int) -> None:
    truth = disks(shape, [(30, 30, 12), (50, 70, 14)])
    found = disks(shape, [(30, 30, 12), (53, 74, 12)])
    picture = make_picture(_shown(truth * 100.0, truth, found))
    outlined = [
        find_boundaries(np.kron(labels, np.ones((factor, factor), int)), connectivity=1, mode="inner")
        for labels in (truth, found)
    ]

    np.testing.assert_array_equal(_drawn(picture.outlines, TRUTH, BOTH), outlined[0])
    np.testing.assert_array_equal(_drawn(picture.outlines, FOUND, BOTH), outlined[1])
    assert _drawn(picture.outlines, BOTH).sum() > 40
    assert (_colours(picture.outlines)[..., 3] > 0).sum() == (outlined[0] | outlined[1]).sum()
    assert (picture.height, picture.width) == shape


def test_a_large_image_is_shrunk_with_its_outlines_in_their_places() -> None:
    truth = disks((1000, 2000), [(250, 500, 120), (700, 1500, 200)])
    picture = make_picture(_shown(100 + truth * 10, truth, truth))
    shown = _colours(picture.image)[..., 0]

    assert (picture.width, picture.height) == shown.shape[::-1] == (512, 256)
    rows, columns = np.nonzero(_drawn(picture.outlines, BOTH))
    assert (rows.min(), rows.max()) == pytest.approx((130 * 0.256, 900 * 0.256), abs=1.5)
    assert (columns.min(), columns.max()) == pytest.approx((380 * 0.256, 1700 * 0.256), abs=1.5)
    assert shown[64, 128] == pytest.approx(127, abs=3)
    assert (shown[0, 0], shown[180, 384]) == (0, 255)


def test_an_image_of_one_value_can_be_shown() -> None:
    picture = make_picture(_shown(np.full((40, 40), 7), np.zeros((40, 40), np.int32), np.zeros((40, 40), int)))

    assert not _colours(picture.image)[..., :3].any()
    assert not _colours(picture.outlines)[..., 3].any()


def test_stages_of_a_u_net_are_its_levels_down_and_up() -> None:
    architecture = read_architecture(_network())
    stages = [(stage.level, stage.size, stage.widths) for stage in architecture.stages]

    assert stages == [
        (0, 256, ()),  # the image
        (0, 256, ()),  # the image and its root
        (1, 128, (4, 4)),
        (2, 64, (8, 8)),
        (3, 32, (12, 12)),
        (2, 64, (8, 8)),
        (1, 128, (4, 4, 4)),
        (0, 256, (4, 4, 5)),
    ]
    assert sorted(architecture.skips) == [(1, 7), (2, 6), (3, 5)]
    assert architecture.stages[1].channels == 2


@pytest.mark.parametrize("name", ["unet", "mobilenetv2-unet"])
def test_the_picture_has_every_convolution_and_counts_every_operation(name: str) -> None:
    network = _network() if name == "unet" else mobilenetv2_unet((8, 8, 8, 8), 0.35)
    architecture = read_architecture(network)
    drawing = draw(architecture)

    assert len(architecture.layers) == len(network.layers) - 1
    assert sum(stage.parameters for stage in architecture.stages) == network.count_params()
    flops = sum(stage.flops for stage in architecture.stages) / INPUT_PX**2
    assert flops == pytest.approx(flops_per_pixel(network), rel=0.02)
    convolutions = sum(layer.weighted for layer in architecture.layers)
    without = sum(not stage.widths for stage in architecture.stages)
    assert drawing.count("<rect ") == convolutions + without
    assert drawing.count('class="skip"') == len(architecture.skips) == (3 if name == "unet" else 4)
    levels = [stage.level for stage in architecture.stages]
    assert max(levels) == (3 if name == "unet" else 5)
    lowest = levels.index(max(levels))
    assert levels[:lowest] == sorted(levels[:lowest])
    assert levels[lowest:] == sorted(levels[lowest:], reverse=True)
    width = int(re.findall(r'viewBox="0 0 (\d+)', drawing)[0])
    slabs = [(float(x), float(w)) for x, w in re.findall(r'<rect x="([\d.]+)".*? width="([\d.]+)"', drawing)]
    assert all(x + wide < following for (x, wide), (following, _) in pairwise(slabs))
    assert sum(slabs[-1]) < width <= 1320


def test_curves_show_training_and_validation() -> None:
    loss, accuracy = training_curves(HISTORY)

    assert loss.last == "training 1, validation 2.5"
    assert accuracy.last == "training 0.9, validation 0.85"
    lines = re.findall(r'<g class="line line(\d)"><path d="M([\d. L]+)"/><circle', loss.svg)
    assert [number for number, _ in lines] == ["0", "1"]
    (x0, y0), (x1, y1) = (map(float, point.split()) for point in lines[0][1].split("L"))
    (_, v0), (_, v1) = (map(float, point.split()) for point in lines[1][1].split("L"))
    assert x0 < x1
    # Loss falls, so lines go down the page, at one scale for both.
    assert (y1 - y0) / (v1 - v0) == pytest.approx((2 - 1) / (3 - 2.5), rel=0.01)
    assert v0 < y0 == pytest.approx(v0 + (v1 - v0) * 2, abs=0.2)


def test_curves_of_one_epoch_and_of_none() -> None:
    loss, _ = training_curves(HISTORY[:1])

    assert "<circle" in loss.svg
    assert "nan" not in loss.svg
    assert training_curves([]) == []
    assert training_curves([{"epoch": 1, "loss": float("nan")}]) == []


def test_a_chart_stays_in_its_frame() -> None:
    svg = line_chart([Line("a<b", [(0.5, 0.1), (0.95, 1.0)])], title="t", x_label="x", y_range=(0, 1))

    (path,) = re.findall(r'<g class="line line0"><path d="M([\d. L]+)"/><circle', svg)
    points = [tuple(map(float, point.split())) for point in path.split("L")]
    width, height = map(int, re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
    assert all(0 < x < width and 0 < y < height for x, y in points)
    assert "a&lt;b" in svg


@pytest.mark.parametrize(
    ("low", "high", "least", "expected"),
    [
        (0, 1, 0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.5, 0.95, 0, [0.5, 0.6, 0.7, 0.8, 0.9]),
        (1, 3, 1, [1, 2, 3]),
        (1, 50, 1, [10, 20, 30, 40, 50]),
        (0.91, 0.934, 0, [0.91, 0.915, 0.92, 0.925, 0.93]),
        (2, 2, 0, [2]),
    ],
)
def test_ticks_are_round(low: float, high: float, least: float, expected: list[float]) -> None:
    assert ticks(low, high, least=least) == pytest.approx(expected)


def test_bars_of_the_reliability_diagram_are_as_high_as_what_was_right() -> None:
    bins = [{"from": i / 10, "to": (i + 1) / 10, "nuclei": 0, "confidence": None, "right": None} for i in range(10)]
    bins[4] |= {"nuclei": 30, "confidence": 0.45, "right": 0.5}
    bins[9] |= {"nuclei": 10, "confidence": 0.95, "right": 1.0}
    svg = reliability_diagram({"nuclei": 40, "ece": 0.05, "bins": bins})

    bars = [float(height) for height in re.findall(r'class="reached".*? height="([\d.]+)"', svg)]
    counts = [float(height) for height in re.findall(r'class="count".*? height="([\d.]+)"', svg)]
    assert bars[0] == pytest.approx(bars[1] / 2)
    assert counts[0] == pytest.approx(3 * counts[1], rel=0.02)
    assert "30 nuclei of confidence 0.4 to 0.5: mean 0.450, right 0.500" in svg
