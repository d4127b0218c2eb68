"""The page of the first morning is run as it stands, on the results of a simulated night."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline_runs import FinishedRun

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "first-morning.md"


@pytest.fixture(scope="module")
def morning(treated: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page's snippets, one after another, leave behind."""
    night = tmp_path_factory.mktemp("night")
    shutil.copytree(treated.out, night / "results")
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == 5
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(night)
        for snippet in snippets:
            exec(compile(snippet, str(PAGE), "exec"), names)
    return names


def test_status_of_last_nights_wells(morning: dict[str, Any]) -> None:
    assert morning["status"].loc["SIM-0001"].to_dict() == {"ok": 24}
    assert len(morning["to_look_at"]) == 4  # the column out of focus


def test_z_prime_by_plate(morning: dict[str, Any]) -> None:
    table = morning["z_prime"]
    assert table.index.get_level_values("Metadata_Plate").tolist() == ["SIM-0001"]
    assert table.index.get_level_values("Metadata_Control").tolist() == ["poscon"]
    assert {"Metadata_Density_per_mm2", "Median_Nuclei_AreaShape_Area"} <= set(table.columns)
    assert (table["Metadata_Density_per_mm2"] < 1).all()
    # What the positive control left alive in these small fields is too little for figures of nuclei.
    wells = morning["wells"]
    alive = wells[(wells.Metadata_control_type == "poscon") & ~wells.Metadata_QC_FewNuclei]
    assert len(alive) < 4
    assert table.drop(columns="Metadata_Density_per_mm2").isna().all().all()


def test_density_as_a_plate(morning: dict[str, Any]) -> None:
    plate, wells = morning["plate"], morning["wells"].set_index("Metadata_Well")
    assert plate.shape == (4, 6)
    assert plate.loc[2, 3] == wells.loc["B03", "Metadata_Density_per_mm2"]
    assert plate.isna().to_numpy().sum() == 4


def test_per_cent_of_the_negative_control(morning: dict[str, Any]) -> None:
    control = morning["wells"].Metadata_control_type == "negcon"
    assert np.median(morning["percent"][control.to_numpy()]) == pytest.approx(100)
    assert morning["by_treatment"].loc[("staurosporine", 1.0), "median"] < 40


def test_all_nuclei_of_one_well(morning: dict[str, Any]) -> None:
    nuclei, wells = morning["nuclei"], morning["wells"].set_index("Metadata_Well")
    assert len(nuclei) == wells.loc["C02", "Metadata_Object_Count"]
    assert morning["typical"] == pytest.approx(wells.loc["C02", "Median_Nuclei_AreaShape_Area"] * 0.65**2)
