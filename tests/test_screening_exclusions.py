"""Exclusions: who, when and why, of which wells and fields; a file that does not fit is refused with every fault."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from outputs_samples import make_plate

from hcs_nuclei.errors import LayoutError
from hcs_nuclei.screening.exclusions import Exclusion, read_exclusions

PLATE = replace(make_plate(("B03", "C04", "AA05"), fields=3), name="P1")


def written(folder: Path, text: str) -> Path:
    path = folder / "exclusions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_wells_and_fields_with_reason_who_and_when(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "plate,well,field,reason,who,when\n"
        "P1,b3,,tip blocked,A. Ruiz,2026-03-02\n"
        "P2,H12,9,of another plate,,\n"
        ",AA5,2,bubble,,\n"
        "P1,AA05,,edge,,\n"
        "\n",
    )
    found = read_exclusions(path, PLATE)
    assert found.entries == (
        Exclusion("B03", None, "tip blocked", "A. Ruiz", "2026-03-02"),
        Exclusion("AA05", 2, "bubble"),
        Exclusion("AA05", None, "edge"),
    )
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.reasons("B03"), found.reasons("B03", 2), found.reasons("C04", 2)) == ("tip blocked",) * 2 + ("",)
    assert (found.reasons("AA05"), found.reasons("AA05", 2)) == ("edge", "bubble; edge")
    assert (found.who("B03", 2), found.when("B03", 2)) == ("A. Ruiz", "2026-03-02")
    assert (found.who("AA05", 2), found.when("C04", 1)) == ("", "")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_plate_field_who_and_when_may_be_left_out(tmp_path: Path, delimiter: str) -> None:
    path = written(tmp_path, f"Reason{delimiter}Well\nbubble{delimiter}C04\n")
    assert read_exclusions(path, PLATE).entries == (Exclusion("C04", None, "bubble"),)


def test_a_line_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    path = written(tmp_path, "well,reason\nC04,bubble\nC4,bubble\nC04,scratch\n")
    assert read_exclusions(path, PLATE).reasons("C04") == "bubble; scratch"


def test_a_file_about_other_plates_excludes_nothing(tmp_path: Path) -> None:
    assert read_exclusions(written(tmp_path, "plate,well,reason\nP9,H12,bubble\n"), PLATE).entries == ()


def test_every_fault_is_named(tmp_path: Path) -> None:
    path = written(
        tmp_path, "well,field,reason\nH12,,bubble\nB03,7,bubble\nB03,all,bubble\nC04,2,\nnowhere,,bubble\nC04,1,fine\n"
    )
    with pytest.raises(LayoutError) as caught:
        read_exclusions(path, PLATE)
    assert str(caught.value).splitlines()[1:] == [
        "  line 2: the plate has no well H12",
        "  line 3: B03 has no field 7; it has 1, 2, 3",
        "  line 4: 'all' is no field; expected a number, or nothing for the whole well B03",
        "  line 5: no reason is given for C04 field 2",
        "  line 6: 'nowhere' is not a well; expected a name such as B03 or AF48",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [("well,note\nB03,x\n", "'well', 'note'"), ("B03,x\nC04,y\n", "'b03', 'x'"), ("", "is empty")],
)
def test_a_file_without_wells_and_reasons_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        read_exclusions(written(tmp_path, text), PLATE)
    with pytest.raises(LayoutError, match="cannot be read"):
        read_exclusions(tmp_path / "absent.csv", PLATE)
