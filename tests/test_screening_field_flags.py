"""Flags that need the whole plate: which fields stand out, which do not, and what is null."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from outputs_samples import MEASURED, field_row, make_plate
from quality_fields import DIAMETER_PX, defocused, quality_of

from hcs_nuclei.columns import FIELD_FLAGS, committed_field_columns
from hcs_nuclei.screening.field_flags import FieldLimits, flag_fields
from hcs_nuclei.segmentation.familiarity import FieldStatistics
from hcs_nuclei.settings import QcSettings
from hcs_nuclei.simulate import simulate_field
from hcs_nuclei.simulate.design import design_wells

PLATE = make_plate()
FLAGS = [column.name for column in FIELD_FLAGS if column.dtype == "bool"]


def plate_of(fields: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of good fields that differ as those of one plate do."""
    rng = np.random.default_rng(seed)
    return [
        field_row(
            PLATE,
            "B03",
            number,
            int(rng.integers(40, 200)),
            Metadata_NuclearAreaFraction=rng.uniform(0.05, 0.2),
            Metadata_QC_EdgeWidth=4.0 * rng.lognormal(0, 0.06),
            Metadata_QC_PowerLogLogSlope=rng.normal(-1.6, 0.2),
            Metadata_QC_Unevenness=rng.normal(0.1, 0.01),
            Metadata_QC_DebrisFraction=rng.exponential(1e-4),
            Metadata_QC_LowConfidenceFraction=rng.uniform(0.0, 0.08),
            Metadata_QC_MedianLevel=rng.normal(0.05, 0.01),
            Metadata_QC_Contrast=rng.normal(1000, 100),
            Metadata_QC_Noise=rng.normal(6, 0.3),
            Metadata_QC_MedianDiameter=rng.normal(20, 1),
        )
        for number in range(1, fields + 1)
    ]


def flags_of(row: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("Metadata_QC_"): row[name] for name in FLAGS}


def test_good_fields_have_no_flag_and_every_column() -> None:
    rows = flag_fields(plate_of(), FieldLimits())
    measured = [column.name for column in committed_field_columns(MEASURED)]
    assert [list(row) for row in rows] == [[*measured, *(column.name for column in FIELD_FLAGS)]] * 40
    assert [row["Metadata_Field"] for row in rows] == list(range(1, 41))
    for row in rows:
        assert flags_of(row) == {**dict.fromkeys(flags_of(row), False), "OutOfDistribution": None}


@pytest.mark.parametrize(
    ("flag", "bad", "not_so_bad"),
    [
        ("OutOfFocus", {"Metadata_QC_EdgeWidth": 6.5}, {"Metadata_QC_EdgeWidth": 4.8}),
        ("Uneven", {"Metadata_QC_Unevenness": 0.25}, {"Metadata_QC_Unevenness": 0.18}),
        ("Debris", {"Metadata_QC_DebrisFraction": 0.004}, {"Metadata_QC_DebrisFraction": 0.0015}),
        ("Unsure", {"Metadata_QC_LowConfidenceFraction": 0.5}, {"Metadata_QC_LowConfidenceFraction": 0.2}),
        ("Confluent", {"Metadata_NuclearAreaFraction": 0.6}, {"Metadata_NuclearAreaFraction": 0.45}),
        ("Empty", {"Metadata_Object_Count": 0}, {"Metadata_Object_Count": 1}),
    ],
)
def test_one_field_stands_out(flag: str, bad: dict[str, Any], not_so_bad: dict[str, Any]) -> None:
    rows = plate_of()
    rows[7] |= bad
    rows[8] |= not_so_bad
    flagged = flag_fields(rows, FieldLimits())
    assert [i for i, row in enumerate(flagged) if flags_of(row)[flag]] == [7]
    assert [name for name, value in flags_of(flagged[7]).items() if value] == [flag]


def test_on_an_even_plate_a_trifle_is_no_fault() -> None:
    """Fields that hardly differ: 5 % wider outlines are many MADs, and nothing to flag."""
    rows = [{**row, "Metadata_QC_EdgeWidth": 4.0 + 0.001 * (i % 3)} for i, row in enumerate(plate_of())]
    rows[0]["Metadata_QC_EdgeWidth"] = 4.2
    rows[1]["Metadata_QC_EdgeWidth"] = 5.5
    assert [row["Metadata_QC_OutOfFocus"] for row in flag_fields(rows, FieldLimits())][:3] == [False, True, False]


def test_a_field_so_far_out_that_nothing_was_found() -> None:
    """No rims to measure, but a spectrum steeper than that of any field: not just empty. Noise is flatter."""
    rows = plate_of()
    nothing = {"Metadata_Object_Count": 0, "Metadata_QC_EdgeWidth": None}
    rows[0] |= {**nothing, "Metadata_QC_PowerLogLogSlope": -3.5}
    rows[1] |= {**nothing, "Metadata_QC_PowerLogLogSlope": -0.7}
    blurred, empty = (flags_of(row) for row in flag_fields(rows, FieldLimits())[:2])
    assert (blurred["Empty"], blurred["OutOfFocus"]) == (True, True)
    assert (empty["Empty"], empty["OutOfFocus"]) == (True, False)


def test_a_field_with_two_nuclei_in_focus_is_not_out_of_it() -> None:
    even = [{**row, "Metadata_QC_PowerLogLogSlope": -1.6 + 0.01 * (i % 3)} for i, row in enumerate(plate_of())]
    few = {**even[0], "Metadata_Object_Count": 2, "Metadata_QC_EdgeWidth": None}
    slopes = (-1.64, -2.1, -2.9)
    rows = flag_fields([*even, *({**few, "Metadata_QC_PowerLogLogSlope": slope} for slope in slopes)], FieldLimits())
    assert [row["Metadata_QC_OutOfFocus"] for row in rows[-3:]] == [False, False, True]


def test_absolute_limits_belong_to_the_recipe() -> None:
    """A plate that is out of focus as a whole has no field that stands out; the recipe's limits see it."""
    rows = [{**row, "Metadata_QC_EdgeWidth": 12.0, "Metadata_QC_PowerLogLogSlope": -3.0} for row in plate_of()]
    assert not any(row["Metadata_QC_OutOfFocus"] for row in flag_fields(rows, FieldLimits()))
    for limit in (QcSettings(edge_width_px=8), QcSettings(power_slope=-2.5)):
        assert all(row["Metadata_QC_OutOfFocus"] for row in flag_fields(rows, FieldLimits(limit)))


def test_empty_and_blank_fields_are_no_part_of_the_plate() -> None:
    """Two thirds of the wells are dead: their fields set no standard for the others."""
    rows = plate_of(60)
    for row in rows[:40]:
        row |= {"Metadata_Object_Count": 0, "Metadata_QC_EdgeWidth": 9.0, "Metadata_QC_Unevenness": 0.9}
    rows[59]["Metadata_QC_EdgeWidth"] = 8.0
    flagged = flag_fields(rows, FieldLimits())
    assert [i for i in range(40, 60) if flagged[i]["Metadata_QC_OutOfFocus"]] == [59]
    assert all(row["Metadata_QC_Empty"] for row in flagged[:40])


def test_what_was_not_measured_is_null() -> None:
    rows = plate_of()
    rows[3] = field_row(PLATE, "B03", 4, None)
    rows[4]["Metadata_QC_Blank"] = True
    rows[5]["Metadata_QC_Unevenness"] = None
    flagged = flag_fields(rows, FieldLimits())
    assert set(flags_of(flagged[3]).values()) == {None}
    assert flagged[4]["Metadata_QC_OutOfFocus"] is None
    assert flagged[5]["Metadata_QC_Uneven"] is None
    assert flagged[5]["Metadata_QC_OutOfFocus"] is False


def test_too_few_fields_are_no_plate() -> None:
    rows = plate_of(7)
    rows[0]["Metadata_QC_EdgeWidth"] = 40.0
    assert not any(row["Metadata_QC_OutOfFocus"] for row in flag_fields(rows, FieldLimits()))
    assert flag_fields([], FieldLimits()) == []


@pytest.fixture
def familiar() -> FieldStatistics:
    rng = np.random.default_rng(0)
    means, spread = (0.05, 2.0, np.log2(4), np.log2(20)), (0.03, 0.1, 0.3, 0.2)
    return FieldStatistics.of_training(rng.normal(means, spread, (300, 4)))


def test_out_of_distribution(familiar: FieldStatistics) -> None:
    rows = plate_of()
    rows[0]["Metadata_QC_MedianLevel"] = 0.8  # dark on light
    rows[1]["Metadata_QC_MedianDiameter"] = 90.0
    rows[2]["Metadata_QC_EdgeWidth"] = None
    rows[3] |= {"Metadata_QC_Contrast": 10.0, "Metadata_QC_Noise": 10.0}
    limits = FieldLimits(familiar=familiar, diameter_px=20.0, training_diameter_px=20.0)
    flagged = flag_fields(rows, limits)
    assert [row["Metadata_QC_OutOfDistribution"] for row in flagged[:4]] == [True, True, None, True]
    assert flagged[2]["Metadata_QC_TrainingDistance"] is None
    assert not any(row["Metadata_QC_OutOfDistribution"] for row in flagged[4:])
    generous = FieldLimits(QcSettings(training_distance=1e6), familiar, 20.0, 20.0)
    assert not any(row["Metadata_QC_OutOfDistribution"] for row in flag_fields(rows, generous))


def test_nuclei_are_as_large_as_the_network_sees_them(familiar: FieldStatistics) -> None:
    """Nuclei of 10 px are enlarged before the network sees them, so they are no surprise to it."""
    rows = plate_of()
    for row in rows:
        row |= {"Metadata_QC_MedianDiameter": 10.0, "Metadata_QC_EdgeWidth": 2.0}
    seen, unscaled = (
        flag_fields(rows, FieldLimits(familiar=familiar, diameter_px=d, training_diameter_px=20.0)) for d in (10, None)
    )
    assert max(row["Metadata_QC_TrainingDistance"] for row in seen) < 0.7 * min(
        row["Metadata_QC_TrainingDistance"] for row in unscaled
    )


def test_a_table_of_few_or_other_statistics_is_refused(familiar: FieldStatistics) -> None:
    with pytest.raises(ValueError, match="expected 20 or more"):
        FieldStatistics.of_training(np.full((40, 4), np.nan))
    with pytest.raises(ValueError, match="expected level"):
        FieldStatistics.model_validate({**familiar.model_dump(), "means": (1.0, 2.0)})
    assert FieldStatistics.model_validate_json(familiar.model_dump_json()) == familiar


def test_of_training_images_one_in_a_hundred_lies_beyond(familiar: FieldStatistics) -> None:
    rng = np.random.default_rng(1)
    others = rng.normal((0.05, 2.0, np.log2(4), np.log2(20)), (0.03, 0.1, 0.3, 0.2), (4000, 4))
    assert np.mean(familiar.distance(others) > familiar.limit) == pytest.approx(0.01, abs=0.015)


@pytest.mark.parametrize("sigma_px", [2.0, 3.0])
def test_a_defocused_column_of_a_simulated_plate(sigma_px: float) -> None:
    """Doses, controls and an empty well beside a column that is out of focus: all of it found, nothing else flagged.

    The column has doses from next to nothing to half the cells; wells with two nuclei or fewer cannot be told.
    """
    designs = design_wells(40)
    bad = designs[3].column
    rows = []
    for number, well in enumerate(designs):
        rng = np.random.default_rng([7, number])
        count = int(rng.poisson(2.8e-4 * 320**2 * well.density))
        field = simulate_field(rng, size=320, nuclei=count, channels=("DAPI",), phenotype=well.phenotype)
        image = defocused(field.images["DAPI"], sigma_px * (well.column == bad), number)
        quality = quality_of(image, field.labels, diameter_px=DIAMETER_PX)
        rows.append(field_row(PLATE, "B03", number + 1, int(field.labels.max()), **quality))
    flagged = flag_fields(rows, FieldLimits())
    out = [row["Metadata_QC_OutOfFocus"] for row in flagged]
    for well, row, is_out in zip(designs, flagged, out, strict=True):
        assert is_out == (well.column == bad), (well.name, row["Metadata_QC_EdgeWidth"])
    others = [name for row in flagged for name in ("Uneven", "Debris", "Confluent") if row[f"Metadata_QC_{name}"]]
    assert len(others) <= 1, others
