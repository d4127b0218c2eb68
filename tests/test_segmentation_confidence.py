"""How sure a nucleus is: what describes it, and what the calibration makes of that."""

from __future__ import annotations

import numpy as np
import pytest
from segmentation_samples import crowded_scene, disks

from hcs_nuclei.segmentation.confidence import FEATURES, ConfidenceSettings, describe
from hcs_nuclei.segmentation.targets import BORDER, DISTANCE, NUCLEUS, make_targets
from hcs_nuclei.training.calibration import fit_confidence


def _of(features: np.ndarray, name: str) -> np.ndarray:
    return features[:, FEATURES.index(name)]


def test_a_nucleus_that_explains_the_prediction_has_no_offset_error() -> None:
    truth = crowded_scene(np.random.default_rng(0), (160, 160), (6, 14), 25)

    features = describe(truth, make_targets(truth), 20)

    assert features.shape == (truth.max(), len(FEATURES))
    assert _of(features, "offset_error") == pytest.approx(0, abs=1e-5)
    assert (_of(features, "depth") == 1).all()


def test_two_nuclei_in_one_and_half_a_nucleus_do_not_explain_it() -> None:
    truth = disks((80, 120), [(40, 30, 14), (40, 58, 14), (40, 100, 12)])
    maps = make_targets(truth)
    merged = np.where(truth == 2, 1, truth)
    split = np.where((truth == 3) & (np.arange(120) >= 100), 4, truth)

    assert _of(describe(merged, maps, 20), "offset_error")[0] > 0.4
    assert _of(describe(split, maps, 20), "offset_error")[2:].min() > 0.3
    assert _of(describe(merged, maps, 20), "border")[0] > 0


def test_size_is_in_octaves_of_the_typical_diameter_and_the_edge_is_seen() -> None:
    truth = disks((100, 100), [(50, 50, 20), (0, 10, 10)])
    features = describe(truth, make_targets(truth), 20)

    assert _of(features, "size")[0] == pytest.approx(1, abs=0.03)
    assert list(_of(features, "cut")) == [0, 1]


def test_probabilities_are_means_over_the_nucleus_and_over_its_rim() -> None:
    truth = disks((40, 40), [(20, 20, 10)])
    maps = make_targets(truth)
    inner = disks((40, 40), [(20, 20, 7)]) > 0
    maps[..., NUCLEUS] = np.where(inner, 0.9, 0.6) * (truth > 0)
    maps[..., BORDER], maps[..., DISTANCE] = 0.25, 0.5
    features = describe(truth, maps, 20)
    mean = maps[..., NUCLEUS][truth > 0].mean()

    assert _of(features, "probability") == pytest.approx(np.log(mean / (1 - mean)), rel=1e-5)
    assert _of(features, "rim") == pytest.approx(np.log(0.6 / 0.4), rel=1e-5)
    assert (_of(features, "border")[0], _of(features, "depth")[0], _of(features, "fullness")[0]) == (0.25, 0.5, 0.5)


def test_numbers_without_pixels_describe_nothing() -> None:
    assert not describe(np.zeros((5, 5), np.int32), make_targets(np.zeros((5, 5), np.int32)), 20).size
    labels = disks((40, 40), [(20, 20, 10)]) * 3
    assert not describe(labels, make_targets(labels), 20)[:2].any()


def test_left_alone_confidence_is_the_mean_probability() -> None:
    features = np.zeros((3, len(FEATURES)))
    features[:, 0] = np.log(np.array([0.2, 0.5, 0.9]) / np.array([0.8, 0.5, 0.1]))

    assert ConfidenceSettings().of(features) == pytest.approx([0.2, 0.5, 0.9], rel=1e-6)


def test_a_fitted_confidence_is_how_often_such_a_nucleus_is_right() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(2, 3, (20_000, len(FEATURES)))
    probability = 1 / (1 + np.exp(-(0.8 * features[:, 0] - 0.5 * features[:, 5] - 0.4)))
    right = rng.random(len(features)) < probability

    fitted = fit_confidence([features[:5000], features[5000:]], [right[:5000], right[5000:]])

    assert np.abs(fitted.of(features) - probability).mean() < 0.01
    assert np.abs(features[:, 0]).max() > 8  # and not only where all are alike


def test_nuclei_that_were_all_right_leave_finite_weights() -> None:
    features = np.random.default_rng(1).normal(0, 1, (50, len(FEATURES)))
    fitted = fit_confidence([features], [np.ones(50, bool)])

    assert np.isfinite(fitted.weights).all()
    assert fitted.of(features).min() > 0.9
    assert fit_confidence([], []) == ConfidenceSettings()
