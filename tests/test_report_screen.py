"""The page over several plates, and the figures for slides: their numbers are the tables'."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from outputs_samples import make_plate
from PIL import Image
from report_pages import Page, picture_of
from report_samples import layout_of, write_run

from hcs_nuclei import read_treatments
from hcs_nuclei.cli import main
from hcs_nuclei.errors import OutputError
from hcs_nuclei.outputs import read_wells
from hcs_nuclei.outputs.report import read_run
from hcs_nuclei.outputs.report_figures import write_figures
from hcs_nuclei.outputs.report_heatmap import number
from hcs_nuclei.outputs.report_screen import write_screen
from hcs_nuclei.plate import well_name

DOSES = (0.1, 1.0, 10.0, 100.0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three plates: with controls and doses; the same with fewer nuclei and a failed well; without a layout."""
    out = tmp_path_factory.mktemp("runs")
    kinds = {well_name(1, column): ("negcon", "DMSO", 0.0) for column in range(1, 5)}
    kinds |= {well_name(2, column): ("poscon", "kill", 1.0) for column in range(1, 5)}
    kinds |= {
        well_name(row, column): ("trt", "a", dose) for row in (3, 4) for column, dose in enumerate(DOSES, start=1)
    }
    full = {"negcon": (16, 15, 16, 14), "poscon": (1, 2, 1, 1), "trt": (15, 14, 6, 2)}
    made = []
    for name, lost in (("P1", 0), ("P2 #%", 4)):
        counts = {well: (max(full[kind][int(well[1:]) - 1] - lost, 0),) for well, (kind, *_) in kinds.items()}
        counts["H12"] = (None if lost else 16,)
        plate = make_plate(list(counts), fields=1, name=name)
        made.append(write_run(out / f"{name}__17", plate, counts, layout=layout_of(kinds)))
    bare = make_plate(["A01", "A02"], fields=1, name="bare")
    return [*made, write_run(out / "bare", bare, {"A01": (3,), "A02": (5,)})]


@pytest.fixture(scope="module")
def page(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("page") / "screen.html"
    assert write_screen(runs, path) == path
    # So that the links can be followed.
    page = Page(path.read_text(encoding="utf-8"))
    for element in page.every:
        if element.tag == "a":
            element.attributes["path"] = str((path.parent / unquote(element.attributes["href"])).resolve())
    return page


def test_every_plate_has_a_row_with_its_faults_and_a_link(page: Page, runs: list[Path]) -> None:
    rows = [e for e in page.of_id("plates").inside if e.tag == "tr"][1:]
    cells = [[cell.text.strip() for cell in row.inside if cell.tag == "td"] for row in rows]
    totals = [int(read_wells(run)["Metadata_Object_Count"].sum()) for run in runs]
    assert [(row[0], row[1], row[2], row[4]) for row in cells] == [
        ("P1", "17 of 17", "0", str(totals[0])),
        ("P2 #%", "16 of 17", "1 of 17", str(totals[1])),
        ("bare", "2 of 2", "0", str(totals[2])),
    ]
    assert cells[1][7].startswith("1 of 17 wells with faults: 1 not measured at all")
    links = [e.attributes["path"] for row in rows for e in row.inside if e.tag == "a"]
    assert links == [str(run / "report.html") for run in runs]


def test_the_page_asks_for_nothing(page: Page) -> None:
    loaded = [e.attributes["src"] for e in page.every if "src" in e.attributes]
    assert loaded
    assert all(address.startswith("data:image/png;base64,") for address in loaded)
    assert not [e for e in page.every if e.tag in {"iframe", "object", "form"}]
    assert [e.attributes for e in page.every if e.tag == "script"] == [{"type": "module"}]
    assert not [name for e in page.every for name in e.attributes if name == "style" or name.startswith("on")]


def test_medians_of_the_controls_are_drawn_to_one_scale(page: Page, runs: list[Path]) -> None:
    drawn = page.of_class("chart")[0]
    marks = {e.text.split(":")[0]: e for e in drawn.inside if "mark" in e.attributes.get("class", "").split()}
    places = {
        name: float(next(c for c in mark.inside if c.tag == "circle").attributes["cy"]) for name, mark in marks.items()
    }
    ticks = [e for e in drawn.inside if e.attributes.get("class") == "end" and e.attributes.get("x") == "54"]
    (y0, v0), (y1, v1) = (
        (float(e.attributes["y"]) - 4, float(e.text.replace("k", "e3"))) for e in (ticks[0], ticks[-1])
    )
    medians = {}
    for run, name in zip(runs, ("P1", "P2 #%", "bare"), strict=True):
        wells = read_wells(run)
        kinds = wells.get("Metadata_control_type", "others")
        wells = wells.assign(kind=kinds).replace({"kind": {"trt": "others"}}).fillna({"kind": "others"})
        for kind, density in wells.groupby("kind")["Metadata_Density_per_mm2"].median().items():
            medians[f"{name}, {kind}"] = density
    assert places.keys() == medians.keys()
    for name, median in medians.items():
        assert v0 + (places[name] - y0) / (y1 - y0) * (v1 - v0) == pytest.approx(median, abs=0.01 * v1), name
    low, high = sorted(medians[f"{name}, negcon"] for name in ("P1", "P2 #%"))
    assert f"from {number(low)} to {number(high)} over 2 plates" in page.every[0].text


def test_maps_have_one_scale_and_hatch_what_failed(page: Page) -> None:
    maps = [picture_of(e.attributes["src"].partition(",")[2], "RGBA") for e in page.every if e.tag == "img"][:2]
    first, second = (m.reshape(8, 8, 12, 8, 4).transpose(0, 2, 1, 3, 4) for m in maps)
    # P2 has fewer nuclei: on a scale of its own its best well would be as bright.
    assert first[0, 0, 3, 3].tolist() != second[0, 0, 3, 3].tolist()
    assert {tuple(p) for p in second[7, 11, :7, :7].reshape(-1, 4).tolist()} == {
        (255, 255, 255, 255),
        (163, 40, 58, 255),
    }
    assert first[0, 0, 0, 0].tolist() == [16, 21, 28, 255]
    assert first[1, 0, 0, 0].tolist() == [214, 17, 126, 255]
    assert not first[5, 5, ..., 3].any()


def test_a_well_that_does_not_count_is_crossed_out_and_not_coloured(tmp_path: Path) -> None:
    plate = make_plate(["A01", "H12"], fields=1, name="blurred")
    blurred = {"H12": {"Metadata_QC_Blank": True}}
    run = write_run(tmp_path / "blurred", plate, {"A01": (3,), "H12": (5,)}, field_columns=blurred)
    page = Page(write_screen([run], tmp_path / "screen.html").read_text(encoding="utf-8"))
    [drawn] = [picture_of(e.attributes["src"].partition(",")[2], "RGBA") for e in page.every if e.tag == "img"][:1]
    wells = drawn.reshape(8, 8, 12, 8, 4).transpose(0, 2, 1, 3, 4)
    white, grey = [255, 255, 255, 255], [91, 100, 114, 255]
    assert [wells[7, 11, 3, 3].tolist(), wells[7, 11, 0, 3].tolist()] == [grey, white]
    assert wells[0, 0, 3, 3].tolist() not in (white, grey)

    figures = write_figures(run, tmp_path / "figures")
    assert figures
    assert all(figure.stat().st_size for figure in figures)


def test_z_prime_of_each_plate_stands_in_its_row(page: Page, runs: list[Path]) -> None:
    rows = [e for e in page.of_id("plates").inside if e.tag == "tr"][1:]
    shown = [[cell.text.strip() for cell in row.inside if cell.tag == "td"][5] for row in rows]
    wanted = []
    for run in runs[:2]:
        wells = read_wells(run).set_index("Metadata_control_type")["Metadata_Density_per_mm2"]
        negative, positive = wells["negcon"], wells["poscon"]
        wanted.append(1 - 3 * (negative.std() + positive.std()) / abs(negative.mean() - positive.mean()))
    assert shown == [*(f"{value:.2f}" for value in wanted), "–"]


def test_treatments_over_all_plates_are_shown_and_lie_beside_the_page(runs: list[Path], tmp_path: Path) -> None:
    path = write_screen(runs, tmp_path / "screen.html")
    page = Page(path.read_text(encoding="utf-8"))
    table = next(e for e in page.every if e.tag == "table" and "treatments" in e.attributes.get("class", ""))
    rows = [[c.text.strip() for c in row.inside if c.tag == "td"] for row in table.inside if row.tag == "tr"][1:]
    told = read_treatments(runs)
    told = told[told.Metadata_Readout == "Metadata_Density_per_mm2"]
    assert [row[0] for row in rows[:2]] == ["DMSO", "kill"]
    assert len(rows) == len(told) == 6
    farthest = told[told.Metadata_control_type == "trt"].RobustZ_Median.abs().sort_values(ascending=False)
    assert [row[6] for row in rows[2:]] == [number(told.RobustZ_Median[i]) for i in farthest.index]
    assert {tuple(row[3:6]) for row in rows[2:]} == {("2", "4", "0")}
    assert rows[0][1] == "0 µM"

    beside = pd.read_csv(tmp_path / "screen-treatments.csv")
    pd.testing.assert_frame_equal(beside, read_treatments(runs), check_dtype=False)
    # The same page of plates without controls: what no longer holds is taken away.
    write_screen(runs[2:], tmp_path / "screen.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["screen.html"]


def test_a_readout_that_no_positive_control_has_says_so_in_the_place_of_an_empty_chart(page: Page) -> None:
    charts = [e.attributes["aria-label"] for e in page.of_class("chart")]
    assert "Z′ of Density by plate" in charts
    assert "Z′ of Median Area by plate" not in charts  # its wells have one nucleus or two
    assert "No plate has a value in four wells of both controls" in page.every[0].text


@pytest.mark.parametrize("place", ["", "nowhere/screen.html"])
def test_a_place_that_cannot_be_written_to_is_refused(runs: list[Path], tmp_path: Path, place: str) -> None:
    with pytest.raises(OutputError, match="expected a file to write"):
        write_screen(runs, tmp_path / place)


def test_report_writes_page_and_figures_where_it_is_told(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    screen, figures = tmp_path / "s.html", tmp_path / "slides" / "today"
    before = {p.name for p in runs[0].parent.iterdir()}
    assert main(["report", str(runs[0].parent), "--screen", str(screen), "--figures", str(figures)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [
        *(str(run / "report.html") for run in sorted(runs)),
        str(screen),
        str(tmp_path / "s-treatments.csv"),
        *(str(figures / f"{run.name}-{name}.png") for run in sorted(runs) for name in made_of(run)),
    ]
    assert all(Path(path).is_file() for path in told)
    assert {p.name for p in runs[0].parent.iterdir()} == before
    assert main(["report", str(runs[0]), "--screen", str(tmp_path)]) == 2


def made_of(run: Path) -> tuple[str, ...]:
    return ("plate",) if run.name == "bare" else ("plate", "controls", "dose-response-1")


def test_figures_are_slides_and_the_same_each_time(runs: list[Path], tmp_path: Path) -> None:
    paths = write_figures(runs[1], tmp_path)
    assert [path.name for path in paths] == [f"{runs[1].name}-{name}.png" for name in made_of(runs[1])]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (1600, 900)
            assert len(np.unique(np.asarray(image.convert("L")))) > 20
    write_figures(runs[1], tmp_path)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths} == before
    assert not re.search(rb"Matplotlib version", before[paths[0]][0])


def test_plates_whose_pixel_size_is_not_known_stand_beside_others_in_pixels(tmp_path: Path) -> None:
    made = []
    for name, pixel in (("known", 0.5), ("unknown", None)):
        plate = replace(make_plate(["A01", "A02"], fields=1, name=name), pixel_size_um=pixel)
        made.append(write_run(tmp_path / name, plate, {"A01": (9,), "A02": (7,)}))
    area = "Median_Nuclei_AreaShape_Area"
    units = [
        [c.unit for c in read_run(made[0], in_pixels=px).columns.columns if c.name == area] for px in (False, True)
    ]
    assert units == [["µm²"], ["px²"]]
    page = write_screen(made, tmp_path / "screen.html").read_text(encoding="utf-8")
    assert "µm²" not in page


def test_figures_bear_a_dollar_in_a_name(tmp_path: Path) -> None:
    kinds = {"A01": ("negcon", "DMSO", 0.0), "A02": ("poscon", "k$_$1", 1.0)}
    kinds |= {f"B{column:02d}": ("trt", "x$_$2", dose) for column, dose in enumerate(DOSES, start=1)}
    plate = make_plate([*kinds], fields=1, name="Lib$_$1")
    run = write_run(tmp_path / "run", plate, dict.fromkeys(kinds, (9,)), layout=layout_of(kinds))
    assert len(write_figures(run, tmp_path / "figures")) >= 2
