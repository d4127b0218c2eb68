"""The report of a run: its numbers are the tables', its outlines the label images', and no request leaves the file."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from outputs_samples import CHANNELS, MEASURED, field_row, identity, make_plate
from PIL import Image
from scipy import ndimage
from skimage.segmentation import find_boundaries

from hcs_nuclei.errors import OutputError
from hcs_nuclei.measurement import measure_nuclei
from hcs_nuclei.outputs import (
    WellWriter,
    begin_store,
    finish_store,
    finish_tables,
    read_fields,
    read_level,
    read_nuclei,
    read_wells,
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
from hcs_nuclei.outputs.report_gallery import Shot, make_gallery
from hcs_nuclei.outputs.report_heatmap import compact, number
from hcs_nuclei.outputs.report_histogram import histogram
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
SIZE = 240
VOID = {"meta", "link", "img", "input", "br", "hr"}
Labels = npt.NDArray[np.uint32]


def blobs(count: int, seed: int, size: int = SIZE) -> tuple[npt.NDArray[np.uint16], Labels]:
    """(t, y, x) image and labels of `count` round nuclei on a grid of 4 × 4 places, in camera counts."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    light, labels = np.zeros((size, size)), np.zeros((size, size), dtype=np.uint32)
    for place in range(count):
        radius = rng.uniform(8, 12)
        row, column = np.array(divmod(place, 4)) * size / 4 + size / 8
        distance = np.hypot(y - row, x - column)
        light += np.exp(-((distance / radius) ** 4))
        labels[distance < radius] = place + 1
    image = rng.poisson(200 + 1500 * ndimage.gaussian_filter(light, 1))
    return image.astype(np.uint16)[None], labels[None]


def write_run(run: Path, plate: Plate, counts: dict[str, Sequence[int | None]], size: int = SIZE) -> Path:
    """A finished run of one time point with these counts in fields 1, 2, … of its wells."""
    (run / "nuclei").mkdir(parents=True)
    begin_store(run / "plate.ome.zarr", plate)
    for well in plate.wells:
        rows, tables = [], []
        channel, pixel = plate.channels[0], plate.pixel_size_um
        with WellWriter(run / "plate.ome.zarr", well, channel=channel, pixel_size_um=pixel, timepoints=1) as writer:
            for site, count in enumerate(counts[well.name], start=1):
                rows.append(field_row(plate, well.name, site, count))
                if count is None:
                    continue
                image, labels = blobs(count, seed=100 * well.row + 10 * well.column + site, size=size)
                measured = measure_nuclei(labels[0], {c: image[0] for c in CHANNELS}, nuclear="DAPI", saturation=None)
                tables.append({**identity(plate, well.name, site), "Metadata_Confidence": 0.5, **measured})
                rows[-1] |= {"Metadata_Height": size, "Metadata_Width": size}
                writer.add_field(site, image, labels)
            writer.commit("f")
        write_well(well_table_path(run, well.name), nuclei=tables, fields=rows, fingerprint="f", measured=MEASURED)
    finish_store(run / "plate.ome.zarr", plate)
    finish_tables(run, plate, MEASURED)
    return run


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

    def pictures(self, well: str, kind: str) -> list[npt.NDArray[np.uint8]]:
        """The well's pictures of class `kind`, the small one first: (y, x, 4)."""
        images = [e for e in self.of_id(f"well-{well}").inside if e.attributes.get("class") == kind]
        contents = (base64.b64decode(e.attributes["src"].partition(",")[2]) for e in images)
        return [np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")) for content in contents]


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
    assert targets == {f"#well-{well}" for well in COUNTS}
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
    data = json.loads(page.of_id("data").text)
    row = read_wells(run).set_index("Metadata_Well").loc[well]
    index = int(page.well(well).attributes["data-index"])
    columns = {
        "Nuclei per field": row["Metadata_Object_Count_PerField"],
        "Density": row["Metadata_Density_per_mm2"],
        "Nuclear area fraction": row["Metadata_NuclearAreaFraction"] * 100,
        "Median nuclear area": row["Median_Nuclei_AreaShape_Area"] * 0.25,
        "Median integrated DAPI": row["Median_Nuclei_Intensity_IntegratedIntensity_DAPI"],
    }
    shown = {metric["label"]: metric["texts"][0][index] for metric in data["metrics"]}
    assert shown == {name: compact(None if np.isnan(value) else value) for name, value in columns.items()}
    if row["status"] != "failed":
        count = shown["Nuclei per field"]
        assert [e.text for e in page.well(well).inside if e.tag == "text"] == [count]
        assert page.of_id(f"well-{well}").text.split()[:2] == [well, count]
        assert f"{int(row['Metadata_Object_Count'])} nuclei" in data["words"][0][index]


def test_colours_follow_the_values(page: Page) -> None:
    data = json.loads(page.of_id("data").text)
    count = data["metrics"][0]
    wells = sorted(COUNTS)
    values = dict(zip(wells, count["texts"][0], strict=True))
    colours = dict(zip(wells, count["colours"][0], strict=True))
    assert count["ticks"] == ["0", "4", "8", "12", "16"]
    assert {well: colours[well] for well in wells if values[well] != "–"} == {
        well: round(255 * float(values[well]) / 16) for well in wells if values[well] != "–"
    }
    rect = page.well("A01").inside[0]
    assert rect.attributes["fill"] == data["palette"][colours["A01"]]
    assert (data["palette"][0], data["palette"][-1]) == ("#440154", "#fde725")


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
    assert not page.pictures("A02", "base")
    assert "not measured" in page.of_id("well-A02").text
    assert page.pictures("B03", "base")
    assert not page.pictures("B03", "outline")[0][..., 3].any()


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
    drawn = page.pictures(well, "outline")[-1]
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
    gallery = make_gallery(store, [Shot("A01", 1, 0), Shot("A02", 1, 0)], 20.0, 0.5)
    shown = [picture_of(gallery.exposures[well].large.image) for well in ("A01", "A02")]  # type: ignore[union-attr]
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
    exposure = make_gallery(tmp_path / "s", [Shot("A01", 1, 0)], 30.0, None).exposures["A01"]
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
    exposure = make_gallery(tmp_path / "s", [Shot("A01", 1, 1)], 20.0, 0.5).exposures["A01"]
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
    exposure = make_gallery(tmp_path / "s", [Shot("A01", 1, 0)], None, 0.5).exposures["A01"]
    assert exposure.large is not None
    # 96 of these are 6 MB, 384 of them 25 MB.
    assert sum(len(p.image) + len(p.outlines) for p in (exposure.small, exposure.large)) < 62_000


def test_same_run_gives_the_same_bytes_and_an_untouched_file(run: Path) -> None:
    path = run / "report.html"
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert write_report(run) == path
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert len(before[0]) < 500_000


def test_histograms_hold_the_whole_nuclei(run: Path, page: Page) -> None:
    nuclei = read_nuclei(run, columns=["Metadata_QC_TouchesEdge", "Nuclei_AreaShape_Area"], units="um")
    areas = nuclei.loc[~nuclei["Metadata_QC_TouchesEdge"], "Nuclei_AreaShape_Area"].to_numpy()
    first = page.of_class("histogram")[0].text
    assert f"{len(areas)} nuclei that do not touch the edge" in first
    assert f"median {number(float(np.median(areas)))}" in first


def test_histogram_heights_are_the_counts() -> None:
    values = np.array([0.5, 1.5, 1.6, 2.5, 4.9, np.nan])
    drawn = histogram("x", "px", values)
    assert drawn is not None
    assert (drawn.nuclei, drawn.beyond, drawn.ticks[0], drawn.ticks[-1]) == (5, 0, (0.0, "0"), (400.0, "5"))
    tops = [float(top) for top in re.findall(r"V([\d.]+)H", drawn.path)]
    counts = np.histogram(values[:5], bins=64, range=(0, 5))[0]
    np.testing.assert_allclose(130 - np.array(tops), 130 * counts / counts.max(), atol=0.05)
    assert histogram("x", "px", np.array([np.nan])) is None


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
    assert "Median integrated FITC" in text
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
    assert "no picture" in page.of_id("well-A01").text
    assert "not measured" in page.of_id("well-A02").text


def test_a_directory_of_runs_is_refused(run: Path) -> None:
    with pytest.raises(OutputError, match="expected one run"):
        write_report(run.parent)


@pytest.mark.browser
def test_page_works_in_a_browser_under_its_own_policy(run: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    command = [
        chromium,
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"),
        *("--virtual-time-budget=3000", "--enable-logging=stderr", "--dump-dom"),
        (run / "report.html").as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    page = Page(shown.stdout.strip())
    # The script ran, so its hash is right; the style's is, for nothing was refused.
    assert "js" in page.every[0].attributes["class"].split()
    assert not re.findall(r"CONSOLE.*", shown.stderr)
    counts = {well: page.well(well).inside[-1].text for well in ("A01", "A03", "B01", "B02", "B03")}
    assert counts == {"A01": "10.5", "A03": "10", "B01": "5", "B02": "16", "B03": "0"}
    assert page.of_id("total-nuclei").text == "78"


def picture_of(address: str, mode: str = "L") -> npt.NDArray[np.uint8]:
    """A picture from its data URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert(mode))
