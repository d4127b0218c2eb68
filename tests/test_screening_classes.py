"""What a nucleus looks like: the rules at their thresholds, relative to the controls, and when nothing is called."""

from __future__ import annotations

import numpy as np
import pytest

from hcs_nuclei.screening.classes import NucleusReference, nucleus_class, nucleus_reference
from hcs_nuclei.settings.aggregation import CallSettings

COLUMNS = ("mean", "integrated")
REFERENCE = NucleusReference(*COLUMNS, 400.0, 500.0, 200_000.0, 1000, "negative controls")

#: name: (area, mean, eccentricity, class), area and mean relative to the controls'.
NUCLEI = {
    "as the controls": (1.0, 1.0, 0.7, "interphase"),
    "large and dim": (2.5, 0.8, 0.6, "interphase"),
    "bright but not small": (0.9, 2.0, 0.6, "interphase"),
    "small but not bright": (0.5, 1.2, 0.6, "interphase"),
    "a metaphase from its side": (0.45, 3.0, 0.93, "mitotic"),
    "a prometaphase": (0.55, 2.9, 0.6, "mitotic"),
    "half of an anaphase": (0.28, 2.6, 0.92, "mitotic"),
    "a shrunken round nucleus": (0.3, 2.5, 0.5, "apoptotic-like"),
    "a speck": (0.1, 1.0, 0.4, "debris"),
    "a bright speck": (0.08, 2.5, 0.4, "debris"),
    "a small nucleus with its DNA": (0.25, 1.6, 0.4, "interphase"),
}


@pytest.mark.parametrize(("area", "mean", "eccentricity", "expected"), NUCLEI.values(), ids=NUCLEI.keys())
def test_rules(area: float, mean: float, eccentricity: float, expected: str) -> None:
    for scale in (1.0, 3.7):  # of a brighter plate with larger nuclei
        reference = NucleusReference(*COLUMNS, 400.0 * scale, 500.0 * scale, 200_000.0 * scale**2, 1000, "")
        size, bright = np.array([area * 400 * scale]), np.array([mean * 500 * scale])
        (called,) = nucleus_class(size, bright, size * bright, np.array([eccentricity]), reference, CallSettings())
        assert called == expected


def test_thresholds_are_the_recipe_s() -> None:
    nucleus = np.array([240.0]), np.array([1500.0]), np.array([360_000.0]), np.array([0.5])
    assert nucleus_class(*nucleus, REFERENCE, CallSettings()).tolist() == ["mitotic"]
    assert nucleus_class(*nucleus, REFERENCE, CallSettings(condensed_intensity=3.5)).tolist() == ["interphase"]
    assert nucleus_class(*nucleus, REFERENCE, CallSettings(apoptotic_area=0.7)).tolist() == ["apoptotic-like"]


def test_what_was_not_measured_is_not_called() -> None:
    some = np.array([400.0, np.nan])
    called = nucleus_class(some, some, some, np.array([np.nan, 0.5]), REFERENCE, CallSettings())
    assert called.tolist() == [None, None]


def test_the_reference_is_the_controls_median() -> None:
    rng = np.random.default_rng(0)
    area, mean = rng.normal(400, 40, 501), rng.normal(500, 50, 501)
    area[0] = np.nan
    found = nucleus_reference(*COLUMNS, area, mean, area * mean, "negative controls")
    assert (found.nuclei, found.reason) == (500, "")
    assert (found.area, found.mean) == (np.median(area[1:]), np.median(mean[1:]))


@pytest.mark.parametrize(
    ("mean", "reason"),
    [(np.full(49, 500.0), "too few nuclei: 49, of 50"), (np.full(60, -1.0), "no brighter than the background")],
)
def test_without_a_reference_nothing_is_called(mean: np.ndarray, reason: str) -> None:
    area = np.full(mean.size, 400.0)
    found = nucleus_reference(*COLUMNS, area, mean, area * mean, "all wells")
    assert reason in found.reason
    assert nucleus_class(area, mean, area * mean, area / 1000, found, CallSettings()).tolist() == [None] * mean.size
