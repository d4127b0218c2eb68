"""The report of a run: its numbers are the tables', its outlines the label images', and no request leaves the file."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from outputs_samples import MEASURED, field_row, make_plate
from report_pages import Page, record
from report_samples import layout_of, write_run
from skimage.segmentation import find_boundaries

from hcs_nuclei.errors import OutputError
from hcs_nuclei.outputs import (
    finish_tables,
    read_fields,
    read_level,
    read_nuclei,
    read_wells,
    report_columns,
    well_table_path,
    write_well,
)
from hcs_nuclei.outputs.provenance import (
    Calibration,
    ChannelIllumination,
    Illumination,
    write_record,
)
from hcs_nuclei.outputs.report import write_report
from hcs_nuclei.outputs.report_columns import well_columns_of
from hcs_nuclei.outputs.report_heatmap import compact, number

NAME = "<b>P&1"
#: Nuclei by well in fields 1 and 2; None is a field that cannot be read.
COUNTS: dict[str, tuple[int | None, int | None]] = {
    "A01": (12, 9),
    "A02": (None, None),
    "A03": (4, 16),
    "B01": (5, None),
    "B02": (16, 16),
    "B03": (0, 0),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reported run without ``run.json``: six wells, one empty, one failed, one with a failed field."""
    plate = make_plate(tuple(COUNTS), name=NAME, acquisition="17")
    run = write_run(tmp_path_factory.mktemp("runs") / "run", plate, dict(COUNTS))
    write_report(run)
    return run


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def test_page_is_one_well_formed_document(page: Page) -> None:
    ids = [e.attributes["id"] for e in page.every if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    targets = {e.attributes["href"] for e in page.every if e.tag == "a"}
    assert targets == {"#gallery"}
    assert {e.attributes["data-open"] for e in page.every if e.tag == "a"} == set(COUNTS)
    assert targets <= {f"#{name}" for name in ids}
    assert page.every[0].tag == "html"
    assert [e.text for e in page.every if e.tag == "h1"] == [NAME]


def test_no_request_leaves_the_page(run: Path, page: Page) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    loaded = [
        e.attributes[name] for e in page.every for name in ("src", "href", "srcset", "data") if name in e.attributes
    ]
    assert all(address.startswith(("data:image/", "#", "data:,")) for address in loaded)
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert not [e for e in page.every if e.tag in {"iframe", "object", "embed", "base", "form"}]
    # The policy forbids them, so they would do nothing.
    assert not [name for e in page.every for name in e.attributes if name == "style" or name.startswith("on")]
    (policy,) = (e for e in page.every if e.attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.attributes["content"].startswith("default-src 'none'; img-src data:;")


def test_totals_are_those_of_the_tables(run: Path, page: Page) -> None:
    fields = read_fields(run)
    assert page.of_id("total-nuclei").text == str(int(fields["Metadata_Object_Count"].sum())) == "78"
    assert page.of_id("total-fields").text == "9 of 12"
    assert page.of_id("total-wells").text == "5 of 6"
    assert page.of_class("verdict")[0].text.strip() == "2 of 6 wells with faults: 1 not measured at all, 1 incomplete"


@pytest.mark.parametrize("well", COUNTS)
def test_values_of_a_well_are_those_of_the_well_table(run: Path, page: Page, well: str) -> None:
    data, values = page.data(), page.values()
    table = read_wells(run)
    row = table.set_index("Metadata_Well").loc[well]
    index = data["wells"].index(well)
    assert page.well(well).attributes["data-index"] == str(index)
    numeric = set(table.columns[table.notna().any()]) & {
        name for name in table if table[name].dtype.kind in "ifb" and name[9:] not in {"Row", "Column", "Timepoint"}
    }
    # Counts of classes are whole numbers with gaps, so that pandas has them as objects or floats: all are shown.
    assert numeric <= set(values)
    factors = {"px": 0.5, "px²": 0.25}
    units = {f.name: (f.metadata or {}).get(b"unit", b"").decode() for f in pq.read_schema(run / "wells.parquet")}
    for column in data["columns"]:
        name = column["name"]
        fraction = units[name] == "0-1" and "Fraction" in name
        wanted = float(row[name]) * (100 if fraction else factors.get(units[name], 1))
        shown = float(values[name][0, index])
        if column["whole"]:
            assert shown == wanted or np.isnan([shown, wanted]).all()
        np.testing.assert_allclose(shown, wanted, rtol=2e-5, err_msg=name)
    if row["status"] != "failed":
        assert [e.text for e in page.well(well).inside if e.tag == "text"] == [compact(row["Metadata_Density_per_mm2"])]
        assert f"{int(row['Metadata_Object_Count'])} nuclei" in data["words"][0][index]


def test_counts_agree_from_the_label_images_to_the_report(run: Path, page: Page) -> None:
    nuclei, fields, wells = read_nuclei(run), read_fields(run), read_wells(run).set_index("Metadata_Well")
    shown = dict(zip(page.data()["wells"], page.values()["Metadata_Object_Count"][0].tolist(), strict=True))
    for well, counts in COUNTS.items():
        measured = [site for site, count in enumerate(counts, start=1) if count is not None]
        labels = [read_level(run / "plate.ome.zarr", well, site, labels=True)[0] for site in measured]
        in_images = [len(np.unique(of_field[of_field > 0])) for of_field in labels]
        rows = nuclei[nuclei["Metadata_Well"] == well]
        assert in_images == [int((rows["Metadata_Field"] == site).sum()) for site in measured]
        of_well = fields[fields["Metadata_Well"] == well].set_index("Metadata_Field")["Metadata_Object_Count"]
        assert in_images == of_well.dropna().astype(int).tolist()
        if measured:
            assert sum(in_images) == wells.loc[well, "Metadata_Object_Count"] == shown[well]
        else:
            assert np.isnan(shown[well])
    assert page.of_id("total-nuclei").text == str(len(nuclei))


def test_columns_stand_in_groups_with_units_and_meanings(page: Page) -> None:
    columns = {column["name"]: column for column in page.data()["columns"]}
    first = columns["Metadata_Density_per_mm2"]
    assert (first["label"], first["unit"], first["group"]) == ("Density", "nuclei/mm²", "Main readouts")
    area = columns["MAD_Nuclei_AreaShape_Area"]
    assert (area["label"], area["unit"], area["group"]) == ("MAD Area", "µm²", "MAD: AreaShape")
    assert "number of pixels" in area["meaning"]
    focus = columns["Metadata_QC_OutOfFocus_Fields"]
    assert (focus["label"], focus["group"]) == ("Out of focus fields", "Quality flags")
    assert columns["Metadata_Count_Mitotic"]["group"] == "Classes and gates"
    groups = [column["group"] for column in page.data()["columns"]]
    assert len(list(itertools.groupby(groups))) == len(set(groups))
    # The layout of this run is silent, so nothing is held against controls; text columns are not for a colour scale.
    assert not {name for name in columns if name.startswith(("PercentOfControl_", "Metadata_Plate", "error"))}


def test_colours_follow_the_values(page: Page) -> None:
    data, density = page.data(), page.values()["Metadata_Density_per_mm2"][0]
    palette = data["palettes"]["one"]
    for well, value in zip(data["wells"], density, strict=True):
        if not np.isnan(value):
            wanted = palette[round(255 * float(value) / float(np.nanmax(density)))]
            assert page.well(well).inside[0].attributes["fill"] == wanted
    assert (palette[0], palette[-1]) == ("#440154", "#fde725")


def test_columns_of_too_many_values_are_said_to_be_left_out(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pq.read_table(run / "wells.parquet").sort_by("Metadata_Well")
    every = well_columns_of(table, [], 0.5)
    monkeypatch.setattr(report_columns, "_MOST_VALUES", 6 * 10)
    few = well_columns_of(table, [], 0.5)
    assert [c.name for c in few.columns] == [c.name for c in every.columns[:10]]
    left = len(every.columns) - 10
    assert (few.too_many, every.too_many) == (left, 0)
    copy = shutil.copytree(run, tmp_path / "run")
    page = Page(write_report(copy).read_text(encoding="utf-8"))
    said = f"{every.without_values} columns without any value, {left} that would make the report too large"
    assert said in page.of_id("left-out").text
    assert len(page.values()) == 10


def test_failed_empty_and_incomplete_wells_look_different(page: Page) -> None:
    classes = {well: page.well(well).attributes["class"].split()[1] for well in COUNTS}
    assert classes == {
        "A01": "measured",
        "A02": "failed",
        "A03": "measured",
        "B01": "partial",
        "B02": "measured",
        "B03": "empty",
    }
    css = next(e.text for e in page.every if e.tag == "style")
    assert ".well.failed rect { fill: url(#hatch)" in css
    assert page.of_id("hatch").tag == "pattern"
    assert not page.pictures("A02", "image")
    assert page.data()["words"][0][1].startswith("A02: not measured")
    assert page.pictures("B03", "image")
    assert not page.pictures("B03", "outlines")[0][..., 3].any()


def test_every_fault_stands_in_the_table(run: Path, page: Page) -> None:
    rows = [e for e in page.of_id("faults").inside if e.tag == "tr"][1:]
    shown = [[cell.text for cell in row.inside if cell.tag == "td"] for row in rows]
    faulty = read_fields(run).query("status != 'ok'")
    columns = [faulty[name].astype(str) for name in ("Metadata_Well", "Metadata_Field", "status", "error")]
    assert shown == [list(row) for row in zip(*columns, strict=True)]
    assert [row[:2] for row in shown] == [["A02", "1"], ["A02", "2"], ["B01", "2"]]


@pytest.mark.parametrize("well", ["A01", "B02"])
def test_outlines_are_the_boundaries_of_the_label_image(run: Path, page: Page, well: str) -> None:
    # The field is smaller than an enlarged picture, so that one shows all of it, pixel by pixel.
    labels = read_level(run / "plate.ome.zarr", well, 1, labels=True)[0]
    drawn = page.pictures(well, "outlines")[1]
    np.testing.assert_array_equal(drawn[..., 3] > 0, find_boundaries(labels, connectivity=1, mode="inner"))


def test_same_run_gives_the_same_bytes_and_an_untouched_file(run: Path) -> None:
    path = run / "report.html"
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert write_report(run) == path
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert len(before[0]) < 500_000


def test_histograms_hold_the_whole_nuclei(run: Path, page: Page) -> None:
    nuclei = read_nuclei(run, columns=["Metadata_QC_TouchesEdge", "Nuclei_AreaShape_Area"], units="um")
    areas = nuclei.loc[~nuclei["Metadata_QC_TouchesEdge"], "Nuclei_AreaShape_Area"].to_numpy()
    first = page.of_class("histogram")[1].text
    assert f"{len(areas)} nuclei that count" in first
    assert f"median {number(float(np.median(areas)))}" in first


def test_provenance_comes_from_the_record_alone(run: Path, page: Page, tmp_path: Path) -> None:
    assert not [e for e in page.every if e.attributes.get("id") == "provenance-title"]
    copy = shutil.copytree(run, tmp_path / "run")
    write_record(copy, record(make_plate(tuple(COUNTS), name=NAME)))
    with_record = Page(write_report(copy).read_text(encoding="utf-8"))
    text = with_record.every[0].text
    for words in (
        "Channel <Cy5> is not there.",
        "nuclei-1",
        "abcdef012345",
        "/plates/P1",
        "algorithm 7",
        "channel: </pre>",
    ):
        assert words in text
    # 24 wells are drawn, and the channel that the record calls nuclear is the one that is shown.
    assert len(with_record.of_class("unexpected")) == 24 - 6 + 1
    assert "Median_Nuclei_Intensity_IntegratedIntensity_FITC" in [
        column["name"] for column in with_record.data()["columns"] if column["group"] == "Main readouts"
    ]
    # How and when a run ended must not change its report: it is written before that is known.
    bytes_before = (copy / "report.html").read_bytes()
    write_record(copy, record(make_plate(tuple(COUNTS), name=NAME), finished="2026-01-02T04:04:05Z"))
    assert write_report(copy).read_bytes() == bytes_before


def test_what_was_done_about_uneven_light_is_said_for_each_channel(run: Path, tmp_path: Path) -> None:
    corrected = ChannelIllumination(
        token="w1",
        source="vendor",
        origin="Images/Index.idx.xml",
        gain=(1.0, 0.1),
        dark=(0.0,),
        lowest_gain=0.95,
        highest_gain=1.05,
    )
    left = ChannelIllumination(token="w2", source="none", origin="Images/Index.idx.xml has no flat-field profile of it")
    light = Illumination(method="auto", channels=(corrected, left))
    calibration = Calibration(diameter_px=20.5, diameter_from="estimate", saturation=4095, illumination=light)
    plate = make_plate(tuple(COUNTS), name=NAME)
    names = {channel.token: channel.name for channel in plate.channels}
    assert {"w1", "w2"} <= names.keys()
    copy = shutil.copytree(run, tmp_path / "run")
    write_record(copy, record(plate, calibration=calibration))
    text = Page(write_report(copy).read_text(encoding="utf-8")).every[0].text
    assert (
        f"{names['w1']}: corrected by the instrument's own profile (Images/Index.idx.xml); light from 95% to 105% of "
        "its mean"
    ) in text
    assert f"{names['w2']}: not corrected: Images/Index.idx.xml has no flat-field profile of it" in text
    write_record(copy, record(plate))
    assert "illumination is off" in Page(write_report(copy).read_text(encoding="utf-8")).every[0].text


def test_time_points_are_chosen_from(tmp_path: Path) -> None:
    plate = make_plate(("A01", "A02"), fields=1, timepoints=2)
    run = tmp_path / "run"
    (run / "nuclei").mkdir(parents=True)
    for well in ("A01", "A02"):
        rows = [field_row(plate, well, 1, None if (well, t) == ("A02", 1) else 0, t) for t in (0, 1)]
        write_well(well_table_path(run, well), nuclei=[], fields=rows, fingerprint="f", measured=MEASURED)
    finish_tables(run, plate, MEASURED)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    data = json.loads(page.of_id("data").text)
    assert [e.text for e in page.of_id("timepoint").inside] == ["0", "1"]
    assert data["states"] == [["empty", "empty"], ["empty", "failed"]]
    assert page.of_id("total-wells").text == "2 of 2"
    assert page.of_class("verdict")[0].text.strip() == "1 of 2 wells with faults: 1 incomplete"


def test_without_its_images_a_run_still_has_a_report(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copy / "plate.ome.zarr")
    page = Page(write_report(copy).read_text(encoding="utf-8"))
    assert page.of_id("gallery").text.count("No picture: no field was measured, or the run directory holds no images.")
    assert not page.pictures("A01", "image")


def test_a_directory_of_runs_is_refused(run: Path) -> None:
    with pytest.raises(OutputError, match="expected one run"):
        write_report(run.parent)


def test_a_plate_whose_every_well_failed_has_a_report(tmp_path: Path) -> None:
    doses = {f"B{column:02d}": ("trt", "a", float(column)) for column in range(1, 6)}
    layout = layout_of({"A01": ("negcon", "DMSO", 0.0), "A02": ("poscon", "kill", 1.0), **doses})
    wells = ("A01", "A02", *doses)
    run = write_run(tmp_path / "run", make_plate(wells), {well: (None, None) for well in wells}, layout=layout)
    write_report(run)
    assert "4 of each are needed" in (run / "report.html").read_text(encoding="utf-8")
    statistics = pq.read_table(run / "statistics.parquet").column("Metadata_Readout").unique().to_pylist()
    assert "Metadata_Density_per_mm2" in statistics, "no field was measured, which says nothing of the size of a pixel"
