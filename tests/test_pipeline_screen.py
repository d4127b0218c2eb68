"""A simulated 384-well screen, from images: what was put into the plate is found in its tables and shown."""

from __future__ import annotations

import html
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from pipeline_runs import shared_cluster

from hcs_nuclei import read_fields, read_wells
from hcs_nuclei.pipeline import process_plate
from hcs_nuclei.settings import Settings
from hcs_nuclei.simulate import simulate_plate
from hcs_nuclei.simulate.design import Harm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

EDGE_LOSS, BAD_COLUMN = 0.4, 12
#: A field as large as one tile of the network, since a smaller one would cost as much and hold fewer nuclei.
SIZE, FIELDS, PIXEL_UM = 384, 2, 0.65
DENSITY, AREA = "Metadata_Density_per_mm2", "Median_Nuclei_AreaShape_Area"
#: Hill curves of the share of cells that is lost: middle in µM, slope, loss at full effect.
COMPOUNDS = {"compound-A": (1.0, 1.5, 0.82), "compound-B": (5.0, 1.3, 0.9)}
#: Wells inside the plate at doses that do next to nothing, of which every second field will be lost.
HALVED = tuple(f"{row}{column:02d}" for row in "BCDEFGHIJKLMN" for column in (3, 4, 5, 6))


@dataclass(frozen=True)
class Screen:
    """A simulated plate and its run; `truth` is nuclei per mm² by (well, field), by the rule that density counts by."""

    made: Any
    out: Path
    result: Any
    truth: pd.Series

    def densities(self, wells: pd.DataFrame) -> np.ndarray[Any, Any]:
        """What was simulated in each of `wells`, over both fields."""
        mean = self.truth.groupby(level=0).mean()
        return np.asarray(mean.loc[wells.Metadata_Well])


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    """A client of two workers: a core each."""
    from hcs_nuclei.cluster.opening import open_cluster

    with open_cluster("local", workers=2) as client:
        yield client


@pytest.fixture(scope="module")
def screen(workers: Any, tmp_path_factory: pytest.TempPathFactory) -> Screen:
    folder = tmp_path_factory.mktemp("screen")
    harm = Harm(edge_loss=EDGE_LOSS, defocused_columns=(BAD_COLUMN,))
    made = simulate_plate(folder / "plates", wells=384, fields=FIELDS, size=SIZE, channels=("DAPI",), harm=harm)
    with shared_cluster(workers):
        result = process_plate(made.directory, folder / "out", Settings(layout=str(made.layout)))
    return Screen(made, folder / "out", result, simulated_densities(made.truth))


def simulated_densities(truth: Path) -> pd.Series:
    """Nuclei per mm² by (well, field): a nucleus that the lower or right edge cuts is counted by no field."""
    found = {}
    for path in (truth / "labels").glob("*.tif"):
        well, _, field = path.stem.partition("_f")
        labels = tifffile.imread(path)
        cut = np.union1d(labels[-1], labels[:, -1])
        counted = np.setdiff1d(np.unique(labels), np.append(cut, 0))
        found[well, int(field)] = len(counted) / (SIZE * PIXEL_UM * 1e-3) ** 2
    return pd.Series(found).sort_index()


def told(run: Path, name: str, **where: str) -> Any:
    """The one row of a table of the run."""
    table = pd.read_parquet(run / f"{name}.parquet")
    for column, value in where.items():
        table = table[table[f"Metadata_{column}"] == value]
    assert len(table) == 1
    print(name, where, {k: v for k, v in table.iloc[0].items() if v is not None and k in SHOWN})
    return table.iloc[0]


SHOWN = {
    "Value", "Low", "High", "Percent", "Words", "Log10Middle", "HillSlope", "Start", "End", "Spread",
    "RelativeIC50", "RelativeIC50_Low", "RelativeIC50_High", "RelativeIC50_Relation", "RelativeIC50_Reason",
    "AbsoluteIC50", "AbsoluteIC50_Low", "AbsoluteIC50_High",
}  # fmt: skip


def test_effects_of_controls_and_doses_are_as_large_as_they_were_made(screen: Screen) -> None:
    wells = read_wells(screen.result.run_dir)
    truth = screen.densities(wells)
    assert screen.result.exit_status == 0
    assert len(wells) == 384
    for kind, tolerance in (("negcon", 0.04), ("poscon", 0.1)):
        here = (wells.Metadata_control_type == kind).to_numpy()
        print(kind, wells[DENSITY][here].mean(), "truth", truth[here].mean())
        assert wells[DENSITY][here].mean() == pytest.approx(truth[here].mean(), rel=tolerance)
    used = wells[DENSITY].notna().to_numpy()
    assert (~used).sum() == (wells.Metadata_Column == BAD_COLUMN).sum() == 16
    print("correlation", np.corrcoef(wells[DENSITY][used], truth[used])[0, 1])
    assert np.corrcoef(wells[DENSITY][used], truth[used])[0, 1] > 0.99
    nuclei = pd.read_csv(screen.made.truth / "nuclei.csv").set_index("well")
    for compound in COMPOUNDS:
        high = wells[(wells.Metadata_Compound == compound) & (wells.Metadata_Concentration > 20)]
        dmso = wells[wells.Metadata_Compound == "DMSO"]
        found = high[AREA].median() / dmso[AREA].median()
        areas = [nuclei.area.loc[nuclei.index.intersection(group.Metadata_Well)].median() for group in (high, dmso)]
        print(compound, "area ratio", found, "truth", areas[0] / areas[1])
        assert found == pytest.approx(areas[0] / areas[1], rel=0.1)


def test_z_prime_is_that_of_the_wells_that_were_simulated(screen: Screen) -> None:
    wells = read_wells(screen.result.run_dir)
    truth = screen.densities(wells)
    low, high = (truth[(wells.Metadata_control_type == kind).to_numpy()] for kind in ("negcon", "poscon"))
    simulated = 1 - 3 * (low.std(ddof=1) + high.std(ddof=1)) / abs(low.mean() - high.mean())
    found = told(screen.result.run_dir, "statistics", Readout=DENSITY, Statistic="ZPrime")
    print("Z′ of what was simulated", simulated)
    assert found.Value == pytest.approx(simulated, abs=0.1)
    assert found.Low < simulated < found.High
    assert (found.Wells, found.Wells_Against) == (16, 16)


# Of compound B two doses lie beyond the upper bend at 16 µM, which is what has to be: its interval is the wider one.
@pytest.mark.parametrize(("compound", "widest"), [("compound-A", 2), ("compound-B", 5)])
def test_relative_ic50_lies_in_its_interval(screen: Screen, compound: str, widest: float) -> None:
    curve = told(screen.result.run_dir, "dose_response", Readout=DENSITY, Compound=compound)
    assert (curve.Outcome, curve.RelativeIC50_Relation) == ("fitted", "=")
    ic50, *_ = COMPOUNDS[compound]
    assert curve.RelativeIC50_Low < ic50 < curve.RelativeIC50_High
    assert curve.RelativeIC50 == pytest.approx(ic50, rel=0.15)
    assert curve.RelativeIC50_High / curve.RelativeIC50_Low < widest


@pytest.mark.parametrize("compound", COMPOUNDS)
def test_absolute_ic50_lies_in_its_interval(screen: Screen, compound: str) -> None:
    curve = told(screen.result.run_dir, "dose_response", Readout=DENSITY, Compound=compound)
    # 50 % is of the controls, which lie on the rim and lost cells themselves; the wells of doses mostly did not.
    ic50, hill, loss = COMPOUNDS[compound]
    effect = (1 - 0.5 * (1 - EDGE_LOSS)) / loss
    passes = ic50 * (effect / (1 - effect)) ** (1 / hill)
    print("true absolute IC50", passes)
    assert curve.AbsoluteIC50_Low < passes < curve.AbsoluteIC50_High


def test_edge_effect_and_bad_column_are_found(screen: Screen) -> None:
    run, warnings = screen.result.run_dir, screen.result.warnings
    print(*warnings, sep="\n")
    edge = told(run, "statistics", Readout=DENSITY, Statistic="EdgeEffect")
    assert edge.Notable
    assert edge.Percent_Low < -100 * EDGE_LOSS < edge.Percent_High
    assert edge.Percent == pytest.approx(-100 * EDGE_LOSS, abs=8)
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


def test_what_was_found_is_shown(screen: Screen) -> None:
    run = screen.result.run_dir
    page = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    assert len(page) < 25e6
    z_prime = told(run, "statistics", Readout=DENSITY, Statistic="ZPrime")
    assert f"<b>{z_prime.Value:.2f}</b>" in page
    assert told(run, "statistics", Readout=DENSITY, Statistic="EdgeEffect").Words in page
    lines = page.splitlines()
    (lost,) = [words for words in screen.result.warnings if words.startswith("column ")]
    assert f"<li>{lost}</li>" in lines
    assert any(line.startswith("<li>Outer ring: Density ") for line in lines)
    for compound in COMPOUNDS:
        curve = told(run, "dose_response", Readout=DENSITY, Compound=compound)
        assert f'"RelativeIC50": {curve.RelativeIC50}' in page


def test_lost_fields_do_not_look_like_toxicity(screen: Screen, workers: Any, tmp_path: Path) -> None:
    made, run = screen.made, screen.result.run_dir
    before = read_wells(run).set_index("Metadata_Well").loc[list(HALVED)]
    plate, runs = tmp_path / made.directory.name, tmp_path / "out"
    shutil.copytree(made.directory, plate)  # with its times: the other wells are done
    shutil.copytree(screen.out, runs)
    for well in HALVED:
        (file,) = plate.rglob(f"*_{well}_s2*.TIF")
        file.unlink()
        (runs / run.name / "nuclei" / f"{well}.parquet").unlink()
    with shared_cluster(workers):
        again = process_plate(plate, runs, Settings(layout=str(made.layout)))
    assert (again.exit_status, again.made, again.fields_by_status["missing"]) == (3, len(HALVED), len(HALVED))
    after = read_wells(again.run_dir).set_index("Metadata_Well").loc[list(HALVED)]
    assert (after.Metadata_Site_Count == 1).all()
    figures = ("Metadata_Object_Count", DENSITY, "PercentOfControl_Density_per_mm2", "RobustZ_Density_per_mm2")
    print(*(f"{name}: {before[name].mean():.4g} then {after[name].mean():.4g}" for name in figures), sep="\n")
    # Half of the nuclei are gone, and none of the density: it is that of the field that is left.
    assert after.Metadata_Object_Count.sum() == pytest.approx(0.5 * before.Metadata_Object_Count.sum(), rel=0.06)
    left = np.array([screen.truth[well, 1] for well in HALVED])
    assert after[DENSITY].mean() == pytest.approx(left.mean(), rel=0.03)
    for name in figures[1:3]:
        assert after[name].mean() == pytest.approx(before[name].mean(), rel=0.06)
    assert (after.RobustZ_Density_per_mm2 > -3).all()
    for compound in COMPOUNDS:
        was, now = (told(r, "dose_response", Readout=DENSITY, Compound=compound) for r in (run, again.run_dir))
        assert now.RelativeIC50_Low < COMPOUNDS[compound][0] < now.RelativeIC50_High
        assert now.RelativeIC50 == pytest.approx(was.RelativeIC50, rel=0.15)
