"""OME-Zarr plates made for the purpose: what is expected, what is read, and what each loss is called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from hcs_nuclei.errors import NotAPlateError, PlaneError
from hcs_nuclei.outputs.ome_zarr import WellWriter, begin_store, finish_store
from hcs_nuclei.plate import Plane, Plate
from hcs_nuclei.sources import first_shape, inspection, open_plate, read_image, render_inspection

VERSIONS = ("0.4", "0.5")
#: t, c, z, y, x of a field: chunks of 16 × 32 pixels, so that a plane has four.
SHAPE = (2, 2, 2, 24, 40)
WELLS = {"B/02": (1, 1), "B/03": (1, 2), "AF/48": (31, 47)}


def counts(well: str, field: int) -> np.ndarray:
    seed = [ord(letter) for letter in well] + [field]
    return np.random.default_rng(seed).integers(100, 60_000, SHAPE, dtype=np.uint16)


def write_group(folder: Path, version: str, ome: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if version == "0.4":
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zattrs").write_text(json.dumps(ome))
    else:
        attributes = {"ome": {"version": version, **ome}} if ome else {}
        (folder / "zarr.json").write_text(
            json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes})
        )


def write_array(folder: Path, version: str, image: np.ndarray, *, separator: str = "/", **more: Any) -> None:
    chunks = (*(1 for _ in image.shape[:-2]), 16, 32)
    if version == "0.4":
        encoding = {"name": "v2", "separator": separator}
        array = zarr.create_array(
            folder,
            shape=image.shape,
            dtype=image.dtype,
            chunks=chunks,
            zarr_format=2,
            chunk_key_encoding=encoding,
            **more,
        )
    else:
        encoding = {"name": "default", "separator": separator}
        array = zarr.create_array(
            folder, shape=image.shape, dtype=image.dtype, chunks=chunks, chunk_key_encoding=encoding, **more
        )
    array[...] = image


def image_attributes(*, unit: str | None = "micrometer", **more: Any) -> dict[str, Any]:
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", **({"unit": unit} if unit else {})} for n in "zyx"]
    scale = {"type": "scale", "scale": [1, 1, 2, 0.5, 0.5]}
    moved = {"type": "translation", "translation": [0, 0, 0, 10.0, -30.0]}
    datasets = [{"path": "0", "coordinateTransformations": [scale, moved]}]
    return {
        "multiscales": [{"axes": axes, "datasets": datasets, **more}],
        "omero": {"channels": [{"label": "Hoechst"}, {"label": "GFP"}]},
    }


def plate_attributes(wells: dict[str, tuple[int, int]]) -> dict[str, Any]:
    listed = [{"path": path, "rowIndex": r, "columnIndex": c} for path, (r, c) in wells.items()]
    return {"plate": {"name": "Screen 1", "rows": [], "columns": [], "wells": listed}}


def write_store(root: Path, version: str, *, fields: tuple[str, ...] = ("0", "1"), separator: str = "/") -> Path:
    write_group(root, version, plate_attributes(WELLS))
    for path in WELLS:
        write_group(root / path, version, {"well": {"images": [{"path": field} for field in fields]}})
        for number, field in enumerate(fields):
            write_group(root / path / field, version, image_attributes())
            write_array(root / path / field / "0", version, counts(path, number), separator=separator)
    return root


def chunk(version: str, *place: int, separator: str = "/") -> str:
    return ("c" + separator if version == "0.5" else "") + separator.join(map(str, place))


def lost(plate: Plate) -> list[tuple[str, int, str, int, int]]:
    return [(w.name, s.number, p.channel, p.timepoint, p.z) for w, s, p in plate.missing_planes()]


@pytest.mark.parametrize("separator", ["/", "."])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_plane_is_what_was_written(tmp_path: Path, version: str, separator: str) -> None:
    root = write_store(tmp_path / "a folder", version, separator=separator)
    plate = open_plate(root)
    assert (plate.vendor, plate.name, plate.acquisition, plate.expected_from) == (
        "ome-zarr",
        "Screen 1",
        "",
        "metadata",
    )
    assert f"NGFF {version}" in plate.reason
    assert [(w.name, [s.number for s in w.fields]) for w in plate] == [(n, [0, 1]) for n in ("B02", "B03", "AF48")]
    assert [(c.token, c.name) for c in plate.channels] == [("c0", "Hoechst"), ("c1", "GFP")]
    assert (plate.timepoints, plate.pixel_size_um, plate.wells_in_format, plate.warnings) == (2, 0.5, 1536, ())
    assert list(plate.missing_planes()) == []
    for well, path in zip(plate, WELLS, strict=True):
        for site in well.fields:
            image = counts(path, site.number)
            assert first_shape(plate.root, site.planes) == ((24, 40), np.dtype(np.uint16))
            for t in range(2):
                for c in range(2):
                    stack = site.planes_of(f"c{c}", t)
                    assert [plane.z for plane in stack] == [0, 1]
                    np.testing.assert_array_equal(read_image(plate.root, stack), image[t, c].max(axis=0))
                    np.testing.assert_array_equal(read_image(plate.root, site.planes_of(f"c{c}", t, 1)), image[t, c, 1])
    assert render_inspection(inspection(plate))


@pytest.mark.parametrize("version", VERSIONS)
def test_position_is_the_middle_of_the_field(tmp_path: Path, version: str) -> None:
    plate = open_plate(write_store(tmp_path, version))
    # First pixel at (-30, 10) µm; 40 × 24 pixels of 0.5 µm.
    assert plate.wells[0].fields[0].position_um == pytest.approx((-30 + 19.5 / 2, 10 + 11.5 / 2 * 1))


@pytest.mark.parametrize(
    ("unit", "more", "size"),
    [
        (None, {}, None),
        ("nanometer", {}, 0.0005),
        ("micrometer", {"coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1, 2, 2]}]}, 1.0),
    ],
)
def test_pixel_size_follows_unit_and_every_scale(tmp_path: Path, unit: str | None, more: Any, size: float) -> None:
    root = write_store(tmp_path, "0.4", fields=("0",))
    for path in WELLS:
        write_group(root / path / "0", "0.4", image_attributes(unit=unit, **more))
    assert open_plate(root).pixel_size_um == (None if size is None else pytest.approx(size))


def test_a_plate_is_found_from_its_inside_and_from_its_folder(tmp_path: Path) -> None:
    root = write_store(tmp_path / "run" / "plate.ome.zarr", "0.5")
    (tmp_path / "run" / "report.html").touch()
    plates = [open_plate(root / inner) for inner in ("", "B", "B/03", "B/03/1", "B/03/1/0")] + [open_plate(root.parent)]
    assert all(plate == plates[0] for plate in plates)
    write_store(tmp_path / "run" / "other.zarr", "0.4")
    with pytest.raises(NotAPlateError, match=r"2 plates: other\.zarr, plate\.ome\.zarr"):
        open_plate(tmp_path / "run")


def test_images_of_a_vendor_go_before_a_store_beside_them(tmp_path: Path) -> None:
    write_store(tmp_path / "out.zarr", "0.5")
    (tmp_path / "P_A01_s1_w1.tif").touch()
    assert open_plate(tmp_path).vendor == "imagexpress"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plane_without_any_chunk_is_missing_and_not_black(tmp_path: Path, version: str) -> None:
    root = write_store(tmp_path, version)
    shutil.rmtree(root / "B/03/1/0" / chunk(version, 1, 0, 1))
    plate = open_plate(root)
    assert lost(plate) == [("B03", 1, "c0", 1, 1)]
    ((_, _, plane),) = plate.missing_planes()
    assert plane.error == "no chunk of it is in B/03/1/0"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("damage", "said", "fault"),
    [
        ("delete", "3 of its 4 chunks are there", "truncated"),
        ("empty", "is empty", "zero-byte"),
        ("cut", "cannot be read", "truncated"),
        ("text", "cannot be read", "truncated"),
        ("link", "leaves the plate", "wrong-type"),
        ("folder", "is not a file", "wrong-type"),
    ],
)
def test_a_damaged_chunk_is_a_damaged_plane_and_no_other(
    tmp_path: Path, version: str, damage: str, said: str, fault: str
) -> None:
    root = write_store(tmp_path / "p.zarr", version)
    path = root / "B/03/1/0" / chunk(version, 1, 0, 1, 1, 1)
    data = path.read_bytes()
    path.unlink()
    if damage in {"empty", "cut", "text"}:
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "text": b"The quick brown fox " * 9}[damage])
    elif damage == "link":
        (tmp_path / "outside").write_bytes(data)
        path.symlink_to(tmp_path / "outside")
    elif damage == "folder":
        path.mkdir()
    plate = open_plate(root)
    assert lost(plate) == []
    planes = plate.well("B03").fields[1].planes
    for plane in planes:
        if (plane.channel, plane.timepoint, plane.z) == ("c0", 1, 1):
            with pytest.raises(PlaneError, match=said) as caught:
                read_image(plate.root, [plane])
            assert "B/03/1/0" in str(caught.value)
            assert caught.value.fault == fault
        else:
            assert read_image(plate.root, [plane]).shape == (24, 40)


@pytest.mark.parametrize("kept", [1, 15, 40, 0.7, -20, -1])
@pytest.mark.parametrize(
    ("version", "codec"), [*((v, c) for v in VERSIONS for c in ("zstd", "gzip", "blosc", "none")), ("0.5", "sharded")]
)
def test_a_truncated_chunk_is_never_an_image(tmp_path: Path, version: str, codec: str, kept: float) -> None:
    image = counts("B/02", 0)[0, 0, 0]
    more: dict[str, Any] = {}
    if codec == "sharded":
        more = {"shards": (32, 64)}
    elif codec == "none":
        more = {"compressors": None}
    elif version == "0.4":
        import numcodecs

        more = {"compressors": {"zstd": numcodecs.Zstd(), "gzip": numcodecs.GZip(), "blosc": numcodecs.Blosc()}[codec]}
    else:
        codecs = zarr.codecs
        more = {
            "compressors": {"zstd": codecs.ZstdCodec(), "gzip": codecs.GzipCodec(), "blosc": codecs.BloscCodec()}[codec]
        }
    write_array(tmp_path / "0", version, image, **more)
    plane = Plane("c0", "0")
    np.testing.assert_array_equal(read_image(tmp_path, [plane]), image)
    path = tmp_path / "0" / chunk(version, 0, 0)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(PlaneError, match=r"^0[ ,]"):
        read_image(tmp_path, [plane])


def test_zeros_that_a_shard_leaves_out_are_zeros(tmp_path: Path) -> None:
    image = counts("B/02", 0)[0, 0, 0]
    image[:16, :32] = 0
    write_array(tmp_path / "0", "0.5", image, shards=(32, 64))
    np.testing.assert_array_equal(read_image(tmp_path, [Plane("c0", "0")]), image)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", ["B/03", "B/03/1", "B/03/1/0"])
def test_a_well_or_field_that_is_gone_or_damaged_lacks_its_planes(tmp_path: Path, version: str, what: str) -> None:
    root = write_store(tmp_path, version)
    fields = (0, 1) if what == "B/03" else (1,)
    expected = [("B03", f, c, t, z) for f in fields for t in range(2) for c in ("c0", "c1") for z in range(2)]
    document = root / what / ("zarr.json" if version == "0.5" else ".zarray" if what.endswith("/0") else ".zattrs")
    whole = document.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"[]", b"\xff\xfe", b'{"attributes": {"ome": {"well": 3}}}'):
        document.write_bytes(content)
        plate = open_plate(root)
        assert lost(plate) == expected
        assert all(p.error and str(tmp_path) not in p.error for _, _, p in plate.missing_planes())
    shutil.rmtree(root / what)
    assert lost(open_plate(root)) == expected


def test_a_channel_of_which_nothing_is_there_is_said_once(tmp_path: Path) -> None:
    root = write_store(tmp_path, "0.4")
    for path in WELLS:
        for t in range(2):
            shutil.rmtree(root / path / "0/0" / f"{t}/1")
            shutil.rmtree(root / path / "1/0" / f"{t}/1")
    plate = open_plate(root)
    assert [c.name for c in plate.channels] == ["Hoechst"]
    assert lost(plate) == []
    assert "Channel GFP (c1)" in plate.warnings[0]


@pytest.mark.parametrize("path", ["../secret", "/etc", "B/../../secret", "..\\secret", "C:/secret"])
def test_a_well_outside_the_plate_is_refused(tmp_path: Path, path: str) -> None:
    root = write_store(tmp_path / "p.zarr", "0.4")
    write_group(root, "0.4", plate_attributes({**WELLS, path: (3, 3)}))
    with pytest.raises(NotAPlateError, match="outside the plate directory"):
        open_plate(root)


def test_a_field_that_is_a_link_out_of_the_plate_is_missing(tmp_path: Path) -> None:
    root = write_store(tmp_path / "p.zarr", "0.4")
    (root / "B/03/1").rename(tmp_path / "elsewhere")
    (root / "B/03/1").symlink_to(tmp_path / "elsewhere")
    plate = open_plate(root)
    assert {(w.name, s.number) for w, s, _ in plate.missing_planes()} == {("B03", 1)}
    assert "leaves the plate directory" in next(plate.missing_planes())[2].error


@pytest.mark.parametrize(("version", "told"), [("0.4", "0.3"), ("0.5", "0.6")])
def test_another_version_is_refused_by_name(tmp_path: Path, version: str, told: str) -> None:
    root = write_store(tmp_path, version)
    name = "zarr.json" if version == "0.5" else ".zattrs"
    document = json.loads((root / name).read_text())
    ome = document["attributes"]["ome"] if version == "0.5" else document["plate"]
    ome["version"] = told
    (root / name).write_text(json.dumps(document))
    with pytest.raises(NotAPlateError, match=rf"NGFF {told}; 0\.4 \(Zarr 2\) and 0\.5 \(Zarr 3\) can be read"):
        open_plate(root)


def test_one_acquisition_is_read_and_the_others_are_said(tmp_path: Path) -> None:
    root = write_store(tmp_path, "0.4", fields=("0", "1"))
    attributes = plate_attributes(WELLS)
    attributes["plate"]["acquisitions"] = [{"id": 3, "name": "first"}, {"id": 7, "name": "second"}]
    write_group(root, "0.4", attributes)
    for path in WELLS:
        images = [{"path": "0", "acquisition": 7}, {"path": "1", "acquisition": 3}]
        write_group(root / path, "0.4", {"well": {"images": images}})
    plate = open_plate(root)
    assert plate.acquisition == "first"
    assert [[s.number for s in w.fields] for w in plate] == [[1], [1], [1]]
    assert plate.warnings == ("3 images of further acquisitions are not read, such as B/02/0, B/03/0 and 1 more.",)


def test_the_acquisition_is_that_of_the_plate_and_not_of_the_first_well(tmp_path: Path) -> None:
    root = write_store(tmp_path, "0.4", fields=("0", "1"))
    for path, numbers in zip(WELLS, ((7, 7), (3, 7), (3, 3)), strict=True):
        images = [{"path": str(place), "acquisition": number} for place, number in enumerate(numbers)]
        write_group(root / path, "0.4", {"well": {"images": images}})
    plate = open_plate(root)
    assert [(w.name, len(w.fields)) for w in plate] == [("B03", 1), ("AF48", 2)]
    assert plate.warnings[-1] == "1 wells have no image of acquisition 3: B/02."


def test_a_well_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    root = write_store(tmp_path, "0.4")
    attributes = plate_attributes(WELLS)
    attributes["plate"]["wells"].append({"path": "B/2", "rowIndex": 1, "columnIndex": 1})
    write_group(root, "0.4", attributes)
    with pytest.raises(NotAPlateError, match="lists the well B02 twice, also as B/2"):
        open_plate(root)


@pytest.mark.parametrize("acquisition", ["two", [1], True])
def test_an_acquisition_that_is_no_number_costs_its_well(tmp_path: Path, acquisition: object) -> None:
    root = write_store(tmp_path, "0.4")
    write_group(root / "B/02", "0.4", {"well": {"images": [{"path": "0", "acquisition": acquisition}]}})
    plate = open_plate(root)
    assert {w.name for w, _, _ in plate.missing_planes()} == {"B02"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dtype": "<f4"}, "holds <f4; expected uint8 or uint16"),
        ({"filters": [{"id": "pickle"}]}, "stored with pickle"),
        ({"shape": [2, 2, 2, 60_000, 60_000]}, "at most 400,000,000 samples"),
        ({"chunks": [1, 1, 1, 60_000, 60_000]}, "at most 400,000,000 samples"),
        ({"chunks": [1, 1, 1, 0, 16]}, "in chunks of"),
        ({"shape": [2, 2, 2, "24", 40]}, "does not describe a Zarr array"),
    ],
)
def test_an_array_that_cannot_be_an_image_is_refused_before_it_is_decoded(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    root = write_store(tmp_path, "0.4")
    document = root / "B/02/0/0/.zarray"
    document.write_text(json.dumps(json.loads(document.read_text()) | change))
    with pytest.raises(PlaneError, match=said):
        read_image(root, [Plane("c0", "B/02/0/0")])
    with pytest.raises(PlaneError, match=said):
        first_shape(root, [Plane("c0", "B/02/0/0")])
    open_plate(root)


def test_a_plate_of_our_own_making_is_a_plate_to_read(tmp_path: Path) -> None:
    source = open_plate(write_store(tmp_path / "source", "0.4"))
    store = tmp_path / "run" / "plate.ome.zarr"
    image = counts("B/02", 0)[:, 0, 0]
    begin_store(store, source)
    for well in source.wells[:2]:
        with WellWriter(store, well, channel=source.channels[0], pixel_size_um=0.5, timepoints=2) as writer:
            writer.add_field(7, image, np.zeros(image.shape, np.uint32))
            writer.commit("made for the purpose")
    finish_store(store, source)
    plate = open_plate(store)
    assert (plate.name, [w.name for w in plate], plate.timepoints) == ("Screen 1", ["B02", "B03"], 2)
    assert ([c.name for c in plate.channels], plate.pixel_size_um) == (["Hoechst"], 0.5)
    assert list(plate.missing_planes()) == []
    for t in range(2):
        np.testing.assert_array_equal(read_image(plate.root, plate.wells[1].fields[0].planes_of("c0", t)), image[t])
