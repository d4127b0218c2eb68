"""Pictures of single nuclei: each is the nucleus that it says, of the kind under which it stands, on one scale."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from outputs_samples import make_plate
from report_pages import Page, picture_of, record
from report_samples import blobs, layout_of, write_run
from skimage.segmentation import find_boundaries

from hcs_nuclei.outputs import WellWriter, begin_store, read_level, read_nuclei
from hcs_nuclei.outputs.provenance import write_record
from hcs_nuclei.outputs.report import write_report
from hcs_nuclei.outputs.report_nuclei import DNA, Counted, make_sheets
from hcs_nuclei.outputs.report_pictures import Look, Shot, look_at

KINDS = {
    "A01": ("negcon", "DMSO", 0.0),
    "A02": ("poscon", "kill", 1.0),
    "A03": ("trt", "a", 1.0),
    "A04": ("trt", "a", 2.0),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reported run of four wells with 100 nuclei, most of them in the negative control."""
    plate = make_plate(tuple(KINDS), fields=5, name="P1")
    counts = {"A01": (16,) * 5, "A02": (2, 0, 0, 0, 1), "A03": (8, 7, 0, 0, None), "A04": (1, 1, 0, 0, 0)}
    run = write_run(tmp_path_factory.mktemp("runs") / "run", plate, counts, layout=layout_of(KINDS))
    write_report(run)
    return run


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def sheets_of(page: Page) -> dict[str, dict[str, list[Any]]]:
    """By sheet and kind its portraits: [well, field, words, picture]."""
    titles = [e.text for e in page.every if "data-sheet" in e.attributes]
    held = [json.loads(e.text) for e in page.of_class("portraits-of", "script")]
    kinds = [
        [inner.attributes["aria-label"] for inner in e.inside if "nuclei" in inner.attributes.get("class", "").split()]
        for e in page.of_class("sheet")
    ]
    return {
        title: dict(zip(names, portraits, strict=True))
        for title, names, portraits in zip(titles, kinds, held, strict=True)
    }


def label_of(words: str) -> int:
    return int(words.splitlines()[0].rpartition(" ")[2])


def test_nuclei_stand_under_what_they_are_called(run: Path, page: Page) -> None:
    nuclei = read_nuclei(run)
    nuclei = nuclei[nuclei["Metadata_Aggregated"]]
    named = nuclei.set_index(["Metadata_Well", "Metadata_Field", "Metadata_ObjectNumber"])
    sheets = sheets_of(page)
    assert list(sheets) == ["Classes", "Controls"]
    assert list(sheets["Classes"]) == ["interphase", "mitotic", "apoptotic-like", "debris"]
    for kind, portraits in sheets["Classes"].items():
        here = [(well, field, label_of(words)) for well, field, words, _ in portraits]
        assert set(named.loc[here, "Metadata_Class_Nucleus"]) <= {kind}
        assert len(set(here)) == len(here) == min(24, int((nuclei["Metadata_Class_Nucleus"] == kind).sum()))
    assert list(sheets["Controls"]) == ["negcon", "poscon", "other wells"]
    for kind, wells in zip(sheets["Controls"], ({"A01"}, {"A02"}, {"A03", "A04"}), strict=True):
        assert {well for well, *_ in sheets["Controls"][kind]} == wells
    counts = [e.text.split()[0] for e in page.of_class("nuclei")[-3].inside if e.tag == "small"]
    assert counts == [str(int((nuclei["Metadata_Well"] == "A01").sum()))]


def test_each_picture_shows_and_outlines_its_nucleus(run: Path, page: Page) -> None:
    portraits = [p for portraits in sheets_of(page)["Controls"].values() for p in portraits]
    assert len(portraits) == 24 + 3 + 17
    sizes = {(picture["width"], picture["height"]) for *_, picture in portraits}
    assert len(sizes) == 1
    for well, field, words, picture in portraits:
        labels = read_level(run / "plate.ome.zarr", well, field, labels=True)[0]
        image = read_level(run / "plate.ome.zarr", well, field)[0]
        alone = labels == label_of(words)
        y, x = (int(np.median(places)) for places in np.nonzero(alone))
        drawn = picture_of(picture["outlines"], "RGBA")[..., 3] > 0
        shown = picture_of(picture["image"])
        # The whole outline lies in the picture, around its middle, and is bright inside.
        assert drawn.sum() == find_boundaries(alone, connectivity=1, mode="inner").sum()
        rows, columns = np.nonzero(drawn)
        assert abs(rows.mean() - drawn.shape[0] / 2) < 2
        assert abs(columns.mean() - drawn.shape[1] / 2) < 2
        assert shown[drawn.shape[0] // 2, drawn.shape[1] // 2] > 120
        assert image[y, x] > 1000


def test_one_contrast_and_one_width_for_dim_and_bright_wells(tmp_path: Path) -> None:
    plate = make_plate(("A01", "A02"), fields=1)
    image, labels = blobs(16, seed=1)
    begin_store(tmp_path / "s", plate)
    for well, factor in zip(plate.wells, (4, 1), strict=True):
        with WellWriter(tmp_path / "s", well, channel=plate.channels[0], pixel_size_um=0.5, timepoints=1) as writer:
            writer.add_field(1, (image * factor).astype(np.uint16), labels)
            writer.commit("f")
    look = look_at(tmp_path / "s", [Shot("A01", 1, 0), Shot("A02", 1, 0)], 20.0, 0.5)
    kinds = ("negcon", "other wells")
    table = nuclei_of(labels[0], [("A01", 0), ("A02", 0)])
    counted = Counted(table, DNA, np.repeat(kinds, 16), kinds)
    (sheet,) = make_sheets(look, counted, "P1")
    bright, dim = ([picture_of(p.picture.image) for p in kind.portraits] for kind in sheet.kinds)
    black, white = look.contrast
    assert np.mean([b.max() for b in bright]) > 250
    wanted = 255 * (np.median(image[labels > 0]) - black) / (white - black)
    assert np.mean([np.median(d[15:29, 15:29]) for d in dim]) == pytest.approx(wanted, rel=0.2)
    assert {p.shape for p in (*bright, *dim)} == {(44, 44)}


def test_a_nucleus_is_pictured_at_its_own_time_point(tmp_path: Path) -> None:
    plate = make_plate(("A01",), fields=1, timepoints=2)
    (image, labels), (later, others) = blobs(1, seed=1), blobs(1, seed=2)
    others = np.roll(others, 90, axis=2) * 7
    begin_store(tmp_path / "s", plate)
    with WellWriter(
        tmp_path / "s", plate.wells[0], channel=plate.channels[0], pixel_size_um=0.5, timepoints=2
    ) as writer:
        writer.add_field(1, np.concatenate([image, np.roll(later, 90, axis=2)]), np.concatenate([labels, others]))
        writer.commit("f")
    table = pd.concat([nuclei_of(labels[0], [("A01", 0)]), nuclei_of(others[0], [("A01", 1)])], ignore_index=True)
    counted = Counted(table, DNA, np.array(["other wells"] * 2), ("other wells",))
    look = Look(tmp_path / "s", (200.0, 1700.0), 20.0, None)
    (sheet,) = make_sheets(look, counted, "P1")
    first, second = sheet.kinds[0].portraits
    assert first.words.startswith("A01, field 1, time point 0, nucleus 1\nArea: ")
    assert second.words.startswith("A01, field 1, time point 1, nucleus 7\nArea: ")
    for portrait, of_time in ((first, labels), (second, others)):
        drawn = picture_of(portrait.picture.outlines, "RGBA")[..., 3] > 0
        assert drawn.sum() == find_boundaries(of_time[0], connectivity=1, mode="inner").sum()


def test_without_its_images_a_run_has_no_single_nuclei(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copy / "plate.ome.zarr")
    page = Page(write_report(copy).read_text(encoding="utf-8"))
    assert "No picture: no nucleus lies wholly" in page.of_id("single").text
    assert not page.of_class("sheet")


def test_warnings_name_readouts_and_effects_as_the_page_does(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    said = ("EdgeEffect: Density_per_mm2 40 % lower.", "EdgeEffects of Median_Nuclei_AreaShape_Area_x.")
    write_record(copy, record(make_plate(tuple(KINDS), fields=5, name="P1"), warnings=said))
    page = Page(write_report(copy).read_text(encoding="utf-8"))
    (notes,) = page.of_class("notes")
    shown = [e.text for e in notes.inside if e.tag == "li"]
    assert shown == ["Outer ring: Density 40 % lower.", "EdgeEffects of Median_Nuclei_AreaShape_Area_x."]


def nuclei_of(labels: Any, places: list[tuple[str, int]]) -> pd.DataFrame:
    """A row for each nucleus of `labels` (y, x), for each (well, time point)."""
    values = [int(v) for v in np.unique(labels) if v]
    rows = [
        {
            "Metadata_Well": well,
            "Metadata_Field": 1,
            "Metadata_Timepoint": time,
            "Metadata_ObjectNumber": value,
            "Metadata_Center_Y": np.nonzero(labels == value)[0].mean(),
            "Metadata_Center_X": np.nonzero(labels == value)[1].mean(),
            "Nuclei_AreaShape_Area": float((labels == value).sum()),
            DNA: np.nan,
        }
        for well, time in places
        for value in values
    ]
    return pd.DataFrame(rows)
