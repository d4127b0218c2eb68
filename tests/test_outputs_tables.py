"""Tables: one schema, rows in order, numbers that agree, the same bytes every time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from outputs_samples import MEASURED, commit_well, field_row, make_plate, nuclei, snapshot

from hcs_nuclei.columns import SCHEMA_VERSION, field_columns, nucleus_columns, well_columns
from hcs_nuclei.errors import OutputError
from hcs_nuclei.outputs import (
    field_schema,
    finish_tables,
    nucleus_schema,
    read_commit,
    well_schema,
    well_table_path,
    write_well,
)
from hcs_nuclei.plate import Plate

FEATURE = "Nuclei_AreaShape_Area"


def test_schemas_carry_type_unit_meaning_and_version() -> None:
    for schema, columns in (
        (nucleus_schema(MEASURED), nucleus_columns(MEASURED)),
        (field_schema(MEASURED), field_columns(MEASURED)),
        (well_schema(MEASURED), well_columns(MEASURED)),
    ):
        assert schema.names == [column.name for column in columns]
        assert schema.metadata == {b"schema_version": SCHEMA_VERSION.encode()}
        for field, column in zip(schema, columns, strict=True):
            assert str(field.type) == {"float32": "float", "float64": "double"}.get(column.dtype, column.dtype)
            assert field.metadata == {b"unit": column.unit.encode(), b"meaning": column.meaning.encode()}


def test_a_commit_comes_back_from_the_footer(tmp_path: Path) -> None:
    plate = make_plate()
    path = commit_well(tmp_path, plate, "B03", (3, None), fingerprint="abc")
    commit = read_commit(path)
    assert commit is not None
    assert (commit.well, commit.fingerprint) == ("B03", "abc")
    assert [row["Metadata_Object_Count"] for row in commit.fields] == [3, None]
    first = commit.fields[0]
    assert first["Metadata_Position_X"] is None  # NaN has no place in JSON
    assert first["Metadata_Position_Y"] == 0.1 + 0.2
    assert first["Metadata_Plate"] == "00123"
    assert pq.read_schema(path).metadata[b"schema_version"] == SCHEMA_VERSION.encode()


def spoil_nothing_there(path: Path) -> None:
    path.unlink()


def spoil_cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_not_parquet(path: Path) -> None:
    path.write_bytes(b"a,b\n1,2\n" * 100)


def spoil_not_ours(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


def spoil_other_version(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"schema_version": b"0"}), path)


@pytest.mark.parametrize(
    "spoil",
    [spoil_nothing_there, spoil_cut_off, spoil_empty, spoil_not_parquet, spoil_not_ours, spoil_other_version],
)
def test_what_is_not_a_commit_is_none(tmp_path: Path, spoil: Any) -> None:
    path = commit_well(tmp_path, make_plate(), "B03", (3, 1))
    spoil(path)
    assert read_commit(path) is None


def test_rows_are_in_order_and_scalars_are_for_all(tmp_path: Path) -> None:
    plate, path = make_plate(timepoints=2), tmp_path / "B03.parquet"
    # Out of order, and with numbers that go on over the time points of a field.
    parts = [nuclei(plate, "B03", f, 2, t) for f, t in ((2, 1), (1, 1), (2, 0), (1, 0))]
    for part in parts:
        part["Metadata_ObjectNumber"] = np.array([2, 1]) + 2 * part["Metadata_Timepoint"]
    rows = [field_row(plate, "B03", f, 2, t) for t in (1, 0) for f in (2, 1)]
    write_well(path, nuclei=parts, fields=rows, fingerprint="f", measured=MEASURED)
    frame = pd.read_parquet(path)
    keys = ["Metadata_Field", "Metadata_Timepoint", "Metadata_ObjectNumber"]
    assert frame[keys].to_numpy().tolist() == [
        [f, t, n] for f in (1, 2) for t in (0, 1) for n in (1 + 2 * t, 2 + 2 * t)
    ]
    # Values move with their rows: number 2 came first, with the feature that begins at 1.
    by_number = frame.set_index("Metadata_ObjectNumber")[FEATURE].loc[[1, 2]]
    assert (np.floor(by_number.loc[2]) == 1).all()
    assert (np.floor(by_number.loc[1]) == 2).all()
    assert set(frame["Metadata_Well"]) == {"B03"}
    commit = read_commit(path)
    assert commit is not None
    assert [(row["Metadata_Field"], row["Metadata_Timepoint"]) for row in commit.fields] == [
        (1, 0), (1, 1), (2, 0), (2, 1)
    ]  # fmt: skip


def test_nan_is_null_and_stays_out_of_statistics(tmp_path: Path) -> None:
    plate = make_plate(fields=1)
    part = nuclei(plate, "B03", 1, 3, **{FEATURE: np.array([10.0, np.nan, 30.0])})
    part["Nuclei_AreaShape_Solidity"] = np.full(3, np.nan)
    path = well_table_path(tmp_path, "B03")
    path.parent.mkdir()
    write_well(path, nuclei=part, fields=[field_row(plate, "B03", 1, 3)], fingerprint="f", measured=MEASURED)
    assert pq.read_table(path)[FEATURE].null_count == 1
    wells = finish_tables(tmp_path, plate, MEASURED).wells.to_pylist()
    assert wells[0][f"Median_{FEATURE}"] == 20.0
    assert wells[0]["Median_Nuclei_AreaShape_Solidity"] is None


@pytest.mark.parametrize("counts", [(0, 0), (None, None)], ids=["empty", "failed"])
def test_a_well_without_nuclei_has_the_full_schema(tmp_path: Path, counts: tuple[int | None, ...]) -> None:
    path = commit_well(tmp_path, make_plate(), "B03", counts)
    other = commit_well(tmp_path, make_plate(("C04",)), "C04", (2, 5))
    assert pq.read_table(path).num_rows == 0
    assert pq.read_schema(path).equals(nucleus_schema(MEASURED))
    assert pq.read_schema(path).equals(pq.read_schema(other))


def test_the_directory_is_every_nucleus_for_pandas(tmp_path: Path) -> None:
    plate = make_plate(("B03", "C04", "AA05"), acquisition="0042")
    for well, counts in (("B03", (0, 0)), ("C04", (4, None)), ("AA05", (2, 3))):
        commit_well(tmp_path, plate, well, counts)
    frame = pd.read_parquet(tmp_path / "nuclei")
    assert len(frame) == 9
    assert set(frame["Metadata_Plate"]) == {"00123"}
    assert set(frame["Metadata_Acquisition"]) == {"0042"}
    assert frame["Metadata_Well"].value_counts().to_dict() == {"AA05": 5, "C04": 4}
    assert frame["Metadata_ObjectNumber"].dtype == np.uint32


def broken(**changes: Any) -> dict[str, Any]:
    part = nuclei(make_plate(), "B03", 1, 3)
    return {name: value for name, value in {**part, **changes}.items() if value is not None}


BAD_NUCLEI = {
    "a column too few": (broken(**{FEATURE: None}), FEATURE),
    "a column too many": (broken(Nuclei_New=np.ones(3)), "unknown columns \\['Nuclei_New'\\]"),
    "another length": (broken(**{FEATURE: np.ones(2)}), f"{FEATURE} has shape \\(2,\\); expected \\(3,\\)"),
    "text for numbers": (broken(**{FEATURE: ["a", "b", "c"]}), f"{FEATURE} is not double"),
    "a negative number": (broken(Metadata_ObjectNumber=np.array([-1, 2, 3])), "Metadata_ObjectNumber is not uint32"),
    "fewer than the field states": (nuclei(make_plate(), "B03", 1, 2), "field 1, time point 0: 2 nuclei, .* states 3"),
    "a field without row": (broken(Metadata_Field=7), "field 1, time point 0: 0 nuclei"),
    "a number twice": (broken(Metadata_ObjectNumber=np.array([1, 2, 2])), "field 1: object number 2 stands 2 times"),
}


@pytest.mark.parametrize(("part", "message"), BAD_NUCLEI.values(), ids=BAD_NUCLEI.keys())
def test_nuclei_that_do_not_fit_are_refused(tmp_path: Path, part: dict[str, Any], message: str) -> None:
    rows = [field_row(make_plate(), "B03", 1, 3)]
    with pytest.raises(ValueError, match=message):
        write_well(tmp_path / "B03.parquet", nuclei=[part], fields=rows, fingerprint="f", measured=MEASURED)
    assert not list(tmp_path.iterdir())


ROW = field_row(make_plate(), "B03", 1, 0)
BAD_FIELDS = {
    "none": ([], "expected one well"),
    "two wells": ([ROW, field_row(make_plate(("C04",)), "C04", 1, 0)], "\\['B03', 'C04'\\]; expected one well"),
    "a column too few": ([{k: v for k, v in ROW.items() if k != "status"}], "missing columns \\['status'\\]"),
    "a column too many": ([{**ROW, "note": ""}], "unknown columns \\['note'\\]"),
    "text for a number": ([{**ROW, "Metadata_Height": "tall"}], "well B03: field rows are not of the schema"),
    "measured without size": ([{**ROW, "Metadata_Width": None}], "field 1: measured, but its height or width is null"),
    "the same field twice": ([ROW, ROW], "well B03: field 1, time point 0 has 2 rows"),
}


@pytest.mark.parametrize(("rows", "message"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_field_rows_that_do_not_fit_are_refused(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_well(tmp_path / "B03.parquet", nuclei=[], fields=rows, fingerprint="f", measured=MEASURED)


def finish_mixed(run: Path) -> tuple[Plate, dict[str, dict[str, Any]]]:
    """A plate with a full, an empty, a failed and an incomplete well; its well rows by well."""
    plate = make_plate(("B03", "B11", "C04", "AA05"))
    commit_well(run, plate, "AA05", (5, None))
    commit_well(run, plate, "C04", (None, None))
    commit_well(run, plate, "B11", (0, 0))
    edge = np.array([False, False, True])
    path = well_table_path(run, "B03")
    rows = [field_row(plate, "B03", 1, 3, Metadata_QC_Saturated=True), field_row(plate, "B03", 2, 1)]
    rows[1] |= {"Metadata_Height": 100, "Metadata_NuclearAreaFraction": 0.5, "Metadata_QC_Blank": True}
    parts = [nuclei(plate, "B03", 1, 3, Metadata_QC_TouchesEdge=edge), nuclei(plate, "B03", 2, 1)]
    write_well(path, nuclei=parts, fields=rows, fingerprint="f", measured=MEASURED)
    tables = finish_tables(run, plate, MEASURED)
    return plate, {row["Metadata_Well"]: row for row in tables.wells.to_pylist()}


def test_well_rows_full_empty_failed_incomplete(tmp_path: Path) -> None:
    _, wells = finish_mixed(tmp_path)
    assert list(wells) == ["B03", "B11", "C04", "AA05"]
    assert {name: row["status"] for name, row in wells.items()} == {
        "B03": "ok", "B11": "ok", "C04": "failed", "AA05": "incomplete"
    }  # fmt: skip
    full, empty, failed, part = wells.values()
    assert full["error"] == ""
    assert failed["error"] == "fields 1, 2: the file ends early"
    assert part["error"] == "field 2: the file ends early"
    assert [row["Metadata_Object_Count"] for row in wells.values()] == [4, 0, None, 5]
    # The blank field of the full well holds one nucleus of its four, and does not count.
    assert [row["Metadata_Object_Count_PerField"] for row in wells.values()] == [3.0, 0.0, None, 5.0]
    assert [row["Metadata_Site_Count"] for row in wells.values()] == [2, 2, 0, 1]
    assert {row["Metadata_Site_Count_Expected"] for row in wells.values()} == {2}
    # 200 × 100 pixels of 0.5 µm are 0.005 mm². The blank field of the full well counts in numbers, not in figures.
    assert [row["Metadata_Site_Count_Valid"] for row in wells.values()] == [1, 2, 0, 1]
    assert full["Metadata_Density_per_mm2"] == pytest.approx(3 / 0.005)
    assert part["Metadata_Density_per_mm2"] == pytest.approx(5 / 0.005)
    assert empty["Metadata_Density_per_mm2"] == 0
    assert failed["Metadata_Density_per_mm2"] is None
    assert full["Metadata_NuclearAreaFraction"] == pytest.approx(0.25)
    assert (full["Metadata_QC_Blank_Fields"], full["Metadata_QC_Saturated_Fields"]) == (1, 1)
    assert failed["Metadata_QC_Blank_Fields"] is None
    # Over nuclei 1 and 2 of field 1: the one at the edge is left out, and so is the blank field's.
    assert full["Metadata_Count_Aggregated"] == 2
    assert math.floor(full[f"Median_{FEATURE}"]) == 1
    assert math.floor(part[f"Median_{FEATURE}"]) == 3
    assert empty[f"Median_{FEATURE}"] is None


def test_plate_tables_on_disk(tmp_path: Path) -> None:
    plate, _ = finish_mixed(tmp_path)
    fields = pq.read_table(tmp_path / "fields.parquet")
    assert fields.schema.equals(field_schema(MEASURED), check_metadata=True)
    places = zip(fields["Metadata_Well"].to_pylist(), fields["Metadata_Field"].to_pylist(), strict=True)
    assert list(places) == [(well.name, n) for well in plate.wells for n in (1, 2)]
    assert pq.read_schema(tmp_path / "wells.parquet").equals(well_schema(MEASURED), check_metadata=True)
    wells = pd.read_parquet(tmp_path / "wells.parquet")
    table = pd.read_csv(tmp_path / "wells.csv", dtype={"Metadata_Plate": str})
    assert list(table.columns) == list(wells.columns)
    assert list(table["Metadata_Plate"]) == ["00123"] * 4
    np.testing.assert_array_equal(table[f"Median_{FEATURE}"], wells[f"Median_{FEATURE}"])


def test_one_well_row_a_time_point(tmp_path: Path) -> None:
    plate = make_plate(timepoints=3)
    path = well_table_path(tmp_path, "B03")
    path.parent.mkdir()
    counts = {(f, t): f * 10 + t for f in (1, 2) for t in range(3)}
    parts = [nuclei(plate, "B03", f, c, t, **{FEATURE: np.full(c, 100.0 * t)}) for (f, t), c in counts.items()]
    for part in parts:
        part["Metadata_ObjectNumber"] = part["Metadata_ObjectNumber"] + 100 * part["Metadata_Timepoint"]
    rows = [field_row(plate, "B03", f, c, t) for (f, t), c in counts.items()]
    write_well(path, nuclei=parts, fields=rows, fingerprint="f", measured=MEASURED)
    tables = finish_tables(tmp_path, plate, MEASURED)
    assert tables.wells["Metadata_Timepoint"].to_pylist() == [0, 1, 2]
    assert tables.wells["Metadata_Object_Count"].to_pylist() == [30, 32, 34]
    assert tables.wells[f"Median_{FEATURE}"].to_pylist() == [0.0, 100.0, 200.0]
    assert tables.fields.num_rows == 6


def test_density_is_null_without_pixel_size(tmp_path: Path) -> None:
    plate = make_plate(fields=1)
    path = well_table_path(tmp_path, "B03")
    path.parent.mkdir()
    row = field_row(plate, "B03", 1, 2, Metadata_PixelSize_um=None)
    write_well(path, nuclei=nuclei(plate, "B03", 1, 2), fields=[row], fingerprint="f", measured=MEASURED)
    wells = finish_tables(tmp_path, plate, MEASURED).wells.to_pylist()
    assert wells[0]["Metadata_Density_per_mm2"] is None
    assert wells[0]["Metadata_Object_Count"] == 2


def test_wells_without_commit_are_named(tmp_path: Path) -> None:
    plate = make_plate(("B03", "C04", "D05"))
    commit_well(tmp_path, plate, "C04", (1, 1))
    with pytest.raises(OutputError, match=r"Plate 00123: 2 of 3 wells .* \(B03, D05\)"):
        finish_tables(tmp_path, plate, MEASURED)
    assert [entry.name for entry in tmp_path.iterdir()] == ["nuclei"]


def test_a_second_run_touches_nothing_and_another_gives_the_same_bytes(tmp_path: Path) -> None:
    runs = (tmp_path / "one", tmp_path / "two")
    for run in runs:
        finish_mixed(run)
    before = snapshot(runs[0])
    assert {name: content for name, (content, _) in before.items()} == {
        name: content for name, (content, _) in snapshot(runs[1]).items()
    }
    finish_mixed(runs[0])
    assert snapshot(runs[0]) == before
