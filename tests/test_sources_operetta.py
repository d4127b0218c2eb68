"""Harmony and Columbus directories made for the purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from hcs_nuclei.errors import NotAPlateError, PlaneError
from hcs_nuclei.sources import inspection, open_plate, read_image

PEHH = "http://www.perkinelmer.com/PEHH/Harmony"


def image(url: str, *, row: int, column: int, field: int, channel: int = 1, time: int = 0, state: str = "Ok") -> str:
    return (
        f'<Image Version="1"><id>x</id><State>{state}</State><URL>{url}</URL><Row>{row}</Row><Col>{column}</Col>'
        f"<FieldID>{field}</FieldID><PlaneID>1</PlaneID><TimepointID>{time}</TimepointID>"
        f'<ChannelID>{channel}</ChannelID><PositionX Unit="m">1E-04</PositionX><PositionY Unit="m">2E-04</PositionY>'
        "</Image>"
    )


def write_index(folder: Path, images: list[str], *, namespace: str = PEHH + "V6", head: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = (
        f'<?xml version="1.0" encoding="utf-8"?>{head}<EvaluationInputData xmlns="{namespace}"><Plates><Plate>'
        "<PlateID>BC0001</PlateID><MeasurementID>m-1</MeasurementID><Name>Screen</Name>"
        "<PlateRows>32</PlateRows><PlateColumns>48</PlateColumns></Plate></Plates>"
        '<Wells><Well><id>0402</id><Image id="a"/></Well></Wells><Maps><Map><Entry ChannelID="1">'
        '<ChannelName>HOECHST 33342</ChannelName><ImageResolutionX Unit="m">2.99E-07</ImageResolutionX></Entry>'
        '<Entry ChannelID="2"><ChannelName>Alexa 488</ChannelName></Entry></Map>'
        '<Map><Entry ChannelID="1"><FlatfieldProfile>{}</FlatfieldProfile></Entry></Map></Maps>'
        f"<Images>{''.join(images)}</Images></EvaluationInputData>"
    )
    (folder / "Index.xml").write_text(text, encoding="utf-8-sig")


def name(row: int, column: int, field: int, channel: int = 1, time: int = 1) -> str:
    return f"r{row:02d}c{column:02d}f{field:02d}p01-ch{channel:02d}t{time:02d}.tiff"


@pytest.mark.parametrize("namespace", [PEHH + "V6", "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7"])
def test_harmony_6_and_7_keep_channels_in_maps(tmp_path: Path, namespace: str) -> None:
    images = tmp_path / "Images"
    wells = [(4, 2), (27, 48)]
    write_index(
        images,
        [
            image(name(r, c, f, ch), row=r, column=c, field=f, channel=ch)
            for r, c in wells
            for f in (1, 3)
            for ch in (1, 2)
        ],
        namespace=namespace,
    )
    for r, c in wells:
        for f in (1, 3):
            (images / name(r, c, f, 1)).touch()
            (images / name(r, c, f, 2)).touch()
    (images / name(27, 48, 3, 1)).unlink()
    plate = open_plate(images)
    assert plate == open_plate(tmp_path)
    assert (plate.name, plate.acquisition, plate.wells_in_format) == ("BC0001", "m-1", 1536)
    assert [w.name for w in plate] == ["D02", "AA48"]
    assert [(c.token, c.name) for c in plate.channels] == [("ch1", "HOECHST 33342"), ("ch2", "Alexa 488")]
    assert plate.pixel_size_um == pytest.approx(0.299)
    assert [(w.name, s.number, p.channel) for w, s, p in plate.missing_planes()] == [("AA48", 3, "ch1")]
    assert plate.wells[0].fields[0].position_um == pytest.approx((100, -200))
    assert inspection(plate)["well_status"] == {"D02": "complete", "AA48": "incomplete"}


def test_harmony_7_may_put_the_index_beside_the_images_folder(tmp_path: Path) -> None:
    write_index(tmp_path, [image(name(1, 1, 1), row=1, column=1, field=1)])
    (tmp_path / "Images").mkdir()
    (tmp_path / "Images" / name(1, 1, 1)).touch()
    assert [p.path for p in open_plate(tmp_path).wells[0].fields[0].planes] == [f"Images/{name(1, 1, 1)}"]


def test_a_channel_and_a_time_point_of_which_nothing_is_there_are_said_once(tmp_path: Path) -> None:
    write_index(
        tmp_path,
        [
            image(name(1, c, 1, ch, t + 1), row=1, column=c, field=1, channel=ch, time=t)
            for c in (1, 2)
            for ch in (1, 2)
            for t in (0, 1, 2)
        ],
    )
    for c in (1, 2):
        (tmp_path / name(1, c, 1, 1, 1)).touch()
        (tmp_path / name(1, c, 1, 1, 3)).touch()
    plate = open_plate(tmp_path)
    assert list(plate.missing_planes()) == []
    assert plate.timepoints == 2
    assert [p.timepoint for p in plate.wells[0].fields[0].planes] == [0, 1]
    assert "Alexa 488 (ch2)" in plate.warnings[0]
    assert "Time point 1:" in plate.warnings[1]


@pytest.mark.parametrize(
    "url", ["../secret.tiff", "/etc/passwd", "a/../../secret.tiff", "..\\secret.tiff", "C:\\x.tiff", "file:///x.tiff"]
)
def test_a_url_that_leaves_the_plate_is_not_read(tmp_path: Path, url: str) -> None:
    (tmp_path / "secret.tiff").touch()
    plate_folder = tmp_path / "plate"
    write_index(plate_folder, [image(name(1, 1, 1), row=1, column=1, field=1), image(url, row=1, column=2, field=1)])
    (plate_folder / name(1, 1, 1)).touch()
    ((well, _, plane),) = open_plate(plate_folder).missing_planes()
    assert well.name == "A02"
    assert "outside the plate directory" in plane.error


def test_the_state_of_an_image_that_is_not_there_is_its_error(tmp_path: Path) -> None:
    write_index(
        tmp_path,
        [
            image(name(1, 1, 1), row=1, column=1, field=1),
            image(name(1, 1, 2), row=1, column=1, field=2, state="AutofocusFailed"),
        ],
    )
    (tmp_path / name(1, 1, 1)).touch()
    ((_, site, plane),) = open_plate(tmp_path).missing_planes()
    assert (site.number, plane.error) == (2, "the instrument reports the state 'AutofocusFailed'")


def test_an_unknown_version_is_refused_with_its_name(tmp_path: Path) -> None:
    write_index(tmp_path, [], namespace=PEHH + "V9")
    with pytest.raises(NotAPlateError, match=r"version V9; V4, V5, V6, V7 can be read"):
        open_plate(tmp_path)


@pytest.mark.parametrize(
    ("head", "tail", "said"),
    [
        ('<!DOCTYPE a [<!ENTITY b "c">]>', "", "document type or entities"),
        ("", "cut", "is not complete XML"),
        ("", "empty", "is empty"),
    ],
)
def test_hostile_and_damaged_indices_are_refused(tmp_path: Path, head: str, tail: str, said: str) -> None:
    write_index(tmp_path, [image(name(1, 1, 1), row=1, column=1, field=1)], head=head)
    path = tmp_path / "Index.xml"
    if tail:
        path.write_bytes(path.read_bytes()[:-40] if tail == "cut" else b"")
    with pytest.raises(NotAPlateError, match=said):
        open_plate(tmp_path)


@pytest.mark.parametrize(("row", "said"), [(0, "row 0, column 1"), (99, "row 99, column 1")])
def test_a_well_that_is_on_no_plate_is_refused(tmp_path: Path, row: int, said: str) -> None:
    write_index(tmp_path, [image(name(1, 1, 1), row=row, column=1, field=1)])
    with pytest.raises(NotAPlateError, match=said):
        open_plate(tmp_path)


def test_an_index_without_its_images_says_so(tmp_path: Path) -> None:
    write_index(tmp_path, [image(name(2, 3, 1), row=2, column=3, field=1)])
    with pytest.raises(NotAPlateError, match=r"None of the images .* B03 field 1"):
        open_plate(tmp_path)


def test_images_that_the_index_does_not_name_are_said(tmp_path: Path) -> None:
    write_index(tmp_path, [image(name(1, 1, 1), row=1, column=1, field=1)])
    (tmp_path / name(1, 1, 1)).touch()
    (tmp_path / name(1, 1, 2)).touch()
    (warning,) = open_plate(tmp_path).warnings
    assert name(1, 1, 2) in warning


@pytest.mark.parametrize(
    ("names", "token"),
    [
        (["r03c11f01p01-ch1sk1fk1fl1.tiff", "r03c12f01p01-ch1sk1fk1fl1.tiff"], "ch1"),
        (["r03c11f01p01-ch02t01.tiff", "r03c12f01p01-ch02t01.tiff"], "ch2"),
        (["003011-1-001001001.tif", "003012-1-001001001.tif"], "ch1"),
    ],
)
def test_names_alone(tmp_path: Path, names: list[str], token: str) -> None:
    images = tmp_path / "Screen__2024-05-01T10_00_00-Measurement 1" / "Images"
    images.mkdir(parents=True)
    for file in names:
        (images / file).touch()
    plate = open_plate(images)
    assert (plate.vendor, plate.name, plate.acquisition) == ("operetta", "Screen", "2024-05-01T10_00_00-Measurement 1")
    assert [w.name for w in plate] == ["C11", "C12"]
    assert ([c.token for c in plate.channels], plate.expected_from) == ([token], "regularity")


def test_the_layout_of_the_assay_is_noted(tmp_path: Path) -> None:
    write_index(tmp_path / "Images", [image(name(1, 1, 1), row=1, column=1, field=1)])
    (tmp_path / "Images" / name(1, 1, 1)).touch()
    (tmp_path / "Assaylayout").mkdir()
    (tmp_path / "Assaylayout" / "Layout.xml").touch()
    assert open_plate(tmp_path).metadata_files == ("Images/Index.xml", "Assaylayout/Layout.xml")


def test_columbus_keeps_several_planes_in_a_file(tmp_path: Path) -> None:
    pixels = np.arange(4 * 6 * 5, dtype=np.uint16).reshape(4, 6, 5)
    tifffile.imwrite(tmp_path / "002003-1.tif", pixels, photometric="minisblack")
    images = [
        image("002003-1.tif", row=2, column=3, field=field, channel=channel, time=1).replace(
            "<URL>", f'<URL BufferNo="{page}">'
        )
        for page, (field, channel) in enumerate([(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)])
    ]
    write_index(tmp_path, images, namespace="http://www.perkinelmer.com/Columbus")
    (tmp_path / "Index.xml").rename(tmp_path / "ImageIndex.ColumbusIDX.xml")
    plate = open_plate(tmp_path)
    assert (plate.vendor, [w.name for w in plate]) == ("operetta", ["B03"])
    assert [[p.page for p in f.planes] for f in plate.wells[0].fields] == [[0, 1], [2, 3], [4]]
    for field in plate.wells[0].fields[:2]:
        for plane in field.planes:
            np.testing.assert_array_equal(read_image(plate.root, [plane]), pixels[plane.page])
    with pytest.raises(PlaneError, match="has 4 pages; page 4"):
        read_image(plate.root, plate.wells[0].fields[2].planes)


@pytest.mark.parametrize("between", ["", "\n      "])
def test_an_index_is_read_whatever_its_spaces_and_escapes(tmp_path: Path, between: str) -> None:
    entries = [image(name(1, c, 1), row=1, column=c, field=1, state="") for c in range(1, 25)]
    text = between.join(entries).replace("><", f">{between}<").replace("<State></State>", "<State />")
    write_index(tmp_path, [text + between + "<!-- " + "x" * 70_000 + " -->"])  # more than is parsed at once
    path = tmp_path / "Index.xml"
    path.write_text(
        path.read_text("utf-8-sig").replace("HOECHST 33342", "<![CDATA[Hoechst & co]]> &lt;&#x3b1;&gt;"), "utf-8"
    )
    for c in range(1, 24):
        (tmp_path / name(1, c, 1)).touch()
    plate = open_plate(tmp_path)
    assert plate.channels[0].name == "Hoechst & co <α>"
    assert [(w.name, p.error) for w, _, p in plate.missing_planes()] == [("A24", "")]
    assert all(w.fields[0].position_um == pytest.approx((100, -200)) for w in plate)


@pytest.mark.parametrize(
    ("types", "confocal"),
    [
        ({}, None),
        ({1: "NonConfocal", 2: "NonConfocal"}, False),
        ({1: "Confocal"}, True),
        ({1: "Confocal", 2: "NonConfocal"}, True),
    ],
    ids=["not said", "wide field", "confocal", "one channel confocal"],
)
@pytest.mark.parametrize("with_images", [True, False], ids=["with each image", "in maps"])
def test_the_index_says_whether_images_are_optical_sections(
    types: dict[int, str], confocal: bool | None, with_images: bool, tmp_path: Path
) -> None:
    images = []
    for channel in (1, 2):
        element = image(name(1, 1, 1, channel), row=1, column=1, field=1, channel=channel)
        kind = f"<AcquisitionType>{types[channel]}</AcquisitionType>" if channel in types else ""
        images.append(element.replace("</Image>", f"{kind}</Image>") if with_images else element)
    write_index(tmp_path, images)
    if not with_images:
        text = (tmp_path / "Index.xml").read_text(encoding="utf-8-sig")
        for channel, kind in types.items():
            entry = f'<Entry ChannelID="{channel}">'
            text = text.replace(entry, f"{entry}<AcquisitionType>{kind}</AcquisitionType>", 1)
        (tmp_path / "Index.xml").write_text(text, encoding="utf-8-sig")
    for channel in (1, 2):
        (tmp_path / name(1, 1, 1, channel)).touch()

    assert open_plate(tmp_path).confocal is confocal
