"""Treatments over plates: normalised on each plate, then summarised; n is wells and plates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from outputs_samples import MEASURED
from screening_plates import AREA, DENSITY, TREATMENTS

import hcs_nuclei
from hcs_nuclei.errors import OutputError
from hcs_nuclei.outputs import well_schema
from hcs_nuclei.outputs.replicates import treatment_table
from hcs_nuclei.pipeline.statistics import PlateStatistics
from hcs_nuclei.plate import well_name
from hcs_nuclei.settings import Settings

#: Density of the six wells of the negative control before a plate's own factor: median 100, MAD × 1.4826 14.826.
NEGATIVE = (80.0, 90.0, 100.0, 100.0, 110.0, 120.0)


def plate(
    runs: Path,
    name: str,
    treated: list[tuple[str, float, float | None]],
    *,
    factor: float = 1.0,
    acquisition: str = "",
    negative: tuple[float, ...] = NEGATIVE,
    excluded: tuple[int, ...] = (),
) -> Path:
    """A finished run whose wells A01, A02, … are negative controls, and B01, B02, … (compound, dose, density); all
    densities are times `factor`, and `excluded` are numbers of treated wells."""
    wells = [(1, place, "negcon", "DMSO", 0.0, value) for place, value in enumerate(negative, start=1)]
    wells += [(2, place, "trt", *one) for place, one in enumerate(treated, start=1)]
    rows: list[dict[str, Any]] = []
    for row, column, kind, compound, dose, density in wells:
        out = kind == "trt" and column in excluded
        rows.append(
            {
                "Metadata_Plate": name,
                "Metadata_Acquisition": acquisition,
                "Metadata_Well": well_name(row, column),
                "Metadata_Row": row,
                "Metadata_Column": column,
                "Metadata_Timepoint": 0,
                "status": "failed" if density is None else "ok",
                "Metadata_Excluded": out,
                "Metadata_QC_TooFewFields": density is None,
                "Metadata_Count_Aggregated": 200,
                DENSITY: None if density is None else density * factor,
                AREA: None if density is None else 300.0 * factor,
                "Metadata_Compound": compound,
                "Metadata_Concentration": dose,
                "Metadata_Concentration_unit": "uM",
                "Metadata_control_type": kind,
            }
        )
    run = runs / f"{name}__{acquisition}"
    (run / "nuclei").mkdir(parents=True)
    recipe = Settings.model_validate({"statistics": {"readouts": (DENSITY, AREA)}})
    table = pa.Table.from_pylist(rows, schema=well_schema(MEASURED, TREATMENTS))
    pq.write_table(PlateStatistics.of(recipe, MEASURED, 96).normalised(table), run / "wells.parquet")
    return run


def one(table: pd.DataFrame, compound: str, dose: float, readout: str = DENSITY) -> Any:
    """The one row of a treatment."""
    found = table[
        (table.Metadata_Compound == compound)
        & (table.Metadata_Concentration == dose)
        & (table.Metadata_Readout == readout)
    ]
    assert len(found) == 1
    return found.iloc[0]


def test_each_plate_is_held_against_its_own_control_before_replicates_are_summarised(tmp_path: Path) -> None:
    plate(tmp_path, "P1", [("a", 1.0, 50.0), ("a", 1.0, 60.0), ("b", 1.0, 100.0)])
    plate(tmp_path, "P2", [("a", 1.0, 30.0), ("b", 1.0, 90.0)], factor=7.0)
    table = hcs_nuclei.read_treatments(tmp_path)
    told = one(table, "a", 1.0)
    assert (told.Plates, told.Wells, told.Wells_WithoutValue) == (2, 3, 0)
    percent = np.array([50.0, 60.0, 30.0])
    z = (percent - 100) / 14.826
    assert told.PercentOfControl_Wells == told.RobustZ_Wells == 3
    for name, values in (("PercentOfControl", percent), ("RobustZ", z)):
        assert told[f"{name}_Median"] == pytest.approx(np.median(values))
        assert told[f"{name}_Mean"] == pytest.approx(values.mean())
        assert told[f"{name}_Std"] == pytest.approx(values.std(ddof=1))
        assert told[f"{name}_MAD"] == pytest.approx(1.4826 * np.median(np.abs(values - np.median(values))))
    assert told.PercentOfControl_StdOfPlates == pytest.approx(np.std([55.0, 30.0], ddof=1))
    assert told.Count_PercentOfControl_Median == pytest.approx(50.0)
    assert one(table, "a", 1.0, AREA).Count_PercentOfControl_Median == pytest.approx(50.0)
    assert one(table, "DMSO", 0.0).Wells == 12
    assert one(table, "DMSO", 0.0).PercentOfControl_Median == pytest.approx(100.0)


def test_controls_come_first_then_compounds_and_doses(tmp_path: Path) -> None:
    plate(tmp_path, "P1", [("b", 1.0, 50.0), ("a", 10.0, 50.0), ("a", 1.0, 50.0)])
    table = hcs_nuclei.read_treatments(tmp_path, readouts=[DENSITY])
    named = list(zip(table.Metadata_Compound, table.Metadata_Concentration, strict=True))
    assert named == [("DMSO", 0.0), ("a", 1.0), ("a", 10.0), ("b", 1.0)]


def test_wells_that_do_not_count_are_numbered_and_left_out(tmp_path: Path) -> None:
    plate(tmp_path, "P1", [("a", 1.0, 50.0), ("a", 1.0, 5.0), ("a", 1.0, None), ("b", 1.0, None)], excluded=(2,))
    table = hcs_nuclei.read_treatments(tmp_path)
    told = one(table, "a", 1.0)
    assert (told.Plates, told.Wells, told.Wells_WithoutValue) == (1, 1, 2)
    assert told.PercentOfControl_Median == pytest.approx(50.0)
    assert np.isnan(told.PercentOfControl_Std)
    assert np.isnan(told.PercentOfControl_StdOfPlates)
    lost = one(table, "b", 1.0)
    assert (lost.Plates, lost.Wells, lost.Wells_WithoutValue) == (0, 0, 1)
    assert np.isnan(lost.PercentOfControl_Median)


def test_another_look_at_the_same_plate_is_no_replicate(tmp_path: Path) -> None:
    plate(tmp_path, "P1", [("a", 1.0, 50.0)], acquisition="3420")
    plate(tmp_path, "P1", [("a", 1.0, 60.0)], acquisition="3434")
    plate(tmp_path, "P2", [("a", 1.0, 10.0)])
    told = one(hcs_nuclei.read_treatments(tmp_path), "a", 1.0)
    assert (told.Plates, told.Wells) == (2, 2)
    assert told.PercentOfControl_Mean == pytest.approx((55.0 + 10.0) / 2)


def test_a_plate_whose_control_has_no_scale_has_per_cent_and_no_z(tmp_path: Path) -> None:
    plate(tmp_path, "P1", [("a", 1.0, 50.0)])
    plate(tmp_path, "P2", [("a", 1.0, 70.0)], negative=(100.0, 100.0, 100.0))
    told = one(hcs_nuclei.read_treatments(tmp_path), "a", 1.0)
    assert (told.Wells, told.PercentOfControl_Wells, told.RobustZ_Wells) == (2, 2, 1)


def test_a_plate_without_negative_controls_gives_no_value(tmp_path: Path) -> None:
    plate(tmp_path, "P1", [("a", 1.0, 50.0)])
    plate(tmp_path, "P2", [("a", 1.0, 70.0)], negative=())
    told = one(hcs_nuclei.read_treatments(tmp_path), "a", 1.0)
    assert (told.Plates, told.Wells, told.Wells_WithoutValue) == (1, 1, 1)


def test_what_cannot_be_told_is_refused_in_words(tmp_path: Path) -> None:
    bare = plate(tmp_path, "P1", [("a", 1.0, 50.0)], negative=())
    with pytest.raises(OutputError, match="no layout names negative controls"):
        hcs_nuclei.read_treatments(bare)
    run = plate(tmp_path, "P2", [("a", 1.0, 50.0)])
    with pytest.raises(ValueError, match=r"no run has the readouts \['Metadata_Nonsense'\]; there are"):
        hcs_nuclei.read_treatments(run, readouts=["Metadata_Nonsense"])


def test_every_column_has_its_unit_and_meaning(tmp_path: Path) -> None:
    table = treatment_table([plate(tmp_path, "P1", [("a", 1.0, 50.0)])])
    assert all(table.schema.field(name).metadata[b"meaning"] for name in table.column_names)
    assert table.schema.metadata[b"schema_version"]
