"""Statistics of a plate: what its layout allows is told, what it does not is said, and both are in the tables."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from outputs_samples import MEASURED, commit_well, make_plate
from screening_plates import AREA, DENSITY, EDGE_LOSS, TREATMENTS, treated_by, well_table

from hcs_nuclei.columns.statistics import DOSE_RESPONSE, REPLICATES, STATISTICS
from hcs_nuclei.errors import SettingsError
from hcs_nuclei.layouts import Layout
from hcs_nuclei.outputs import finish_tables
from hcs_nuclei.pipeline.statistics import STATISTICS_FILES, PlateStatistics, readouts_of
from hcs_nuclei.plate import well_name
from hcs_nuclei.settings import Settings
from hcs_nuclei.simulate.design import design_wells

READOUTS = (DENSITY, AREA)


def statistics_of(wells_in_format: int = 384, **settings: Any) -> PlateStatistics:
    recipe = Settings.model_validate({"statistics": {"readouts": READOUTS, **settings}})
    return PlateStatistics.of(recipe, MEASURED, wells_in_format)


def told_of(table: pa.Table, folder: Path, **settings: Any) -> tuple[dict[str, pd.DataFrame], tuple[str, ...]]:
    """The tables by name, and the warnings."""
    warnings = statistics_of(**settings).write(folder, table)
    found = {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}
    return found, warnings


def one(table: pd.DataFrame, **where: Any) -> Any:
    """The one row of a table with these values."""
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def warned(warnings: Iterable[str], of: str) -> list[str]:
    return [warning for warning in warnings if of in warning]


@pytest.fixture(scope="module")
def harmed() -> pa.Table:
    """A 384-well plate of known doses whose rim lost a quarter of its cells, and whose column 9 cannot be used."""
    return well_table(edge_loss=EDGE_LOSS, lost_columns=(9,))


@pytest.fixture(scope="module")
def harmed_statistics(harmed: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return told_of(harmed, tmp_path_factory.mktemp("statistics"))


def test_normalised_columns_stand_behind_the_well_table(harmed: pa.Table) -> None:
    wells = statistics_of().normalised(harmed)
    added = wells.column_names[harmed.num_columns :]
    assert added == [
        f"{kind}_{name}"
        for name in ("Density_per_mm2", AREA)
        for kind in ("PercentOfControl", "RobustZ", "PercentInhibition")
    ]
    assert all(wells.schema.field(name).metadata[b"meaning"] for name in added)
    frame = wells.to_pandas()
    negative = frame[frame.Metadata_control_type == "negcon"][DENSITY]
    centre = negative.median()
    spread = 1.4826 * (negative - centre).abs().median()
    np.testing.assert_allclose(frame.PercentOfControl_Density_per_mm2, 100 * frame[DENSITY] / centre)
    np.testing.assert_allclose(frame.RobustZ_Density_per_mm2, (frame[DENSITY] - centre) / spread)
    inhibition = frame.PercentInhibition_Density_per_mm2
    assert inhibition[frame.Metadata_control_type == "negcon"].median() == pytest.approx(0)
    assert inhibition[frame.Metadata_control_type == "poscon"].median() == pytest.approx(100)
    assert frame.loc[frame.Metadata_Column == 9, list(added)].isna().all().all()


def test_z_prime_and_ssmd_are_those_of_the_wells(harmed: pa.Table, harmed_statistics: Any) -> None:
    tables, _ = harmed_statistics
    frame = harmed.to_pandas()
    low, high = (frame[frame.Metadata_control_type == kind][DENSITY] for kind in ("negcon", "poscon"))
    found = one(tables["statistics"], Metadata_Readout=DENSITY, Metadata_Statistic="ZPrime")
    assert found.Value == pytest.approx(1 - 3 * (low.std() + high.std()) / abs(low.mean() - high.mean()))
    assert found.Low < found.Value < found.High < 1
    assert (found.Wells, found.Wells_Against, found.Metadata_Control) == (16, 16, "poscon")
    ssmd = one(tables["statistics"], Metadata_Readout=DENSITY, Metadata_Statistic="SSMD")
    assert ssmd.Value == pytest.approx((high.mean() - low.mean()) / math.hypot(low.std(), high.std()))
    assert ssmd.Words.endswith("the positive control is the lower")


def test_known_doses_edge_and_column_are_found(harmed_statistics: Any) -> None:
    tables, warnings = harmed_statistics
    for compound, ic50 in (("compound-A", 1.0), ("compound-B", 5.0)):
        curve = one(tables["dose_response"], Metadata_Readout=AREA, Metadata_Compound=compound)
        assert (curve.Outcome, curve.RelativeIC50_Relation) == ("fitted", "=")
        assert curve.RelativeIC50_Low < curve.RelativeIC50 < curve.RelativeIC50_High
        # The area goes with the square of the diameter: half of its effect lies a little off that of the diameter.
        assert curve.RelativeIC50 == pytest.approx(ic50, rel=0.25)
        density = one(tables["dose_response"], Metadata_Readout=DENSITY, Metadata_Compound=compound)
        assert density.RelativeIC50_Low < ic50 < density.RelativeIC50_High
        assert density.Count_HighestDose < 35 < density.Count_Lowest + 30
    edge = one(tables["statistics"], Metadata_Readout=DENSITY, Metadata_Statistic="EdgeEffect")
    assert edge.Notable
    assert edge.Percent_Low < -100 * EDGE_LOSS < edge.Percent_High
    assert not one(tables["statistics"], Metadata_Readout=AREA, Metadata_Statistic="EdgeEffect").Notable
    assert warned(warnings, "EdgeEffect: Density_per_mm2")
    (rim,) = warned(warnings, "the negative controls lie on the outer ring")
    assert rim.startswith("Density_per_mm2: ")
    assert rim.endswith("% lower, so per cent of control of the wells inside is too high.")
    assert warned(warnings, "column 9: 16 of 16 wells") == [
        "column 9: 16 of 16 wells have too few valid fields (OutOfFocus), and few other wells have."
    ]


def test_tables_have_the_columns_that_are_documented(harmed_statistics: Any, tmp_path: Path) -> None:
    tables, _ = harmed_statistics
    for name, columns in (("statistics", STATISTICS), ("dose_response", DOSE_RESPONSE), ("replicates", REPLICATES)):
        assert list(tables[name].columns) == [column.name for column in columns]
    statistics_of().write(tmp_path, well_table(96))
    for name in STATISTICS_FILES:
        assert (tmp_path / name).stat().st_size > 0
    csv = pd.read_csv(tmp_path / "replicates.csv", dtype={"Metadata_Plate": str})
    assert len(csv) == pq.read_table(tmp_path / "replicates.parquet").num_rows


def test_replicates_count_wells(harmed_statistics: Any) -> None:
    rows = harmed_statistics[0]["replicates"]
    dmso = one(rows, Metadata_Readout=DENSITY, Metadata_Compound="DMSO")
    assert (dmso.Wells, dmso.Replicates, dmso.Metadata_control_type) == (16, 16, "negcon")
    assert dmso.PercentOfControl_Median == pytest.approx(100)
    treated = rows[(rows.Metadata_Readout == DENSITY) & (rows.Metadata_control_type == "trt")]
    assert treated.groupby("Wells").size().to_dict() == {0: 2, 8: 42}  # a column is lost; a well without cells counts
    assert len(treated) == 44


def test_lost_fields_do_not_look_like_toxicity(tmp_path: Path) -> None:
    plate = make_plate([f"{row}0{column}" for row in "BCDE" for column in (2, 3, 4)], fields=5)
    counts = {2: (19, 20, 21, 20, 20), 3: (20, None, 21, None, 19), 4: (20, None, None, None, None)}
    kinds = {2: "negcon", 3: "trt", 4: "trt"}
    for well in plate.wells:
        commit_well(tmp_path, plate, well.name, counts[well.column])
    treatments = {w.name: {"Metadata_control_type": kinds[w.column], "Metadata_Compound": "x"} for w in plate.wells}
    columns = tuple(column for column in TREATMENTS if column.name in {"Metadata_control_type", "Metadata_Compound"})
    layout = Layout("a test", "file", columns, treatments)
    normalise = statistics_of(96).normalised
    tables = finish_tables(tmp_path, plate, MEASURED, layout, None, None, normalise)
    wells = tables.wells.to_pandas().groupby("Metadata_Column")
    assert wells.Metadata_Object_Count.first().to_dict() == {2: 100, 3: 60, 4: 20}
    percent = wells.PercentOfControl_Density_per_mm2
    assert percent.first()[[2, 3]].tolist() == pytest.approx([100, 100])
    # One field of five is too few to say anything: not even that cells are gone.
    assert percent.count()[4] == 0
    assert wells.Metadata_QC_TooFewFields.all().to_dict() == {2: False, 3: False, 4: True}


def test_without_a_layout_nothing_is_normalised_and_nothing_told(tmp_path: Path) -> None:
    table = well_table(96, layout=lambda _: {}, treatments=())
    assert statistics_of().normalised(table).schema == table.schema
    (tmp_path / "statistics.parquet").write_text("of a former layout")
    found, warnings = told_of(table, tmp_path, wells_in_format=96)
    assert (found, warnings) == ({}, ())


def test_a_layout_without_controls_gives_replicates_and_says_why_no_curve(tmp_path: Path) -> None:
    def without_controls(design: Any) -> dict[str, Any]:
        return treated_by(design) if design.control_type == "trt" else {}

    table = well_table(layout=without_controls)
    assert statistics_of().normalised(table).schema == table.schema
    found, _ = told_of(table, tmp_path)
    assert not set(found["statistics"].Metadata_Statistic) & {"ZPrime", "NegconMedian"}
    curve = one(found["dose_response"], Metadata_Readout=DENSITY, Metadata_Compound="compound-A")
    assert (curve.Outcome, curve.Wells) == ("not fitted", 0)
    assert curve.Reason == "the layout names no negative control (negcon), so the wells cannot be normalised"
    replicates = found["replicates"]
    assert replicates.Median.notna().all()
    assert replicates.PercentOfControl_Median.isna().all()


def test_controls_in_outer_columns_alone_cannot_tell_of_the_edge(tmp_path: Path) -> None:
    def controls_alone(design: Any) -> dict[str, Any]:
        return {} if design.control_type == "trt" else treated_by(design)

    found, warnings = told_of(well_table(layout=controls_alone, edge_loss=EDGE_LOSS), tmp_path)
    edge = one(found["statistics"], Metadata_Readout=DENSITY, Metadata_Statistic="EdgeEffect")
    assert np.isnan(edge.Value)
    assert not warned(warnings, "outer ring")
    assert edge.Words.startswith("not estimable: too few treatments have wells both on the outer ring and elsewhere")
    assert not warned(warnings, "EdgeEffect")
    assert "dose_response" not in found


def test_each_time_point_is_held_against_its_own_controls(tmp_path: Path) -> None:
    table = well_table(96, timepoints=2, lost_columns=(7,))
    frame = statistics_of(96).normalised(table).to_pandas()
    negative = frame[frame.Metadata_control_type == "negcon"].groupby("Metadata_Timepoint")
    np.testing.assert_allclose(negative.PercentOfControl_Density_per_mm2.median(), 100)
    assert negative[DENSITY].median()[1] == pytest.approx(negative[DENSITY].median()[0] / 2, rel=0.1)
    found, warnings = told_of(table, tmp_path, wells_in_format=96)
    assert len(warned(warnings, "column 7: 8 of 8 wells")) == 1
    for name in ("statistics", "dose_response", "replicates"):
        counts = found[name].Metadata_Timepoint.value_counts()
        assert counts[0] == counts[1] > 0


def test_b_score_and_loess_are_made_on_request_and_warned_of_on_dose_plates(tmp_path: Path) -> None:
    table = well_table(96)
    wells = statistics_of(96, b_score=True, loess=True).normalised(table).to_pandas()
    control = wells.Metadata_control_type != "trt"
    for name in ("BScore_Density_per_mm2", "Loess_Density_per_mm2"):
        assert wells.loc[control, name].isna().all()
        assert wells.loc[~control, name].notna().sum() == (~control).sum()
    _, warnings = told_of(table, tmp_path, wells_in_format=96, b_score=True, loess=True)
    assert "B-score and loess of Density_per_mm2 may take effects for patterns: the plate has dose series" in " ".join(
        warnings
    )
    assert not warned(told_of(table, tmp_path, wells_in_format=96)[1], "B-score")


def test_curves_of_per_cent_inhibition(tmp_path: Path) -> None:
    found, _ = told_of(well_table(), tmp_path, normalise="percent_inhibition")
    curve = one(found["dose_response"], Metadata_Readout=DENSITY, Metadata_Compound="compound-A")
    assert (curve.Scale, curve.Outcome) == ("percent_inhibition", "fitted")
    assert abs(curve.Start) < 5
    assert 80 < curve.End < 105


def test_nuclei_per_field_stand_in_for_density_without_a_pixel_size(tmp_path: Path) -> None:
    table = well_table(pixel_size=False)
    assert "PercentOfControl_Object_Count_PerField" in statistics_of().normalised(table).column_names
    found, warnings = told_of(table, tmp_path)
    assert set(found["statistics"].Metadata_Readout) == {"Metadata_Object_Count_PerField", AREA}
    assert warned(warnings, "The size of a pixel is not known")


def test_controls_that_are_not_told_apart_are_warned_of(tmp_path: Path) -> None:
    def two_of_a_kind(design: Any) -> dict[str, Any]:
        kind = "negcon" if design.row % 2 else "poscon_weak"
        return {**treated_by(design), "Metadata_control_type": kind} if design.column == 1 else {}

    _, warnings = told_of(well_table(layout=two_of_a_kind), tmp_path)
    (warning,) = warned(warnings, "Z′ of poscon_weak is below 0.5")
    assert "Density_per_mm2" in warning
    assert AREA in warning


def test_excluded_wells_are_no_controls(tmp_path: Path) -> None:
    table = well_table()
    excluded = [row == 1 for row in table["Metadata_Row"].to_pylist()]
    place = table.column_names.index("Metadata_Excluded")
    table = table.set_column(place, table.schema.field(place), [excluded])
    found, _ = told_of(table, tmp_path)
    z_prime = one(found["statistics"], Metadata_Readout=DENSITY, Metadata_Statistic="ZPrime")
    assert (z_prime.Wells, z_prime.Wells_Against) == (15, 15)


def test_a_readout_that_is_no_column_is_refused() -> None:
    settings = Settings.model_validate({"statistics": {"readouts": ["Median_Nuclei_AreaShape_Aera"]}})
    with pytest.raises(SettingsError, match=r"no column of numbers Median_Nuclei_AreaShape_Aera; it has .*_Area"):
        readouts_of(settings.statistics, MEASURED)
    with pytest.raises(SettingsError, match="no column of numbers status"):
        PlateStatistics.of(Settings.model_validate({"statistics": {"readouts": "status"}}), MEASURED, 96)
    gates = {"statistics": {"readouts": "Metadata_Fraction_Gate_EdU"}}
    assert readouts_of(Settings.model_validate(gates).statistics, MEASURED, ["EdU"]) == ("Metadata_Fraction_Gate_EdU",)


def test_nuclei_of_wells_with_few_enter_no_statistics_and_their_counts_do(tmp_path: Path) -> None:
    designs = {well_name(d.row, d.column): d for d in design_wells(384)}
    negative = [well for well, design in designs.items() if design.control_type == "negcon"]
    series = [well for well, design in designs.items() if design.control_type == "trt"]
    few = {negative[0]: 1, negative[1]: 4, negative[2]: 5, series[0]: 2, series[1]: 0}
    table = statistics_of().normalised(well_table(few=few))
    frame = table.to_pandas().set_index("Metadata_Well")
    flagged = [negative[0], negative[1], series[0], series[1]]
    assert sorted(frame.index[frame.Metadata_QC_FewNuclei]) == sorted(flagged)
    # The well keeps what it has; only what is held against the plate goes.
    assert frame.loc[flagged, AREA].notna().all()
    assert frame.loc[flagged, f"RobustZ_{AREA}"].isna().all()
    assert frame.loc[flagged, f"PercentOfControl_{AREA}"].isna().all()
    assert frame.loc[flagged, "RobustZ_Density_per_mm2"].notna().all()
    centre = frame.loc[negative, AREA].drop(flagged[:2]).median()
    np.testing.assert_allclose(
        frame.loc[series[5], f"PercentOfControl_{AREA}"], 100 * frame.loc[series[5], AREA] / centre
    )

    told, _ = told_of(table, tmp_path)
    medians = told["statistics"][told["statistics"].Metadata_Statistic == "NegconMedian"].set_index("Metadata_Readout")
    assert medians.Wells.to_dict() == {DENSITY: len(negative), AREA: len(negative) - 2}
    assert medians.Value[AREA] == pytest.approx(centre)
    wells = told["replicates"].groupby("Metadata_Readout").Wells.sum()
    assert wells[DENSITY] - wells[AREA] == 4
    doses = told["dose_response"].groupby("Metadata_Readout").Wells.sum()
    assert doses[DENSITY] - doses[AREA] == 2


def test_how_many_nuclei_a_well_needs_is_a_setting() -> None:
    one_nucleus = {"C05": 1}
    for minimum, flagged in ((1, 0), (2, 1)):
        wells = statistics_of(minimum_nuclei=minimum).normalised(well_table(few=one_nucleus))
        assert sum(wells["Metadata_QC_FewNuclei"].to_pylist()) == flagged
