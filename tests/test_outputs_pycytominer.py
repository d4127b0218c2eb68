"""pycytominer's aggregate, annotate and normalize run on what is read, with nothing renamed or taken away."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pipeline_runs import FinishedRun

from hcs_nuclei import read_nuclei, read_wells

with warnings.catch_warnings():
    # It sets an option that pandas 3 has no use for.
    warnings.filterwarnings("ignore", "The 'mode.copy_on_write' option is deprecated", pd.errors.Pandas4Warning)
    import pycytominer

#: Its own: pandas and Python move on under it.
pytestmark = pytest.mark.filterwarnings("default:::pycytominer")


@pytest.fixture(scope="module")
def nuclei(treated: FinishedRun) -> pd.DataFrame:
    return read_nuclei(treated.run)


@pytest.fixture(scope="module")
def profiles(nuclei: pd.DataFrame) -> Any:
    return pycytominer.aggregate(population_df=nuclei)


def test_aggregate_takes_features_and_no_metadata(nuclei: pd.DataFrame, profiles: pd.DataFrame) -> None:
    features = [name for name in profiles if name not in {"Metadata_Plate", "Metadata_Well"}]
    assert features == [name for name in nuclei if name.startswith("Nuclei_")]
    median = nuclei.groupby("Metadata_Well").Nuclei_AreaShape_Area.median()
    np.testing.assert_allclose(profiles.set_index("Metadata_Well").Nuclei_AreaShape_Area, median)


def test_aggregate_of_what_counts_gives_the_well_table(treated: FinishedRun, nuclei: pd.DataFrame) -> None:
    found = pycytominer.aggregate(population_df=nuclei[nuclei.Metadata_Aggregated])
    wells = read_wells(treated.run).set_index("Metadata_Well").loc[found.Metadata_Well]
    ours = wells.Median_Nuclei_AreaShape_Area.notna().to_numpy()
    assert ours.sum() >= 15
    for name in ("AreaShape_Area", "AreaShape_Eccentricity", "Intensity_MeanIntensity_DAPI"):
        np.testing.assert_allclose(found[f"Nuclei_{name}"][ours], wells[f"Median_Nuclei_{name}"][ours])


def test_annotate_joins_a_plate_map_by_well(treated: FinishedRun, profiles: pd.DataFrame, tmp_path: Path) -> None:
    platemap = pd.read_csv(treated.truth / "layout.csv")
    annotated = pycytominer.annotate(
        profiles=profiles, platemap=platemap, join_on=["Metadata_well_position", "Metadata_Well"]
    )
    assert len(annotated) == len(profiles)
    own = read_wells(treated.run).set_index("Metadata_Well").loc[annotated.Metadata_Well]
    assert annotated.Metadata_compound.tolist() == own.Metadata_Compound.tolist()


def test_normalize_to_the_negative_controls(nuclei: pd.DataFrame) -> None:
    strata = ["Metadata_Plate", "Metadata_Well", "Metadata_control_type"]
    profiles = pycytominer.aggregate(population_df=nuclei, strata=strata)
    normalized = pycytominer.normalize(
        profiles=profiles, features="infer", samples="Metadata_control_type == 'negcon'", method="mad_robustize"
    )
    controls = normalized[normalized.Metadata_control_type == "negcon"]
    assert controls.Nuclei_AreaShape_Area.median() == pytest.approx(0, abs=1e-9)
    poison = normalized[normalized.Metadata_control_type == "poscon"]
    assert poison.Nuclei_AreaShape_Area.median() < -3
