"""IN Cell Analyzer directories made for the purpose."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from damaged_metadata import change_bytes, check_plate_or_reason
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.plate import row_name
from hcs_nuclei.sources import inspection, open_plate, render_inspection

Place = tuple[int, int, int, int, int, int]
WAVES = (("390", "Blue"), ("Green", "dsRed"))


def name(row: int, column: int, field: int, time: int, wave: int, z: int) -> str:
    """The file's name of indices as in the index: fields, times, waves and z from 0."""
    more = (f" z {z + 1}" if z else "") + (f" time {time + 1}" if time else "")
    return f"{row_name(row)} - {column:02d}(fld {field + 1} wv {' - '.join(WAVES[wave])}{more}).tif"


def image(place: Place, filename: str | None = None) -> str:
    row, column, field, time, wave, z = place
    return (
        f'<Image filename="{filename or name(*place)}"><Well label="x"><Row number="{row}"/><Column number="{column}"/>'
        f'</Well><PlatePosition_um x="{1000 * column + field}" y="{1000 * row}"/><Identifier field_index="{field}" '
        f'time_index="{time}" wave_index="{wave}" z_index="{z}"/></Image>'
    )


def write_index(
    folder: Path,
    images: Iterable[str],
    *,
    number: int | None = None,
    plan: str = "",
    size: tuple[int, int] = (8, 12),
    head: str = "",
) -> Path:
    listed = list(images)
    waves = "".join(
        f'<Wavelength index="{i}" fusion_wave="false"><ExcitationFilter name="{excitation}"/>'
        f'<EmissionFilter name="{emission}"/></Wavelength>'
        for i, (excitation, emission) in enumerate(WAVES)
    )
    text = (
        f'<?xml version="1.0" encoding="ISO-8859-1"?>{head}<ImageStack><Application name="IN Cell Analyzer 2000"/>'
        '<Creation date="2010-11-17" time="20:23:53.5"/><AutoLeadAcquisitionProtocol name="protocol">'
        '<ObjectiveCalibration pixel_width="0.325" pixel_height="0.325" unit="\u00b5m"/>'
        f'<Plate rows="{size[0]}" columns="{size[1]}" name="a plate"/><PlateMap>{plan}</PlateMap>'
        f"<Wavelengths>{waves}</Wavelengths></AutoLeadAcquisitionProtocol>"
        f'<Images number="{len(listed) if number is None else number}">{"".join(listed)}</Images></ImageStack>'
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "Screen_1.xdce"
    path.write_text(text, encoding="latin-1")
    return path


def places(
    wells: Iterable[tuple[int, int]], fields: int = 1, times: int = 1, waves: int = 1, zs: int = 1
) -> list[Place]:
    return [
        (*well, f, t, w, z)
        for well in wells
        for f in range(fields)
        for t in range(times)
        for w in range(waves)
        for z in range(zs)
    ]


def touch(folder: Path, all_places: Iterable[Place]) -> None:
    for place in all_places:
        (folder / name(*place)).touch()


def missing(folder: Path) -> list[tuple[str, int, str, int, int]]:
    return [(w.name, s.number, p.channel, p.timepoint, p.z) for w, s, p in open_plate(folder).missing_planes()]


def test_everything_comes_from_the_index(tmp_path: Path) -> None:
    everything = places([(2, 3), (32, 48)], fields=2, times=2, waves=2, zs=3)
    write_index(tmp_path, map(image, everything), size=(32, 48))
    touch(tmp_path, everything)
    plate = open_plate(tmp_path)
    assert (plate.vendor, plate.name, plate.acquisition) == ("incell", "Screen_1", "20101117_202353")
    assert (plate.wells_in_format, plate.timepoints, plate.expected_from) == (1536, 2, "metadata")
    assert [w.name for w in plate] == ["B03", "AF48"]
    assert [(c.token, c.name) for c in plate.channels] == [("wave0", "Blue"), ("wave1", "dsRed")]
    assert plate.pixel_size_um == pytest.approx(0.325)
    assert plate.warnings == ()
    first, second = plate.wells[0].fields
    assert (first.number, second.number, second.position_um) == (1, 2, (3001.0, 2000.0))
    assert len(second.planes) == 12
    (last,) = second.planes_of("wave1", 1, 3)
    assert last.path == "B - 03(fld 2 wv Green - dsRed z 3 time 2).tif"
    assert list(plate.missing_planes()) == []


@pytest.mark.parametrize("size", [(2, 3), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48)], ids=lambda s: str(s[0] * s[1]))
def test_every_plate_format(tmp_path: Path, size: tuple[int, int]) -> None:
    corners = places([(1, 1), size])
    write_index(tmp_path, map(image, corners), size=size)
    touch(tmp_path, corners)
    assert open_plate(tmp_path).wells_in_format == size[0] * size[1]


def test_a_missing_file_is_missed_in_its_own_field(tmp_path: Path) -> None:
    everything = places([(1, 1), (1, 2)], fields=3, waves=2)
    write_index(tmp_path, map(image, everything))
    touch(tmp_path, everything)
    (tmp_path / name(1, 1, 1, 0, 0, 0)).unlink()
    assert missing(tmp_path) == [("A01", 2, "wave0", 0, 1)]


def test_an_index_that_stops_early_is_completed_by_its_plan(tmp_path: Path) -> None:
    done = places([(1, 1), (1, 2)], fields=2, waves=2)
    excluded = "".join(f'<Exclude row="{r}" col="{c}"/>' for r in range(1, 9) for c in range(1, 13) if (r, c) > (1, 3))
    plan = excluded + '<offset_point x="0" y="0"/><offset_point x="1" y="0"/>'
    write_index(tmp_path, map(image, done[:-1]), number=12, plan=plan)
    touch(tmp_path, done[:-1])
    plate = open_plate(tmp_path)
    assert [w.name for w in plate] == ["A01", "A02", "A03"]
    assert missing(tmp_path) == [
        ("A02", 2, "wave1", 0, 1),
        *(("A03", field, wave, 0, 1) for field in (1, 2) for wave in ("wave0", "wave1")),
    ]
    (warning,) = plate.warnings
    assert "promises 12 images and lists 7: the acquisition ended early" in warning
    assert "where they belong" not in warning


def test_what_the_plan_does_not_explain_is_said_and_not_invented(tmp_path: Path) -> None:
    done = places([(1, 1)], fields=2)
    write_index(tmp_path, map(image, done), number=7)
    touch(tmp_path, done)
    plate = open_plate(tmp_path)
    assert list(plate.missing_planes()) == []
    assert "of 5 it does not say where they belong" in plate.warnings[1]


def test_a_wave_without_a_stack_may_be_listed_once_for_each_z(tmp_path: Path) -> None:
    flat = name(1, 1, 0, 0, 0, 0)
    images = [image((1, 1, 0, 0, 0, z), flat) for z in range(4)] + [image((1, 1, 0, 0, 1, z)) for z in range(4)]
    write_index(tmp_path, images)
    touch(tmp_path, [(1, 1, 0, 0, 0, 0), *((1, 1, 0, 0, 1, z) for z in range(4))])
    (site,) = open_plate(tmp_path).wells[0].fields
    assert [(p.channel, p.z) for p in site.planes] == [("wave0", 1), *(("wave1", z) for z in (1, 2, 3, 4))]


def test_a_wave_and_a_time_point_of_which_nothing_is_there_are_said_once(tmp_path: Path) -> None:
    listed = places([(1, 1), (1, 2)], times=2, waves=1)
    plan = '<TimeSchedule enabled="true"><Times><TimePoint/><TimePoint/><TimePoint/></Times></TimeSchedule>'
    write_index(tmp_path, map(image, listed), plan=plan)
    touch(tmp_path, [p for p in listed if p[3] == 0])
    plate = open_plate(tmp_path)
    assert list(plate.missing_planes()) == []
    assert plate.warnings[0].startswith("Channel dsRed (wave1): promised by Screen_1.xdce")
    assert plate.warnings[1].startswith("Time point 2-3: promised")
    assert len(plate.warnings) == 2


def test_two_waves_of_one_emission_keep_apart(tmp_path: Path) -> None:
    path = write_index(tmp_path, map(image, places([(1, 1)], waves=2)))
    path.write_text(path.read_text("latin-1").replace('"dsRed"', '"Blue"'), "latin-1")
    touch(tmp_path, places([(1, 1)], waves=2))
    assert [c.name for c in open_plate(tmp_path).channels] == ["390 - Blue", "Green - Blue"]


def test_images_that_the_index_does_not_name_are_said(tmp_path: Path) -> None:
    write_index(tmp_path, [image((1, 1, 0, 0, 0, 0))])
    touch(tmp_path, [(1, 1, 0, 0, 0, 0), (3, 4, 5, 0, 1, 0)])
    plate = open_plate(tmp_path)
    assert any(name(3, 4, 5, 0, 1, 0) in warning for warning in plate.warnings)
    (extra,) = plate.extra
    assert (extra.well, extra.field, extra.used) == ("C04", 6, False)


@pytest.mark.parametrize("filename", ["../secret.tif", "/etc/passwd", "..\\secret.tif", "C:\\x.tif", "a/../../x.tif"])
def test_a_name_that_leaves_the_plate_is_not_read(tmp_path: Path, filename: str) -> None:
    (tmp_path / "secret.tif").touch()
    write_index(tmp_path / "plate", [image((1, 1, 0, 0, 0, 0)), image((1, 2, 0, 0, 0, 0), filename)])
    touch(tmp_path / "plate", [(1, 1, 0, 0, 0, 0)])
    ((well, _, plane),) = open_plate(tmp_path / "plate").missing_planes()
    assert (well.name, "outside the plate directory" in plane.error) == ("A02", True)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-30], "is not complete XML"),
        (lambda text: "", "is empty"),
        (lambda text: text.replace("ISO-8859-1", "klingon"), "is not complete XML"),
        (lambda text: text.replace('z_index="0"', ""), "lacks a number"),
        (lambda text: text.replace('field_index="0"', 'field_index="-1"'), "lacks a number"),
        (lambda text: text.replace('<Row number="1"/>', '<Row number="40"/>'), "row 40, column 1"),
    ],
    ids=["cut", "empty", "encoding", "no z", "field -1", "row 40"],
)
def test_a_damaged_index_is_refused_with_a_reason(tmp_path: Path, damage: object, said: str) -> None:
    path = write_index(tmp_path, [image((1, 1, 0, 0, 0, 0))])
    touch(tmp_path, [(1, 1, 0, 0, 0, 0)])
    path.write_text(damage(path.read_text("latin-1")), "latin-1")  # type: ignore[operator]
    with pytest.raises(NotAPlateError, match=said):
        open_plate(tmp_path)


def test_entities_are_refused(tmp_path: Path) -> None:
    write_index(tmp_path, [image((1, 1, 0, 0, 0, 0))], head='<!DOCTYPE a [<!ENTITY b "c">]>')
    with pytest.raises(NotAPlateError, match=r"Screen_1\.xdce declares a document type or entities"):
        open_plate(tmp_path)


def test_a_plan_of_billions_is_not_carried_out(tmp_path: Path) -> None:
    listed = [(1, 1, f, f, 0, f) for f in range(1500)]
    write_index(tmp_path, map(image, listed), number=10**12, size=(32, 48))
    touch(tmp_path, listed[:1])
    assert len(open_plate(tmp_path).wells[0].fields) == 1


def test_two_indices_ask_to_choose(tmp_path: Path) -> None:
    path = write_index(tmp_path, [image((1, 1, 0, 0, 0, 0))])
    path.with_name("Screen_2.xdce").write_bytes(path.read_bytes())
    with pytest.raises(NotAPlateError, match=r"2 image indices: Screen_1\.xdce, Screen_2\.xdce"):
        open_plate(tmp_path)


def test_an_index_without_its_images_says_so(tmp_path: Path) -> None:
    write_index(tmp_path, [image((2, 3, 0, 0, 0, 0))])
    with pytest.raises(NotAPlateError, match=r"None of the images .* B03 field 1"):
        open_plate(tmp_path)


@pytest.mark.parametrize(
    ("names", "token", "channel"),
    [
        (["A - 01(fld 1 wv 390 - Blue).tif", "B - 02(fld 1 wv 390 - Blue).tif"], "390 - Blue", "Blue"),
        (["A - 1(fld 1 wv Cy5 - Cy5).tif", "B - 2(fld 1 wv Cy5 - Cy5).tif"], "Cy5 - Cy5", "Cy5"),
        (["A - 01(fld 1 wv UV (1) - DAPI).tif", "B - 02(fld 1 wv UV (1) - DAPI).tif"], "UV (1) - DAPI", "DAPI"),
    ],
)
def test_names_alone(tmp_path: Path, names: list[str], token: str, channel: str) -> None:
    for file in names:
        (tmp_path / file).touch()
    plate = open_plate(tmp_path)
    assert (plate.vendor, plate.expected_from) == ("incell", "regularity")
    assert [w.name for w in plate] == ["A01", "B02"]
    assert [(c.token, c.name) for c in plate.channels] == [(token, channel)]
    assert re.search(r"Channels +\S*" + re.escape(channel), render_inspection(inspection(plate)))


def test_names_with_z_and_time_miss_what_another_field_has(tmp_path: Path) -> None:
    everything = places([(1, 1), (1, 2)], fields=2, times=2, waves=2, zs=2)
    touch(tmp_path, everything)
    (tmp_path / name(1, 2, 1, 1, 1, 1)).unlink()
    assert missing(tmp_path) == [("A02", 2, "Green - dsRed", 1, 2)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_of_any_kind_is_a_plate_or_a_reason(tmp_path: Path, data: st.DataObject) -> None:
    path = write_index(
        tmp_path, map(image, places([(1, 1), (1, 2)])), number=9, plan='<offset_point/><Exclude row="2" col="2"/>'
    )
    touch(tmp_path, places([(1, 1), (1, 2)]))
    change_bytes(path, data)
    check_plate_or_reason(tmp_path)


def test_an_index_that_is_a_link_out_of_the_plate_is_said_and_not_read(tmp_path: Path) -> None:
    write_index(tmp_path, [image((1, 1, 0, 0, 0, 0))])
    folder = tmp_path / "plate"
    folder.mkdir()
    (folder / "Screen_1.xdce").symlink_to(tmp_path / "Screen_1.xdce")
    touch(folder, places([(1, 1)]))
    plate = open_plate(folder)
    assert plate.expected_from == "regularity"
    assert plate.warnings[0].startswith("Screen_1.xdce is a link that leaves the plate")
