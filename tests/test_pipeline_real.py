"""The real sample plates, each processed as a user would: what is counted, flagged and warned of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pipeline_runs import changed, snapshot

from hcs_nuclei import read_fields, read_nuclei, read_wells
from hcs_nuclei.outputs import read_level
from hcs_nuclei.pipeline import process_plate
from hcs_nuclei.settings import Settings


@dataclass(frozen=True)
class Sample:
    """A folder below ``plates``, how it is processed, and what is then there."""

    folder: str
    run: str
    fields: int
    channel: str | None = None
    wells: int = 1
    timepoints: int = 1


SAMPLES = {
    "cellomics": Sample("cellomics", "AS_09125_050116030001", 1, "d0"),
    "operetta": Sample("operetta/operetta_plate", "Test_Sample_BALL", 2),
    "metaxpress 3434": Sample("imagexpress-exported/9987_Plate_3434", "9987__3434", 4, wells=2),
    "metaxpress 3420": Sample("imagexpress-exported/9987_Plate_3420", "9987__3420", 1),
    "raw, mixed z and time": Sample(
        "imagexpress/1well-3C-2S-Zmix-T", "1well-3C-2S-Zmix-T__1697", 2, "w1", timepoints=2
    ),
    "raw, one channel": Sample("imagexpress/SingleChannel", "Projection-Mix__1334", 4, wells=2),
    "cellvoyager": Sample(
        "cellvoyager", "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack__20230918_135839", 12, "C01", wells=3
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_a_real_plate_is_processed(name: str, shared_data: Path, tmp_path: Path, opened: list[str]) -> None:
    sample = SAMPLES[name]
    source = shared_data / "plates" / sample.folder
    before = snapshot(source)
    result = process_plate(source, tmp_path, Settings(channel=sample.channel))
    assert result.exit_status == 0, result.faults
    assert result.run_dir.name.startswith(sample.run)
    fields, nuclei, wells = read_fields(result.run_dir), read_nuclei(result.run_dir), read_wells(result.run_dir)
    assert set(fields.status) == {"ok"}
    assert fields.Metadata_Timepoint.nunique() == sample.timepoints
    assert len(fields) == sample.fields * sample.timepoints
    assert len(wells) == sample.wells * sample.timepoints
    for row in fields.itertuples():
        labels = read_level(result.run_dir / "plate.ome.zarr", row.Metadata_Well, row.Metadata_Field, labels=True)
        here = np.unique(labels[row.Metadata_Timepoint])
        place = (nuclei.Metadata_Well == row.Metadata_Well) & (nuclei.Metadata_Field == row.Metadata_Field)
        rows = nuclei[place & (nuclei.Metadata_Timepoint == row.Metadata_Timepoint)]
        assert rows.Metadata_ObjectNumber.tolist() == [number for number in here if number]
        assert row.Metadata_Object_Count == len(rows)
    assert changed(before, snapshot(source)) == set()
    if name == "cellvoyager":
        assert fields.Metadata_Object_Count.tolist() == [0] * 12
        assert fields.Metadata_QC_Blank.tolist() == [True] * 12
        assert wells.Metadata_Object_Count.tolist() == [0] * 3
    elif not name.startswith("raw"):
        assert (fields.Metadata_Object_Count > 0).all()
    if name == "metaxpress 3434":
        assert any("Cy5" in warning for warning in result.warnings)
    if name == "cellomics":
        # CellProfiler's own pipeline finds 289 that do not touch the border and are at least 8 px across.
        whole = nuclei[~nuclei.Metadata_QC_TouchesEdge & (nuclei.Nuclei_AreaShape_EquivalentDiameter >= 8)]
        assert 0.95 * 289 <= len(whole) <= 1.05 * 289
