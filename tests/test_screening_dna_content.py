"""DNA content: the G1 peak is found where there is one, and nothing is called where there is none to believe in."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pytest

from hcs_nuclei.columns import DNA_CLASSES
from hcs_nuclei.screening.dna_content import G1Peak, dna_class, dna_content, dna_cuts, find_g1

FEATURE = "Nuclei_Intensity_IntegratedIntensityBackgroundSubtracted_DAPI"
G1 = 250_000.0


def culture(
    n: int = 4000, g1: float = 0.6, s: float = 0.18, spread: float = 0.13, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(n,) true DNA content and (n,) integrated stain of a culture with these shares of G1 and S, the rest G2."""
    rng = np.random.default_rng(seed)
    content = rng.choice([2.0, 3.0, 4.0], n, p=[g1, s, 1 - g1 - s])
    between = content == 3
    content[between] = rng.uniform(2, 4, between.sum())
    return content, G1 * content / 2 * 2.0 ** rng.normal(0, spread, n)


def peak_of(stain: npt.NDArray[np.float64], minimum: int = 200, widest: float = 0.2) -> G1Peak:
    return find_g1(FEATURE, stain, "negative controls", minimum=minimum, widest=widest)


@pytest.mark.parametrize("spread", [0.07, 0.1, 0.13])
@pytest.mark.parametrize("n", [300, 4000])
def test_the_peak_and_its_width_are_found(n: int, spread: float) -> None:
    found = [peak_of(culture(n, spread=spread, seed=seed)[1]) for seed in range(10)]
    places = np.array([np.log2((peak.position or np.nan) / G1) for peak in found])
    widths = np.array([peak.spread or np.nan for peak in found])
    assert np.abs(places).max() < 0.1
    assert np.abs(np.median(places)) < 0.04  # S on its right draws the peak of 2N a little
    assert np.median(widths) == pytest.approx(spread, rel=0.35)
    assert {peak.reason for peak in found} == {""}


def test_a_culture_that_is_arrested_in_g2_keeps_its_g1() -> None:
    peak = peak_of(culture(g1=0.25, s=0.1)[1])
    assert peak.position == pytest.approx(G1, rel=0.06)


def test_classes_are_right_for_nine_in_ten() -> None:
    content, stain = culture()
    peak = peak_of(stain)
    called = dna_class(dna_content(stain, peak), peak)
    for truth, name in ((2.0, "2N"), (4.0, "4N")):
        assert np.mean(called[content == truth] == name) > 0.9
    assert set(called) <= set(DNA_CLASSES)


def test_cuts_stand_where_they_are_said_to() -> None:
    cuts = dna_cuts(0.1)
    np.testing.assert_allclose(np.log2(cuts), [1 - 0.3, 1 + 0.2, 2 - 0.2, 2 + 0.3])
    contents = np.array([-0.5, 0.5, 2.0, 2.9, 4.0, 8.0, np.nan])
    peak = G1Peak(FEATURE, G1, 0.1, 1000, "")
    assert dna_class(contents, peak).tolist() == ["sub-G1", "sub-G1", "2N", "2N-4N", "4N", ">4N", None]
    np.testing.assert_allclose(dna_content(np.array([G1, 2 * G1]), peak), [2, 4])
    assert all(a < b for a, b in zip(dna_cuts(0.2), dna_cuts(0.2)[1:], strict=False))


NO_PEAK = {
    "too few nuclei": (culture(150)[1], "too few nuclei: 150 .* of 200"),
    "none": (np.empty(0), "too few nuclei: 0"),
    "nothing above the background": (np.full(500, -3.0), "too few nuclei: 0"),
    "a broad peak": (culture(spread=0.3)[1], "G1 peak is too broad"),
    "no peak at all": (G1 * 2.0 ** np.random.default_rng(1).uniform(-2, 2, 4000), "too broad|no doubling"),
    "two peaks and no doubling": (
        np.concatenate([culture(g1=0.9, s=0.05)[1], 1.5 * culture(g1=0.9, s=0.05, seed=1, spread=0.08)[1]]),
        "no doubling",
    ),
}


@pytest.mark.parametrize(("stain", "reason"), NO_PEAK.values(), ids=NO_PEAK.keys())
def test_no_call_where_there_is_no_peak_to_believe_in(stain: npt.NDArray[np.float64], reason: str) -> None:
    peak = peak_of(stain)
    assert peak.position is None
    assert re.search(reason, peak.reason)
    assert dna_class(dna_content(stain, peak), peak).tolist() == [None] * stain.size
