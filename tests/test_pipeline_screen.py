"""A simulated 384-well screen, from images: what was put into the plate is found in its tables."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pipeline_runs import shared_cluster

from hcs_nuclei import read_fields, read_wells
from hcs_nuclei.pipeline import process_plate
from hcs_nuclei.settings import Settings
from hcs_nuclei.simulate import simulate_plate
from hcs_nuclei.simulate.design import Harm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

EDGE_LOSS, BAD_COLUMN = 0.4, 12
SIZE, FIELDS = 192, 2
DENSITY, AREA = "Metadata_Density_per_mm2", "Median_Nuclei_AreaShape_Area"
#: Wells of compound A at a dose that does nothing, of which every second field will be lost.
HALVED = tuple(f"{row}{column:02d}" for row in "BCDEFG" for column in (3, 4))


@pytest.fixture(scope="module")
def screen(worker: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(the simulated plate, the directory of runs, the run)."""
    folder = tmp_path_factory.mktemp("screen")
    harm = Harm(edge_loss=EDGE_LOSS, defocused_columns=(BAD_COLUMN,))
    made = simulate_plate(folder / "plates", wells=384, fields=FIELDS, size=SIZE, harm=harm)
    with shared_cluster(worker):
        result = process_plate(made.directory, folder / "out", Settings(layout=str(made.layout)))
    return made, folder / "out", result


def told(run: Path, name: str, **where: str) -> Any:
    table = pd.read_parquet(run / f"{name}.parquet")
    for column, value in where.items():
        table = table[table[f"Metadata_{column}"] == value]
    assert len(table) == 1
    print(name, where, {k: v for k, v in table.iloc[0].items() if v is not None and k in SHOWN})
    return table.iloc[0]


SHOWN = {
    "Value", "Low", "High", "Words", "RelativeIC50", "RelativeIC50_Low", "RelativeIC50_High", "RelativeIC50_Relation",
    "AbsoluteIC50", "AbsoluteIC50_Low", "AbsoluteIC50_High",
}  # fmt: skip


SHOWN_OF_WELLS = (
    "Metadata_Object_Count",
    DENSITY,
    "PercentOfControl_Density_per_mm2",
    "RobustZ_Density_per_mm2",
)


def true_density(made: Any, wells: pd.DataFrame) -> pd.Series:
    """Nuclei per mm² that were simulated, by well."""
    truth = pd.read_csv(made.truth / "wells.csv").set_index("well").nuclei_count
    area = FIELDS * (SIZE * 0.65e-3) ** 2
    return truth.loc[wells.Metadata_Well] / area


def test_effects_of_controls_and_doses_are_as_large_as_they_were_made(screen: Any) -> None:
    made, _, result = screen
    wells = read_wells(result.run_dir)
    truth = true_density(made, wells).to_numpy()
    assert result.exit_status == 0
    for kind in ("negcon", "poscon"):
        here = (wells.Metadata_control_type == kind).to_numpy()
        # By the rule of two edges a nucleus is counted once; the truth counts those that a border cuts twice.
        assert wells[DENSITY][here].mean() == pytest.approx(truth[here].mean(), rel=0.2)
    used = wells[DENSITY].notna().to_numpy()
    assert np.corrcoef(wells[DENSITY][used], truth[used])[0, 1] > 0.95
    nuclei = pd.read_csv(made.truth / "nuclei.csv").set_index("well")
    for compound in ("compound-A", "compound-B"):
        high = wells[(wells.Metadata_Compound == compound) & (wells.Metadata_Concentration > 20)]
        dmso = wells[wells.Metadata_Compound == "DMSO"]
        found = high[AREA].median() / dmso[AREA].median()
        areas = [nuclei.area.loc[nuclei.index.intersection(group.Metadata_Well)].median() for group in (high, dmso)]
        print(compound, "area ratio", found, "truth", areas[0] / areas[1])
        assert found == pytest.approx(areas[0] / areas[1], rel=0.15)


def test_z_prime_is_that_of_the_wells_that_were_simulated(screen: Any) -> None:
    made, _, result = screen
    wells = read_wells(result.run_dir)
    truth = true_density(made, wells).to_numpy()
    low, high = (truth[(wells.Metadata_control_type == kind).to_numpy()] for kind in ("negcon", "poscon"))
    simulated = 1 - 3 * (low.std(ddof=1) + high.std(ddof=1)) / abs(low.mean() - high.mean())
    found = told(result.run_dir, "statistics", Readout=DENSITY, Statistic="ZPrime")
    print("Z′ of what was simulated", simulated)
    assert found.Low < simulated < found.High
    assert (found.Wells, found.Wells_Against) == (16, 16)


def test_relative_ic50_lies_in_its_interval_or_is_not_told(screen: Any) -> None:
    run = screen[2].run_dir
    curve = told(run, "dose_response", Readout=DENSITY, Compound="compound-A")
    assert (curve.Outcome, curve.RelativeIC50_Relation) == ("fitted", "=")
    assert curve.RelativeIC50_Low < 1.0 < curve.RelativeIC50_High
    assert curve.RelativeIC50_High / curve.RelativeIC50_Low < 10
    # Of compound B hardly two doses lie beyond the upper bend.
    curve = told(run, "dose_response", Readout=DENSITY, Compound="compound-B")
    assert curve.Outcome == "fitted"
    if curve.RelativeIC50_Relation == "=":
        assert curve.RelativeIC50_Low < 5.0 < curve.RelativeIC50_High
    else:
        assert "beyond the upper" in curve.RelativeIC50_Reason


@pytest.mark.parametrize(
    ("compound", "ic50", "hill", "loss"), [("compound-A", 1.0, 1.5, 0.82), ("compound-B", 5.0, 1.3, 0.9)]
)
def test_absolute_ic50_lies_in_its_interval(screen: Any, compound: str, ic50: float, hill: float, loss: float) -> None:
    curve = told(screen[2].run_dir, "dose_response", Readout=DENSITY, Compound=compound)
    # 50 % is of the controls, which lie on the rim and lost cells themselves; the wells of doses mostly did not.
    effect = (1 - 0.5 * (1 - EDGE_LOSS)) / loss
    passes = ic50 * (effect / (1 - effect)) ** (1 / hill)
    print("true absolute IC50", passes)
    assert curve.AbsoluteIC50_Low < passes < curve.AbsoluteIC50_High


def test_edge_effect_and_bad_column_are_found(screen: Any) -> None:
    run, warnings = screen[2].run_dir, screen[2].warnings
    print(*warnings, sep="\n")
    edge = told(run, "statistics", Readout=DENSITY, Statistic="EdgeEffect")
    assert edge.Notable
    assert edge.Percent_Low < -100 * EDGE_LOSS < edge.Percent_High
    assert not told(run, "statistics", Readout=DENSITY, Statistic="QuadrantEffect").Notable
    fields = read_fields(run)
    flagged = fields.Metadata_QC_OutOfFocus.fillna(False).astype(bool)
    bad = fields.Metadata_Column == BAD_COLUMN
    print("flagged of the bad column", flagged[bad].mean(), "of all others", flagged[~bad].mean())
    assert flagged[bad].mean() > 0.9
    assert flagged[~bad].mean() < 0.03
    (lost,) = [words for words in warnings if words.startswith("column ")]
    assert lost.startswith(f"column {BAD_COLUMN}: ")
    assert any(words.startswith("EdgeEffect: Density_per_mm2") for words in warnings)


def test_lost_fields_do_not_look_like_toxicity(screen: Any, worker: Any, tmp_path: Path) -> None:
    made, out, result = screen
    before = read_wells(result.run_dir).set_index("Metadata_Well").loc[list(HALVED)]
    plate, runs = tmp_path / made.directory.name, tmp_path / "out"
    shutil.copytree(made.directory, plate)  # with its times: the other wells are done
    shutil.copytree(out, runs)
    for well in HALVED:
        (file,) = plate.rglob(f"*_{well}_s2_w1.TIF")
        file.unlink()
        (runs / result.run_dir.name / "nuclei" / f"{well}.parquet").unlink()
    with shared_cluster(worker):
        again = process_plate(plate, runs, Settings(layout=str(made.layout)))
    assert (again.exit_status, again.made, again.fields_by_status["missing"]) == (3, len(HALVED), len(HALVED))
    after = read_wells(again.run_dir).set_index("Metadata_Well").loc[list(HALVED)]
    assert (after.Metadata_Site_Count == 1).all()
    print(*(f"{name}: {before[name].mean():.4g} then {after[name].mean():.4g}" for name in SHOWN_OF_WELLS), sep="\n")
    assert after.Metadata_Object_Count.mean() < 0.6 * before.Metadata_Object_Count.mean()
    # Some hundred nuclei are left in these 12 wells: their density is known to about 10 %.
    assert after[DENSITY].mean() == pytest.approx(before[DENSITY].mean(), rel=0.25)
    assert after.PercentOfControl_Density_per_mm2.median() > 80
    assert (after.RobustZ_Density_per_mm2 > -3).all()
    curve = told(again.run_dir, "dose_response", Readout=DENSITY, Compound="compound-A")
    assert curve.RelativeIC50_Low < 1.0 < curve.RelativeIC50_High
