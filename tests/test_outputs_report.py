"""The report of a run: its numbers are the tables', its outlines the label images', and no request leaves the file."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import shutil
import zlib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import pytest
from outputs_samples import MEASURED, field_row, make_plate
from PIL import Image
from report_samples import blobs, layout_of, write_run
from skimage.segmentation import find_boundaries

from hcs_nuclei.columns import field_flags
from hcs_nuclei.errors import OutputError
from hcs_nuclei.outputs import (
    WellWriter,
    begin_store,
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
    ChannelRecord,
    Illumination,
    ModelRecord,
    RunRecord,
    Source,
    write_record,
)
from hcs_nuclei.outputs.report import write_report
from hcs_nuclei.outputs.report_columns import well_columns_of
from hcs_nuclei.outputs.report_gallery import make_gallery, spending
from hcs_nuclei.outputs.report_heatmap import colours, compact, number, robust_limits
from hcs_nuclei.outputs.report_histogram import dna_histogram, histogram
from hcs_nuclei.plate import Plate
from hcs_nuclei.settings import Settings

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
VOID = {"meta", "link", "img", "input", "br", "hr"}


def record(plate: Plate, **other: Any) -> RunRecord:
    """A record of a run of that plate, as it stands on a 24-well plate."""
    settings = Settings(channel="</pre>")
    content: dict[str, Any] = {
        "algorithm_version": 7,
        "hcs_nuclei_version": "0.1.0",
        "versions": {"numpy": "2.4"},
        "plate": plate.name,
        "acquisition": plate.acquisition,
        "source": Source(
            directory="/plates/P1",
            vendor="imagexpress",
            reason="P1.HTD",
            expected_from="metadata",
            metadata_files=("P1.HTD",),
            wells_in_format=24,
            wells=6,
            fields=12,
            timepoints=1,
            pixel_size_um=0.5,
        ),
        "channels": tuple(
            ChannelRecord(token=c.token, name=c.name, column=c.column_name, nuclear=c.name == "FITC")
            for c in plate.channels
        ),
        "settings": settings,
        "settings_fingerprint": settings.fingerprint(),
        "model": ModelRecord(name="nuclei-1", identifier="abcdef012345", sha256="abcdef" * 10, architecture="unet"),
        "calibration": Calibration(diameter_px=20.5, diameter_from="estimate", saturation=4095),
        "warnings": ("Channel <Cy5> is not there.",),
        "started": "2026-01-02T03:04:05Z",
    }
    return RunRecord(**{**content, **other})


@dataclass
class Element:
    """An element of the page: tag, attributes, and the text in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    inside: list[Element] = field(default_factory=list)


class Page(HTMLParser):
    """A page whose elements all end where they should; `every` holds them in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.every: list[Element] = []
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {[e.tag for e in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        for outer in self._open:
            outer.inside.append(element)
        self.every.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop().tag == tag, f"</{tag}> at {self.getpos()} closes another element"

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def of_id(self, name: str) -> Element:
        (found,) = (e for e in self.every if e.attributes.get("id") == name)
        return found

    def of_class(self, name: str, tag: str = "") -> list[Element]:
        return [e for e in self.every if name in e.attributes.get("class", "").split() and tag in ("", e.tag)]

    def well(self, name: str) -> Element:
        """The well's place on the plate map."""
        (found,) = (e for e in self.of_class("well", "a") if e.attributes["data-open"] == name)
        return found

    def data(self) -> dict[str, Any]:
        """What the page's script is given."""
        found: dict[str, Any] = json.loads(self.of_id("data").text)
        return found

    def values(self) -> dict[str, npt.NDArray[np.float32]]:
        """By column of the well table its values [time point, well], as the page's script unpacks them."""
        data = self.data()
        planes = np.frombuffer(zlib.decompress(base64.b64decode(self.of_id("values").text)), np.uint8)
        shape = (len(data["columns"]), len(data["timepoints"]), len(data["wells"]))
        values = np.ascontiguousarray(planes.reshape(4, -1).T).view("<f4").reshape(shape)
        return {column["name"]: of_column for column, of_column in zip(data["columns"], values, strict=True)}

    def pictures(self, well: str, kind: str) -> list[npt.NDArray[np.uint8]]:
        """The well's pictures, ``image`` or ``outlines``, of each field the small one first: (y, x, 4)."""
        held = [e for e in self.every if e.attributes.get("id") == f"pictures-{well}"]
        fields = json.loads(held[0].text) if held else []
        sizes = [field[size] for field in fields for size in ("small", "large") if field[size]]
        return [picture_of(size[kind], "RGBA") for size in sizes]


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


def test_scale_is_not_stretched_by_an_outlier() -> None:
    values = np.array([*range(100), 5000.0, np.nan])
    low, high = robust_limits(values, amount=False)
    assert (low, high) == tuple(np.percentile(values[:-1], (2, 98)))
    assert robust_limits(values, amount=True) == (0, high)
    assert robust_limits(values[-5:-1], amount=False) == (97, 5000)
    assert robust_limits(np.array([np.nan]), amount=True) == (0, 0)
    palette = [f"#{i:06x}" for i in range(256)]
    assert colours(np.array([0.0, 5, 10, 50, np.nan]), (0, 10), palette) == [
        *(palette[i] for i in (0, 128, 255, 255)),
        None,
    ]


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


def test_all_wells_are_shown_with_one_contrast(tmp_path: Path) -> None:
    plate = make_plate(("A01", "A02"), fields=1)
    store = tmp_path / "plate.ome.zarr"
    begin_store(store, plate)
    image, labels = blobs(16, seed=1)
    for well, factor in zip(plate.wells, (2, 1), strict=True):
        with WellWriter(store, well, channel=plate.channels[0], pixel_size_um=0.5, timepoints=1) as writer:
            writer.add_field(1, (image * factor).astype(np.uint16), labels)
            writer.commit("f")
    gallery = make_gallery(store, field_table(plate), {}, 20.0, 0.5)
    shown = [picture_of(gallery.exposures[well][0].large.image) for well in ("A01", "A02")]  # type: ignore[union-attr]
    for pixels, factor in zip(shown, (2, 1), strict=True):
        wanted = np.clip((image[0] * float(factor) - gallery.black) / (gallery.white - gallery.black), 0, 1) * 255
        assert abs(pixels[labels[0] > 0].mean() - wanted[labels[0] > 0].mean()) < 3


def test_a_lonely_nucleus_is_in_the_picture(tmp_path: Path) -> None:
    plate = make_plate(("A01",), fields=1)
    labels = np.zeros((1, 1600, 1600), dtype=np.uint32)
    labels[0, 1500:1530, 40:70] = 9
    begin_store(tmp_path / "s", plate)
    with WellWriter(
        tmp_path / "s", plate.wells[0], channel=plate.channels[0], pixel_size_um=None, timepoints=1
    ) as writer:
        writer.add_field(1, labels.astype(np.uint16) * 100, labels)
        writer.commit("f")
    exposure = make_gallery(tmp_path / "s", field_table(plate), {}, 30.0, None).exposures["A01"][0]
    assert exposure.large is not None
    assert (picture_of(exposure.large.outlines, "RGBA")[..., 3] > 0).sum() == 4 * 29
    assert (exposure.small.width, exposure.small.reduction) == (224, 2)
    assert exposure.small.bar is None


def test_pictures_are_of_the_time_point_that_was_measured(tmp_path: Path) -> None:
    plate = make_plate(("A01",), fields=1, timepoints=2)
    image, labels = blobs(8, seed=3)
    begin_store(tmp_path / "s", plate)
    with WellWriter(
        tmp_path / "s", plate.wells[0], channel=plate.channels[0], pixel_size_um=0.5, timepoints=2
    ) as writer:
        writer.add_field(1, np.concatenate([image * 0, image]), np.concatenate([labels * 0, labels]))
        writer.commit("f")
    exposure = make_gallery(tmp_path / "s", field_table(plate, first=1), {}, 20.0, 0.5).exposures["A01"][0]
    assert exposure.large is not None
    drawn = picture_of(exposure.large.outlines, "RGBA")[..., 3] > 0
    np.testing.assert_array_equal(drawn, find_boundaries(labels[0], connectivity=1, mode="inner"))


def test_pictures_of_pure_noise_stay_within_the_budget(tmp_path: Path) -> None:
    plate = make_plate(("A01",), fields=1)
    noise = np.random.default_rng(0).integers(0, 4096, (1, 1080, 1080), dtype=np.uint16)
    begin_store(tmp_path / "s", plate)
    with WellWriter(
        tmp_path / "s", plate.wells[0], channel=plate.channels[0], pixel_size_um=0.5, timepoints=1
    ) as writer:
        writer.add_field(1, noise, np.zeros(noise.shape, dtype=np.uint32))
        writer.commit("f")
    exposure = make_gallery(tmp_path / "s", field_table(plate), {}, None, 0.5).exposures["A01"][0]
    assert exposure.large is not None
    # 384 of these are 19 MB.
    assert exposure.small.characters + exposure.large.characters < 50_000


def test_the_budget_buys_fields_and_enlargements_in_a_stated_order() -> None:
    def bought(characters: float) -> dict[int, list[int]]:
        return {
            place: [size.edge for size in sizes]
            for place, sizes in spending(10, 40, fields=3, characters=characters).items()
        }

    # The first picture of a well is there whatever it takes.
    assert bought(0) == {0: [224]}
    assert bought(20) == {0: [224], 1: [224]}
    assert bought(59) == {0: [224], 1: [224]}
    assert bought(60) == {0: [224, 512], 1: [224]}
    assert bought(70) == {0: [224, 512], 1: [224], 2: [224]}
    assert bought(1000) == {0: [224, 512], 1: [224, 512], 2: [224, 512]}


def test_the_gallery_shows_the_worst_the_controls_and_the_same_wells_by_lot(tmp_path: Path) -> None:
    plate = make_plate([f"A{column:02d}" for column in range(1, 13)], fields=2)
    counts = {well.name: (3, 3) for well in plate.wells}
    kinds = {"A01": "negcon", "A12": "poscon"}
    layout = layout_of({well: (kinds.get(well, "trt"), "x", 1.0) for well in counts})
    blurred = {
        "A05": {"Metadata_QC_Saturated": True},
        "A06": {"Metadata_QC_Saturated": True, "Metadata_QC_Blank": True},
    }
    run = write_run(tmp_path / "run", plate, counts, layout=layout, field_columns=blurred)
    first, again = (Page(write_report(run).read_text(encoding="utf-8")).data()["choices"] for _ in range(2))
    assert first == again
    worst, controls, drawn = first
    assert [shot[0] for shot in worst["shots"]] == ["A06", "A06", "A05", "A05"]
    assert worst["shots"][0] == ["A06", 1, "blank, saturated"]
    assert controls["shots"] == [["A01", 1, "negcon"], ["A12", 1, "poscon"]]
    assert len({shot[0] for shot in drawn["shots"]}) == 12


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


def test_histogram_heights_are_the_shares_of_each_kind() -> None:
    values = np.array([0.5, 1.5, 1.6, 2.5, 4.9, np.nan])
    drawn = histogram("x", "px", {"negcon": values, "other wells": np.full(10, 4.9)})
    assert drawn is not None
    assert (drawn.nuclei, drawn.beyond, drawn.ticks[0], drawn.ticks[-1]) == (15, 0, (0.0, "0"), (400.0, "5"))
    line = drawn.lines[0]
    tops = [float(top) for top in re.findall(r"V([\d.]+)H", line.path)]
    shares = np.histogram(values[:5], bins=64, range=(0, 5))[0] / 5
    # All of the other wells' nuclei are in one bin, which is the full height.
    np.testing.assert_allclose(130 - np.array(tops), 130 * shares, atol=0.05)
    assert (line.kind, line.nuclei) == ("negcon", 5)
    assert histogram("x", "px", {"negcon": np.array([np.nan])}) is None


def test_dna_content_is_drawn_on_doublings() -> None:
    drawn = dna_histogram({"other wells": np.array([2.0, 2.0, 4.0, 0.1, np.nan])})
    assert drawn is not None
    assert drawn.ticks == ((0.0, "1N"), (100.0, "2N"), (200.0, "4N"), (300.0, "8N"), (400.0, "16N"))
    tops = [float(top) for top in re.findall(r"V([\d.]+)H", drawn.lines[0].path)]
    assert {place: 130 - top for place, top in enumerate(tops) if top < 130} == {16: 130.0, 32: 65.0}
    assert (drawn.nuclei, drawn.beyond) == (4, 1)


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


def field_table(plate: Plate, first: int = 0) -> pd.DataFrame:
    """A field table whose fields are measured from time point `first` on."""
    times = [time for time in range(plate.timepoints) if time >= first]
    rows = [field_row(plate, w.name, f.number, 1, time) for w in plate.wells for f in w.fields for time in times]
    flags = {column.name: False for column in field_flags()}
    return pd.DataFrame([{**flags, **row} for row in rows])


def picture_of(content: str, mode: str = "L") -> npt.NDArray[np.uint8]:
    """A picture from its base64."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert(mode))


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (-8.5e-16, "0"), (0.0, "0"), (0.25, "0.25"), (31.44, "31.4"), (1284.2, "1,284")]
)
def test_numbers_are_written_for_people(value: float | None, shown: str) -> None:
    assert number(value) == shown
