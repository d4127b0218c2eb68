"""What a training makes small, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hcs_nuclei.segmentation.targets import BORDER, DISTANCE, NUCLEUS, OFFSET_X, OFFSET_Y, TARGETS, make_targets
from hcs_nuclei.training import AnnotatedImage
from hcs_nuclei.training.fit import loss, nucleus_accuracy

# Keras asks TensorFlow's variables for arrays in NumPy 1's way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def test_the_loss_is_least_for_the_truth_and_feels_every_target(training_images: list[AnnotatedImage]) -> None:
    truth = make_targets(training_images[0].labels)[None]
    assert truth[..., BORDER].any()
    best = float(loss(truth, truth))
    worse = []
    for channel in range(TARGETS):
        wrong = truth.copy()
        wrong[..., channel] = 1 - wrong[..., channel]
        worse.append(float(loss(truth, wrong)))

    assert {NUCLEUS, BORDER, DISTANCE, OFFSET_Y, OFFSET_X} == set(range(TARGETS))
    assert best < 0.01
    assert min(worse) > 0.3


def test_the_loss_by_hand_where_nothing_is_known() -> None:
    truth = np.zeros((1, 4, 4, TARGETS), np.float32)
    truth[0, :2, :, NUCLEUS] = 1
    truth[0, :2, :, OFFSET_Y] = 0.9
    truth[0, 2:, :, OFFSET_Y] = 0.1  # outside of nuclei, where it does not count
    unsure = np.full_like(truth, 0.5)
    entropy = np.log(2)
    expected = (
        0.5 * entropy  # nucleus
        + 0.3 * (1 - (2 * 4 + 1) / (8 + 8 + 1))
        + 0.5 * entropy  # border, of which there is none
        + 0.2 * (1 - 1 / (8 + 1))
        + 2 * 0.5  # distance
        + 2 * (8 * 0.4 / (8 + 1) + 8 * 0.5 / (8 + 1))  # offsets, over the 8 pixels of nuclei
    )

    assert float(loss(truth, unsure)) == pytest.approx(expected, rel=1e-5)


def test_a_missed_border_costs_five_times_an_invented_one() -> None:
    none = np.zeros((1, 4, 4, TARGETS), np.float32)
    border = none.copy()
    border[..., BORDER] = 1
    unsure = none.copy()
    unsure[..., BORDER] = 0.5
    dice = 0.2 * (1 - (2 * 8 + 1) / (16 + 8 + 1)), 0.2 * (1 - 1 / (8 + 1))

    assert float(loss(border, unsure)) - dice[0] == pytest.approx(0.5 * 5 * np.log(2), rel=1e-3)
    assert float(loss(none, unsure)) - dice[1] == pytest.approx(0.5 * np.log(2), rel=1e-3)


def test_accuracy_is_the_share_of_pixels_called_rightly() -> None:
    truth = np.zeros((1, 2, 4, TARGETS), np.float32)
    truth[0, 0, :, NUCLEUS] = 1
    said = truth.copy()
    said[0, 0, 0, NUCLEUS], said[0, 1, 1, NUCLEUS] = 0.4, 0.6

    assert float(nucleus_accuracy(truth, said)) == pytest.approx(6 / 8)
