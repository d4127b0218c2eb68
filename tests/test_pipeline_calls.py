"""Gates, classes, exclusions and flags: told of a plate at its end, seen alike in nuclei and wells, no well again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from pipeline_runs import DEFOCUSED_COLUMN, TREATED_RECIPE, FinishedRun, changed, copied, files_of

from hcs_nuclei import read_fields, read_nuclei, read_wells
from hcs_nuclei.cli import main
from hcs_nuclei.columns import DNA_CLASSES, NUCLEUS_CLASSES, SCHEMA_VERSION
from hcs_nuclei.errors import SettingsError
from hcs_nuclei.outputs import read_level
from hcs_nuclei.outputs.provenance import read_record
from hcs_nuclei.pipeline import process_plate
from hcs_nuclei.pipeline.calling import no_dna_content
from hcs_nuclei.pipeline.finish import remake_plates
from hcs_nuclei.settings import Settings

DENSITY = "Metadata_Density_per_mm2"


def json_in(run: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((run / name).read_text(encoding="utf-8")))


def shares(nuclei: pd.DataFrame, column: str, value: Any) -> tuple[pd.Series, pd.Series]:
    """By well the number of aggregated nuclei with this value, and their share of those that have any."""
    used = nuclei[nuclei.Metadata_Aggregated & nuclei[column].notna()]
    positive = (used[column] == value).groupby(used.Metadata_Well)
    return positive.sum(), positive.mean()


def test_wells_tell_what_their_nuclei_are_called(treated: FinishedRun) -> None:
    nuclei, wells = read_nuclei(treated.run), read_wells(treated.run).set_index("Metadata_Well")
    columns = [("Metadata_Class_Nucleus", name, end) for name, end in NUCLEUS_CLASSES.items()]
    columns += [("Metadata_Class_DNA", name, end) for name, end in DNA_CLASSES.items()]
    columns += [(f"Metadata_Gate_{gate}", True, f"Gate_{gate}") for gate in ("marker", "large")]
    for column, value, end in columns:
        count, share = shares(nuclei, column, value)
        known = wells[f"Metadata_Fraction_{end}"].dropna()
        assert len(known) >= 12
        np.testing.assert_allclose(known, share.loc[known.index])
        assert wells.loc[known.index, f"Metadata_Count_{end}"].tolist() == count.loc[known.index].tolist()
    assert (nuclei.Metadata_Gate_large == (nuclei.Nuclei_AreaShape_Area > 500)).all()
    for feature in ("Nuclei_AreaShape_Area", "Nuclei_Intensity_MeanIntensity_FITC"):
        used = nuclei[nuclei.Metadata_Aggregated].groupby("Metadata_Well")[feature]
        known = wells[f"Median_{feature}"].dropna()
        np.testing.assert_allclose(known, used.median().loc[known.index])
        np.testing.assert_allclose(wells[f"P95_{feature}"].dropna(), used.quantile(0.95).loc[known.index])


def test_a_gate_at_a_quantile_of_the_controls_finds_who_is_positive(treated: FinishedRun) -> None:
    nuclei = read_nuclei(treated.run)
    controls = nuclei[(nuclei.Metadata_control_type == "negcon") & nuclei.Metadata_Aggregated]
    cut = np.quantile(controls.Nuclei_Ring_NuclearRatio_FITC, 0.9)
    known = nuclei.Nuclei_Ring_NuclearRatio_FITC.notna()
    positive = nuclei.Metadata_Gate_marker[known].astype(bool)
    assert (positive == (nuclei.Nuclei_Ring_NuclearRatio_FITC[known] > cut)).all()
    assert nuclei.Metadata_Gate_marker[~known].isna().all()
    # The simulation tells which cells have the marker in the nucleus.
    truth = pd.read_csv(treated.truth / "nuclei.csv").groupby("well").positive.mean()
    found = read_wells(treated.run).set_index("Metadata_Well")
    enough = found[found.Metadata_Count_Aggregated >= 20].index
    assert np.corrcoef(truth.loc[enough], found.loc[enough, "Metadata_Fraction_Gate_marker"])[0, 1] > 0.8


def test_dna_content_is_not_told_of_optical_sections(treated: FinishedRun) -> None:
    record = read_record(treated.run)
    assert record is not None
    assert no_dna_content(record) == ""

    def told(vendor: str, confocal: bool | None, optics: str) -> str:
        source = record.source.model_copy(update={"vendor": vendor, "confocal": confocal})
        calls = record.settings.calls.model_copy(update={"optics": optics})
        settings = record.settings.model_copy(update={"calls": calls})
        return no_dna_content(record.model_copy(update={"source": source, "settings": settings}))

    for vendor, confocal, optics in (
        ("operetta", True, "auto"),
        ("cellvoyager", None, "auto"),
        ("x", False, "confocal"),
    ):
        assert "confocal" in told(vendor, confocal, optics)
    for vendor, confocal, optics in (
        ("operetta", False, "auto"),
        ("imagexpress", None, "auto"),
        ("x", True, "widefield"),
    ):
        assert told(vendor, confocal, optics) == ""


def test_dna_content_is_held_to_the_g1_of_the_controls(treated: FinishedRun) -> None:
    nuclei = read_nuclei(treated.run)
    called = nuclei[nuclei.Metadata_DNAContent.notna()]
    assert called.Metadata_Class_DNA.notna().all()
    assert not called.Metadata_QC_TouchesEdge.any()
    controls = called[called.Metadata_control_type == "negcon"]
    assert controls.Metadata_DNAContent.median() == pytest.approx(2.2, abs=0.4)
    # Compound A arrests cells after their DNA was doubled.
    stopped = called[(called.Metadata_Compound == "compound-A") & (called.Metadata_Concentration > 1)]
    doubled = {"4N", ">4N"}
    assert stopped.Metadata_Class_DNA.isin(doubled).mean() > controls.Metadata_Class_DNA.isin(doubled).mean() + 0.2


def test_a_column_out_of_focus_is_flagged_warned_of_and_left_out(treated: FinishedRun) -> None:
    fields, wells = read_fields(treated.run), read_wells(treated.run)
    assert (fields.Metadata_QC_OutOfFocus == (fields.Metadata_Column == DEFOCUSED_COLUMN)).all()
    assert (fields.Metadata_Valid == ~fields.Metadata_QC_OutOfFocus).all()
    lost = wells[wells.Metadata_Column == DEFOCUSED_COLUMN]
    assert lost.Metadata_QC_TooFewFields.all()
    assert lost[[DENSITY, "Median_Nuclei_AreaShape_Area", "Metadata_Fraction_Mitotic"]].isna().all().all()
    assert (lost.Metadata_Object_Count > 0).all()
    (warning,) = [words for words in treated.result.warnings if words.startswith("column ")]
    assert warning.startswith(f"column {DEFOCUSED_COLUMN}: 4 of 4 wells have too few valid fields (OutOfFocus")


def test_flags_that_count_are_chosen_without_processing(treated: FinishedRun, tmp_path: Path) -> None:
    _, run = copied(treated, tmp_path)
    before = files_of(run)
    assert main(["report", str(run), "--qc", "none"]) == 0
    lost = read_wells(run).query(f"Metadata_Column == {DEFOCUSED_COLUMN}")
    assert lost[DENSITY].notna().all()
    assert json_in(run, "run.json")["settings"]["aggregation"]["qc"] == "none"
    assert not {name for name in changed(before, files_of(run)) if name.startswith(("nuclei/", "plate.ome.zarr/"))}
    assert main(["report", str(run), "--qc", "default"]) == 0
    for name in ("wells.parquet", "fields.parquet", "calls.json", "statistics.parquet"):
        assert (run / name).read_bytes() == (treated.run / name).read_bytes()
    # The same through process, which finds every well done.
    settings = Settings.model_validate(
        {**TREATED_RECIPE, "layout": str(treated.truth / "layout.csv"), "aggregation": {"qc": "none"}}
    )
    assert process_plate(treated.plate, run.parent, settings).made == 0
    assert read_wells(run).query(f"Metadata_Column == {DEFOCUSED_COLUMN}")[DENSITY].notna().all()
    with pytest.raises(SettingsError, match="no flag Focus; expected default, none, or any of Blank"):
        remake_plates([run], qc="Focus")


def test_exclusions_take_wells_and_fields_out_and_come_back(treated: FinishedRun, tmp_path: Path) -> None:
    _, run = copied(treated, tmp_path)
    path = tmp_path / "exclusions.csv"
    path.write_text("well,field,reason,who,when\nB02,,tip blocked,A. Ruiz,2026-03-02\nC02,1,bubble,,\n")
    before = files_of(run)
    assert main(["report", str(run), "--exclusions", str(path)]) == 0
    assert not {name for name in changed(before, files_of(run)) if name.startswith(("nuclei/", "plate.ome.zarr/"))}
    wells = read_wells(run).set_index("Metadata_Well")
    assert wells.index[wells.Metadata_Excluded].tolist() == ["B02", "C02"]
    assert wells.Metadata_Exclusion_Reason[["B02", "C02", "D02"]].tolist() == [
        "field 1: tip blocked", "field 1: bubble", ""
    ]  # fmt: skip
    by = wells.loc[["B02", "C02", "D02"], ["Metadata_Exclusion_Who", "Metadata_Exclusion_When"]]
    assert by.to_numpy().tolist() == [["A. Ruiz", "2026-03-02"], ["", ""], ["", ""]]
    assert set(read_fields(run).Metadata_Exclusion_Who) == {"A. Ruiz", ""}
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "Excluded: field 1: tip blocked (A. Ruiz, 2026-03-02)" in report
    assert "<td>all</td><td>tip blocked</td><td>A. Ruiz</td><td>2026-03-02</td>" in report
    assert "<td>1</td><td>bubble</td><td>–</td><td>–</td>" in report
    assert wells.loc[["B02", "C02"], [DENSITY, "Median_Nuclei_AreaShape_Area"]].isna().all().all()
    assert wells.loc["B02", "Metadata_Object_Count"] > 0  # the raw count stays
    nuclei = read_nuclei(run, columns=["Metadata_Well", "Metadata_Excluded", "Metadata_Aggregated"])
    assert set(nuclei.Metadata_Well[nuclei.Metadata_Excluded]) == {"B02", "C02"}
    assert not (nuclei.Metadata_Excluded & nuclei.Metadata_Aggregated).any()
    statistics = pd.read_parquet(run / "statistics.parquet")
    z_prime = statistics[(statistics.Metadata_Statistic == "ZPrime") & (statistics.Metadata_Readout == DENSITY)]
    assert z_prime.Words.item().startswith("none: 2 wells of the negative control")
    first = json_in(run, "run.json")["exclusions"]["entries"][0]
    assert first == {
        "well": "B02", "field": None, "reason": "tip blocked", "who": "A. Ruiz", "when": "2026-03-02"
    }  # fmt: skip
    # They are kept by what follows, until they are taken back.
    path.unlink()
    assert main(["report", str(run), "--qc", "default"]) == 0
    assert read_wells(run).Metadata_Excluded.sum() == 2
    assert main(["report", str(run), "--exclusions", "none"]) == 0
    assert (run / "wells.parquet").read_bytes() == (treated.run / "wells.parquet").read_bytes()


def test_process_takes_exclusions_and_flags_as_well(treated: FinishedRun, tmp_path: Path) -> None:
    out, run = copied(treated, tmp_path)
    recipe, exclusions = tmp_path / "assay.yaml", tmp_path / "exclusions.csv"
    recipe.write_text(yaml.safe_dump({**TREATED_RECIPE, "exclusions": "exclusions.csv"}, sort_keys=False))
    exclusions.write_text("well,reason\nB02,tip blocked\n")
    command = ["process", str(treated.plate), "--out", str(out), "--assay", str(recipe)]
    assert main([*command, "--qc", "none", "--exclusions", str(exclusions)]) == 0
    wells = read_wells(run).set_index("Metadata_Well")
    assert wells.index[wells.Metadata_Excluded].tolist() == ["B02"]
    assert wells[DENSITY].isna().sum() == 1
    assert main([*command, "--exclusions", "none"]) == 0
    assert (run / "wells.parquet").read_bytes() == (treated.run / "wells.parquet").read_bytes()
    exclusions.write_text("well,reason\nH12,not imaged\n")
    before = files_of(run)
    assert main(command) == 2  # the recipe names the file
    assert changed(before, files_of(run)) == set()


def test_a_recipe_gives_a_finished_run_other_gates(treated: FinishedRun, tmp_path: Path) -> None:
    _, run = copied(treated, tmp_path)
    recipe = tmp_path / "assay.yaml"
    gates = {"small": {"feature": "Nuclei_AreaShape_Area", "below": 300}}
    recipe.write_text(yaml.safe_dump({**TREATED_RECIPE, "gates": gates, "statistics": {"b_score": True}}))
    assert main(["report", str(run), "--assay", str(recipe)]) == 0
    wells = read_wells(run)
    gated = [name for name in wells if "_Gate_" in name]
    assert gated == ["Metadata_Count_Gate_small", "Metadata_Fraction_Gate_small"]
    assert "BScore_Density_per_mm2" in wells
    nuclei = read_nuclei(run, columns=["Metadata_Gate_small", "Nuclei_AreaShape_Area"])
    assert (nuclei.Metadata_Gate_small == (nuclei.Nuclei_AreaShape_Area < 300)).all()
    assert wells.Metadata_Compound.notna().all()  # its layout stays


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gates": {"g": {"feature": "Nuclei_AreaShape_Aera", "above": 1}}}, "gate g: no nucleus has the feature"),
        ({"layout": "none"}, "gate marker: its cut is a quantile of the negative controls, and no layout names"),
        ({"aggregation": {"qc": ["Blur"]}}, "aggregation.qc: no flag Blur"),
        ({"statistics": {"readouts": ["Metadata_Well"]}}, "no column of numbers Metadata_Well"),
    ],
)
def test_rules_that_do_not_fit_are_refused_before_anything_is_written(
    treated: FinishedRun, tmp_path: Path, change: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = copied(treated, tmp_path)
    recipe = tmp_path / "assay.yaml"
    content = {**TREATED_RECIPE, "layout": str(treated.truth / "layout.csv"), **change}
    if "layout" in change:
        content["statistics"] = {}
    recipe.write_text(yaml.safe_dump(content))
    before = files_of(run)
    for command in (
        ["report", str(run), "--assay", str(recipe)],
        ["process", str(treated.plate), "--out", str(run.parent), "--assay", str(recipe)],
        ["process", str(treated.plate), "--out", str(tmp_path / "new"), "--assay", str(recipe)],
    ):
        assert main(command) == 2
        assert words in capsys.readouterr().err
    assert changed(before, files_of(run)) == set()
    assert not (tmp_path / "new").exists()


def test_counts_agree_from_label_image_to_report(treated: FinishedRun) -> None:
    run = treated.run
    nuclei, fields, wells = read_nuclei(run), read_fields(run), read_wells(run)
    of_field = nuclei.groupby(["Metadata_Well", "Metadata_Field"]).size()
    for row in fields.itertuples():
        labels = read_level(run / "plate.ome.zarr", row.Metadata_Well, row.Metadata_Field, labels=True)
        counted = len(np.unique(labels[labels > 0]))
        assert counted == row.Metadata_Object_Count
        assert counted == of_field.get((row.Metadata_Well, row.Metadata_Field), 0)
    assert wells.set_index("Metadata_Well").Metadata_Object_Count.to_dict() == (
        fields.groupby("Metadata_Well").Metadata_Object_Count.sum().to_dict()
    )
    total = len(nuclei)
    assert total == wells.Metadata_Object_Count.sum()
    assert json_in(run, "run.json")["outcome"]["nuclei"] == total == treated.result.nuclei
    assert f"{total:,}" in (run / "report.html").read_text(encoding="utf-8")
    aggregated = nuclei.groupby("Metadata_Well").Metadata_Aggregated.sum()
    known = wells.set_index("Metadata_Well").Metadata_Count_Aggregated.dropna()
    assert known.tolist() == aggregated.reindex(known.index, fill_value=0).tolist()


def test_the_report_of_a_run_of_tables_version_2_is_made_again(treated: FinishedRun, tmp_path: Path) -> None:
    _, run = copied(treated, tmp_path)
    for path in (run / "nuclei").iterdir():
        table = pq.read_table(path)
        table = table.drop_columns([n for n in table.column_names if n.startswith("Metadata_QC_Saturated_")])
        metadata = dict(table.schema.metadata)
        rows = json.loads(metadata[b"hcs_nuclei.fields"])
        rows = [{n: v for n, v in row.items() if "SaturatedFraction_" not in n} for row in rows]
        metadata |= {b"hcs_nuclei.fields": json.dumps(rows).encode(), b"schema_version": b"2"}
        pq.write_table(table.replace_schema_metadata(metadata), path)
    (run / "run.json").write_text(json.dumps({**json_in(run, "run.json"), "schema_version": "2"}))
    assert main(["report", str(run)]) == 0
    assert json_in(run, "run.json")["schema_version"] == SCHEMA_VERSION
    fields, nuclei = read_fields(run), read_nuclei(run)
    assert fields.filter(like="SaturatedFraction_").isna().all(axis=None)
    new = [name for name in read_nuclei(treated.run) if name.startswith("Metadata_QC_Saturated_")]
    pd.testing.assert_frame_equal(nuclei, read_nuclei(treated.run).drop(columns=new))
    assert (run / "wells.csv").read_bytes() == (treated.run / "wells.csv").read_bytes()
