"""Plate effects: what was put in is found with its size, what was not is not, and what cannot be told is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hcs_nuclei.screening.plate_effects import PlateEffect, plate_effects

SHAPE_384, SHAPE_96 = (16, 24), (8, 12)


def scattered(shape: tuple[int, int], seed: int = 0, noise: float = 6.0) -> dict[str, Any]:
    """A whole plate of treatments that lie anywhere: a third controls at 100, the rest in replicates of 8 below."""
    rng = np.random.default_rng(seed)
    rows, columns = (place.ravel() + 1 for place in np.indices(shape))
    order = rng.permutation(rows.size)
    treatments = np.empty(rows.size, dtype=int)
    treatments[order] = np.maximum(0, (np.arange(rows.size) - rows.size // 3) // 8 + 1)
    values = 100 - 60 * treatments / treatments.max() + rng.normal(0, noise, rows.size)
    return {"values": values, "rows": rows, "columns": columns, "treatments": treatments, "shape": shape}


def effects(plate: dict[str, Any]) -> dict[str, PlateEffect]:
    return {effect.name: effect for effect in plate_effects(**plate)}


def holds(effect: PlateEffect, truth: float) -> bool:
    assert effect.size.low is not None
    assert effect.size.high is not None
    return effect.size.low <= truth <= effect.size.high


def test_an_edge_a_drift_and_a_weak_tip_are_found_with_their_sizes() -> None:
    plate = scattered(SHAPE_384)
    rows, columns = plate["rows"], plate["columns"]
    edge = (rows == 1) | (rows == 16) | (columns == 1) | (columns == 24)
    plate["values"] += -12.0 * edge + 15.0 * (columns - 1) / 23 - 14.0 * (rows == 5)
    found = effects(plate)
    assert holds(found["EdgeEffect"], -12)
    assert holds(found["ColumnDrift"], 15)
    assert holds(found["Tips16Effect"], -14)
    assert found["Tips16Effect"].part == "tip 5 of 16 (row E)"
    assert {name for name, effect in found.items() if effect.notable} >= {"EdgeEffect", "ColumnDrift", "Tips16Effect"}
    assert not found["SerpentineEffect"].seen
    level = np.median(plate["values"])
    assert found["EdgeEffect"].percent.value == pytest.approx(
        100 * (found["EdgeEffect"].size.value or 0) / level, rel=0.05
    )
    assert "% lower on the outer ring (" in found["EdgeEffect"].sentence
    assert "wells against" in found["EdgeEffect"].sentence
    assert "more from the first to the last column" in found["ColumnDrift"].sentence
    assert "lower in tip 5 of 16 (row E)" in found["Tips16Effect"].sentence


def test_a_serpentine_and_a_quadrant_are_no_drift() -> None:
    plate = scattered(SHAPE_384, seed=1)
    rows, columns = plate["rows"], plate["columns"]
    plate["values"] += 20.0 * ((columns - 1) / 23 - 0.5) * np.where(rows % 2 == 1, 1, -1)
    plate["values"] += 15.0 * ((rows % 2 == 0) & (columns % 2 == 1))
    found = effects(plate)
    assert holds(found["SerpentineEffect"], 20)
    assert found["QuadrantEffect"].part == "quadrant B1, B3, …"
    assert holds(found["QuadrantEffect"], 15)
    assert holds(found["RowDrift"], 0)
    assert holds(found["ColumnDrift"], 0)


def test_dead_wells_are_no_plate_effect() -> None:
    plate = scattered(SHAPE_384, seed=2)
    plate["values"][np.random.default_rng(3).permutation(384)[:8]] = 0
    plate["values"][5] = np.nan
    found = effects(plate)
    assert holds(found["EdgeEffect"], 0)
    width = (found["EdgeEffect"].size.high or 0) - (found["EdgeEffect"].size.low or 0)
    assert width < 7  # of 5.5 without them


def test_controls_in_outer_columns_tell_nothing_of_the_edge() -> None:
    plate = scattered(SHAPE_384)
    columns = plate["columns"]
    plate["treatments"] = np.select([columns <= 2, columns >= 23], [0, 1], -1)
    found = effects(plate)
    for name in ("EdgeEffect", "SecondRingEffect", "ColumnDrift"):
        assert found[name].size.value is None
        assert found[name].sentence.startswith("not estimable: ")
        assert not found[name].seen
    assert "both on the outer ring and elsewhere inside" in found["EdgeEffect"].sentence
    assert found["ColumnDrift"].sentence == "not estimable: no treatment's wells span half of the plate"
    assert found["RowDrift"].size.value is not None
    plate["treatments"] = np.where(columns == 1, 0, -1)
    assert "cannot be told from the other patterns" in effects(plate)["SerpentineEffect"].sentence


@pytest.mark.parametrize(
    "change", ["nobody knows the treatments", "all are different", "none has a value", "three wells"]
)
def test_without_comparable_wells_nothing_is_estimable(change: str) -> None:
    plate = scattered(SHAPE_96)
    if change == "nobody knows the treatments":
        plate["treatments"][:] = -1
    elif change == "all are different":
        plate["treatments"] = np.arange(96)
    elif change == "none has a value":
        plate["values"][:] = np.nan
    else:
        plate["treatments"] = np.where(np.arange(96) % 40 == 5, 0, -1)
    found = effects(plate)
    assert set(found) == {"EdgeEffect", "RowDrift", "ColumnDrift", "Tips8Effect", "SerpentineEffect"}
    assert all(effect.size.value is None and "not estimable" in effect.sentence for effect in found.values())


def test_wells_that_are_all_equal_have_no_effect() -> None:
    plate = scattered(SHAPE_96)
    plate["values"][:] = 7.0
    found = effects(plate)
    assert not [name for name, effect in found.items() if effect.seen or effect.size.value is None]


def test_a_small_effect_is_not_notable_however_certain() -> None:
    plate = scattered(SHAPE_96, noise=0.5)
    plate["values"] += 2.0 * plate["rows"] / 8
    found = effects(plate)["RowDrift"]
    assert (found.seen, found.notable) == (True, False)


def test_the_order_of_the_wells_changes_nothing() -> None:
    plate = scattered(SHAPE_96)
    order = np.random.default_rng(0).permutation(96)
    turned = {name: part[order] if name != "shape" else part for name, part in plate.items()}
    for one, other in zip(plate_effects(**plate), plate_effects(**turned), strict=True):
        assert one.size.value == pytest.approx(other.size.value, abs=1e-6)


def test_false_alarms_are_as_rare_as_the_intervals_say() -> None:
    """40 plates without any effect: 5 % of the intervals may leave out 0, and of several tips the furthest too."""
    seen = sum(sum(effect.seen for effect in effects(scattered(SHAPE_96, seed)).values()) for seed in range(40))
    assert seen <= 0.1 * 40 * 5
