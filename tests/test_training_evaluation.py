"""Evaluation and tuning: every figure of a model on images whose answers are known."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from segmentation_samples import crowded_scene, disks

from hcs_nuclei.segmentation.instances import InstanceSettings, find_nuclei
from hcs_nuclei.segmentation.targets import NUCLEUS, make_targets
from hcs_nuclei.training.annotations import AnnotatedImage
from hcs_nuclei.training.evaluation import evaluate
from hcs_nuclei.training.matching import THRESHOLDS, iou_matrix, pooled_average_precision
from hcs_nuclei.training.tuning import tune_instances

Labels = npt.NDArray[np.int32]


def _annotated(*truths: Labels) -> list[AnnotatedImage]:
    """Images whose pixels are their truth, so that a "model" can know it."""
    return [AnnotatedImage(f"image{i}", truth, truth, "val", "fluorescence") for i, truth in enumerate(truths)]


def test_the_truth_itself_reaches_1_in_every_figure() -> None:
    truths = [crowded_scene(np.random.default_rng(seed), (80, 80), (4, 9), 10) for seed in range(3)]
    figures = evaluate(_annotated(*truths), lambda image: image)

    assert figures["images"] == 3
    assert figures["nuclei"] == figures["predicted"] == sum(np.unique(t).size - 1 for t in truths)
    assert figures["pooled_ap"] == {f"{t:.2f}": 1.0 for t in THRESHOLDS}
    assert figures["pooled_ap_mean"] == figures["per_image_ap_50"] == figures["kaggle_map"] == 1
    assert figures["count_error"] == figures["merges"] == figures["splits"] == 0
    assert {figures["pixels"][name] for name in ("accuracy", "precision", "recall", "f1", "iou")} == {1.0}
    assert json.loads(json.dumps(figures)) == figures


def test_figures_by_hand() -> None:
    # Two squares of 100 px; found: one of them, and a square of 50 px where nothing is.
    truth = np.zeros((40, 40), np.int32)
    truth[0:10, 0:10], truth[20:30, 20:30] = 1, 2
    found = np.zeros((40, 40), np.int32)
    found[0:10, 0:10], found[0:10, 30:35] = 7, 9
    figures = evaluate(_annotated(truth), lambda image: found)

    assert (figures["nuclei"], figures["predicted"], figures["count_error"]) == (2, 2, 0)
    assert figures["pooled_ap"]["0.50"] == pytest.approx(1 / 3)
    assert figures["per_image_ap_50"] == pytest.approx(1 / 3)
    pixels = figures["pixels"]
    assert (pixels["support_nucleus"], pixels["support_background"]) == (200, 1400)
    assert pixels["accuracy"] == pytest.approx((100 + 1350) / 1600)
    assert pixels["precision"] == pytest.approx(100 / 150)
    assert pixels["recall"] == pytest.approx(100 / 200)
    assert pixels["f1"] == pytest.approx(200 / 350)
    assert pixels["iou"] == pytest.approx(100 / 250)


def test_the_count_error_is_the_mean_share_over_images() -> None:
    truths = [disks((60, 60), [(10, 10, 5), (40, 40, 5)]), disks((60, 60), [(30, 30, 6)])]
    figures = evaluate(_annotated(*truths), lambda image: np.where(image == 1, 1, 0))

    assert figures["count_error"] == pytest.approx((1 / 2 + 0) / 2)


def test_an_empty_image_left_empty_is_1_and_costs_nothing() -> None:
    figures = evaluate(_annotated(np.zeros((20, 20), np.int32)), lambda image: image)

    assert figures["per_image_ap_50"] == figures["kaggle_map"] == figures["pixels"]["f1"] == 1
    assert figures["count_error"] == 0


def test_nuclei_found_in_an_empty_image_count_as_errors() -> None:
    figures = evaluate(
        _annotated(np.zeros((40, 40), np.int32)), lambda image: disks((40, 40), [(10, 10, 4), (30, 30, 4)])
    )

    assert figures["per_image_ap_50"] == figures["kaggle_map"] == figures["pixels"]["precision"] == 0
    assert figures["count_error"] == 2


def _timid(truth: Labels) -> npt.NDArray[np.float32]:
    """What a network says that is unsure of every outline: right in shape, with probabilities up to 0.52 only."""
    prediction = ndimage.gaussian_filter(make_targets(truth), (0.7, 0.7, 0))
    prediction[..., NUCLEUS] *= 0.52
    return prediction.astype(np.float32)


def test_tuning_finds_thresholds_that_suit_a_timid_network() -> None:
    truths = [crowded_scene(np.random.default_rng(seed), (96, 96), (6, 10), 10) for seed in range(2)]
    predictions = [_timid(truth) for truth in truths]

    def score(settings: InstanceSettings) -> float:
        found = [find_nuclei(prediction, settings, minimum_area_px=20)[0] for prediction in predictions]
        ious = [iou_matrix(truth, labels) for truth, labels in zip(truths, found, strict=True)]
        return float(np.mean([pooled_average_precision(ious, t) for t in THRESHOLDS]))

    tuned = tune_instances(predictions, truths)

    assert tuned.nucleus < 0.5
    assert score(tuned) > score(InstanceSettings()) + 0.1
    assert tuned == tune_instances(predictions, truths)


def test_tuning_keeps_the_defaults_where_nothing_is_better() -> None:
    truth = disks((60, 60), [(15, 15, 9), (40, 40, 9)])

    assert tune_instances([make_targets(truth)], [truth]) == InstanceSettings()
