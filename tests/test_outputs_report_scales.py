"""Scales and histograms of the report, and how it writes numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hcs_nuclei.outputs.report_heatmap import colours, number, robust_limits
from hcs_nuclei.outputs.report_histogram import dna_histogram, histogram


def test_scale_is_not_stretched_by_an_outlier() -> None:
    values = np.array([*range(100), 5000.0, np.nan])
    low, high = robust_limits(values, amount=False)
    assert (low, high) == tuple(np.percentile(values[:-1], (2, 98)))
    assert robust_limits(values, amount=True) == (0, high)
    assert robust_limits(values[-5:-1], amount=False) == (97, 5000)
    assert robust_limits(np.array([np.nan]), amount=True) == (0, 0)
    palette = [f"#{i:06x}" for i in range(256)]
    assert colours(np.array([0.0, 5, 10, 50, np.nan]), (0, 10), palette) == [
        *(palette[i] for i in (0, 128, 255, 255)),
        None,
    ]


def test_histogram_heights_are_the_shares_of_each_kind() -> None:
    values = np.array([0.5, 1.5, 1.6, 2.5, 4.9, np.nan])
    drawn = histogram("x", "px", {"negcon": values, "other wells": np.full(10, 4.9)})
    assert drawn is not None
    assert (drawn.nuclei, drawn.beyond, drawn.ticks[0], drawn.ticks[-1]) == (15, 0, (0.0, "0"), (400.0, "5"))
    line = drawn.lines[0]
    tops = [float(top) for top in re.findall(r"V([\d.]+)H", line.path)]
    shares = np.histogram(values[:5], bins=64, range=(0, 5))[0] / 5
    # All of the other wells' nuclei are in one bin, which is the full height.
    np.testing.assert_allclose(130 - np.array(tops), 130 * shares, atol=0.05)
    assert (line.kind, line.nuclei) == ("negcon", 5)
    assert histogram("x", "px", {"negcon": np.array([np.nan])}) is None


def test_dna_content_is_drawn_on_doublings() -> None:
    drawn = dna_histogram({"other wells": np.array([2.0, 2.0, 4.0, 0.1, np.nan])})
    assert drawn is not None
    assert drawn.ticks == ((0.0, "1N"), (100.0, "2N"), (200.0, "4N"), (300.0, "8N"), (400.0, "16N"))
    tops = [float(top) for top in re.findall(r"V([\d.]+)H", drawn.lines[0].path)]
    assert {place: 130 - top for place, top in enumerate(tops) if top < 130} == {16: 130.0, 32: 65.0}
    assert (drawn.nuclei, drawn.beyond) == (4, 1)


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (-8.5e-16, "0"), (0.0, "0"), (0.25, "0.25"), (31.44, "31.4"), (1284.2, "1,284")]
)
def test_numbers_are_written_for_people(value: float | None, shown: str) -> None:
    assert number(value) == shown
