"""Layouts that are found by a plate's barcode or in the plate's own directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from layout_samples import PLATE, values_of, written

from hcs_nuclei.errors import LayoutError
from hcs_nuclei.layouts import check_barcode, read_layout, read_vendor_layout
from hcs_nuclei.plate import Plate
from hcs_nuclei.sources import open_plate


@pytest.fixture
def platemaps(tmp_path: Path) -> Path:
    """Metadata as cytomining keeps them: a map of barcodes, and plate maps in a folder."""
    folder = tmp_path / "metadata"
    written(folder, "Assay_Plate_Barcode,Plate_Map_Name\n00123,map-1\nP7,map-2\nP8,gone\nP9,../map-1\n", _BARCODES)
    rows = "plate_map_name\twell_position\tbroad_sample\tmmoles_per_liter\n"
    rows += "".join(
        f"map-1\t{well}\t{name}\t10\n" for well, name in (("B03", "BRD-K1"), ("C06", ""), ("D06", "BRD-K2"))
    )
    written(folder, rows, "platemap/map-1.txt")
    written(folder, "well_position,broad_sample\nB03,other\n", "platemap/map-2.csv")
    return folder


_BARCODES = "barcode_platemap.csv"


@pytest.mark.parametrize("name", ["", _BARCODES])
def test_a_map_of_barcodes_leads_to_the_plates_map(name: str, platemaps: Path) -> None:
    layout = read_layout(platemaps / name, PLATE)
    assert layout.source == f"{platemaps / 'platemap' / 'map-1.txt'} (by {_BARCODES})"
    assert layout.of("C06") == {
        "Metadata_plate_map_name": "map-1",
        "Metadata_broad_sample": None,
        "Metadata_mmoles_per_liter": 10,
    }
    other = read_layout(platemaps, replace(PLATE, name="P7"))
    assert other.wells == {"B03": {"Metadata_broad_sample": "other"}}


@pytest.mark.parametrize(
    ("plate", "said"),
    [
        ("P1", r"Plate P1 is not in .*barcode_platemap\.csv; found 4 barcodes: 00123, P7, P8, P9"),
        ("P8", r"plate P8 has the plate map gone, which is not there"),
        ("P9", r"calls the plate map of P9 '\.\./map-1'; expected a plain file name"),
    ],
)
def test_a_barcode_without_a_plate_map_is_named(plate: str, said: str, platemaps: Path) -> None:
    with pytest.raises(LayoutError, match=said):
        read_layout(platemaps, replace(PLATE, name=plate))


BARCODE_LISTS = {
    "lines": "# the screen\n00123\nP7\n",
    "a column": "batch,Barcode\n1,00123\n2,P7\n",
    "a map of plate maps": "Assay_Plate_Barcode\tPlate_Map_Name\n00123\tm\nP7\tm\n",
}


@pytest.mark.parametrize("text", BARCODE_LISTS.values(), ids=BARCODE_LISTS.keys())
def test_a_plate_that_is_not_on_the_list_is_held(text: str, tmp_path: Path) -> None:
    path = written(tmp_path, text, "barcodes.txt")
    check_barcode(path, "00123")
    with pytest.raises(LayoutError, match=r"Plate 123 is held: .*barcodes\.txt \(2 barcodes: 00123, P7\)"):
        check_barcode(path, "123")


def assay_layout(layers: Mapping[str, Mapping[tuple[int, int], str]], head: str = "") -> str:
    parts = [
        f"<Layer><Name>{name}</Name><ValueType>string</ValueType>"
        + "".join(
            f"<Well><Row>{row}</Row><Col>{column}</Col><Value>{value}</Value><Color>1</Color></Well>"
            for (row, column), value in wells.items()
        )
        + "</Layer>"
        for name, wells in layers.items()
    ]
    body = f"<PlateCols>12</PlateCols><PlateRows>8</PlateRows>{''.join(parts)}"
    return f'{head}<AssayLayout xmlns="http://www.perkinelmer.com/PEHH/HarmonyV5">{body}</AssayLayout>'


@pytest.fixture
def vendors(tmp_path: Path) -> Plate:
    """A plate with one layout of Harmony's in its directory."""
    layers = {"Compound": {(2, 3): "DMSO", (3, 6): "taxol", (4, 6): "taxol"}, "Concentration": {(3, 6): "0.5"}}
    written(tmp_path, "\ufeff" + assay_layout(layers), "Assaylayout/Set1.xml")
    return replace(PLATE, root=tmp_path, metadata_files=("Index.idx.xml", "Assaylayout/Set1.xml"))


def test_harmonys_layout_is_found_beside_the_images(vendors: Plate) -> None:
    layout = read_vendor_layout(vendors)
    assert layout is not None
    assert (layout.source, layout.origin, layout.warnings) == ("Assaylayout/Set1.xml", "vendor", ())
    assert values_of(layout) == {"B03": ["DMSO", None], "C06": ["taxol", 0.5]}


def test_a_plate_without_a_layout_has_none() -> None:
    assert read_vendor_layout(PLATE) is None


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def bomb(path: Path) -> None:
    entities = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    path.write_text(assay_layout({"Compound": {(2, 3): "&b;"}}, entities))


def leave(path: Path) -> None:
    outside = path.parents[1].with_name(f"{path.parents[1].name}-outside.xml")
    os.replace(path, outside)
    path.symlink_to(outside)


def swap(path: Path) -> None:
    path.write_text("<Other/>")


def misplace(path: Path) -> None:
    path.write_text(assay_layout({"Compound": {(20, 3): "x", (0, 1): "y"}}))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (cut_short, "is not complete XML"),
    "emptied": (lambda path: path.write_bytes(b""), "is not complete XML"),
    "a bomb": (bomb, "declares a document type or entities"),
    "a link that leaves the plate": (leave, "is a link that leaves the plate directory"),
    "another file": (swap, "holds Other; expected Harmony's AssayLayout"),
    "wells that are none": (misplace, "row 0 is not on a plate"),
    "gone": (Path.unlink, "There is no layout"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_layout_of_the_vendor_costs_no_plate(
    damage: Callable[[Path], object], said: str, vendors: Plate
) -> None:
    damage(vendors.root / "Assaylayout" / "Set1.xml")
    layout = read_vendor_layout(vendors)
    assert layout is not None
    assert (layout.columns, layout.wells) == ((), {})
    assert "The layout in the plate's directory is not used" in layout.warnings[0]
    assert said in layout.warnings[0]
    assert "Set1.xml" in layout.warnings[0]


def test_several_layouts_of_the_vendor_that_differ_are_named(vendors: Plate) -> None:
    written(vendors.root, assay_layout({"Compound": {(2, 3): "other"}}), "Assaylayout/Set2.xml")
    both = replace(vendors, metadata_files=("Assaylayout/Set1.xml", "Assaylayout/Set2.xml"))
    layout = read_vendor_layout(both)
    assert layout is not None
    assert layout.columns == ()
    assert "several layouts (Assaylayout/Set1.xml, Assaylayout/Set2.xml); none is used" in layout.warnings[0]


def test_the_real_layout_is_read_and_empty(shared_data: Path) -> None:
    layout = read_vendor_layout(open_plate(shared_data / "plates" / "operetta" / "operetta_plate"))
    assert layout is not None
    assert (layout.source, layout.columns, layout.warnings) == ("Assaylayout/Unnamed.xml", (), ())
