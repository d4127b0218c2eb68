"""The report in a browser: what is shown when it is looked at, and that nothing leaves the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chromium import PROGRAM, Tab, chromium
from outputs_samples import make_plate
from report_samples import layout_of, write_run

from hcs_nuclei.outputs import read_wells
from hcs_nuclei.outputs.report import write_report
from hcs_nuclei.outputs.report_screen import write_screen
from hcs_nuclei.plate import well_name

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed"),
]
DENSITY = "Metadata_Density_per_mm2"
NAME = "</script><b>P&1"
DOSES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
#: Nuclei of both fields at each dose: the middle of the effect lies at 1 µM.
COUNTS = (16, 16, 15, 13, 9, 5, 3, 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reported run: four wells of each control, one compound at eight doses twice, a failed well."""
    rows = {1: "negcon", 2: "poscon"}
    treatments = {well_name(row, column): (kind, "DMSO", 0.0) for row, kind in rows.items() for column in range(1, 5)}
    counts = {
        well: (16, 14 + i % 3) if kind == "negcon" else (2, 1 + i % 2)
        for i, (well, (kind, *_)) in enumerate(treatments.items())
    }
    for row in (3, 4):
        for column, (dose, count) in enumerate(zip(DOSES, COUNTS, strict=True), start=1):
            treatments[well_name(row, column)] = ("trt", "compound-A", dose)
            counts[well_name(row, column)] = (count, count - row % 2)
    plate = make_plate([*counts, "F01"], fields=2, name=NAME)
    run = tmp_path_factory.mktemp("runs") / "run"
    write_run(run, plate, {**counts, "F01": (None, None)}, layout=layout_of(treatments))
    write_report(run)
    return run


@pytest.fixture(scope="module")
def tab(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        tab.look(1440, 900)
        seconds = tab.open((run / "report.html").as_uri())
        print(f"report of {(run / 'report.html').stat().st_size / 1e6:.2f} MB: load event after {seconds:.2f} s")
        yield tab


def aria(tab: Tab, well: str) -> str:
    words: str = tab.run(f"document.querySelector('.plate [data-open={well}]').getAttribute('aria-label')")
    return words


def choose(tab: Tab, box: str, value: str, event: str = "change") -> None:
    tab.run(
        f"(b => {{ b.value = {value!r}; b.dispatchEvent(new Event('{event}')); }})(document.querySelector({box!r}))"
    )


def text(tab: Tab, selector: str) -> str:
    words: str = tab.run(f"document.querySelector({selector!r}).textContent")
    return words


def test_every_well_has_its_value_of_the_chosen_column(run: Path, tab: Tab) -> None:
    wells = read_wells(run).set_index("Metadata_Well")
    assert "Density: " in aria(tab, "A01")
    choose(tab, "#column", "Metadata_Object_Count")
    assert text(tab, "#map-metric") == "Nuclei "
    for well, count in wells["Metadata_Object_Count"].items():
        words = aria(tab, str(well)).splitlines()
        assert words[-1] == ("Nuclei: no value" if np.isnan(count) else f"Nuclei: {int(count)}")
        shown = text(tab, f".plate [data-open={well}] text")
        assert shown == ("" if np.isnan(count) else str(int(count)))
    choose(tab, "#column", "Median_Nuclei_AreaShape_Area")
    area = wells.loc["B02", "Median_Nuclei_AreaShape_Area"] * 0.25
    *label, value, unit = aria(tab, "B02").splitlines()[-1].split()
    assert (label, float(value), unit) == (["Median", "Area:"], pytest.approx(area, rel=0.005), "µm²")
    choose(tab, "#column", "Metadata_Density_per_mm2")


def test_columns_are_found_by_their_words(tab: Tab) -> None:
    choose(tab, "#column-search", "robustz area", event="input")
    options = tab.run("[...document.querySelectorAll('#column option')].map(o => o.value)")
    assert options == ["RobustZ_Median_Nuclei_AreaShape_Area"]
    # The only one that is left is shown, on a scale whose middle is no difference from the control.
    ends = tab.run("[...document.querySelectorAll('.ends input')].map(b => Number(b.value))")
    assert ends[0] == -ends[1]
    choose(tab, "#column-search", "", event="input")
    choose(tab, "#column", "Metadata_Density_per_mm2")


def test_a_typed_scale_colours_the_wells(tab: Tab) -> None:
    choose(tab, "#column", "Metadata_Object_Count")
    choose(tab, "#scale-high", "64")
    fill = tab.run("document.querySelector('.plate [data-open=A01] rect').getAttribute('fill')")
    count = int(aria(tab, "A01").split()[-1])
    assert fill == tab.run(
        f"JSON.parse(document.getElementById('data').textContent).palettes.one[{round(255 * count / 64)}]"
    )
    assert text(tab, "#map-ticks span:last-child") == "64"
    tab.run("document.getElementById('scale-robust').click()")
    assert text(tab, "#map-ticks span:last-child") == "32"
    choose(tab, "#column", "Metadata_Density_per_mm2")


def test_controls_and_failed_wells_are_told_apart(tab: Tab) -> None:
    def stroke(well: str) -> str:
        shown: str = tab.run(f"getComputedStyle(document.querySelector('.plate [data-open={well}] rect')).stroke")
        return shown

    assert len({stroke(well) for well in ("A01", "B01", "C01", "F01")}) == 4
    assert "hatch" in tab.run("getComputedStyle(document.querySelector('.plate [data-open=F01] rect')).fill")


def test_arrows_go_from_well_to_well(tab: Tab) -> None:
    tab.run("document.querySelector('.plate [data-open=A01]').focus()")
    for key, well in (("ArrowRight", "A02"), ("ArrowDown", "B02"), ("ArrowLeft", "B01"), ("ArrowUp", "A01")):
        tab.key(key)
        assert tab.run("document.activeElement.dataset.open") == well
    assert text(tab, "#tip").startswith("A01: ")
    # Over the empty row E.
    tab.run("document.querySelector('.plate [data-open=D01]').focus()")
    tab.key("ArrowDown")
    assert tab.run("document.activeElement.dataset.open") == "F01"
    assert tab.run("document.querySelectorAll('.plate [tabindex=\"0\"]').length") == 1


def test_a_well_opens_with_its_fields_and_outlines(tab: Tab) -> None:
    tab.run("document.querySelector('.plate [data-open=A02]').focus()")
    tab.key("Enter")
    tab.wait("document.getElementById('viewer').open")
    assert text(tab, "#viewer-title") == "Well A02"
    assert "DMSO" in text(tab, "#viewer-words")
    assert tab.run("document.querySelectorAll('#viewer-fields button').length") == 2
    tab.run("document.querySelectorAll('#viewer-fields button')[1].click()")
    assert text(tab, "#viewer-view").startswith("Field 2: a window of 240 × 240 camera pixels")
    tab.wait("[...document.querySelectorAll('#viewer-picture img')].every(i => i.complete)")
    assert tab.run("[...document.querySelectorAll('#viewer-picture img')].map(i => i.naturalWidth)") == [240, 240]
    shown = "getComputedStyle(document.querySelector('#viewer-picture .outline')).display"
    assert tab.run(shown) != "none"
    tab.run("document.querySelector('#viewer .outlines').click()")
    assert tab.run(shown) == "none"
    tab.run("document.querySelector('#viewer .outlines').click()")
    tab.run("document.getElementById('viewer-next').click()")
    assert text(tab, "#viewer-title") == "Well A03"
    tab.run("document.getElementById('viewer-close').click()")
    assert not tab.run("document.getElementById('viewer').open")


def test_a_failed_well_opens_and_says_why(tab: Tab) -> None:
    tab.run("document.querySelector('.plate [data-open=F01]').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert text(tab, "#viewer-picture") == "not measured"
    assert "the file ends early" in text(tab, "#viewer-words")
    tab.run("document.getElementById('viewer-close').click()")


def test_readouts_show_their_own_controls_and_curves(run: Path, tab: Tab) -> None:
    rows = (
        "[...document.querySelectorAll('#separation tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent)"
    )
    assert set(tab.run(rows)) == {"Density"}
    assert tab.run("document.querySelectorAll('#strip .dot').length") == 4 + 4 + 16
    assert tab.run("document.querySelectorAll('.curve').length") == 1
    assert "IC50 = " in text(tab, ".curve figcaption")
    passes = pd.read_parquet(run / "dose_response.parquet").set_index("Metadata_Readout").loc[DENSITY]
    assert f"50 % of control at {passes.AbsoluteIC50:.3g} µM (95 %: " in text(tab, ".curve figcaption")
    assert tab.run("document.querySelectorAll('.curve .fit, .curve .interval, .curve .potency').length") == 3
    assert tab.run("document.querySelectorAll('.curve .dot.others').length") == 16
    assert tab.run("document.querySelectorAll('.curve .dot.count').length") == 16
    choose(tab, ".readout", "Median_Nuclei_AreaShape_Area")
    assert set(tab.run(rows)) == {"Median Area"}
    assert text(tab, "#strip figcaption b") == "Median Area"
    assert (
        tab.run("[...document.querySelectorAll('.readout')].map(b => b.value)") == ["Median_Nuclei_AreaShape_Area"] * 2
    )
    choose(tab, ".readout", "Metadata_Density_per_mm2")


def test_the_curve_goes_through_its_points(run: Path, tab: Tab) -> None:
    """The drawn curve is at half height where the drawn IC50 is."""
    path = tab.run("document.querySelector('.curve .fit').getAttribute('d')")
    drawn = np.array([[float(v) for v in pair.split()] for pair in path[1:].split("L")])
    middle = float(tab.run("document.querySelector('.curve .potency').getAttribute('d')")[1:].split()[0])
    dots = "[...document.querySelectorAll('.curve .dot.others')]"
    points = tab.run(f"{dots}.map(d => ['cx', 'cy'].map(name => Number(d.getAttribute(name))))")
    assert np.interp(middle, drawn[:, 0], drawn[:, 1]) == pytest.approx(drawn[[0, -1], 1].mean(), abs=4)
    for x, y in points:
        assert np.interp(x, drawn[:, 0], drawn[:, 1]) == pytest.approx(y, abs=16)


def test_single_nuclei_are_shown_and_open_their_field(tab: Tab) -> None:
    titles = tab.run("[...document.querySelectorAll('[data-sheet]')].map(b => b.textContent)")
    assert titles == ["Classes", "Controls"]
    tab.run("document.querySelectorAll('[data-sheet]')[1].click()")
    shown = "[...document.querySelectorAll('.sheet')].filter(s => s.checkVisibility())"
    assert tab.run(f"{shown}.length") == 1
    kinds = f"[...{shown}[0].querySelectorAll('.nuclei')]"
    assert tab.run(f"{kinds}.map(k => k.querySelector('h3').firstChild.textContent)") == [
        "negcon",
        "poscon",
        "other wells",
    ]
    assert tab.run(f"{kinds}.map(k => k.querySelectorAll('button').length)") == [24, 14, 24]
    tab.wait(f"[...{shown}[0].querySelectorAll('img')].every(i => i.complete && i.naturalWidth)")
    # All of them are equally large, and none is cut off.
    widths = tab.run(f"[...new Set([...{shown}[0].querySelectorAll('button')].map(b => Math.round(b.clientWidth)))]")
    assert len(widths) == 1
    assert widths[0] >= 60
    first = f"{kinds}[1].querySelector('button')"
    well, field = (tab.run(f"{first}.dataset.{name}") for name in ("open", "field"))
    assert tab.run(f"{first}.getAttribute('aria-label')").startswith(f"{well}, field {field}, nucleus ")
    tab.run(f"{first}.click()")
    assert text(tab, "#viewer-title") == f"Well {well}"
    assert text(tab, "#viewer-view").startswith(f"Field {field}: ")
    tab.run("document.getElementById('viewer-close').click()")


def test_the_gallery_shows_what_is_chosen(run: Path, tab: Tab) -> None:
    tab.run("[...document.querySelectorAll('[data-choice]')].find(b => b.textContent === 'Controls').click()")
    assert tab.run("[...document.querySelectorAll('.tile')].map(t => t.dataset.well)") == [
        *(f"A0{i}" for i in range(1, 5)),
        *(f"B0{i}" for i in range(1, 5)),
    ]
    tab.run("document.querySelector('[data-choice=plate]').click()")
    assert tab.run("document.querySelectorAll('.tile').length") == len(read_wells(run))
    tab.wait("[...document.querySelectorAll('.tile img')].every(i => i.complete && i.naturalWidth)")
    assert tab.run("document.querySelector('.tile[data-well=F01] img')") is None


@pytest.mark.parametrize("width", [1440, 1024])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_the_window(tab: Tab, width: int, dark: bool) -> None:
    tab.look(width, 900, dark=dark)
    assert tab.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    background = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(15, 20, 27)") is dark
    tab.look(1440, 900)


def test_no_request_left_the_file_and_nothing_complained(run: Path, tab: Tab) -> None:
    addresses = {address for address in tab.requests if not address.startswith("data:image/")}
    assert addresses <= {(run / "report.html").as_uri(), "data:,", "about:blank"}
    assert len(tab.requests) > 1
    assert tab.complaints == []


def test_wells_with_few_nuclei_are_named_and_left_out_of_the_strip(tab: Tab, run: Path) -> None:
    wells = read_wells(run)
    few = list(wells.Metadata_Well[wells.Metadata_QC_FewNuclei])
    assert {"B01", "B02", "B03", "B04"} <= set(few)
    assert tab.run("[...document.querySelectorAll('#few-nuclei a')].map(a => a.textContent)") == few
    assert "Few nuclei count" in aria(tab, "B01")
    assert "Few nuclei count" not in aria(tab, "A01")
    area = "Median_Nuclei_AreaShape_Area"
    drawn = "new Set([...document.querySelectorAll('#strip .dot')].map(dot => dot.dataset.open)).size"
    for readout, wanted in ((area, len(wells) - 1 - len(few)), (DENSITY, len(wells) - 1)):
        tab.run(
            f"(() => {{ const box = document.querySelector('.readout'); box.value = '{readout}';"
            "box.dispatchEvent(new Event('change')); })()"
        )
        assert tab.run(drawn) == wanted
        said = f"{len(few)} wells with few nuclei left out"
        assert (said in tab.run("document.querySelector('#strip figcaption').textContent")) == (readout == area)


def test_a_table_of_the_screen_page_is_sorted_by_the_head_that_is_clicked(
    run: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write_screen([run], tmp_path / "screen.html")
    shown = "[...document.querySelector('.treatments').tBodies[0].rows].map(row => Number(row.cells[1].dataset.value))"
    click = "document.querySelector('.treatments').tHead.rows[0].cells[1].querySelector('button').click()"
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        tab.open((tmp_path / "screen.html").as_uri())
        for doses in (sorted([0.0, 0.0, *DOSES]), sorted([0.0, 0.0, *DOSES], reverse=True)):
            tab.run(click)
            assert tab.run(shown) == doses
        assert not tab.complaints


def test_curves_of_sirnas_have_their_wells(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    treatments = {well_name(1, column): ("negcon", "scrambled", 0.0) for column in range(1, 5)}
    for row, reagent in ((2, "s2"), (3, "s3")):
        treatments |= {well_name(row, column): ("trt", reagent, dose) for column, dose in enumerate(DOSES, start=1)}
    layout = layout_of(treatments)
    names = {"Metadata_Compound": "Metadata_siRNA"}
    columns = tuple(replace(column, name=names.get(column.name, column.name)) for column in layout.columns)
    wells = {well: {names.get(name, name): value for name, value in row.items()} for well, row in layout.wells.items()}
    layout = replace(layout, columns=columns, wells=wells)
    counts = {well: (16,) if row[0] == "negcon" else (COUNTS[int(well[1:]) - 1],) for well, row in treatments.items()}
    run = write_run(tmp_path / "run", make_plate([*counts], fields=1), counts, layout=layout)
    write_report(run)
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        tab.open((run / "report.html").as_uri())
        curves = "[...document.querySelectorAll('#curves figure')]"
        assert sorted(tab.run(f"{curves}.map(c => c.dataset.compound)")) == ["s2", "s3"]
        assert tab.run(f"{curves}.map(c => c.querySelectorAll('.dot.others').length)") == [8, 8]
        assert tab.complaints == []


def test_a_plate_whose_every_well_failed_is_a_page_that_works(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    treatments = {"A01": ("negcon", "DMSO", 0.0), "A02": ("poscon", "kill", 1.0)}
    treatments |= {f"B{column:02d}": ("trt", "a", dose) for column, dose in enumerate(DOSES, start=1)}
    plate, counts = make_plate([*treatments], fields=1), {well: (None,) for well in treatments}
    run = write_run(tmp_path / "run", plate, counts, layout=layout_of(treatments))
    write_report(run)
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        tab.open((run / "report.html").as_uri())
        assert tab.run("document.documentElement.classList.contains('js')")
        assert tab.run("document.querySelectorAll('.plate [data-open]').length") == len(treatments)
        assert tab.complaints == []
