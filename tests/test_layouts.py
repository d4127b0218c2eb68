"""Plate layouts in the shapes that people keep them in: read to the same treatments, or refused with every fault."""

from __future__ import annotations

import string
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layout_samples import PLATE, values_of, written
from outputs_samples import make_plate

from hcs_nuclei.errors import LayoutError
from hcs_nuclei.layouts import read_layout
from hcs_nuclei.layouts.wells import read_well
from hcs_nuclei.plate import well_name

WELLS = {
    "C6": (3, 6),
    "c06": (3, 6),
    "C-06": (3, 6),
    " c 6 ": (3, 6),
    "C006": (3, 6),
    "3;6": (3, 6),
    "(3, 6)": (3, 6),
    "C;6": (3, 6),
    "R03C06": (3, 6),
    "r3c6": (3, 6),
    "AF48": (32, 48),
    "R3": (18, 3),
}


@pytest.mark.parametrize(("text", "position"), WELLS.items(), ids=WELLS.keys())
def test_a_well_however_it_is_written(text: str, position: tuple[int, int]) -> None:
    assert read_well(text) == position


@pytest.mark.parametrize("text", ["", "36", "C", "C0", "C49", "AG1", "0;6", "33;6", "3;6;1", "C6x", "3.6", "C٣"])
def test_what_is_no_well(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a well|is not on a plate|is not a plate row"):
        read_well(text)


@given(st.integers(1, 32), st.integers(1, 48))
def test_every_well_is_read_back_from_its_name_and_from_its_numbers(row: int, column: int) -> None:
    assert read_well(well_name(row, column)) == read_well(f"{row};{column}") == (row, column)


def grid(cells: Mapping[str, object], rows: int = 8, columns: int = 12, corner: str = "", cut: str = ",") -> str:
    lines = [[corner, *range(1, columns + 1)]]
    for row in string.ascii_uppercase[:rows]:
        lines.append([row, *(cells.get(f"{row}{column:02d}", "") for column in range(1, columns + 1))])
    return "\n".join(cut.join(map(str, line)) for line in lines) + "\n"


def bare(cells: Mapping[str, object]) -> str:
    """A grid of 8 × 12 without letters and numbers; wells that nobody looks at have 1."""
    full = {f"{row}{column:02d}": 1 for row in "ABCDEFGH" for column in range(1, 13)} | cells
    return "\n".join(line.partition(",")[2] for line in grid(full).splitlines()[1:]) + "\n"


DRUG, DOSE = {"B03": "DMSO", "C06": "taxol"}, {"B03": 0, "C06": 0.5}


SAME = {
    "a list with commas": "well,compound,concentration\nB03,DMSO,0\nC06,taxol,0.5\n",
    "a list with tabs": "Metadata_Well\tCompound\tConcentration\nb3\tDMSO\t0\nc-06\ttaxol\t.5\n",
    "rows and columns as numbers, a decimal comma": "row;col;drug;dose\n2;3;DMSO;0\n3;6;taxol;0,5\n",
    "rows as letters": "Row,Column,Drug,Conc\nB,03,DMSO,0\nC,06,taxol,0.5\n",
    "a well of two numbers": 'Well,drug,dose\n2;3,DMSO,0\n"3,6",taxol,0.5\n',
    "a well said twice": "well_position,row,col,drug,dose\nB03,B,3,DMSO,0\nC06,3,6,taxol,5e-1\n",
    "lines above, below and between": "Screen 7\n\n,\nwell,compound,concentration\nB03,DMSO,0\n,,\nC06,taxol,0.5\n,,\n",
    "one line of a well twice": "well,compound,concentration\nB03,DMSO,0\nB03,DMSO,0\nC06,taxol,0.5\n",
    "one well on two lines that complete it": "well,compound,concentration\nB03,DMSO,0\nC06,taxol,\nC06,,0.5\n",
    "grids with labels in their corners": grid(DRUG, corner="Compound") + "\n" + grid(DOSE, corner="Concentration"),
    "grids with titles": f"Compound\n{grid(DRUG)}\nConcentration:\n{grid(DOSE)}",
    "grids side by side": "\n".join(
        f"{a},,{b}"
        for a, b in zip(
            grid(DRUG, corner="Compound").splitlines(), grid(DOSE, corner="Concentration").splitlines(), strict=True
        )
    ),
    "grids with semicolons": grid(DRUG, corner="Compound", cut=";")
    + grid({"B03": 0, "C06": "0,5"}, corner="Concentration", cut=";"),
    "grids without headings": f"Compound\n{bare(DRUG)}\nConcentration\n{bare(DOSE)}",
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME.keys())
def test_the_usual_shapes_give_the_same_treatments(text: str, tmp_path: Path) -> None:
    layout = read_layout(written(tmp_path, text), PLATE)
    assert [(c.name, c.dtype) for c in layout.columns] == [
        ("Metadata_Compound", "string"),
        ("Metadata_Concentration", "float64"),
    ]
    assert values_of(layout) == {"B03": ["DMSO", 0.0], "C06": ["taxol", 0.5]}


def test_an_only_grid_needs_no_label_and_384_wells_are_a_plate_too(tmp_path: Path) -> None:
    plate = replace(make_plate(("P24",)), wells_in_format=384, expected_from="metadata")
    layout = read_layout(written(tmp_path, grid({"P24": "x"}, 16, 24)), plate)
    assert [c.name for c in layout.columns] == ["Metadata_Treatment"]
    assert layout.wells == {"P24": {"Metadata_Treatment": "x"}}


def test_half_a_grid_is_not_passed_over(tmp_path: Path) -> None:
    half = "B,1,2,3\nC,4,5,6\n"
    layout = read_layout(written(tmp_path, f"{grid({'A01': 'x'})}\n{half}"), PLATE)
    assert "line 11, 12: not part of a grid, and not used" in layout.warnings[0]


def columns_of(text: str, folder: Path) -> dict[str, tuple[str, str, Any]]:
    """Type, unit and the values in B03 and C06 of every column of a list with these lines."""
    layout = read_layout(written(folder, text), PLATE)
    return {c.name: (c.dtype, c.unit, [layout.of(well)[c.name] for well in ("B03", "C06")]) for c in layout.columns}


TYPED = {
    "whole numbers": ("n\n1\n22", "int64", [1, 22]),
    "a number with a point": ("n\n1\n2.5", "float64", [1.0, 2.5]),
    "an exponent": ("n\n1e-6\n2", "float64", [1e-6, 2.0]),
    "leading zeros": ("n\n00123\n4", "string", ["00123", "4"]),
    "a word among numbers": ("n\n1\nhigh", "string", ["1", "high"]),
    "nothing": ("n\n\n3", "int64", [None, 3]),
    "NA among numbers": ("n\nNA\n3", "int64", [None, 3]),
    "NA among words": ("n\nNA\nx", "string", ["NA", "x"]),
    "a thousand, or a decimal": ('n\n"1,250"\n3', "string", ["1,250", "3"]),
    "more digits than a number has": ("n\n12345678901234567890\n3", "float64", [12345678901234567890.0, 3.0]),
    "infinity is a word": ("n\ninf\n3", "string", ["inf", "3"]),
}


@pytest.mark.parametrize(("text", "dtype", "values"), TYPED.values(), ids=TYPED.keys())
def test_text_stays_text_and_numbers_become_numbers(text: str, dtype: str, values: list[Any], tmp_path: Path) -> None:
    name, first, second = text.split("\n")
    lines = f"well,x,{name}\nB03,y,{first}\nC06,y,{second}\n"
    assert columns_of(lines, tmp_path)["Metadata_n"] == (dtype, "", values)


def test_a_file_that_writes_na_for_a_missing_number_means_it_everywhere(tmp_path: Path) -> None:
    text = "well_position\tbroad_sample\tmmoles_per_liter\tsolvent\nB03\tNA\tNA\tDMSO\nC06\tBRD-K1\t0.1\tNA\n"
    found = columns_of(text, tmp_path)
    assert found["Metadata_broad_sample"] == ("string", "", [None, "BRD-K1"])
    assert found["Metadata_mmoles_per_liter"] == ("float64", "", [None, 0.1])
    assert found["Metadata_solvent"] == ("string", "", ["DMSO", None])


def test_names_of_compounds_are_text_even_where_all_are_numbers(tmp_path: Path) -> None:
    found = columns_of("well,compound,broad_sample\nB03,17,1\nC06,18,2\n", tmp_path)
    assert found["Metadata_Compound"] == ("string", "", ["17", "18"])
    assert found["Metadata_broad_sample"] == ("string", "", ["1", "2"])


def test_a_decimal_comma_that_may_be_a_thousand_stays_text_unless_another_value_tells(tmp_path: Path) -> None:
    told = columns_of("well;n\nB03;1,250\nC06;0,5\n", tmp_path)
    assert told["Metadata_n"] == ("float64", "", [1.25, 0.5])
    assert columns_of("well;n\nB03;1,250\nC06;3\n", tmp_path)["Metadata_n"][0] == "string"


def test_points_beside_decimal_commas_are_thousands_and_no_number_is_guessed(tmp_path: Path) -> None:
    layout = read_layout(written(tmp_path, "well;dose\nB03;1.000\nC06;2,5\n"), PLATE)
    assert values_of(layout) == {"B03": ["1.000"], "C06": ["2,5"]}
    assert "no dose can be read from it" in layout.warnings[0]


NAMED = {
    "compound": ("Metadata_Compound", ""),
    "Metadata_Compound": ("Metadata_Compound", ""),
    "Drug name": ("Metadata_Compound", ""),
    "conc_uM": ("Metadata_Concentration", "uM"),
    "Concentration (µM)": ("Metadata_Concentration", "µM"),
    "Dose [mg/ml]": ("Metadata_Concentration", "mg/ml"),
    "rep": ("Metadata_Replicate", ""),
    "mmoles_per_liter": ("Metadata_mmoles_per_liter", ""),
    "Metadata_gene": ("Metadata_gene", ""),
    "Time (h)": ("Metadata_Time_h", "h"),
    "Cell line": ("Metadata_Cell_line", ""),
    "consent": ("Metadata_consent", ""),
}


@pytest.mark.parametrize(("name", "expected"), NAMED.items(), ids=NAMED.keys())
def test_names_as_profiling_has_them(name: str, expected: tuple[str, str], tmp_path: Path) -> None:
    found = columns_of(f"well,{name}\nB03,1\nC06,2\n", tmp_path)
    target, unit = expected
    assert found[target][1] == unit
    assert set(found) - {target} == ({"Metadata_Concentration_unit"} if target.endswith("tion") and unit else set())


def test_the_unit_of_a_name_stands_beside_each_concentration(tmp_path: Path) -> None:
    found = columns_of("well,drug,conc_uM\nB03,DMSO,\nC06,x,3\n", tmp_path)
    assert found["Metadata_Concentration_unit"] == ("string", "", [None, "uM"])
    kept = columns_of("well,conc,unit\nB03,1,nM\nC06,3,mM\n", tmp_path)
    assert kept["Metadata_Concentration_unit"] == ("string", "", ["nM", "mM"])


def test_the_exact_name_wins_over_another_word_for_it(tmp_path: Path) -> None:
    found = columns_of("well,drug,compound\nB03,a,b\nC06,c,d\n", tmp_path)
    assert found["Metadata_Compound"][2] == ["b", "d"]
    assert found["Metadata_drug"][2] == ["a", "c"]


CONTROLS = {
    "negcon": "negcon",
    "Negative control": "negcon",
    "neg": "negcon",
    "ctl_vehicle": "negcon",
    "DMSO": "negcon",
    "pos_control": "poscon",
    "poscon_diverse": "poscon_diverse",
    "POSCON_cp": "poscon_cp",
    "treated": "trt",
    "trt_cp": "trt",
    "blank": "empty",
}


@pytest.mark.parametrize(("word", "kind"), CONTROLS.items(), ids=CONTROLS.keys())
def test_controls_are_known_by_the_words_that_are_used(word: str, kind: str, tmp_path: Path) -> None:
    found = columns_of(f"well,control_type\nB03,{word}\nC06,\n", tmp_path)
    assert found["Metadata_control_type"] == ("string", "", [kind, None])


def test_a_control_by_another_word_stays_and_is_named(tmp_path: Path) -> None:
    layout = read_layout(written(tmp_path, "well,control type\nB03,mystery\nC06,trt\nD06,trt\n"), PLATE)
    assert layout.of("B03") == {"Metadata_control_type": "mystery"}
    assert "Metadata_control_type has 'mystery', which is no kind of control" in layout.warnings[0]


def test_perturbation_types_fill_the_control_types_that_are_not_given(tmp_path: Path) -> None:
    text = "well,pert_type,control_type\nB03,control,poscon_cp\nC06,trt,\n"
    found = columns_of(text, tmp_path)
    assert found["Metadata_pert_type"][2] == ["control", "trt"]
    assert found["Metadata_control_type"][2] == ["poscon_cp", "trt"]
    alone = columns_of("well,pert_type\nB03,ctl_vehicle\nC06,trt_cp\n", tmp_path)
    assert alone["Metadata_control_type"] == ("string", "", ["negcon", "trt"])


def test_a_dose_that_is_text_is_named(tmp_path: Path) -> None:
    layout = read_layout(written(tmp_path, "well,dose\nB03,1\nC06,10 uM\nD06,2\n"), PLATE)
    assert "Metadata_Concentration is text, since C06 has '10 uM'" in layout.warnings[0]


REFUSED = {
    "wells that are none": (
        "well,x\nB03,1\nfoo,2\nZZ9,3\n",
        ["line 3: 'foo' is not a well", "line 4: 'ZZ' is not a plate row"],
    ),
    "a well of a larger plate": ("well,x\nB03,1\nQ25,2\n", ["names the well Q25, not in a plate of 96 wells"]),
    "a well with two values": (
        "well,drug\nB03,a\nC06,b\nb3,c\n",
        ["B03 is there more than once: drug is 'a' (line 2) and 'c' (line 4)"],
    ),
    "a well and other coordinates": ("well,row,col,x\nB03,B,4,1\n", ["line 2: well B03, but row B and column 4"]),
    "a name twice": ("well,x,x\nB03,1,2\n", ["line 1: several columns are called 'x'"]),
    "a cell too many": ("well,drug\nB03,2,4-dinitrophenol\n", ["line 2: more cells than the 2 columns that line 1"]),
    "a column of the tables' own": ("well,Object_Count\nB03,3\n", ["'Object_Count' would be Metadata_Object_Count"]),
    "two grids without labels": (grid({"A01": 1}) + "\n" + grid({"A01": 2}), ["begins in line 1 has no label"]),
    "two grids with one label": (
        grid({"A01": 1}, corner="x") + grid({"A01": 2}, corner="x"),
        ["2 grids have the label 'x'"],
    ),
    "no layout": ("name,value\na,1\n", ["is not a plate layout: found 'name', 'value' in its first line"]),
    "nothing": ("", ["is empty"]),
    "another plate's": (
        "Metadata_Plate,well,x\nP7,B03,1\n",
        ["its column Metadata_Plate has no plate 00123; found P7"],
    ),
    "an open quotation mark": ('well,x\nB03,"a\n', ["cannot be cut into columns"]),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused_with_every_fault(text: str, said: Sequence[str], tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(LayoutError) as refused:
        read_layout(path, PLATE)
    assert [words for words in (*said, str(path)) if words not in str(refused.value)] == []


def xls(path: Path) -> None:
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512))


def half_a_workbook(path: Path) -> None:
    openpyxl.Workbook().save(path)
    path.write_bytes(path.read_bytes()[:-60])


def another_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "no workbook")


def swelling(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", bytes(250_000_000))


def picture(path: Path) -> None:
    path.write_bytes(b"II*\x00" + bytes(range(256)))


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "an old workbook": (xls, "is an old Excel workbook"),
    "half a workbook": (half_a_workbook, "cannot be read as an Excel workbook"),
    "another archive": (another_archive, "cannot be read as an Excel workbook"),
    "a workbook that swells": (swelling, "unpacks to 250,000,000 bytes"),
    "a picture": (picture, "neither text nor an Excel workbook"),
    "a directory without a map": (Path.mkdir, "is a directory without barcode_platemap.csv"),
    "nothing": (lambda path: None, "There is no layout"),
}


@pytest.mark.parametrize(("make", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_table_is_refused_by_its_name(make: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    path = tmp_path / "layout.xlsx"
    make(path)
    with pytest.raises(LayoutError, match=said) as refused:
        read_layout(path, PLATE)
    assert str(path) in str(refused.value)


def test_wells_without_a_match_are_named(tmp_path: Path) -> None:
    layout = read_layout(written(tmp_path, "well,x\nB03,1\nA01,2\nA02,3\nC06,\n"), PLATE)
    said = " ".join(layout.warnings)
    assert "2 wells (A01, A02) of it were not imaged" in said
    assert "2 wells (C06, D06) were imaged and not in it" in said


def test_a_format_that_was_inferred_does_not_refuse_a_layout(tmp_path: Path) -> None:
    plate = replace(PLATE, expected_from="regularity")
    layout = read_layout(written(tmp_path, "well,x\nB03,1\nC06,1\nD06,1\nP24,2\n"), plate)
    assert "names the well P24, not in a plate of 96 wells; the format is inferred" in " ".join(layout.warnings)
    assert layout.wells["P24"] == {"Metadata_x": 2}


def test_a_layout_of_several_plates_is_read_for_one(tmp_path: Path) -> None:
    text = "plate,well,x\n00123,B03,1\n00123,C06,1\n00123,D06,1\nP7,B03,2\n"
    layout = read_layout(written(tmp_path, text), PLATE)
    assert layout.wells == {well: {"Metadata_x": 1} for well in ("B03", "C06", "D06")}
    assert layout.warnings == ()


def test_excels_own_encodings_are_read_and_the_doubtful_one_is_said(tmp_path: Path) -> None:
    text = "well,dose (µM)\nB03,1\nC06,2\nD06,3\n"
    for encoding, warnings in (("utf-8-sig", 0), ("utf-16", 0), ("cp1252", 1)):
        layout = read_layout(written(tmp_path, text, encoding=encoding), PLATE)
        assert [c.unit for c in layout.columns] == ["µM", ""]
        assert len(layout.warnings) == warnings


def test_the_same_treatments_have_the_same_hash_whatever_the_file(tmp_path: Path) -> None:
    first = read_layout(written(tmp_path, SAME["a list with commas"], "a.csv"), PLATE)
    second = read_layout(written(tmp_path, SAME["one line of a well twice"], "b.csv"), PLATE)
    other = read_layout(written(tmp_path, SAME["a list with commas"].replace("taxol", "Taxol"), "c.csv"), PLATE)
    assert first.sha256 == second.sha256 != other.sha256
