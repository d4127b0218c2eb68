"""What runs say of themselves in Prefect's page, without a server: the picture of the plate, the speed, links."""

from __future__ import annotations

import base64
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pipeline_runs import FinishedRun

from hcs_nuclei.plate import well_name

SVG = "{http://www.w3.org/2000/svg}"


def picture_of(wells: pa.Table, wells_in_format: int) -> ElementTree.Element:
    from flows.plate_picture import plate_picture

    kind, _, content = plate_picture(wells, wells_in_format).partition(",")
    assert kind == "data:image/svg+xml;base64"
    return ElementTree.fromstring(base64.b64decode(content))


def test_picture_shows_every_place_of_the_plate_and_counts(finished: FinishedRun) -> None:
    wells = pq.read_table(finished.run / "wells.parquet")
    picture = picture_of(wells, 96)
    words = [element.text for element in picture.iter(f"{SVG}text")]
    assert words[:20] == [*map(str, range(1, 13)), *"ABCDEFGH"]
    counts = wells["Metadata_Object_Count"].to_pylist()
    assert words[20:24] == [str(count) for count in counts]
    assert words[24:] == [f"0 … {max(counts)} nuclei a well"]
    # The ground, a place for each well of the format, and the scale.
    assert len(picture.findall(f".//{SVG}rect")) == 1 + 96 + 1


def test_picture_tells_wells_with_faults_by_their_frames(finished: FinishedRun) -> None:
    wells = pq.read_table(finished.run / "wells.parquet")
    status = wells.column_names.index("status")
    wells = wells.set_column(status, "status", pa.array(["failed", "incomplete", "ok", "ok"]))
    count = wells.column_names.index("Metadata_Object_Count")
    counts = pa.array([None, *wells["Metadata_Object_Count"].to_pylist()[1:]], wells["Metadata_Object_Count"].type)
    picture = picture_of(wells.set_column(count, "Metadata_Object_Count", counts), 96)
    words = [element.text for element in picture.iter(f"{SVG}text")]
    assert words[20] == "–"
    assert words[-2:] == ["fields are missing", "not measured"]


def test_picture_of_a_large_plate_has_no_numbers_in_wells(finished: FinishedRun) -> None:
    one = pq.read_table(finished.run / "wells.parquet").slice(0, 1)
    places = [(row, column) for row in range(1, 33) for column in range(1, 49)]
    wells = pa.concat_tables([one] * len(places))
    new = {
        "Metadata_Well": pa.array([well_name(*place) for place in places]),
        "Metadata_Row": pa.array([row for row, _ in places], wells["Metadata_Row"].type),
        "Metadata_Column": pa.array([column for _, column in places], wells["Metadata_Column"].type),
    }
    for name, values in new.items():
        wells = wells.set_column(wells.column_names.index(name), name, values)
    picture = picture_of(wells, 1536)
    assert len(picture.findall(f".//{SVG}rect")) == 1 + 1536 + 1
    assert len(list(picture.iter(f"{SVG}text"))) == 32 + 48 + 1
    assert int(picture.attrib["width"]) <= 900


@pytest.mark.parametrize(
    ("seconds", "wells", "left", "fields", "said"),
    [
        pytest.param(60.0, 24, 72, 9.0, "; 3.6 fields/s, about 3 min left", id="a quarter in a minute"),
        pytest.param(60.0, 24, 1, 9.0, "; 3.6 fields/s, about 1 min left", id="seconds left count as a minute"),
        pytest.param(60.0, 24, 0, 9.0, "; 3.6 fields/s", id="none left"),
        pytest.param(0.0, 0, 96, 9.0, "", id="nothing made yet"),
        pytest.param(60.0, 24, 72, 0.0, "", id="fields not known"),
    ],
)
def test_speed_and_time_left(seconds: float, wells: int, left: int, fields: float, said: str) -> None:
    from flows.display import speed_in_words

    assert speed_in_words(seconds, wells, left, fields) == said


def test_report_is_linked_where_runs_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.result_display import report_link

    monkeypatch.delenv("HCS_NUCLEI_RUNS_URL", raising=False)
    assert report_link(Path("/data/runs/P 1__7")) == "file:///data/runs/P%201__7/report.html"
    monkeypatch.setenv("HCS_NUCLEI_RUNS_URL", "https://reports.example/hcs/")
    assert report_link(Path("/data/runs/P 1__7")) == "https://reports.example/hcs/P%201__7/report.html"


def test_names_of_others_are_no_markdown() -> None:
    from flows.result_display import _plain

    assert _plain("a|b [c](http://d) <img>\n# e_f*") == r"a\|b \[c\](http://d) \<img\> \# e\_f\*"
