"""What a plate looks like in words and as data: what is expected, what is there, and what is wrong with it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile

from hcs_nuclei.plate import Channel, Field, Plane, Plate, Well
from hcs_nuclei.simulate import PLATE_LAYOUTS, simulate_plate
from hcs_nuclei.sources import check_files, inspection, open_plate, render_inspection


def plate_of(wells: list[Well], wells_in_format: int = 96, warnings: tuple[str, ...] = ()) -> Plate:
    return Plate(
        root=Path("/data/P"),
        vendor="imagexpress",
        reason="it holds P.HTD",
        name="P",
        acquisition="77",
        wells=tuple(wells),
        channels=(Channel("w1", "DAPI"), Channel("w2", "FITC")),
        wells_in_format=wells_in_format,
        warnings=warnings,
    )


def well(row: int, column: int, *paths: str, error: str = "") -> Well:
    """A well of one field for each two paths: DAPI, FITC."""
    planes = [Plane(f"w{1 + i % 2}", path, error="" if path else error) for i, path in enumerate(paths)]
    return Well(row, column, tuple(Field(1 + i // 2, tuple(planes[i : i + 2])) for i in range(0, len(planes), 2)))


def test_the_map_shows_each_state() -> None:
    plate = plate_of([well(1, 1, "a", "b"), well(1, 2, "a", ""), well(2, 3, "", "")], warnings=("No Cy5.",))
    text = render_inspection(inspection(plate))
    rows = {line[:2].strip(): line[4:].split() for line in text.splitlines() if line.startswith((" A ", " B ", " C "))}
    assert rows["A"] == ["●", "◐", *"·" * 10]
    assert rows["B"] == ["·", "·", "○", *"·" * 9]
    assert "A02  field 1 FITC" in text
    assert "B03  field 1: nothing is there" in text
    assert "P, acquisition 77" in text
    assert "3 of 6 expected" in text
    assert text.endswith("Warnings\n  No Cy5.")


def test_fields_with_the_same_gap_are_one_line_with_the_instruments_words() -> None:
    plate = plate_of([well(1, 1, "", "b", "", "b", "a", "b", error="AF Error at A01")])
    assert "A01  field 1-2 DAPI: AF Error at A01" in render_inspection(inspection(plate))


def test_the_layout_and_the_barcode_that_a_run_would_have_are_told() -> None:
    seen = inspection(plate_of([well(1, 1, "a", "b")]))
    assert "Treatments" not in render_inspection(seen)
    text = render_inspection({**seen, "layout": None, "barcodes": {"list": "plates.txt", "barcodes": 4, "known": True}})
    assert "Treatments   none: no layout lies in the plate's directory, and none is named" in text
    assert "Barcode      P is on the list plates.txt (4 barcodes)\n" in text
    columns = ["Metadata_Compound", "Metadata_Concentration"]
    layout = {"source": "L.xml", "origin": "vendor", "columns": columns, "wells": 6, "warnings": ["Layout L.xml: odd."]}
    text = render_inspection({**seen, "layout": layout, "barcodes": {"list": "l", "barcodes": 1, "known": False}})
    assert "Treatments   L.xml, in the plate's directory: Compound, Concentration of 6 wells" in text
    assert "P is not on the list l (1 barcodes): a run would hold it" in text
    assert text.endswith("Warnings\n  Layout L.xml: odd.")


def test_many_gaps_are_cut_short() -> None:
    plate = plate_of([well(row, column, "a", "") for row in range(1, 9) for column in range(1, 13)])
    text = render_inspection(inspection(plate))
    assert "Missing: 96 planes" in text
    assert "… and 76 more wells" in text
    assert len(text.splitlines()) < 50


@pytest.mark.parametrize("wells", [6, 12, 24, 48, 96, 384, 1536])
def test_every_format_fits_its_width(wells: int) -> None:
    plate = plate_of([well(1, 1, "a", "b")], wells)
    lines = render_inspection(inspection(plate), width=80).splitlines()
    map_lines = [line for line in lines if line.startswith("  ") or line[:3].strip().isalpha()]
    assert all(len(line) <= 80 for line in map_lines)
    assert (" AF  " in "\n".join(lines)) == (wells == 1536) or "AF  " in "\n".join(lines)


def test_the_data_name_every_missing_plane() -> None:
    seen = inspection(plate_of([well(27, 48, "a", "")], 1536))
    assert seen["missing"] == [
        {
            "well": "AA48",
            "field": 1,
            "channel": "w2",
            "timepoint": 0,
            "z": 0,
            "projection": False,
            "error": "",
            "file": "",
        }
    ]
    assert (seen["expected_planes"], seen["found_planes"]) == (2, 1)
    assert (seen["rows"], seen["columns"], seen["format"]) == (32, 48, 1536)


# --- exactly what is promised and not there ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_plate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The same 6 wells with 2 fields and 2 channels in the format asked for."""
    out = tmp_path_factory.mktemp("whole").resolve()
    return cache(lambda name: simulate_plate(out / name, format=name, wells=6, fields=2, size=64).directory)


def planes_by_file(plate: Plate) -> dict[str, set[tuple[str, int, str]]]:
    """(well, field, channel) of the planes in each file."""
    files: dict[str, set[tuple[str, int, str]]] = {}
    for well in plate:
        for site in well.fields:
            for plane in site.planes:
                files.setdefault(plane.path, set()).add((well.name, site.number, plane.channel))
    return files


@dataclass(frozen=True)
class Loss:
    """What is taken away from a whole plate of a format."""

    format: str
    what: str

    def files(self, plate: Plate) -> list[str]:
        """The files of `plate` that go."""
        files = planes_by_file(plate)
        if self.what == "a well":
            return [file for file, planes in files.items() if {well for well, _, _ in planes} == {plate.wells[2].name}]
        if self.what == "a channel":
            token = plate.channels[1].token
            return [file for file, planes in files.items() if {channel for _, _, channel in planes} == {token}]
        rng = random.Random(self.format)
        return rng.sample(sorted(files), rng.randint(1, len(files) // 2))


#: Nothing says which wells there should be, and no file is of one channel alone (chunks: test_sources_ome_zarr.py).
BY_REGULARITY, CHANNELS_TOGETHER = {"cellomics", "imagexpress-raw"}, {"ome-tiff", "ome-zarr", "ome-zarr-0.4"}
LOSSES = [
    Loss(name, what)
    for name in PLATE_LAYOUTS
    for what, without in (("some files", set()), ("a well", BY_REGULARITY), ("a channel", CHANNELS_TOGETHER))
    if name not in without
]


def test_there_are_enough_incomplete_plates() -> None:
    with_metadata = [loss for loss in LOSSES if loss.format not in BY_REGULARITY]
    assert len(with_metadata) + len(FAILURES) >= 20
    assert {loss.format for loss in LOSSES} == set(PLATE_LAYOUTS)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.format} without {loss.what}")
def test_an_incomplete_plate_lacks_exactly_what_was_taken_away(
    loss: Loss, whole_plate: Callable[[str], Path], tmp_path: Path
) -> None:
    clean = whole_plate(loss.format)
    whole = open_plate(clean)
    files = planes_by_file(whole)
    lost = loss.files(whole)
    assert lost
    gone = set().union(*(files[file] for file in lost))
    copy = Path(shutil.copytree(clean, tmp_path / clean.name))
    inside = copy / whole.root.relative_to(clean.resolve())
    for file in lost:
        shutil.rmtree(inside / file) if (inside / file).is_dir() else (inside / file).unlink()
    plate = open_plate(copy)
    seen = inspection(plate, check_files(plate))
    absent = {absence["channel"]: absence["planes"] for absence in seen["absent"]}
    missing = {(plane["well"], plane["field"], plane["channel"]) for plane in seen["missing"]}
    missing |= {plane for planes in files.values() for plane in planes if plane[2] in absent}
    if plate.expected_from == "regularity" and len(plate.channels) < len(whole.channels):
        # Nothing promises the channel that is not there at all.
        assert {channel for _, _, channel in gone - missing} == {whole.channels[1].token}
        return
    assert missing == gone
    assert sum(absent.values()) == sum(channel in absent for _, _, channel in gone)
    assert seen["fault_counts"]["missing"] == len(seen["missing"])
    named = {plane["file"] for plane in seen["missing"]} - {""}
    assert named <= set(lost)
    assert sum(seen["fault_counts"].values()) == len(seen["missing"])


@dataclass(frozen=True)
class Failure:
    """An acquisition failure of field 2 of C03: what its record says beside the well, and which planes it costs."""

    says: dict[str, int]
    words: str
    costs: frozenset[tuple[int, str]]
    lost_too: tuple[int, str] | None = None


FAILURES = {
    "a channel of a field": Failure({"FieldIndex": 2, "Ch": 1}, "AF Error at C03", frozenset({(2, "C01")})),
    "a field": Failure({"FieldIndex": 2}, "AF Error at C03", frozenset({(2, "C01"), (2, "C02")})),
    "a well, as instruments write it": Failure(
        {"PartialTileIndex": 1},
        "AF Error at C03 No. 0 (SAMPLE_PLATE_000000_000000)",
        frozenset((field, channel) for field in (1, 2) for channel in ("C01", "C02")),
    ),
    "a field, and a file is lost": Failure(
        {"FieldIndex": 2}, "Stage error", frozenset({(2, "C01"), (2, "C02")}), lost_too=(1, "C02")
    ),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
@pytest.mark.parametrize("name", ["cellvoyager", "cq1"])
def test_failures_of_the_instrument_are_told_with_its_words(
    name: str, failure: Failure, whole_plate: Callable[[str], Path], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(whole_plate(name), tmp_path / "P"))
    files = {(s.number, p.channel): p.path for s in open_plate(copy).well("C03").fields for p in s.planes}
    root = open_plate(copy).root
    data = next(copy.rglob("MeasurementData.mlf"))
    failed = {files[plane] for plane in failure.costs}
    lines = [line for line in data.read_text(encoding="utf-8").splitlines() if not any(f"{f}<" in line for f in failed)]
    says = "".join(f' bts:{key}="{value}"' for key, value in failure.says.items())
    record = (
        f'<bts:MeasurementRecord bts:Type="ERR" bts:Time="2024-01-09T10:00:00" bts:Column="3" bts:Row="3" '
        f'bts:TimePoint="1"{says} bts:X="-20.0" bts:Y="25.0">{failure.words}</bts:MeasurementRecord>'
    )
    data.write_text("\n".join([*lines[:-1], record, lines[-1]]), encoding="utf-8")
    for file in failed | ({files[failure.lost_too]} if failure.lost_too else set()):
        (root / file).unlink()
    plate = open_plate(copy)
    seen = inspection(plate, check_files(plate))
    told = {(m["well"], m["field"], m["channel"]): (m["error"], m["file"]) for m in seen["missing"]}
    expected = {("C03", *plane): (failure.words, files[plane]) for plane in failure.costs}
    if failure.lost_too:
        expected["C03", *failure.lost_too] = ("", files[failure.lost_too])
    assert told == expected
    assert seen["expected_planes"] == 24
    assert sum(seen["fault_counts"].values()) == len(told)
    assert failure.words in render_inspection(seen)


def test_the_real_plate_whose_htd_promises_more(shared_data: Path) -> None:
    plate = open_plate(shared_data / "plates" / "imagexpress-exported" / "9987_Plate_3434")
    seen = inspection(plate, check_files(plate))
    assert (seen["expected_planes"], seen["found_planes"], seen["faults"]) == (36, 36, [])
    sure = [a for a in seen["absent"] if a["certain"]]
    assert [(a["channel"], a["name"], a["planes"]) for a in sure] == [("w4", "Cy5", 12)]
    perhaps = [(a["name"], a["z"], a["planes"]) for a in seen["absent"] if not a["certain"]]
    assert perhaps == [("DAPI", 3, 4), ("FITC", 3, 4), ("Texas Red", 3, 4)]
    assert "36 of 36 expected from the instrument's metadata; 12 more are promised" in render_inspection(seen)


# --- files that are there and not as they should be --------------------------------------------------------------


@pytest.fixture
def imaged(whole_plate: Callable[[str], Path], tmp_path: Path) -> Path:
    """A plate of ImageXpress to be damaged; returns the folder with its images."""
    return Path(shutil.copytree(whole_plate("imagexpress"), tmp_path / "SIM-0001_Plate_1001")) / "TimePoint_1"


def faults(folder: Path, headers: int = 2000) -> list[tuple[str, str, int, str, str]]:
    found = check_files(open_plate(folder), headers=headers)
    return [(f.kind, f.well, f.field, f.channel, f.path.rpartition("/")[2]) for f in found.faults]


def test_each_kind_of_fault_has_its_place_and_its_file(imaged: Path) -> None:
    def image(well: str, site: int, wave: int) -> Path:
        return imaged / f"SIM-0001_{well}_s{site}_w{wave}.TIF"

    image("B02", 1, 1).write_bytes(b"")
    content = image("B02", 2, 1).read_bytes()
    image("B02", 2, 1).write_bytes(content[:-100])
    tifffile.imwrite(image("B03", 1, 1), np.zeros((60, 64), np.uint16))
    tifffile.imwrite(image("B03", 1, 2), np.zeros((64, 64), np.uint8))
    image("B03", 2, 2).write_text("no image")
    image("B04", 1, 1).unlink()
    shutil.copy(image("B04", 2, 2), imaged / "SIM-0001_B04_s2_w2AEA5F7A4-0D36-4A29-9F5A-BE62B6F7F73F.TIF")
    shutil.copy(image("C03", 1, 1), image("H11", 1, 1))
    found = faults(imaged)
    assert [f for f in found if f[1] != "H11"] == [
        ("zero-byte", "B02", 1, "w1", "SIM-0001_B02_s1_w1.TIF"),
        ("truncated", "B02", 2, "w1", "SIM-0001_B02_s2_w1.TIF"),
        ("wrong-size", "B03", 1, "w1", "SIM-0001_B03_s1_w1.TIF"),
        ("wrong-type", "B03", 1, "w2", "SIM-0001_B03_s1_w2.TIF"),
        ("wrong-type", "B03", 2, "w2", "SIM-0001_B03_s2_w2.TIF"),
        ("missing", "B04", 1, "w1", "SIM-0001_B04_s1_w1.TIF"),
        ("duplicate", "B04", 2, "w2", "SIM-0001_B04_s2_w2AEA5F7A4-0D36-4A29-9F5A-BE62B6F7F73F.TIF"),
    ]
    assert ("extra", "H11", 1, "w1", "SIM-0001_H11_s1_w1.TIF") in found
    plate = open_plate(imaged)
    seen = inspection(plate, check_files(plate))
    assert [seen["well_status"][w] for w in ("B02", "B03", "B04", "C02")] == [
        *["damaged"] * 2,
        "incomplete",
        "complete",
    ]
    text = render_inspection(seen)
    assert " B  ·  ×  ×  ◐" in text
    assert "most of its channel are 64 × 64 pixels of 16 bits (inferred from the regularity of the plate)" in text
    for kind in ("Empty files: 1", "Truncated or damaged: 1", "Of another size: 1", "There more than once: 1"):
        assert kind in text


def test_few_tags_are_read_and_no_cut_file_of_an_uncompressed_plate_is_overlooked(imaged: Path) -> None:
    cut = imaged / "SIM-0001_C02_s2_w1.TIF"
    cut.write_bytes(cut.read_bytes()[:-100])
    text = imaged / "SIM-0001_C04_s1_w2.TIF"
    text.write_text("no image")
    (imaged / "SIM-0001_B02_s1_w1.TIF").write_bytes(b"")
    assert [f[0] for f in faults(imaged, headers=4)] == ["zero-byte", "truncated", "wrong-type"]
    found = check_files(open_plate(imaged), headers=4)
    assert (found.files, found.images) == (24, 23)
    assert found.headers <= 8


def test_a_file_that_goes_after_it_was_listed_is_missing(imaged: Path) -> None:
    plate = open_plate(imaged)
    (imaged / "SIM-0001_B02_s1_w1.TIF").unlink()
    (fault,) = check_files(plate).faults
    assert (fault.kind, fault.path) == ("missing", "TimePoint_1/SIM-0001_B02_s1_w1.TIF")
    assert "No such file" in fault.error
