"""Evaluation and tuning: every figure of a model on images whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from segmentation_samples import crowded_scene, disks

from hcs_nuclei.segmentation.confidence import ConfidenceSettings
from hcs_nuclei.segmentation.instances import InstanceSettings
from hcs_nuclei.segmentation.network import unet
from hcs_nuclei.segmentation.predict import Prediction, Segmentation, Segmenter
from hcs_nuclei.segmentation.targets import NUCLEUS, make_targets
from hcs_nuclei.training.annotations import AnnotatedImage
from hcs_nuclei.training.evaluation import SHOWN, evaluate, field_seconds, reliability
from hcs_nuclei.training.matching import THRESHOLDS, iou_matrix, match, pooled_average_precision
from hcs_nuclei.training.tuning import tune

Labels = npt.NDArray[np.int32]


def _annotated(*truths: Labels, modality: str = "fluorescence") -> list[AnnotatedImage]:
    """Images whose pixels are their truth, so that a "model" can know it."""
    return [AnnotatedImage(f"image{i}", truth, truth, "val", modality) for i, truth in enumerate(truths)]


def _finds(
    labels: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], confidence: float = 0.9
) -> Callable[[npt.NDArray[Any]], Segmentation]:
    """A model that answers with these labels, numbered without gaps, all of one confidence."""

    def segment(image: npt.NDArray[Any]) -> Segmentation:
        found = labels(image)
        values, numbers = np.unique(found, return_inverse=True)
        numbers = numbers.reshape(found.shape) + int(values[0] != 0)
        return Segmentation(numbers.astype(np.uint32), np.full(int(numbers.max()), confidence, np.float32))

    return segment


def test_the_truth_itself_reaches_1_in_every_figure() -> None:
    truths = [crowded_scene(np.random.default_rng(seed), (80, 80), (4, 9), 10) for seed in range(3)]
    evaluation = evaluate(_annotated(*truths), _finds(lambda image: image, confidence=1.0))
    figures = evaluation.figures

    assert figures["images"] == len(evaluation.images) == 3
    assert figures["nuclei"] == figures["predicted"] == sum(np.unique(t).size - 1 for t in truths)
    for by_threshold in ("pooled_ap", "per_image_ap", "f1"):
        assert figures[by_threshold] == {f"{t:.2f}": 1.0 for t in THRESHOLDS}
    assert figures["pooled_ap_mean"] == figures["per_image_ap_50"] == figures["kaggle_map"] == figures["f1_70"] == 1
    assert figures["count_error"] == figures["merges"] == figures["splits"] == figures["confidence"]["ece"] == 0
    shares = {value for name, value in figures["pixels"].items() if not name.startswith("support")}
    assert shares == {1.0}
    assert "modalities" not in figures
    assert json.loads(json.dumps(figures)) == figures


def test_figures_by_hand() -> None:
    # Two squares of 100 px; found: one of them, and a square of 50 px where nothing is.
    truth = np.zeros((40, 40), np.int32)
    truth[0:10, 0:10], truth[20:30, 20:30] = 1, 2
    found = np.zeros((40, 40), np.int32)
    found[0:10, 0:10], found[0:10, 30:35] = 7, 9
    evaluation = evaluate(_annotated(truth), _finds(lambda image: found, confidence=0.75))
    figures = evaluation.figures

    assert (figures["nuclei"], figures["predicted"], figures["count_error"]) == (2, 2, 0)
    assert figures["pooled_ap"]["0.50"] == pytest.approx(1 / 3)
    assert figures["per_image_ap_50"] == pytest.approx(1 / 3)
    assert figures["f1_70"] == figures["f1"]["0.70"] == pytest.approx(1 / 2)
    pixels = figures["pixels"]
    assert (pixels["support_nucleus"], pixels["support_background"]) == (200, 1400)
    assert pixels["accuracy"] == pytest.approx((100 + 1350) / 1600)
    assert pixels["precision"] == pytest.approx(100 / 150)
    assert pixels["recall"] == pytest.approx(100 / 200)
    assert pixels["f1"] == pytest.approx(200 / 350)
    assert pixels["iou"] == pytest.approx(100 / 250)
    assert pixels["precision_background"] == pytest.approx(1350 / 1450)
    assert pixels["recall_background"] == pytest.approx(1350 / 1400)
    assert pixels["f1_background"] == pytest.approx(2700 / 2850)
    assert pixels["iou_background"] == pytest.approx(1350 / 1500)
    assert figures["confidence"]["ece"] == pytest.approx(0.75 - 1 / 2)
    (image,) = evaluation.images
    assert (image.nuclei, image.predicted, image.merges, image.splits, image.count_error) == (2, 2, 0, 0, 0)
    assert (image.ap_50, image.ap_mean, image.f1_70) == pytest.approx((1 / 3, 1 / 3, 1 / 2))
    assert image.confidence == pytest.approx(0.75)


def test_the_count_error_is_the_mean_share_over_images() -> None:
    truths = [disks((60, 60), [(10, 10, 5), (40, 40, 5)]), disks((60, 60), [(30, 30, 6)])]
    evaluation = evaluate(_annotated(*truths), _finds(lambda image: np.where(image == 1, 1, 0)))

    assert evaluation.figures["count_error"] == pytest.approx((1 / 2 + 0) / 2)
    assert [image.count_error for image in evaluation.images] == [1 / 2, 0]


def test_an_empty_image_left_empty_is_1_and_costs_nothing() -> None:
    evaluation = evaluate(_annotated(np.zeros((20, 20), np.int32)), _finds(lambda image: image))

    figures = evaluation.figures
    assert figures["per_image_ap_50"] == figures["kaggle_map"] == figures["pixels"]["f1"] == 1
    assert figures["count_error"] == 0
    assert figures["confidence"]["ece"] is evaluation.images[0].confidence is None
    assert json.loads(json.dumps(figures)) == figures


def test_nuclei_found_in_an_empty_image_count_as_errors() -> None:
    found = disks((40, 40), [(10, 10, 4), (30, 30, 4)])
    figures = evaluate(_annotated(np.zeros((40, 40), np.int32)), _finds(lambda image: found, confidence=0.8)).figures

    assert figures["per_image_ap_50"] == figures["kaggle_map"] == figures["pixels"]["precision"] == 0
    assert figures["count_error"] == 2
    assert figures["confidence"]["ece"] == pytest.approx(0.8)


def test_modalities_have_figures_of_their_own_where_there_are_several() -> None:
    truth = disks((60, 60), [(15, 15, 6), (40, 40, 8)])
    pairs = _annotated(truth) + _annotated(truth, truth, modality="histology") + _annotated(truth, modality="")
    segment = _finds(lambda image: image)
    answers = iter([segment(truth), segment(truth), segment(truth * 0), segment(truth)])
    figures = evaluate(pairs, lambda image: next(answers)).figures
    modalities = figures["modalities"]

    assert list(modalities) == ["unknown", "fluorescence", "histology"]
    assert modalities["fluorescence"] == evaluate(_annotated(truth), segment).figures
    assert [of["images"] for of in modalities.values()] == [1, 1, 2]
    assert modalities["histology"]["pooled_ap"]["0.50"] == 1 / 2
    assert figures["pooled_ap"]["0.50"] == 3 / 4


def test_a_nucleus_makes_one_prediction_right() -> None:
    # Each half of the nucleus has an IoU of exactly 0.5 with it.
    truth = np.ones((10, 10), np.int32)
    truth[:, 8:] = 0
    found = np.where(truth, np.where(np.arange(10) < 4, 1, 2), 0)
    assert match(iou_matrix(truth, found), 0.5).true_positive == 1
    figures = evaluate(_annotated(truth), _finds(lambda image: found, confidence=0.95)).figures

    assert figures["confidence"]["bins"][9] == {
        "from": 0.9,
        "to": 1.0,
        "nuclei": 2,
        "confidence": pytest.approx(0.95),
        "right": 1 / 2,
    }


def test_a_right_prediction_is_one_that_counts_as_found() -> None:
    rng = np.random.default_rng(3)
    for seed in range(5):
        truth = crowded_scene(np.random.default_rng(seed), (90, 90), (4, 9), 14)
        found = ndimage.shift(truth, rng.integers(-3, 4, 2), order=0)
        figures = evaluate(_annotated(truth), _finds(lambda image, found=found: found)).figures
        (bin_,) = (one for one in figures["confidence"]["bins"] if one["nuclei"])
        matched = match(iou_matrix(truth, found), 0.5).true_positive
        assert matched > 0
        assert round(bin_["right"] * bin_["nuclei"]) == matched


def test_the_calibration_error_by_hand() -> None:
    confidence = np.array([0.05, 0.31, 0.35, 0.99, 1.0])
    told = reliability(confidence, np.array([False, True, False, True, True]))

    assert [one["nuclei"] for one in told["bins"]] == [1, 0, 0, 2, 0, 0, 0, 0, 0, 2]
    assert told["bins"][1] == {"from": 0.1, "to": 0.2, "nuclei": 0, "confidence": None, "right": None}
    assert (told["bins"][3]["confidence"], told["bins"][3]["right"]) == (pytest.approx(0.33), 0.5)
    assert told["nuclei"] == 5
    assert told["ece"] == pytest.approx((1 * 0.05 + 2 * abs(0.33 - 0.5) + 2 * abs(0.995 - 1)) / 5)


def test_what_is_right_as_often_as_it_says_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(100_000)

    assert reliability(confidence, rng.random(100_000) < confidence)["ece"] < 0.01
    assert reliability(confidence, rng.random(100_000) < confidence**2)["ece"] > 0.1


def test_the_best_and_the_worst_are_kept_with_their_labels() -> None:
    # Of ten nuclei the first n are found, so that the n-th image is the n-th worst.
    truth = disks((40, 130), [(20, 7 + 12 * i, 4) for i in range(10)])
    order = np.random.default_rng(0).permutation(20)
    pairs = [AnnotatedImage(f"i{n:02}", np.full((40, 130), n), truth, "val", "") for n in order]
    counted: list[int] = []
    evaluation = evaluate(
        pairs, _finds(lambda image: np.where(truth <= image[0, 0] / 2, truth, 0)), done=counted.append
    )

    assert counted == list(range(1, 21))
    assert [image.name for image in evaluation.images] == [f"i{n:02}" for n in order]
    # Of images that are equally good the first in the alphabet is the worse one.
    assert [shown.figures.name for shown in evaluation.worst] == [f"i{n:02}" for n in range(SHOWN)]
    assert [shown.figures.name for shown in evaluation.best] == [f"i{19 - n:02}" for n in range(SHOWN)]
    for shown in (*evaluation.worst, *evaluation.best):
        assert shown.labels.max() == shown.figures.predicted == int(shown.pair.name[1:]) // 2


@pytest.mark.parametrize(("images", "worst", "best"), [(1, 0, 1), (2, 1, 1), (5, 2, 3), (12, 6, 6), (13, 6, 6)])
def test_no_image_is_among_the_best_and_the_worst(images: int, worst: int, best: int) -> None:
    truths = [disks((30, 30), [(15, 15, 5)])] * images
    evaluation = evaluate(_annotated(*truths), _finds(lambda image: image))

    assert (len(evaluation.worst), len(evaluation.best)) == (worst, best)
    assert len({shown.figures.name for shown in (*evaluation.worst, *evaluation.best)}) == worst + best


def test_a_field_is_timed_at_its_full_size() -> None:
    seen: list[tuple[int, ...]] = []

    def segment(image: npt.NDArray[Any]) -> Segmentation:
        seen.append(image.shape)
        return Segmentation(np.zeros(image.shape, np.uint32), np.zeros(0, np.float32))

    assert 0 < field_seconds(segment, np.zeros((256, 1300))) < 10
    assert seen == [(1080, 1080)] * 4


@cache
def _segmenter() -> Segmenter:
    """One whose network is never asked: what it would have said is given."""
    return Segmenter(unet((4, 8), 4), InstanceSettings(), 20.0)


def _predictions(*maps: npt.NDArray[np.float32]) -> list[Prediction]:
    return [Prediction(one, one[..., NUCLEUS]) for one in maps]


def _timid(truth: Labels) -> npt.NDArray[np.float32]:
    """What a network says that is unsure of every outline: right in shape, with probabilities up to 0.52 only."""
    prediction = ndimage.gaussian_filter(make_targets(truth), (0.7, 0.7, 0))
    prediction[..., NUCLEUS] *= 0.52
    return prediction.astype(np.float32)


def test_tuning_finds_thresholds_that_suit_a_timid_network() -> None:
    truths = [crowded_scene(np.random.default_rng(seed), (96, 96), (6, 10), 10) for seed in range(2)]
    predictions = _predictions(*(_timid(truth) for truth in truths))
    segmenter = _segmenter()

    def score() -> float:
        found = [segmenter.instances_of(prediction, minimum_area_px=20).labels for prediction in predictions]
        ious = [iou_matrix(truth, labels) for truth, labels in zip(truths, found, strict=True)]
        return float(np.mean([pooled_average_precision(ious, t) for t in THRESHOLDS]))

    segmenter.instances, segmenter.confidence = InstanceSettings(minimum_confidence=0), ConfidenceSettings()
    before = score()
    instances, confidence = tune(segmenter, predictions, truths)

    assert (segmenter.instances, segmenter.confidence) == (instances, confidence)
    assert instances.nucleus < 0.5
    assert score() > before + 0.1
    assert (instances, confidence) == tune(segmenter, predictions, truths)


def test_what_went_wrong_on_spoilt_images_lowers_the_confidence_there() -> None:
    truths = [crowded_scene(np.random.default_rng(seed), (96, 96), (6, 10), 10) for seed in range(2)]
    good = _predictions(*(make_targets(truth) for truth in truths))
    # Out of focus: soft rims, and in places where no nucleus was annotated.
    soft = _predictions(*(ndimage.gaussian_filter(make_targets(truth)[:, ::-1], (2, 2, 0)) for truth in truths))
    sharp_alone, with_spoilt = _segmenter(), Segmenter(unet((4, 8), 4), InstanceSettings(), 20.0)
    tune(sharp_alone, good, truths)
    tune(with_spoilt, good, truths, spoilt=list(zip(soft, truths, strict=True)))

    def mean(segmenter: Segmenter, prediction: Prediction) -> float:
        return float(segmenter.confidence.of(segmenter.objects_of(prediction)[1]).mean())

    assert mean(with_spoilt, good[0]) > 0.8
    assert mean(with_spoilt, soft[0]) < 0.5 < mean(sharp_alone, soft[0])
    # The thresholds are chosen on good images alone.
    assert with_spoilt.instances == sharp_alone.instances
