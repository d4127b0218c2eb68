"""Matching: each figure worked out by hand, then held to brute force and scikit-image."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from segmentation_samples import crowded_scene, disks
from skimage.metrics import contingency_table

from hcs_nuclei.segmentation.predict import Segmentation
from hcs_nuclei.training.annotations import AnnotatedImage
from hcs_nuclei.training.evaluation import evaluate
from hcs_nuclei.training.matching import (
    THRESHOLDS,
    Matches,
    iou_matrix,
    kaggle_score,
    match,
    mean_average_precision,
    merges_and_splits,
    pooled_average_precision,
)

Labels = npt.NDArray[np.int32]
EMPTY = np.zeros((10, 10), np.int32)
#: Two true nuclei of 10 px each, and what was found of them.
TRUTH = np.array([[1] * 10 + [0] * 4 + [2] * 10], np.int32)


def _found(*runs: tuple[int, int]) -> Labels:
    """Nuclei on the columns (start, stop) of TRUTH."""
    labels = np.zeros(TRUTH.shape, np.int32)
    for number, (start, stop) in enumerate(runs, start=1):
        labels[0, start:stop] = number
    return labels


#: Three images of TRUTH: IoU 0.8 and 0.6; both under one (10/24 each); the first in two halves (0.5 each) and 1.0.
WORKED = (_found((0, 8), (14, 20)), _found((0, 24)), _found((0, 5), (5, 10), (14, 24)))


def _iou(rows: list[list[float]]) -> sparse.csr_array:
    return sparse.csr_array(np.array(rows, float))


@pytest.mark.parametrize(
    ("found", "threshold", "expected"),
    [
        pytest.param(_found((0, 10), (14, 24)), 1.0, Matches(2, 0, 0), id="both-exactly"),
        pytest.param(_found((0, 10)), 0.5, Matches(1, 0, 1), id="one-missed"),
        pytest.param(_found((0, 10), (11, 13), (14, 24)), 0.5, Matches(2, 1, 0), id="one-too-many"),
        pytest.param(_found((0, 8), (14, 20)), 0.7, Matches(1, 1, 1), id="0.8-passes-0.6-does-not"),
        pytest.param(_found((0, 24)), 0.4, Matches(1, 0, 1), id="a-merge-matches-one-of-them"),
        pytest.param(_found((0, 24)), 0.5, Matches(0, 1, 2), id="a-merge-matches-none"),
        pytest.param(_found((0, 5), (5, 10), (14, 24)), 0.5, Matches(2, 1, 0), id="a-split-matches-once"),
        pytest.param(_found(), 0.5, Matches(0, 0, 2), id="nothing-found"),
    ],
)
def test_matches_by_hand(found: Labels, threshold: float, expected: Matches) -> None:
    assert match(iou_matrix(TRUTH, found), threshold) == expected


def test_iou_by_hand() -> None:
    iou = iou_matrix(TRUTH, _found((0, 8), (8, 20)))

    np.testing.assert_allclose(iou.toarray(), [[8 / 10, 2 / 20], [0, 6 / 16]])


def test_iou_of_exactly_one_half_is_a_match_and_strictly_none() -> None:
    iou = iou_matrix(TRUTH, _found((0, 5)))

    assert iou.toarray().max() == 0.5
    assert match(iou, 0.5) == Matches(1, 0, 1)
    assert match(iou, 0.5, strictly=True) == Matches(0, 1, 2)


def test_a_threshold_such_as_0_55_is_met_by_11_of_20() -> None:
    truth = np.ones((1, 20), np.int32)
    found = np.zeros((1, 20), np.int32)
    found[0, :11] = 1

    assert 0.55 in THRESHOLDS
    assert match(iou_matrix(truth, found), 0.55).true_positive == 1
    assert match(iou_matrix(truth, found), 0.55, strictly=True).true_positive == 0


def test_competition_below_one_half_is_solved_for_all_together() -> None:
    # The greedy choice, 0.45 first, would leave the second truth without a partner.
    iou = _iou([[0.45, 0.40], [0.42, 0.0]])

    assert match(iou, 0.4) == Matches(2, 0, 0)
    assert match(iou, 0.41) == Matches(1, 1, 1)


def test_more_pairs_beat_better_pairs() -> None:
    iou = _iou([[0.49, 0.30], [0.30, 0.0]])

    assert match(iou, 0.3).true_positive == 2


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5]), min_size=4, max_size=4), min_size=1, max_size=4
    ),
    st.sampled_from([0.1, 0.2, 0.3, 0.45]),
    st.booleans(),
)
def test_no_assignment_has_more_pairs(rows: list[list[float]], threshold: float, strictly: bool) -> None:
    good = np.array(rows) > threshold if strictly else np.array(rows) >= threshold
    best = max(sum(good[i, column] for i, column in enumerate(order[: len(rows)])) for order in permutations(range(4)))

    assert match(_iou(rows), threshold, strictly=strictly) == Matches(int(best), 4 - int(best), len(rows) - int(best))


@given(st.integers(0, 2**32 - 1))
def test_iou_is_that_of_scikit_images_contingency_table(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = (crowded_scene(rng, (40, 40), (3, 8), 8) for _ in range(2))
    both = contingency_table(truth, found, sparse_type="array").toarray() * truth.size
    union = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    whole = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    expected = whole[np.ix_(np.unique(truth)[1:], np.unique(found)[1:])]

    np.testing.assert_allclose(iou_matrix(truth, found).toarray(), expected, atol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_numbers_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = (crowded_scene(rng, (40, 40), (3, 8), 8) for _ in range(2))
    numbers = np.concatenate([[0], rng.permutation(1000)[:8] + 1]).astype(np.uint32)
    before, after = iou_matrix(truth, found), iou_matrix(numbers[truth], numbers[found])

    for threshold in (0.1, 0.3, 0.5, 0.75):
        assert match(after, threshold) == match(before, threshold)
    assert merges_and_splits(after) == merges_and_splits(before)


@pytest.mark.parametrize("seed", range(3))
def test_a_field_against_itself_is_1_everywhere(seed: int) -> None:
    labels = crowded_scene(np.random.default_rng(seed), (64, 64), (4, 9), 12)
    iou = iou_matrix(labels, labels)

    assert match(iou, 1.0) == Matches(iou.shape[0], 0, 0)
    assert pooled_average_precision([iou], 1.0) == mean_average_precision([iou], 0.5) == kaggle_score([iou]) == 1
    assert merges_and_splits(iou) == (0, 0)


def test_nothing_to_find_and_nothing_found_is_1() -> None:
    iou = iou_matrix(EMPTY, EMPTY)

    assert iou.shape == (0, 0)
    assert match(iou, 0.5) == Matches(0, 0, 0)
    assert match(iou, 0.5).average_precision == match(iou, 0.5).f1 == kaggle_score([iou]) == 1
    assert merges_and_splits(iou) == (0, 0)


@pytest.mark.parametrize("turned", [False, True])
def test_nothing_to_find_but_something_found_is_0_and_the_other_way_round(turned: bool) -> None:
    labels = disks((10, 10), [(2, 2, 2), (7, 7, 2)])
    iou = iou_matrix(labels, EMPTY) if turned else iou_matrix(EMPTY, labels)

    assert match(iou, 0.5) == (Matches(0, 0, 2) if turned else Matches(0, 2, 0))
    assert match(iou, 0.5).average_precision == match(iou, 0.5).f1 == kaggle_score([iou]) == 0


def test_a_field_without_background_keeps_its_first_nucleus() -> None:
    labels = np.repeat(np.array([[1], [2]], np.int32), 5, axis=0).repeat(10, axis=1)

    np.testing.assert_array_equal(iou_matrix(labels, labels).toarray(), np.eye(2))


def test_images_of_other_size_are_refused() -> None:
    with pytest.raises(ValueError, match="must cover the same pixels"):
        iou_matrix(EMPTY, EMPTY[:5])


def test_average_precision_and_f1_by_hand() -> None:
    # 6 / (6 + 2 + 4); 2 × 6 / (2 × 6 + 2 + 4)
    matches = Matches(6, 2, 4)

    assert matches.average_precision == 6 / 12
    assert matches.f1 == 12 / 18


def test_pooled_and_mean_over_images_differ_as_they_should() -> None:
    # 8 of 8 in the first image, 0 of 1 with 1 false in the second: 8 / (8 + 1 + 1); (8 / 8 + 0 / 2) / 2.
    crowd = _iou(np.eye(8).tolist())
    lonely = _iou([[0.0]])

    assert pooled_average_precision([crowd, lonely], 0.5) == pytest.approx(8 / 10)
    assert mean_average_precision([crowd, lonely], 0.5) == pytest.approx(1 / 2)


def test_kaggles_score_by_hand() -> None:
    # 0.8 exceeds 0.50 … 0.75 but not 0.80 (6 thresholds), 0.6 exceeds 0.50 and 0.55 (2): 2 × 2/2, then 4 × 1/3.
    iou = _iou([[0.8, 0.0], [0.0, 0.6]])

    assert kaggle_score([iou]) == pytest.approx((2 * 1 + 4 * (1 / 3)) / 10)
    assert kaggle_score([iou, _iou([[1.0]])]) == pytest.approx(((2 + 4 / 3) / 10 + 1) / 2)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(_found((0, 10), (14, 24)), (0, 0), id="none"),
        pytest.param(_found((0, 24)), (1, 0), id="one-over-both"),
        pytest.param(_found((0, 5), (5, 10), (14, 24)), (0, 1), id="one-in-two"),
        pytest.param(_found((0, 5), (5, 24)), (1, 1), id="both"),
        pytest.param(_found((0, 10), (13, 24)), (0, 0), id="a-pixel-beside"),
        pytest.param(_found((0, 9), (9, 24)), (0, 0), id="a-sliver-is-no-merge"),
    ],
)
def test_merges_and_splits(found: Labels, expected: tuple[int, int]) -> None:
    assert merges_and_splits(iou_matrix(TRUTH, found)) == expected


def test_every_average_of_the_worked_example() -> None:
    ious = [iou_matrix(TRUTH, found) for found in WORKED]

    # At 0.5 TP, FP, FN are 2, 0, 0 and 0, 1, 2 and 2, 1, 0, as 0.5 counts: 4, 2, 2 together.
    half = sum((match(iou, 0.5) for iou in ious), Matches(0, 0, 0))
    assert half == Matches(4, 2, 2)
    assert half.f1 == pytest.approx(8 / 12)
    assert pooled_average_precision(ious, 0.5) == pytest.approx(4 / 8)
    assert mean_average_precision(ious, 0.5) == pytest.approx((2 / 2 + 0 / 3 + 2 / 3) / 3)

    # At 0.7 they are 1, 1, 1 and 0, 1, 2 and 1, 2, 1: 2, 4, 4 together.
    more = sum((match(iou, 0.7) for iou in ious), Matches(0, 0, 0))
    assert more == Matches(2, 4, 4)
    assert more.f1 == pytest.approx(4 / 12)
    assert pooled_average_precision(ious, 0.7) == pytest.approx(2 / 10)
    assert mean_average_precision(ious, 0.7) == pytest.approx((1 / 3 + 0 / 3 + 1 / 4) / 3)

    # Kaggle's >: the first has 2/2 at 0.50 and 0.55, 1/3 from 0.60 to 0.75, where 0.6 is no more than 0.60, and 0/4
    # from 0.80 on; the second has 0; the third, whose halves are no more than 0.50, has 1/4 at all ten.
    assert kaggle_score(ious) == pytest.approx(((2 * 1 + 4 / 3) / 10 + 0 + 1 / 4) / 3)

    assert [merges_and_splits(iou) for iou in ious] == [(0, 0), (1, 0), (0, 1)]


def test_every_figure_of_the_worked_example() -> None:
    answers = iter(WORKED)

    def segment(image: npt.NDArray[np.uint8]) -> Segmentation:
        found = next(answers)
        return Segmentation(found.astype(np.uint32), np.ones(int(found.max()), np.float32))

    image = np.zeros(TRUTH.shape, np.uint8)
    figures = evaluate([AnnotatedImage(name, image, TRUTH, "val", "") for name in "abc"], segment).figures

    assert (figures["nuclei"], figures["predicted"]) == (2 + 2 + 2, 2 + 1 + 3)
    assert figures["count_error"] == pytest.approx((0 / 2 + 1 / 2 + 1 / 2) / 3)
    assert (figures["merges"], figures["splits"]) == (1, 1)
    assert (figures["pooled_ap"]["0.50"], figures["pooled_ap"]["0.70"]) == pytest.approx((4 / 8, 2 / 10))
    assert (figures["f1"]["0.50"], figures["f1_70"]) == pytest.approx((8 / 12, 4 / 12))
    assert figures["kaggle_map"] == pytest.approx(7 / 36)

    # Of 24 px 20 are nucleus. TP, FP, FN, TN: 14, 0, 6, 4 and 20, 4, 0, 0 and 20, 0, 0, 4: 54, 4, 6, 8 together.
    pixels = figures["pixels"]
    assert (pixels["support_nucleus"], pixels["support_background"]) == (60, 12)
    assert pixels["accuracy"] == pytest.approx((54 + 8) / 72)
    assert pixels["precision"] == pytest.approx(54 / 58)
    assert pixels["recall"] == pytest.approx(54 / 60)
    assert pixels["f1"] == pytest.approx(2 * 54 / (2 * 54 + 4 + 6))
    assert pixels["iou"] == pytest.approx(54 / 64)
    assert pixels["precision_background"] == pytest.approx(8 / 14)
    assert pixels["recall_background"] == pytest.approx(8 / 12)
