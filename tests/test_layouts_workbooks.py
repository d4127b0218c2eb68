"""Layouts in Excel workbooks: lists, grids, merged cells, formulas."""

from __future__ import annotations

import zipfile
from pathlib import Path

import openpyxl
import pytest
from layout_samples import PLATE, values_of

from hcs_nuclei.errors import LayoutError
from hcs_nuclei.layouts import read_layout

DRUG, DOSE = {"B03": "DMSO", "C06": "taxol"}, {"B03": 0, "C06": 0.5}


def test_a_workbook_with_a_list(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["well", "compound", "concentration", "lot"], ["B03", "DMSO", 0, "007"], ["C06", "taxol", 0.5, 12]):
        book.active.append(row)
    book.create_sheet("Notes").append(["made on a Monday"])
    book.save(tmp_path / "layout.xlsx")
    layout = read_layout(tmp_path / "layout.xlsx", PLATE)
    assert values_of(layout) == {"B03": ["DMSO", 0.0, "007"], "C06": ["taxol", 0.5, "12"]}
    assert "only the sheet 'Sheet' is used, not 'Notes'" in layout.warnings[0]


def test_a_value_over_merged_cells_is_that_of_each_and_a_title_of_none(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["The screen"], ["well", "compound", "concentration"], ["B03", "taxol", 1], ["C06", None, 2]):
        sheet.append(row)
    sheet.merge_cells("A1:C1")
    sheet.merge_cells("B3:B4")
    book.save(tmp_path / "list.xlsx")
    assert values_of(read_layout(tmp_path / "list.xlsx", PLATE)) == {"B03": ["taxol", 1], "C06": ["taxol", 2]}

    grid_sheet = book.create_sheet("Drug")
    grid_sheet.append([None, *range(1, 13)])
    for row in "ABCDEFGH":
        grid_sheet.append([row, *(["DMSO"] if row == "B" else [])])
    grid_sheet.merge_cells("B3:G4")
    del book["Sheet"]
    book.save(tmp_path / "grid.xlsx")
    assert values_of(read_layout(tmp_path / "grid.xlsx", PLATE)) == {"B03": ["DMSO"], "C06": ["DMSO"]}


def test_formulas_that_were_never_calculated_are_refused_by_their_cells(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["well", "compound", "concentration"], ["B03", "taxol", "=10*2"], ["C06", "taxol", 3]):
        book.active.append(row)
    book.save(tmp_path / "layout.xlsx")
    with pytest.raises(LayoutError, match=r"formulas without values, in C2: .* save it again"):
        read_layout(tmp_path / "layout.xlsx", PLATE)


def test_titles_side_by_side_and_a_heading_over_two_columns_are_no_values(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["Compound", *[None] * 13, "Dose"])
    sheet.append([None, *range(1, 13), None, None, *range(1, 13)])
    for row in "ABCDEFGH":
        cells = [(DRUG.get(f"{row}{c:02d}"), DOSE.get(f"{row}{c:02d}")) for c in range(1, 13)]
        sheet.append([row, *(drug for drug, _ in cells), None, row, *(dose for _, dose in cells)])
    sheet.merge_cells("A1:M1")
    sheet.merge_cells("O1:AA1")
    book.save(tmp_path / "grids.xlsx")
    assert values_of(read_layout(tmp_path / "grids.xlsx", PLATE)) == {"B03": ["DMSO", 0.0], "C06": ["taxol", 0.5]}

    book = openpyxl.Workbook()
    for row in (["well", "drug", "conc"], ["B03", "DMSO", 0], ["C06", "taxol", 0.5]):
        book.active.append(row)
    book.active.merge_cells("C1:D1")
    book.save(tmp_path / "list.xlsx")
    assert values_of(read_layout(tmp_path / "list.xlsx", PLATE)) == {"B03": ["DMSO", 0.0], "C06": ["taxol", 0.5]}


def test_a_formula_whose_result_is_nothing_is_an_empty_cell(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["well", "drug", "conc"], ["B03", "DMSO", "=1+1"], ["C06", "taxol", '=""']):
        book.active.append(row)
    book.save(tmp_path / "raw.xlsx")
    with zipfile.ZipFile(tmp_path / "raw.xlsx") as raw, zipfile.ZipFile(tmp_path / "layout.xlsx", "w") as excel:
        for entry in raw.namelist():  # as Excel stores what it has calculated
            content = raw.read(entry).replace(b"<f>1+1</f><v></v>", b"<f>1+1</f><v>2</v>")
            excel.writestr(entry, content.replace(b"<f>1+1</f><v />", b"<f>1+1</f><v>2</v>"))
    assert values_of(read_layout(tmp_path / "layout.xlsx", PLATE)) == {"B03": ["DMSO", 2], "C06": ["taxol", None]}


def test_a_stray_cell_far_below_is_no_layout_of_its_own(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["well", "compound"], ["B03", "taxol"]):
        book.active.append(row)
    book.active.cell(20_000, 2).value = " "
    book.save(tmp_path / "layout.xlsx")
    assert read_layout(tmp_path / "layout.xlsx", PLATE).wells == {"B03": {"Metadata_Compound": "taxol"}}


def test_a_workbook_with_a_grid_on_each_sheet(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, cells in (("Compound", DRUG), ("Dose (nM)", DOSE)):
        sheet = book.create_sheet(name)
        sheet.append([None, *range(1, 13)])
        for row in "ABCDEFGH":
            sheet.append([row, *(cells.get(f"{row}{column:02d}") for column in range(1, 13))])
    book.save(tmp_path / "layout.xlsx")
    layout = read_layout(tmp_path / "layout.xlsx", PLATE)
    assert values_of(layout) == {"B03": ["DMSO", 0.0, "nM"], "C06": ["taxol", 0.5, "nM"]}


def test_merged_wells_of_a_grid_whose_letters_stand_in_the_second_column(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append([None, None, *range(1, 13)])
    for row in "ABCDEFGH":
        sheet.append(["Plate 7" if row == "A" else None, row, *(["DMSO"] if row == "B" else [])])
    sheet.merge_cells("A2:A9")
    sheet.merge_cells("C3:E3")
    book.save(tmp_path / "grid.xlsx")
    layout = read_layout(tmp_path / "grid.xlsx", PLATE)
    assert layout.of("B03") == {layout.columns[0].name: "DMSO"}
