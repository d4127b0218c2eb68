"""Simulated plates: the vendors' own structure, the same pixels and truth in each, the same plate from a seed."""

from __future__ import annotations

import csv
import importlib
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr

from hcs_nuclei.errors import OutputError, SettingsError
from hcs_nuclei.plate import PLATE_FORMATS, parse_well, well_name
from hcs_nuclei.simulate import PLATE_LAYOUTS, SimulatedPlate, simulate_plate
from hcs_nuclei.simulate.design import design_wells, plate_region
from hcs_nuclei.sources import open_plate, read_image

EVERY_FORMAT = sorted(PLATE_LAYOUTS)
#: How each format numbers its first field.
FIRST_FIELD = {
    "imagexpress": 1,
    "operetta": 1,
    "cellvoyager": 1,
    "cellomics": 0,
    "incell": 1,
    "scanr": 1,
    "ome-tiff": 1,
    "operetta-4": 1,
    "operetta-6": 1,
    "operetta-7": 1,
    "columbus": 1,
    "imagexpress-raw": 1,
    "imagexpress-hcsai": 0,
    "cq1": 1,
    "ome-zarr": 0,
    "ome-zarr-0.4": 0,
}
#: Formats that are variants of one vendor's.
VENDORS = {name: "operetta" for name in ("operetta-4", "operetta-6", "operetta-7", "columbus")}
VENDORS |= {"ome-zarr-0.4": "ome-zarr", "cq1": "cellvoyager"}
VENDORS |= {name: "imagexpress" for name in ("imagexpress-raw", "imagexpress-hcsai")}
#: Where the number of a field and of a channel stand in the image files' names, and how a well is named in them.
IMAGE_NAMES = {
    "imagexpress": r"SIM-0001_(?P<well>[A-Z]\d\d)_s(?P<field>\d)_w(?P<channel>\d)\.TIF",
    "operetta": r"r(?P<row>\d\d)c(?P<column>\d\d)f(?P<field>\d\d)p01-ch(?P<channel>\d)sk1fk1fl1\.tiff",
    "cellvoyager": r"SIM-0001_(?P<well>[A-Z]\d\d)_T0001F(?P<field>\d{3})L01A\d\dZ01C(?P<channel>\d\d)\.tif",
    "cellomics": r"SIM-0001_(?P<well>[A-Z]\d\d)f(?P<field>\d\d)d(?P<channel>\d)\.tif",
    "incell": r"(?P<well>[A-Z] - \d\d)\(fld (?P<field>\d) wv (?P<channel>DAPI|FITC) - (?:DAPI|FITC)\)\.tif",
    "scanr": r"(?P<well>[A-Z]\d+)--W\d{5}--P(?P<field>\d{5})--Z00000--T00000--(?P<channel>DAPI|FITC)\.tif",
    "ome-tiff": r"SIM-0001_(?P<well>[A-Z]\d\d)\.ome\.tiff",
    "imagexpress-raw": r"SIM-0001_(?P<well>[A-Z]\d\d)_s(?P<field>\d)_w(?P<channel>\d)[0-9A-F-]{36}\.tif",
    "imagexpress-hcsai": r"SIM-0001_t0_(?P<well>[A-Z]\d\d)_s(?P<field>\d)_w(?P<channel>\d)_z0\.tif",
    "cq1": r"W(?P<number>\d{4})F(?P<field>\d{4})T0001Z001C(?P<channel>\d)\.tif",
    "columbus": r"(?P<row>\d{3})(?P<column>\d{3})-1-(?P<field>\d{3})001(?P<channel>\d{3})\.tif",
}
IMAGE_NAMES["operetta-4"] = IMAGE_NAMES["operetta"]
for later in ("operetta-6", "operetta-7"):
    IMAGE_NAMES[later] = r"r(?P<row>\d\d)c(?P<column>\d\d)f(?P<field>\d\d)p01-ch(?P<channel>\d\d)t01\.tiff"


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SimulatedPlate]:
    """The same small plate (6 wells, 2 fields) in every format."""
    out = tmp_path_factory.mktemp("plates")
    return {name: simulate_plate(out / name, format=name, wells=6, fields=2, size=128, seed=7) for name in EVERY_FORMAT}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _pixels(plate: SimulatedPlate, vendor: str) -> dict[tuple[str, int, int], npt.NDArray[np.uint16]]:
    """Every image by well name, field and channel, both counted from 0 whatever the vendor does."""
    if vendor.startswith("ome-zarr"):
        return _stored_pixels(plate.directory)
    images = {}
    for path in plate.directory.rglob("*"):
        match = re.fullmatch(IMAGE_NAMES[vendor], path.name)
        if match is None:
            continue
        names = match.groupdict()
        if "number" in names:  # counted row by row on 96 wells
            where = ((int(names["number"]) - 1) // 12 + 1, (int(names["number"]) - 1) % 12 + 1)
        else:
            where = parse_well(names["well"]) if "well" in names else (int(names["row"]), int(names["column"]))
        first = FIRST_FIELD[vendor]
        if "field" not in names:  # a well's fields one after another, a page for each of two channels
            with tifffile.TiffFile(path) as tiff:
                for number, page in enumerate(tiff.pages):
                    images[well_name(*where), number // 2, number % 2] = page.asarray()
            continue
        known = {"DAPI": 0, "FITC": 1}.get(names["channel"])
        channel = int(names["channel"]) - first if known is None else known
        images[well_name(*where), int(names["field"]) - first, channel] = tifffile.imread(path)
    return images


def _stored_pixels(store: Path) -> dict[tuple[str, int, int], npt.NDArray[np.uint16]]:
    """Every image of an OME-Zarr plate, as zarr reads its arrays of level 0."""
    images = {}
    for group in store.glob("[A-Z]/[0-9][0-9]/[0-9]"):
        row, column, field = group.parts[-3:]
        array = np.asarray(zarr.open_array(group / "0", mode="r")[...])
        for channel, image in enumerate(array.reshape(-1, *array.shape[-2:])):
            images[f"{row}{column}", int(field), channel] = image
    return images


# --- the design of a plate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wells", "region"),
    [
        (1, (96, 2, 2, 1, 1)),
        (2, (96, 2, 2, 1, 2)),
        (6, (96, 2, 2, 2, 3)),
        (24, (96, 2, 2, 4, 6)),
        (60, (96, 2, 2, 6, 10)),
        (96, (96, 1, 1, 8, 12)),
        (384, (384, 1, 1, 16, 24)),
        (1536, (1536, 1, 1, 32, 48)),
    ],
)
def test_wells_lie_in_the_smallest_sensible_region(wells: int, region: tuple[int, int, int, int, int]) -> None:
    assert plate_region(wells) == region


def test_every_number_of_wells_up_to_a_full_plate_has_a_design() -> None:
    for wells in (*range(1, 110), 384, 1000, 1536):
        design = design_wells(wells)
        rows, columns = PLATE_FORMATS[plate_region(wells)[0]]
        places = [(w.row, w.column) for w in design]
        assert len(set(places)) == wells
        assert places == sorted(places)
        assert max(w.row for w in design) <= rows
        assert max(w.column for w in design) <= columns
        treatments = Counter((w.compound, w.concentration_um, w.replicate) for w in design)
        assert set(treatments.values()) == {1}, f"{wells} wells: a replicate twice"
        assert sum(w.density == 0 for w in design) == (wells >= 24)


@pytest.mark.parametrize("wells", [0, -3, 1537])
def test_no_plate_has_so_many_wells(wells: int) -> None:
    with pytest.raises(SettingsError, match="expected 1 to 1536"):
        design_wells(wells)


def test_higher_doses_leave_fewer_cells_and_more_of_them_positive() -> None:
    design = [w for w in design_wells(96) if w.density > 0]
    for compound in ("compound-A", "compound-B"):
        series = sorted((w.concentration_um, w.density, w.phenotype.positive) for w in design if w.compound == compound)
        doses, densities, positives = zip(*series, strict=True)
        assert len(set(doses)) == 10
        assert list(densities) == sorted(densities, reverse=True)
        assert list(positives) == sorted(positives)
        assert densities[0] > 0.95
        assert densities[-1] < 0.3


# --- a plate on disk ---------------------------------------------------------------------------------------------


def test_same_pixels_in_every_format(plates: dict[str, SimulatedPlate]) -> None:
    reference = _pixels(plates["imagexpress"], "imagexpress")
    assert len(reference) == 6 * 2 * 2
    for vendor in EVERY_FORMAT:
        images = _pixels(plates[vendor], vendor)
        assert images.keys() == reference.keys()
        for key, image in images.items():
            assert image.dtype == np.uint16
            np.testing.assert_array_equal(image, reference[key], err_msg=f"{vendor} {key}")


@pytest.mark.parametrize("vendor", EVERY_FORMAT)
def test_every_format_is_read_back_plane_by_plane(plates: dict[str, SimulatedPlate], vendor: str) -> None:
    reference = _pixels(plates["imagexpress"], "imagexpress")
    plate = open_plate(plates[vendor].directory)
    for well in plate:
        for index, field in enumerate(well.fields):
            for channel, token in enumerate(c.token for c in plate.channels):
                image = read_image(plate.root, field.planes_of(token, 0))
                np.testing.assert_array_equal(image, reference.pop((well.name, index, channel)))
    assert not reference


def test_same_truth_in_every_format_but_for_field_numbers(plates: dict[str, SimulatedPlate]) -> None:
    reference = plates["imagexpress"].truth
    for vendor in EVERY_FORMAT:
        truth = plates[vendor].truth
        for table in ("wells.csv", "layout.csv"):
            assert (truth / table).read_bytes() == (reference / table).read_bytes()
        shift = 1 - FIRST_FIELD[vendor]
        rows = [row | {"field": str(int(row["field"]) + shift)} for row in _rows(truth / "nuclei.csv")]
        assert rows == _rows(reference / "nuclei.csv")


def test_same_seed_gives_the_same_bytes_and_another_seed_another_plate(tmp_path: Path) -> None:
    first, again, other = (
        simulate_plate(tmp_path / name, wells=2, size=160, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    for one, two in ((first.directory, again.directory), (first.truth, again.truth)):
        files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
        assert files == sorted(p.relative_to(two) for p in two.rglob("*") if p.is_file())
        for file in files:
            assert (one / file).read_bytes() == (two / file).read_bytes(), file
    assert (first.truth / "nuclei.csv").read_bytes() != (other.truth / "nuclei.csv").read_bytes()


@pytest.mark.parametrize("vendor", EVERY_FORMAT)
def test_labels_and_tables_of_the_truth_agree(plates: dict[str, SimulatedPlate], vendor: str) -> None:
    truth = plates[vendor].truth
    nuclei = _rows(truth / "nuclei.csv")
    assert set(nuclei[0]) == {"well", "field", "label", "y", "x", "area", "class", "dna_content", "positive"}
    label_files = sorted((truth / "labels").iterdir())
    assert len(label_files) == 12
    for path in label_files:
        well, field = path.stem.split("_f")
        labels = tifffile.imread(path)
        here = [n for n in nuclei if (n["well"], n["field"]) == (well, field)]
        assert [int(n["label"]) for n in here] == list(range(1, int(labels.max()) + 1))
        assert [int(n["area"]) for n in here] == np.bincount(labels.ravel())[1:].tolist()
    counts = Counter(n["well"] for n in nuclei)
    assert {w["well"]: int(w["nuclei_count"]) for w in _rows(truth / "wells.csv")} == counts
    layout = _rows(plates[vendor].layout)
    assert [row["well_position"] for row in layout] == ["B02", "B03", "B04", "C02", "C03", "C04"]
    assert [row["control_type"] for row in layout] == ["negcon", "trt", "poscon"] * 2


@pytest.mark.parametrize("vendor", EVERY_FORMAT)
def test_open_plate_finds_everything(plates: dict[str, SimulatedPlate], vendor: str) -> None:
    plate = open_plate(plates[vendor].directory)
    assert plate.vendor == VENDORS.get(vendor, vendor)
    assert plate.name == "SIM-0001"
    assert [well.name for well in plate] == ["B02", "B03", "B04", "C02", "C03", "C04"]
    first = FIRST_FIELD[vendor]
    assert {tuple(field.number for field in well.fields) for well in plate} == {(first, first + 1)}
    assert list(plate.missing_planes()) == []
    assert plate.warnings == ()
    silent = {"cellomics": ["d0", "d1"], "cq1": ["C01", "C02"]}
    assert [c.name for c in plate.channels] == silent.get(vendor, ["DAPI", "FITC"])
    assert plate.pixel_size_um == (None if vendor == "cellomics" else pytest.approx(0.65))
    assert plate.wells_in_format == 96
    assert plate.expected_from == ("regularity" if vendor in {"cellomics", "imagexpress-raw"} else "metadata")


@pytest.mark.parametrize("vendor", EVERY_FORMAT)
def test_one_field_and_one_channel_make_a_plate_too(tmp_path: Path, vendor: str) -> None:
    simulated = simulate_plate(tmp_path, format=vendor, wells=1, size=64, channels=("Hoechst 33342",))
    plate = open_plate(simulated.directory)
    assert [(w.name, [f.number for f in w.fields]) for w in plate] == [("B02", [FIRST_FIELD[vendor]])]
    assert list(plate.missing_planes()) == []
    assert len(plate.channels) == 1


@pytest.mark.parametrize(
    "vendor",
    [
        "imagexpress",
        "imagexpress-raw",
        "imagexpress-hcsai",
        "operetta",
        "operetta-7",
        "columbus",
        "cellvoyager",
        "cq1",
        "ome-zarr",
        "ome-zarr-0.4",
    ],
)
def test_stage_positions_run_from_left_to_right_and_from_top_to_bottom(tmp_path: Path, vendor: str) -> None:
    simulated = simulate_plate(tmp_path, format=vendor, wells=1, fields=4, size=100)
    positions = [field.position_um for field in open_plate(simulated.directory).wells[0].fields]
    assert positions == [
        pytest.approx(p, abs=0.06) for p in [(-32.5, -32.5), (32.5, -32.5), (-32.5, 32.5), (32.5, 32.5)]
    ]


def test_five_sites_fill_a_grid_row_by_row(tmp_path: Path) -> None:
    simulated = simulate_plate(tmp_path, wells=1, fields=5, size=64)
    htd = next(simulated.directory.glob("*.HTD")).read_text("latin-1")
    assert '"XSites", 3\n"YSites", 2\n"SiteSelection1", TRUE, TRUE, TRUE\n"SiteSelection2", TRUE, TRUE, FALSE\n' in htd
    plate = open_plate(simulated.directory)
    assert [field.number for field in plate.wells[0].fields] == [1, 2, 3, 4, 5]
    assert list(plate.missing_planes()) == []


def test_one_treated_well_of_24_is_empty(tmp_path: Path) -> None:
    simulated = simulate_plate(tmp_path, wells=24, size=64)
    rows = _rows(simulated.truth / "wells.csv")
    assert [(r["well"], r["control_type"]) for r in rows if r["well"] == "E03"] == [("E03", "trt")]
    assert next(r["nuclei_count"] for r in rows if r["well"] == "E03") == "0"
    assert not tifffile.imread(simulated.truth / "labels" / "E03_f1.tif").any()


def test_progress_is_told_and_nothing_but_plate_and_truth_stays(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    simulated = simulate_plate(tmp_path, wells=2, fields=2, size=64, progress=lambda *now: told.append(now))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert set(tmp_path.iterdir()) == {simulated.directory, simulated.truth}
    assert not any("truth" in p.name or p.suffix == ".csv" for p in simulated.directory.rglob("*"))


def test_an_interruption_leaves_nothing_and_the_next_call_succeeds(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_plate(tmp_path, wells=2, size=64, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".SIM-0001.simulating" / "plate" / "SIM-0001_Plate_1001").mkdir(parents=True)
    simulated = simulate_plate(tmp_path, wells=2, size=64)
    assert set(tmp_path.iterdir()) == {simulated.directory, simulated.truth}


def test_a_plate_that_is_there_already_is_refused_and_stays(tmp_path: Path) -> None:
    simulated = simulate_plate(tmp_path, wells=1, size=64)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    with pytest.raises(OutputError, match=r"there already.*another --out"):
        simulate_plate(tmp_path, wells=1, size=64)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    assert simulated.directory.is_dir()


def test_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OutputError, match="cannot write the simulated plate SIM-0001"):
        simulate_plate(tmp_path / "file", wells=1, size=64)
    assert (tmp_path / "file").read_text() == "precious"


def test_all_wrong_settings_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        simulate_plate(
            tmp_path, format="polaroid", fields=0, size=10, seed=-1, channels=("DAPI", "DAPI"), name="../escape"
        )
    for word in ("polaroid", "imagexpress", "0 fields", "10 px", "seed -1", "DAPI, DAPI", "../escape"):
        assert word in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# --- compared with what the vendors write ------------------------------------------------------------------------


def test_metaxpress_metadata_use_no_key_that_a_real_export_lacks(
    plates: dict[str, SimulatedPlate], shared_data: Path
) -> None:
    real = shared_data / "plates" / "imagexpress-exported" / "9987_Plate_3434"

    def htd_keys(root: Path) -> list[str]:
        return re.findall(r'^"(\w+)"', next(root.glob("*.HTD")).read_text("latin-1"), flags=re.MULTILINE)

    def properties(path: Path) -> set[tuple[str, str | None, str | None]]:
        with tifffile.TiffFile(path) as tiff:
            root = ElementTree.fromstring(tiff.pages[0].description)  # type: ignore[union-attr]
        return {(e.tag, e.get("id"), e.get("type")) for e in root.iter()}

    simulated = plates["imagexpress"].directory
    assert set(htd_keys(simulated)) <= set(htd_keys(real))
    ours = properties(simulated / "TimePoint_1" / "SIM-0001_B02_s1_w1.TIF")
    assert len(ours) > 30
    assert ours <= properties(real / "TimePoint_1" / "ZStep_0" / "9987_B02_s1_w1.TIF")


def test_harmony_index_has_the_elements_of_a_real_one(plates: dict[str, SimulatedPlate], shared_data: Path) -> None:
    def elements(root: Path) -> list[tuple[str, list[tuple[str, str | None]]]]:
        tree = ElementTree.parse(root / "Images" / "Index.idx.xml").getroot()
        return [
            (e.tag, [(c.tag, c.get("Unit")) for c in e]) for e in tree.iter() if e.tag.endswith("}Image") and len(e)
        ]

    real, ours = (
        elements(root)[0]
        for root in (shared_data / "plates" / "operetta" / "operetta_plate", plates["operetta"].directory)
    )
    assert ours[0] == real[0], "the same namespace, so the same version"
    # The camera's mounting means nothing for a simulated one.
    assert ours[1] == [child for child in real[1] if not child[0].endswith("OrientationMatrix")]


@pytest.mark.parametrize("name", ["MeasurementData.mlf", "MeasurementDetail.mrf"])
def test_cellvoyager_records_have_the_attributes_of_real_ones(
    plates: dict[str, SimulatedPlate], shared_data: Path, name: str
) -> None:
    def attributes(root: Path) -> dict[str, list[str]]:
        return {e.tag: list(e.attrib) for e in ElementTree.parse(next(root.rglob(name))).getroot().iter()}

    assert attributes(plates["cellvoyager"].directory) == attributes(shared_data / "plates" / "cellvoyager")


@pytest.mark.parametrize(("format_name", "version"), [("ome-zarr", "v05"), ("ome-zarr-0.4", "v04")])
def test_ome_zarr_plates_are_valid(plates: dict[str, SimulatedPlate], format_name: str, version: str) -> None:
    specification = importlib.import_module(f"ome_zarr_models.{version}")
    store = plates[format_name].directory
    plate = specification.HCS.from_zarr(zarr.open_group(store, mode="r"))
    about = plate.ome_attributes if version == "v05" else plate.attributes
    assert [well.path for well in about.plate.wells] == ["B/02", "B/03", "B/04", "C/02", "C/03", "C/04"]
    for well in about.plate.wells:
        for field in ("0", "1"):
            specification.Image.from_zarr(zarr.open_group(store / well.path / field, mode="r"))
