"""AnnData and feature tables are what was measured, on request, and made without a well again."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
import zarr
from ome_zarr_models.v05 import HCS
from outputs_samples import MEASURED, make_plate
from pipeline_runs import TREATED_RECIPE, FinishedRun, changed, copied, files_of
from report_samples import write_run

from hcs_nuclei import read_nuclei
from hcs_nuclei.cli import main
from hcs_nuclei.outputs import read_level
from hcs_nuclei.outputs.anndata_file import write_anndata


@pytest.fixture
def exported(treated: FinishedRun, tmp_path: Path) -> Path:
    """A copy of the run, with both exports."""
    _, run = copied(treated, tmp_path)
    recipe = tmp_path / "assay.yaml"
    content = {**TREATED_RECIPE, "export": {"anndata": True, "feature_tables": True}}
    recipe.write_text(yaml.safe_dump(content, sort_keys=False))
    assert main(["report", str(run), "--assay", str(recipe)]) == 0
    return run


def test_anndata_holds_what_is_read(exported: Path) -> None:
    import anndata

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = anndata.read_h5ad(exported / "nuclei.h5ad")
    nuclei = read_nuclei(exported)
    features = [name for name in nuclei if name.startswith("Nuclei_")]
    assert list(data.var_names) == features
    np.testing.assert_array_equal(data.X, nuclei[features].to_numpy(np.float32))
    assert data.var.loc["Nuclei_AreaShape_Area", ["unit", "meaning"]].tolist() == ["px²", "number of pixels"]
    assert list(data.obs.columns) == [name for name in nuclei if not name.startswith("Nuclei_")]
    assert data.obs.Metadata_Compound.astype(str).tolist() == nuclei.Metadata_Compound.tolist()
    assert data.obs.Metadata_Aggregated.tolist() == nuclei.Metadata_Aggregated.tolist()
    assert data.obs.Metadata_Class_Nucleus.isna().tolist() == nuclei.Metadata_Class_Nucleus.isna().tolist()
    np.testing.assert_array_equal(data.obsm["spatial"][:, 0], nuclei.Metadata_Center_X)
    first = nuclei.iloc[0]
    assert data.obs_names[0] == f"{first.Metadata_Well}_{first.Metadata_Field}_{first.Metadata_ObjectNumber}"
    assert data.obs_names.is_unique


def test_feature_tables_lie_beside_the_labels(exported: Path) -> None:
    nuclei = read_nuclei(exported)
    store = zarr.open_group(exported / "plate.ome.zarr", mode="r")
    seen = 0
    for well in sorted(set(nuclei.Metadata_Well)):
        image = store[f"{well[0]}/{well[1:]}/1"]
        assert image["tables"].attrs["tables"] == ["nuclei"]
        described = dict(image["tables/nuclei"].attrs)
        assert (described["type"], described["backend"], described["index_key"]) == (
            "feature_table",
            "parquet",
            "label",
        )
        assert described["region"] == {"path": "../labels/nuclei"}
        path = exported / "plate.ome.zarr" / well[0] / well[1:] / "1" / "tables" / "nuclei" / "table.parquet"
        table = pq.read_table(path).to_pandas()
        labels = read_level(exported / "plate.ome.zarr", well, 1, labels=True)
        assert table.label.tolist() == [number for number in np.unique(labels) if number]
        here = nuclei[nuclei.Metadata_Well == well]
        assert table.Nuclei_AreaShape_Area.tolist() == here.Nuclei_AreaShape_Area.tolist()
        seen += len(table)
    assert seen == len(nuclei)
    HCS.from_zarr(store)  # still a valid plate


def test_exports_are_made_once_and_cost_no_well(exported: Path, treated: FinishedRun) -> None:
    before = files_of(exported)
    assert main(["report", str(exported)]) == 0
    assert changed(before, files_of(exported)) == set()
    for name in ("wells.parquet", "nuclei/B02.parquet", "fields.parquet"):
        assert (exported / name).read_bytes() == (treated.run / name).read_bytes()


def test_an_export_that_is_no_longer_asked_for_goes(exported: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "without.yaml"
    recipe.write_text(yaml.safe_dump(TREATED_RECIPE))
    assert main(["report", str(exported), "--assay", str(recipe)]) == 0
    assert not (exported / "nuclei.h5ad").exists()


def test_a_plate_without_a_nucleus_has_an_empty_export(tmp_path: Path) -> None:
    import anndata

    run = write_run(tmp_path / "run", make_plate(("A01", "A02"), fields=1), {"A01": (0,), "A02": (None,)})
    write_anndata(run, MEASURED)
    data = anndata.read_h5ad(run / "nuclei.h5ad")
    assert data.n_obs == 0
    assert data.n_vars > 50
