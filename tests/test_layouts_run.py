"""Treatments in a run: joined when the wells are done, remade without a well, kept, replaced and taken away."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from outputs_samples import MEASURED, commit_well, make_plate
from pipeline_runs import FinishedRun, changed, copied, files_of

from hcs_nuclei import read_fields, read_nuclei, read_wells
from hcs_nuclei.cli import main
from hcs_nuclei.columns import IDENTITY, Column
from hcs_nuclei.errors import LayoutError, UserError
from hcs_nuclei.layouts import Layout, Value
from hcs_nuclei.outputs import begin_store, finish_tables
from hcs_nuclei.outputs.report import write_report
from hcs_nuclei.pipeline import process_plate
from hcs_nuclei.pipeline.finish import remake_plates
from hcs_nuclei.settings import Settings

COMPOUND = Column("Metadata_Compound", "string", "", "compound")
DOSE = Column("Metadata_Concentration", "float64", "uM", "concentration")
LOT = Column("Metadata_lot", "int64", "", "lot")


def layout_of(columns: tuple[Column, ...] = (COMPOUND, DOSE), **wells: tuple[Value | None, ...]) -> Layout:
    named = {
        well: {column.name: value for column, value in zip(columns, values, strict=True) if value is not None}
        for well, values in wells.items()
    }
    return Layout("layout.csv", "file", columns, named)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Wells B03 (3 nuclei), C04 (0) and D05 (failed), not finished yet."""
    for well, count in (("B03", 3), ("C04", 0), ("D05", None)):
        commit_well(tmp_path / "run", PLATE, well, (count,))
    return tmp_path / "run"


PLATE = make_plate(("B03", "C04", "D05"), fields=1)


def test_the_well_table_has_the_treatments_behind_its_identity(run: Path) -> None:
    finish_tables(run, PLATE, MEASURED, layout_of(B03=("00123", 0.5), D05=("x", None), H12=("not imaged", 1.0)))
    wells = read_wells(run)
    names = [column.name for column in IDENTITY]
    assert list(wells.columns)[:7] == [*names, "Metadata_Timepoint", "Metadata_Compound"]
    assert wells.Metadata_Compound.fillna("null").tolist() == ["00123", "null", "x"]
    assert wells.Metadata_Concentration.isna().tolist() == [False, True, True]
    schema = pq.read_schema(run / "wells.parquet")
    assert schema.field("Metadata_Concentration").metadata == {b"unit": b"uM", b"meaning": b"concentration"}
    csv = pd.read_csv(run / "wells.csv", dtype={"Metadata_Compound": str})
    assert csv.Metadata_Compound.tolist()[::2] == ["00123", "x"]
    assert csv.Metadata_Compound.isna().tolist() == [False, True, False]


def test_nuclei_and_fields_get_the_treatments_on_reading(run: Path) -> None:
    finish_tables(run, PLATE, MEASURED, layout_of(B03=("a", 0.5), D05=("b", None)))
    nuclei, fields = read_nuclei(run), read_fields(run)
    assert nuclei.Metadata_Compound.tolist() == ["a"] * 3
    assert nuclei.Metadata_Concentration.tolist() == [0.5] * 3
    assert fields.Metadata_Compound.isna().tolist() == [False, True, False]
    assert fields.Metadata_Compound.dropna().tolist() == ["a", "b"]
    assert list(nuclei.columns)[6:9] == ["Metadata_Timepoint", "Metadata_Compound", "Metadata_Concentration"]
    assert "Metadata_Compound" not in pq.read_schema(run / "nuclei" / "B03.parquet").names
    only = read_nuclei(run, columns=["Metadata_Concentration"], units="um")
    assert list(only.columns) == ["Metadata_Concentration"]
    assert only.Metadata_Concentration.tolist() == [0.5] * 3


def test_without_a_layout_there_is_no_file_of_it(run: Path) -> None:
    finish_tables(run, PLATE, MEASURED, layout_of(B03=("a", 0.5)))
    assert (run / "layout.parquet").is_file()
    finish_tables(run, PLATE, MEASURED)
    assert not (run / "layout.parquet").exists()
    assert "Metadata_Compound" not in read_nuclei(run).columns


def test_runs_whose_treatments_have_other_types_are_read_together(tmp_path: Path) -> None:
    layouts = {
        "P1": layout_of((LOT, DOSE), B03=(17, 1.5)),
        "P2": layout_of((replace(LOT, dtype="string"), replace(DOSE, dtype="int64")), B03=("018", 2)),
        "P3": None,
    }
    for name, layout in layouts.items():
        plate = make_plate(fields=1, name=name)
        commit_well(tmp_path / name, plate, "B03", (2,))
        finish_tables(tmp_path / name, plate, MEASURED, layout)
    for table, times in ((read_nuclei(tmp_path), 2), (read_fields(tmp_path), 1), (read_wells(tmp_path), 1)):
        lots = table.Metadata_lot.fillna("null").tolist()
        assert lots == [lot for lot in ("17", "018", "null") for _ in range(times)]
        assert table.Metadata_Concentration.tolist()[: 2 * times] == [1.5] * times + [2.0] * times


def record_in(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text(encoding="utf-8")))


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    path = tmp_path / "layout.csv"
    path.write_text("well,compound,conc_uM,control_type\nB02,DMSO,0,neg\nB03,x,1,\nC02,x,10,\nC03,y,1,pos\n")
    return path


STATISTICS = {f"{name}.{kind}" for name in ("statistics", "dose_response", "replicates") for kind in ("parquet", "csv")}
REMADE = {"wells.parquet", "wells.csv", "run.json", "layout.parquet", "calls.json", *STATISTICS}


def test_a_layout_remakes_the_well_table_and_no_well(
    finished: FinishedRun, tmp_path: Path, layout: Path, opened: list[str]
) -> None:
    out, run = copied(finished, tmp_path)
    before = files_of(run)
    result = process_plate(finished.plate, out, Settings(layout=str(layout)))
    assert (result.exit_status, result.made, result.kept, result.warnings) == (0, 0, 4, ())
    assert opened == []
    assert changed(before, files_of(run)) - {"report.html"} == REMADE
    assert result.layout == f"{layout}: Compound, Concentration, Concentration_unit, control_type of 4 wells"
    nuclei = read_nuclei(run)
    assert nuclei.groupby("Metadata_Well").Metadata_Compound.first().to_dict() == {
        "B02": "DMSO",
        "B03": "x",
        "C02": "x",
        "C03": "y",
    }
    record = record_in(run)
    assert record["settings"]["layout"] == str(layout)
    assert record["layout"]["columns"][1] == {"name": "Metadata_Concentration", "dtype": "int64", "unit": "uM"}

    # The same again, and again without naming it: nothing is written, and the treatments stay.
    before = files_of(run)
    process_plate(finished.plate, out, Settings(layout=str(layout)))
    layout.unlink()
    assert process_plate(finished.plate, out).layout == result.layout
    assert changed(before, files_of(run)) == set()

    # Another one takes its place; none takes it away, and stays away.
    layout.write_text("well,compound\nB02,z\nB03,z\nC02,z\nC03,z\n")
    process_plate(finished.plate, out, Settings(layout=str(layout)))
    assert set(read_wells(run).Metadata_Compound) == {"z"}
    assert "Metadata_Concentration" not in read_wells(run).columns
    process_plate(finished.plate, out, Settings(layout="none"))
    assert process_plate(finished.plate, out).layout == ""
    for name in ("wells.parquet", "wells.csv", "fields.parquet"):
        assert (run / name).read_bytes() == (finished.run / name).read_bytes()
    assert not any((run / name).exists() for name in ("layout.parquet", *STATISTICS))
    assert record_in(run)["layout"] is None


def test_report_takes_another_layout_without_the_plate(finished: FinishedRun, tmp_path: Path, layout: Path) -> None:
    _, run = copied(finished, tmp_path)
    before = files_of(run)
    assert main(["report", str(run)]) == 0
    assert changed(before, files_of(run)) == set()
    assert main(["report", str(run), "--layout", str(layout)]) == 0
    assert changed(before, files_of(run)) - {"report.html"} == REMADE
    assert read_wells(run).Metadata_control_type.tolist()[::3] == ["negcon", "poscon"]
    (run / "wells.csv").unlink()
    assert main(["report", str(run)]) == 0
    assert "DMSO" in (run / "wells.csv").read_text()
    (run / "layout.parquet").unlink()
    with pytest.raises(LayoutError, match=r"layout\.parquet is gone.*layout\.csv.*--layout none"):
        remake_plates([run])


def test_the_report_names_the_treatment_of_a_well(run: Path) -> None:
    unit = Column("Metadata_Concentration_unit", "string", "", "unit")
    treatments = layout_of((COMPOUND, DOSE, unit), B03=("</script>x", 0.5, "uM"))
    finish_tables(run, PLATE, MEASURED, treatments)
    begin_store(run / "plate.ome.zarr", PLATE)
    page = write_report(run).read_text(encoding="utf-8")
    assert "Compound: \\u003c/script\\u003ex" in page
    assert "Concentration: 0.5 uM" in page
    assert "</script>x" not in page


def test_nothing_is_remade_where_one_of_several_runs_does_not_fit(
    finished: FinishedRun, tmp_path: Path, layout: Path
) -> None:
    out, run = copied(finished, tmp_path)
    other = out / "Z-other"
    shutil.copytree(run, other)
    (other / "run.json").unlink()
    before = files_of(out)
    assert main(["report", str(out), "--layout", str(layout)]) == 2
    assert changed(before, files_of(out)) == set()


def test_odd_wells_are_said_in_the_report_and_the_result(finished: FinishedRun, tmp_path: Path, layout: Path) -> None:
    out, run = copied(finished, tmp_path)
    layout.write_text("well,compound\nB02,z\nA01,z\n")
    result = process_plate(finished.plate, out, Settings(layout=str(layout)))
    assert [words.partition(": ")[2] for words in result.warnings] == [
        "the well A01 of it was not imaged.",
        "3 wells (B03, C02, C03) were imaged and not in it.",
    ]
    assert record_in(run)["layout"]["warnings"] == list(result.warnings)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "was not imaged" in page
    assert f"<dt>Plate layout</dt><dd>{layout}: Compound of 2 wells</dd>" in page


REFUSED = {
    "a layout that does not fit": ("--layout", "well,x\nQ25,1\n", "Q25, not in a plate of"),
    "a map without the barcode": (
        "--layout",
        "Assay_Plate_Barcode,Plate_Map_Name\nP7,m\n",
        "Plate SIM-0001 is not in",
    ),
    "a barcode that is not on the list": ("--barcodes", "P7\nP8\n", "Plate SIM-0001 is held"),
}


@pytest.mark.parametrize(("option", "text", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused_before_anything_is_written(
    option: str,
    text: str,
    said: str,
    finished: FinishedRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "given.csv"
    path.write_text(text)
    assert main(["process", str(finished.plate), "--out", str(tmp_path / "out"), option, str(path)]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_plate_on_the_list_goes_on(finished: FinishedRun, tmp_path: Path) -> None:
    out, _ = copied(finished, tmp_path)
    (tmp_path / "screen.txt").write_text("P7\nSIM-0001\n")
    assert process_plate(finished.plate, out, Settings(barcodes=str(tmp_path / "screen.txt"))).exit_status == 0
    (tmp_path / "screen.txt").write_text("P7\n")
    with pytest.raises(UserError, match="SIM-0001 is held"):
        process_plate(finished.plate, out, Settings(barcodes=str(tmp_path / "screen.txt")))
