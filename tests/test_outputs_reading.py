"""Runs are read back: one or many, by column and well, in pixels or micrometres, or with words of what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outputs_samples import MEASURED, commit_well, field_row, make_plate, nuclei

from hcs_nuclei.columns import NUCLEUS_CALLS, Measured, nucleus_columns
from hcs_nuclei.errors import OutputError
from hcs_nuclei.outputs import (
    find_runs,
    finish_tables,
    read_fields,
    read_nuclei,
    read_wells,
    well_table_path,
    write_well,
)

AREA, LENGTH = "Nuclei_AreaShape_Area", "Nuclei_AreaShape_MajorAxisLength"
MEAN = "Nuclei_Intensity_MeanIntensity_DAPI"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A directory of two finished runs, P1 (B03: 3 + 2, AA04: 0 + 1, D05: failed) and 00123 (B03: 4)."""
    first, second = make_plate(("B03", "D05", "AA04"), name="P1"), make_plate(fields=1)
    for well, counts in (("B03", (3, 2)), ("D05", (None, None)), ("AA04", (0, 1))):
        commit_well(tmp_path / "P1", first, well, counts)
    commit_well(tmp_path / "00123", second, "B03", (4,))
    finish_tables(tmp_path / "P1", first, MEASURED)
    finish_tables(tmp_path / "00123", second, MEASURED)
    (tmp_path / ".hidden" / "nuclei").mkdir(parents=True)
    return tmp_path


def test_one_run(runs: Path) -> None:
    frame = read_nuclei(runs / "P1")
    assert list(frame.columns) == [column.name for column in (*nucleus_columns(MEASURED), *NUCLEUS_CALLS)]
    assert frame["Metadata_Well"].tolist() == ["B03"] * 5 + ["AA04"]
    assert frame["Metadata_ObjectNumber"].tolist() == [1, 2, 3, 1, 2, 1]
    assert len(read_fields(runs / "P1")) == 6
    assert read_wells(runs / "P1")["status"].tolist() == ["ok", "failed", "ok"]


def test_many_runs(runs: Path) -> None:
    assert read_nuclei(runs)["Metadata_Plate"].value_counts().to_dict() == {"P1": 6, "00123": 4}
    assert read_nuclei([runs / "P1", str(runs / "00123")])["Metadata_Plate"].tolist() == ["P1"] * 6 + ["00123"] * 4
    assert len(read_wells([runs, runs / "P1"])) == 4  # each run once
    assert [run.name for run in find_runs(runs)] == ["00123", "P1"]


def test_columns_and_wells_on_demand(runs: Path) -> None:
    frame = read_nuclei(runs, columns=[AREA, "Metadata_Well"], wells=["b3"])
    assert list(frame.columns) == [AREA, "Metadata_Well"]
    assert frame["Metadata_Well"].tolist() == ["B03"] * 9
    assert read_nuclei(runs, wells=["D05"]).empty
    with pytest.raises(ValueError, match="no run has the columns \\['Nuclei_Area'\\]"):
        read_nuclei(runs, columns=["Nuclei_Area"])
    with pytest.raises(ValueError, match="no run has the wells \\['H12'\\]"):
        read_nuclei(runs, wells=["B03", "H12"])


def test_only_the_files_that_are_asked_for_are_read(runs: Path) -> None:
    for other in ("P1/nuclei/AA04.parquet", "P1/nuclei/D05.parquet"):
        (runs / other).write_bytes(b"no table")
    frame = read_nuclei(runs, wells=["B03"])
    assert len(frame) == 9
    assert frame.Metadata_Aggregated.all()
    with pytest.raises(Exception, match="Parquet"):
        read_nuclei(runs)


def test_fields_and_wells_by_column_and_well(runs: Path) -> None:
    fields = read_fields(runs, columns=["status", "Metadata_Field"], wells=["d5", "B03"])
    assert list(fields.columns) == ["status", "Metadata_Field"]
    assert fields.status.tolist() == ["ok", "ok", "ok", "unreadable", "unreadable"]
    wells = read_wells(runs, columns=["Metadata_Plate", f"Median_{AREA}"], wells=["B03"])
    assert wells.Metadata_Plate.tolist() == ["00123", "P1"]
    assert wells[f"Median_{AREA}"].notna().all()
    assert list(read_wells(runs, columns=["status"]).columns) == ["status"]
    with pytest.raises(ValueError, match="no run has the columns \\['Median_Area'\\]"):
        read_wells(runs, columns=["Median_Area"])
    with pytest.raises(ValueError, match="no run has the wells \\['H12'\\]"):
        read_fields(runs, wells=["H12"])
    with pytest.raises(ValueError, match="no well was asked for"):
        read_wells(runs, wells=[])


def test_micrometres(runs: Path) -> None:
    pixels, micrometres = read_nuclei(runs / "P1"), read_nuclei(runs / "P1", units="um")
    for name, factor in ((AREA, 0.25), (LENGTH, 0.5), ("Metadata_Center_X", 0.5), (MEAN, 1.0)):
        np.testing.assert_allclose(micrometres[name], factor * pixels[name])
    assert list(micrometres.columns) == list(pixels.columns)
    only = read_nuclei(runs / "P1", columns=[AREA], units="um")
    assert list(only.columns) == [AREA]
    np.testing.assert_array_equal(only[AREA], micrometres[AREA])
    with pytest.raises(ValueError, match="expected 'px' or 'um'"):
        read_nuclei(runs, units="mm")  # type: ignore[arg-type]


def test_micrometres_without_pixel_size_name_the_field(tmp_path: Path) -> None:
    plate = replace(make_plate(), pixel_size_um=None)
    path = well_table_path(tmp_path, "B03")
    path.parent.mkdir()
    rows = [field_row(plate, "B03", 1, 0), field_row(plate, "B03", 2, 1)]
    write_well(path, nuclei=nuclei(plate, "B03", 2, 1), fields=rows, fingerprint="f", measured=MEASURED)
    with pytest.raises(OutputError, match="Plate 00123, well B03: the pixel size of field 2 is unknown"):
        read_nuclei(tmp_path, units="um")
    assert len(read_nuclei(tmp_path, units="um", columns=[MEAN])) == 1  # counts need no pixel size


def test_a_channel_that_one_run_lacks_is_nan_there(runs: Path) -> None:
    plate = make_plate(name="P3", fields=1)
    measured = Measured(("DAPI",), "DAPI")
    names = {column.name for column in nucleus_columns(measured)}
    part = {name: value for name, value in nuclei(plate, "B03", 1, 2).items() if name in names}
    path = well_table_path(runs / "P3", "B03")
    path.parent.mkdir(parents=True)
    row = field_row(plate, "B03", 1, 2)
    del row["Metadata_QC_SaturatedFraction_FITC"]
    write_well(path, nuclei=part, fields=[row], fingerprint="f", measured=measured)
    frame = read_nuclei(runs, columns=["Metadata_Plate", MEAN, MEAN.replace("DAPI", "FITC")])
    assert frame[MEAN].notna().all()
    assert frame[MEAN.replace("DAPI", "FITC")].isna().tolist() == (frame["Metadata_Plate"] == "P3").tolist()


def test_what_is_not_a_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "note.txt").write_text("")
    with pytest.raises(OutputError, match=r"holds no run: found images, note\.txt; expected a folder 'nuclei'"):
        read_nuclei(tmp_path)
    with pytest.raises(OutputError, match="holds no run: found an empty directory"):
        read_wells(tmp_path / "images")
    with pytest.raises(OutputError, match=r"note\.txt is a file; expected a run directory"):
        read_fields(tmp_path / "note.txt")
    with pytest.raises(OutputError, match="absent is nothing; expected"):
        read_nuclei(tmp_path / "absent")
    with pytest.raises(OutputError, match="No path was given"):
        read_nuclei([])
    (tmp_path / "run" / "nuclei").mkdir(parents=True)
    with pytest.raises(OutputError, match="run has no well yet"):
        read_nuclei(tmp_path)


def test_an_unfinished_run_is_said(tmp_path: Path) -> None:
    commit_well(tmp_path, make_plate(), "B03", (1, 2))
    assert len(read_nuclei(tmp_path)) == 3
    with pytest.raises(OutputError, match=r"no wells\.parquet there, the run was not finished"):
        read_wells(tmp_path)


def test_a_run_that_is_named_twice_is_read_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    run = next(path for path in sorted(runs.iterdir()) if path.is_dir() and path.name[0] != ".")
    assert len(read_nuclei([Path(run.name), run, runs / ".." / runs.name / run.name])) == len(read_nuclei(run))
