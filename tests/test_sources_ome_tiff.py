"""OME-TIFF plates made for the purpose: with a companion file, with the plate in the TIFFs, one file or many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from damaged_metadata import change_bytes, check_plate_or_reason
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcs_nuclei.errors import NotAPlateError, PlaneError
from hcs_nuclei.plate import well_name
from hcs_nuclei.sources import inspection, open_plate, read_image

OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
#: (z, c, t) and what follows in TiffData
Entry = str


def tiff_data(file: str = "", uuid: str = "urn:uuid:f", **attributes: int) -> Entry:
    given = "".join(f' {name}="{value}"' for name, value in attributes.items())
    inner = f'<UUID FileName="{file}">{uuid}</UUID>' if file else ""
    return f"<TiffData{given}>{inner}</TiffData>"


def image(
    number: int,
    entries: Iterable[Entry],
    *,
    sizes: tuple[int, int, int] = (1, 1, 1),
    channels: Sequence[str] = ("DAPI",),
    order: str = "XYZCT",
) -> str:
    """`sizes` are z, c, t."""
    named = "".join(f'<Channel ID="Channel:{number}:{i}" Name="{name}"/>' for i, name in enumerate(channels))
    return (
        f'<Image ID="Image:{number}"><Pixels DimensionOrder="{order}" SizeZ="{sizes[0]}" SizeC="{sizes[1]}" '
        f'SizeT="{sizes[2]}" SizeX="9" SizeY="9" Type="uint16" PhysicalSizeX="325" PhysicalSizeXUnit="nm">'
        f"{named}{''.join(entries)}</Pixels></Image>"
    )


def plate_xml(
    wells: dict[tuple[int, int], Sequence[int]],
    *,
    size: tuple[int, int] = (8, 12),
    name: str = "Screen",
    more: str = "",
    ids: bool = True,
) -> str:
    """`wells` are the numbers of the images of each (row, column) from 0; -1 stands for none."""
    text = ""
    for number, ((row, column), images) in enumerate(wells.items()):
        samples = "".join(
            f'<WellSample ID="{f"WellSample:0:{number}:{place}" if ids else f"s{n}"}" Index="{n}">'
            + (f'<ImageRef ID="Image:{n}"/>' if n >= 0 else "")
            + "</WellSample>"
            for place, n in enumerate(images)
        )
        text += f'<Well ID="Well:0:{number}" Row="{row}" Column="{column}">{samples}</Well>'
    return f'<Plate ID="Plate:0" Name="{name}" Rows="{size[0]}" Columns="{size[1]}">{text}{more}</Plate>'


def ome(*parts: str, uuid: str = "urn:uuid:own", head: str = "", namespace: str = OME) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>{head}<OME xmlns="{namespace}" UUID="{uuid}">{"".join(parts)}</OME>'


def write_tiff(path: Path, pages: int = 1, description: str | None = None, first: int = 0) -> None:
    """Pages of 9 × 9 pixels that hold their number, counted from `first`."""
    with tifffile.TiffWriter(path, ome=False) as tiff:
        for page in range(pages):
            tiff.write(
                np.full((9, 9), first + page, np.uint16),
                photometric="minisblack",
                metadata=None,
                description=description.encode() if description and page == 0 else None,
            )


def binary_only(companion: str) -> str:
    return ome(f'<BinaryOnly MetadataFile="{companion}" UUID="urn:uuid:own"/>', uuid="urn:uuid:f")


def two_wells(folder: Path) -> Path:
    """A02 and B01 with two fields of two channels, a file for each field with a page for each channel."""
    images = [
        image(
            n,
            [tiff_data(f"f{n}.ome.tif", FirstC=c, IFD=c, PlaneCount=1) for c in (0, 1)],
            sizes=(1, 2, 1),
            channels=("DAPI", "GFP"),
        )
        for n in range(4)
    ]
    companion = folder / "screen.companion.ome"
    companion.write_text(ome(plate_xml({(0, 1): (0, 1), (1, 0): (2, 3)}), *images), encoding="utf-8")
    for n in range(4):
        write_tiff(folder / f"f{n}.ome.tif", 2, binary_only(companion.name), first=10 * n)
    return companion


def values(folder: Path) -> dict[tuple[str, int, str, int, int], int]:
    """The number that each plane holds, by well, field, channel, time point and z."""
    plate = open_plate(folder)
    return {
        (w.name, s.number, p.channel, p.timepoint, p.z): int(read_image(plate.root, [p])[0, 0])
        for w in plate
        for s in w.fields
        for p in s.planes
        if p.path
    }


def missing(folder: Path) -> list[tuple[str, int, str, str]]:
    return [(w.name, s.number, p.channel, p.error) for w, s, p in open_plate(folder).missing_planes()]


def test_a_companion_file_with_its_tiffs(tmp_path: Path) -> None:
    two_wells(tmp_path)
    plate = open_plate(tmp_path)
    assert (plate.vendor, plate.name, plate.expected_from) == ("ome-tiff", "Screen", "metadata")
    assert [(c.token, c.name) for c in plate.channels] == [("C0", "DAPI"), ("C1", "GFP")]
    assert plate.pixel_size_um == pytest.approx(0.325)
    assert (plate.warnings, plate.metadata_files) == ((), ("screen.companion.ome",))
    assert values(tmp_path) == {
        (well, field, f"C{c}", 0, 0): 10 * n + c
        for (well, field, n) in [("A02", 1, 0), ("A02", 2, 1), ("B01", 1, 2), ("B01", 2, 3)]
        for c in (0, 1)
    }


@pytest.mark.parametrize("size", [(2, 3), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48)], ids=lambda s: str(s[0] * s[1]))
def test_every_plate_format(tmp_path: Path, size: tuple[int, int]) -> None:
    images = [image(n, [tiff_data(IFD=n)]) for n in (0, 1)]
    xml = ome(plate_xml({(0, 0): (0,), (size[0] - 1, size[1] - 1): (1,)}, size=size), *images)
    write_tiff(tmp_path / "p.ome.tif", 2, xml)
    plate = open_plate(tmp_path)
    assert plate.wells_in_format == size[0] * size[1]
    assert [w.name for w in plate] == ["A01", well_name(*size)]


@pytest.mark.parametrize("order", ["XYZCT", "XYZTC", "XYCZT", "XYCTZ", "XYTCZ", "XYTZC"])
def test_one_file_with_all_fields_counts_pages_in_the_order_of_dimensions(tmp_path: Path, order: str) -> None:
    sizes = {"Z": 2, "C": 3, "T": 4}
    images = [
        image(n, [tiff_data(IFD=24 * n, PlaneCount=24)], sizes=(2, 3, 4), channels="ABC", order=order) for n in (0, 1)
    ]
    write_tiff(tmp_path / "p.ome.tif", 48, ome(plate_xml({(2, 3): (0, 1)}), *images))
    found = values(tmp_path)
    assert len(found) == 48
    for (_, field, channel, t, z), value in found.items():
        at = {"Z": z, "C": int(channel[1]), "T": t}
        fast, middle, slow = list(order[2:])
        assert value == 24 * (field - 1) + at[fast] + sizes[fast] * (at[middle] + sizes[middle] * at[slow])


def test_every_file_with_the_whole_metadata_survives_the_loss_of_any(tmp_path: Path) -> None:
    images = [image(n, [tiff_data(f"f{n}.ome.tif", f"urn:uuid:{n}", IFD=0)]) for n in range(3)]
    wells = plate_xml({(0, n): (n,) for n in range(3)})
    for lost in range(3):
        for n in range(3):
            write_tiff(tmp_path / f"f{n}.ome.tif", 1, ome(wells, *images, uuid=f"urn:uuid:{n}"), first=n)
        assert values(tmp_path) == {(f"A0{n + 1}", 1, "C0", 0, 0): n for n in range(3)}
        (tmp_path / f"f{lost}.ome.tif").unlink()
        assert missing(tmp_path) == [(f"A0{lost + 1}", 1, "C0", "")]
        (tmp_path / f"f{lost}.ome.tif").write_bytes(b"")
        plate = open_plate(tmp_path)
        assert [w.name for w in plate] == ["A01", "A02", "A03"]
        with pytest.raises(PlaneError, match=rf"f{lost}\.ome\.tif is empty"):
            read_image(plate.root, plate.wells[lost].fields[0].planes)


def test_files_of_one_well_each_make_one_plate(tmp_path: Path) -> None:
    for n in range(3):
        xml = ome(plate_xml({(0, n): (0,)}), image(0, [tiff_data(IFD=0)]), uuid=f"urn:uuid:{n}")
        write_tiff(tmp_path / f"f{n}.ome.tif", 1, xml, first=n)
    assert values(tmp_path) == {(f"A0{n + 1}", 1, "C0", 0, 0): n for n in range(3)}


def test_a_file_that_got_another_name_knows_itself(tmp_path: Path) -> None:
    xml = ome(plate_xml({(0, 0): (0,)}), image(0, [tiff_data("old.ome.tif", "urn:uuid:own", IFD=0)]))
    write_tiff(tmp_path / "new.ome.tif", 1, xml)
    assert missing(tmp_path) == []
    write_tiff(tmp_path / "new.ome.tif", 1, xml.replace(' UUID="urn:uuid:own"', ""))
    assert missing(tmp_path) == []


def test_a_file_that_is_gone_costs_its_own_field(tmp_path: Path) -> None:
    two_wells(tmp_path)
    (tmp_path / "f1.ome.tif").unlink()
    assert missing(tmp_path) == [("A02", 2, "C0", ""), ("A02", 2, "C1", "")]
    assert inspection(open_plate(tmp_path))["well_status"] == {"A02": "incomplete", "B01": "complete"}


def test_pages_that_are_cut_off_cost_their_own_fields(tmp_path: Path) -> None:
    images = [image(n, [tiff_data(IFD=n)]) for n in range(4)]
    write_tiff(tmp_path / "p.ome.tif", 2, ome(plate_xml({(0, 0): (0, 1), (0, 1): (2, 3)}), *images))
    plate = open_plate(tmp_path)
    assert [int(read_image(plate.root, s.planes)[0, 0]) for s in plate.wells[0].fields] == [0, 1]
    for site in plate.wells[1].fields:
        with pytest.raises(PlaneError, match=r"p\.ome\.tif has 2 pages; page [23]"):
            read_image(plate.root, site.planes)


def test_a_field_that_is_left_out_keeps_its_number(tmp_path: Path) -> None:
    companion = two_wells(tmp_path)
    text = companion.read_text("utf-8")
    left_out = '<WellSample ID="WellSample:0:0:0" Index="0"><ImageRef ID="Image:0"/></WellSample>'
    assert left_out in text
    companion.write_text(text.replace(left_out, ""), "utf-8")
    plate = open_plate(tmp_path)
    assert [[s.number for s in w.fields] for w in plate] == [[2], [1, 2]]
    assert "1 images are not named by screen.companion.ome and are not used: f0.ome.tif" in plate.warnings[0]


def test_fields_without_telling_ids_are_numbered_by_their_index(tmp_path: Path) -> None:
    images = [image(n, [tiff_data(IFD=n)]) for n in range(4)]
    write_tiff(tmp_path / "p.ome.tif", 4, ome(plate_xml({(0, 0): (1, 0), (0, 1): (3, 2)}, ids=False), *images))
    assert values(tmp_path) == {
        ("A01", 1, "C0", 0, 0): 0,
        ("A01", 2, "C0", 0, 0): 1,
        ("A02", 1, "C0", 0, 0): 2,
        ("A02", 2, "C0", 0, 0): 3,
    }


def test_fields_and_planes_that_the_metadata_leave_open_are_missing_with_a_word(tmp_path: Path) -> None:
    images = [
        image(0, [tiff_data(FirstC=0, IFD=0), tiff_data(FirstC=1, IFD=1)], sizes=(1, 2, 1), channels="AB"),
        image(1, [tiff_data(FirstC=1, IFD=2)], sizes=(1, 2, 1), channels="AB"),
    ]
    write_tiff(tmp_path / "p.ome.tif", 3, ome(plate_xml({(0, 0): (0, 1, -1)}), *images))
    assert missing(tmp_path) == [
        ("A01", 2, "C0", "the OME-XML names no file for it"),
        ("A01", 3, "C0", "the OME-XML has no image of this field"),
        ("A01", 3, "C1", "the OME-XML has no image of this field"),
    ]


def test_a_channel_and_a_time_point_of_which_nothing_is_there_are_said_once(tmp_path: Path) -> None:
    entries = [
        tiff_data("here.ome.tif", FirstC=0, FirstT=0, IFD=0),
        tiff_data("gone.ome.tif", FirstC=1, FirstT=0, IFD=0),
        tiff_data("gone.ome.tif", FirstC=0, FirstT=1, IFD=1),
    ]
    xml = ome(plate_xml({(0, 0): (0,)}), image(0, entries, sizes=(1, 2, 2), channels=("DAPI", "GFP")))
    write_tiff(tmp_path / "here.ome.tif", 1, xml)
    plate = open_plate(tmp_path)
    assert list(plate.missing_planes()) == []
    assert plate.warnings[0].startswith("Channel GFP (C1): promised by here.ome.tif")
    assert plate.warnings[1].startswith("Time point 1: promised by here.ome.tif")


def test_the_namespace_that_plates_had_before_2016(tmp_path: Path) -> None:
    old = OME.replace("2016-06", "2013-06")
    spw = old.replace("/OME/", "/SPW/")
    wells = plate_xml({(0, 0): (0,)}).replace("<Plate ", f'<SPW:Plate xmlns:SPW="{spw}" ')
    wells = wells.replace("</Plate>", "</SPW:Plate>").replace("Well", "SPW:Well").replace("ImageRef", "SPW:ImageRef")
    wells = wells.replace('"SPW:Well', '"Well')
    write_tiff(tmp_path / "p.ome.tif", 1, ome(wells, image(0, [tiff_data(IFD=0)]), namespace=old))
    assert values(tmp_path) == {("A01", 1, "C0", 0, 0): 0}


def test_a_channel_of_several_samples_is_one_plane(tmp_path: Path) -> None:
    xml = ome(plate_xml({(0, 0): (0,)}), image(0, [tiff_data(IFD=0)], sizes=(1, 3, 1), channels=("RGB",)))
    write_tiff(tmp_path / "p.ome.tif", 1, xml)
    assert [c.name for c in open_plate(tmp_path).channels] == ["RGB"]


def test_one_channel_with_two_names_is_said(tmp_path: Path) -> None:
    images = [image(n, [tiff_data(IFD=n)], channels=[name]) for n, name in enumerate(["DAPI", "GFP"])]
    write_tiff(tmp_path / "p.ome.tif", 2, ome(plate_xml({(0, 0): (0, 1)}), *images))
    assert "C0 is called differently in different fields: DAPI, GFP" in open_plate(tmp_path).warnings[0]


def test_acquisitions(tmp_path: Path) -> None:
    def plate(*names: str) -> tuple[str, tuple[str, ...]]:
        more = "".join(f'<PlateAcquisition ID="PlateAcquisition:0:{i}" Name="{n}"/>' for i, n in enumerate(names))
        xml = ome(plate_xml({(0, 0): (0,)}, more=more), image(0, [tiff_data(IFD=0)]))
        write_tiff(tmp_path / "p.ome.tif", 1, xml)
        opened = open_plate(tmp_path)
        return opened.acquisition, opened.warnings

    assert plate("day 1") == ("day 1", ())
    assert plate("") == ("", ())
    acquisition, (warning,) = plate("day 1", "day 2")
    assert (acquisition, "imaged 2 times (day 1, day 2)" in warning) == ("", True)


@pytest.mark.parametrize("file", ["../secret.tif", "/etc/passwd", "..\\secret.tif", "C:\\x.tif", "file:///x.tif"])
def test_a_name_that_leaves_the_plate_is_not_read(tmp_path: Path, file: str) -> None:
    write_tiff(tmp_path / "secret.tif")
    folder = tmp_path / "plate"
    folder.mkdir()
    companion = two_wells(folder)
    companion.write_text(companion.read_text("utf-8").replace('"f2.ome.tif"', f'"{file}"'), "utf-8")
    assert [(w, f, c) for w, f, c, _ in missing(folder)] == [("B01", 1, "C0"), ("B01", 1, "C1")]
    assert all("outside the plate directory" in error for *_, error in missing(folder))


def test_a_companion_that_leaves_the_plate_or_is_gone_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "plate"
    folder.mkdir()
    two_wells(folder).rename(tmp_path / "screen.companion.ome")
    with pytest.raises(NotAPlateError, match=r"f0\.ome\.tif .* refers to screen\.companion\.ome .* not there"):
        open_plate(folder)
    for n in range(4):
        write_tiff(folder / f"f{n}.ome.tif", 2, binary_only("../screen.companion.ome"))
    with pytest.raises(NotAPlateError, match="outside the plate directory"):
        open_plate(folder)


def test_metadata_under_another_name_are_found_by_what_refers_to_them(tmp_path: Path) -> None:
    two_wells(tmp_path).rename(tmp_path / "metadata.ome.xml")
    for n in range(4):
        write_tiff(tmp_path / f"f{n}.ome.tif", 2, binary_only("metadata.ome.xml"), first=10 * n)
    assert len(values(tmp_path)) == 8
    assert open_plate(tmp_path).metadata_files == ("metadata.ome.xml",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("</OME>", "", "is not complete XML"),
        ("UTF-8", "klingon", "is not complete XML"),
        ("?><OME", '?><!DOCTYPE a [<!ENTITY b "c">]><OME', "document type or entities"),
        ('SizeZ="1"', "", "Image Image:0 lacks a number"),
        ('SizeZ="1"', 'SizeZ="99999999"', "99999999 z planes"),
        ('SizeZ="1"', 'SizeZ="0"', "0 z planes"),
        ('"XYZCT"', '"XYZZZ"', "order of dimensions XYZZZ"),
        (' Row="1"', ' Row="one"', "Plate Plate:0 lacks a number"),
        (' Row="1"', ' Row="77"', "row 78"),
    ],
)
def test_damaged_metadata_are_refused_with_a_reason(tmp_path: Path, old: str, new: str, said: str) -> None:
    companion = two_wells(tmp_path)
    text = companion.read_text("utf-8")
    assert old in text
    companion.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(NotAPlateError, match=said):
        open_plate(tmp_path)


def test_planes_by_the_million_are_refused(tmp_path: Path) -> None:
    many = image(0, [tiff_data("a.tif")] * 50, sizes=(500_000, 1, 1))
    (tmp_path / "p.companion.ome").write_text(ome(plate_xml({(0, 0): (0,)}), many))
    (tmp_path / "a.tif").touch()
    with pytest.raises(NotAPlateError, match="again and again"):
        open_plate(tmp_path)
    one = image(0, [tiff_data("a.tif", IFD=0)], sizes=(500_000, 1, 1))
    (tmp_path / "p.companion.ome").write_text(ome(plate_xml({(0, 0): (0, -1)}), one))
    with pytest.raises(NotAPlateError, match="more than 600,000 planes"):
        open_plate(tmp_path)


def test_a_stray_file_with_damaged_metadata_does_not_cost_the_plate(tmp_path: Path) -> None:
    two_wells(tmp_path)
    write_tiff(tmp_path / "stray.ome.tif", 1, ome(plate_xml({(0, 0): (0,)}))[:-9])
    plate = open_plate(tmp_path)
    assert list(plate.missing_planes()) == []
    assert plate.warnings[0].startswith("stray.ome.tif is not used.")


def test_several_plates_are_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_tiff(
            tmp_path / f"{name}.ome.tif", 1, ome(plate_xml({(0, 0): (0,)}, name=name), image(0, [tiff_data(IFD=0)]))
        )
    with pytest.raises(NotAPlateError, match="several plates: one, two"):
        open_plate(tmp_path)


def test_without_a_plate(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.ome.tif", 1, ome(image(0, [tiff_data(IFD=0)])))
    with pytest.raises(NotAPlateError, match=r"(?s)not recognised.*OME-TIFF"):
        open_plate(tmp_path)
    (tmp_path / "a.companion.ome").write_text(ome(image(0, [tiff_data("a.ome.tif", IFD=0)])))
    with pytest.raises(NotAPlateError, match=r"without a plate \(a\.companion\.ome\)"):
        open_plate(tmp_path)
    (tmp_path / "a.companion.ome").rename(tmp_path / "a.ome.xml")
    write_tiff(tmp_path / "a.ome.tif", 1, binary_only("a.ome.xml"))
    with pytest.raises(NotAPlateError, match=r"without a plate \(a\.ome\.xml\)"):
        open_plate(tmp_path)


def test_a_link_that_leaves_the_plate_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "plate"
    folder.mkdir()
    two_wells(folder)
    (folder / "f3.ome.tif").rename(tmp_path / "f3.ome.tif")
    (folder / "f3.ome.tif").symlink_to(tmp_path / "f3.ome.tif")
    assert [(w, f, "leaves the plate" in error) for w, f, _, error in missing(folder)] == [("B01", 2, True)] * 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_of_any_kind_is_a_plate_or_a_reason(tmp_path: Path, data: st.DataObject) -> None:
    path = two_wells(tmp_path)
    change_bytes(path, data)
    check_plate_or_reason(tmp_path)
