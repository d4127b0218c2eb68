"""Which fields annotators are given."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hcs_nuclei.training.field_choice import FLAGGED, LEAST_SURE, PATTERN, TYPICAL, Candidate, choose_fields


def _field(
    column: int, number: int = 1, *, run: str = "P1", sure: float = 0.9, treatment: str = "", **flags: Any
) -> Candidate:
    row = {
        "Metadata_Well": f"B{column:02d}", "Metadata_Row": 2, "Metadata_Column": column, "Metadata_Field": number,
        "Metadata_Timepoint": 0, "Metadata_QC_MeanConfidence": sure, **flags,
    }  # fmt: skip
    return Candidate(Path(run), row, (treatment,) if treatment else ())


def _columns(fields: list[Candidate], number: int) -> list[int]:
    return [one.candidate.row["Metadata_Column"] for one in choose_fields(fields, number)]


def test_of_four_fields_two_are_least_sure_one_is_flagged_and_one_is_typical() -> None:
    fields = [_field(column, sure=0.5 + column / 20) for column in range(2, 10)]
    fields.append(_field(10, sure=0.99, Metadata_QC_Debris=True, Metadata_QC_OutOfFocus=True))
    fields.append(_field(11, sure=0.99, Metadata_QC_Debris=True))

    chosen = choose_fields(fields, 4)
    assert [(one.candidate.row["Metadata_Column"], one.reason) for one in chosen] == [
        (2, LEAST_SURE),
        (10, f"{FLAGGED}: OutOfFocus, Debris"),
        (3, LEAST_SURE),
        (7, TYPICAL),
    ]
    assert choose_fields(fields[::-1], 4) == chosen


def test_what_is_not_there_is_replaced_by_the_typical() -> None:
    fields = [_field(column, sure=column / 10) for column in (2, 3, 4)]

    assert [one.reason for one in choose_fields(fields, 9)] == [LEAST_SURE, TYPICAL, LEAST_SURE]
    assert PATTERN[1] == FLAGGED
    assert choose_fields([], 3) == []


def test_treatments_plates_and_wells_take_turns() -> None:
    # The four least sure fields are of one treatment, and of one well of one plate.
    unsure = [_field(2, number, sure=0.1, treatment="drug") for number in (1, 2, 3, 4)]
    sure = [_field(3, sure=0.8, treatment="drug"), _field(2, run="P2", sure=0.8, treatment="drug")]
    control = [_field(5, sure=0.95, treatment="DMSO"), _field(6, sure=0.96, treatment="DMSO")]

    chosen = [(str(c.candidate.run), *c.candidate.treatment) for c in choose_fields([*unsure, *sure, *control], 4)]
    assert chosen == [("P1", "drug"), ("P1", "DMSO"), ("P2", "drug"), ("P1", "DMSO")]
    assert _columns([*unsure, *sure], 3) == [2, 2, 3]
    assert _columns([_field(2, n) for n in (1, 2)] + [_field(3, sure=0.99)], 2) == [2, 3]  # without treatments, wells


def test_blank_and_excluded_fields_are_left_out_and_empty_ones_are_not_unsure() -> None:
    fields = [
        _field(2, Metadata_QC_Blank=True),
        _field(3, Metadata_Excluded=True),
        _field(4, sure=math.nan, Metadata_QC_Empty=True),
        _field(5, Metadata_QC_Empty=None),
    ]

    chosen = choose_fields(fields, 9)
    assert [(one.candidate.row["Metadata_Column"], one.reason) for one in chosen] == [
        (5, LEAST_SURE),
        (4, f"{FLAGGED}: Empty"),
    ]
