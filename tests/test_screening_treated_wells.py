"""Which wells of a plate got the same: by the compound, or by whatever else the layout says that they got."""

from __future__ import annotations

from typing import Any

import pytest

from hcs_nuclei.screening.treated_wells import REAGENTS, TreatedWells


def _wells(**columns: list[Any]) -> TreatedWells:
    count = len(next(iter(columns.values())))
    table = {"Metadata_Row": [1] * count, "Metadata_Column": list(range(1, count + 1))}
    return TreatedWells.of({**table, **{f"Metadata_{name}": values for name, values in columns.items()}})


@pytest.mark.parametrize("reagent", REAGENTS)
def test_different_reagents_at_the_same_doses_are_different_treatments_and_curves(reagent: str) -> None:
    names = ["a", "a", "b", "b", "a"]
    treated = _wells(**{reagent: names}, Concentration=[1.0, 2.0, 1.0, 2.0, 1.0])

    numbers, treatments = treated.treatments
    assert numbers.tolist() == [0, 1, 2, 3, 0]
    assert [(one.compound, one.concentration) for one in treatments] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert [(one.compound, one.wells.tolist()) for one in treated.series] == [("a", [0, 1, 4]), ("b", [2, 3])]


def test_the_compound_is_asked_first_and_well_by_well() -> None:
    treated = _wells(Compound=["x", None, None], gene=["g", "g", None], Concentration=[1.0, 1.0, 1.0])

    assert treated.compounds == ("x", "g", None)


def test_one_series_of_doses_needs_no_name() -> None:
    [series] = _wells(Concentration=[1.0, 2.0, 4.0]).series
    assert (series.compound, series.wells.tolist()) == (None, [0, 1, 2])
