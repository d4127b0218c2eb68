"""Pixels: what is read, and what each kind of damage is called."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hcs_nuclei.errors import PlaneError
from hcs_nuclei.plate import Plane
from hcs_nuclei.sources import first_shape, read_image

IMAGE = np.arange(35 * 50, dtype=np.uint16).reshape(35, 50)


def read(path: Path) -> np.ndarray:
    return read_image(path.parent, [Plane("w1", path.name)])


def refused(path: Path) -> str:
    with pytest.raises(PlaneError) as caught:
        read(path)
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits", "zstd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiffs(tmp_path: Path, compression: str | None, dtype: type) -> None:
    path = tmp_path / "a.tif"
    image = IMAGE.astype(dtype)
    tifffile.imwrite(path, image, compression=compression)
    np.testing.assert_array_equal(read(path), image)
    assert read(path).dtype == dtype
    assert first_shape(tmp_path, [Plane("w1", "a.tif")]) == ((35, 50), np.dtype(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pngs(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "a.PNG"
    image = IMAGE.astype(dtype)
    Image.fromarray(image).save(path, format="png")
    np.testing.assert_array_equal(read(path), image)
    assert first_shape(tmp_path, [Plane("w1", "a.PNG")]) == ((35, 50), np.dtype(dtype))


def test_tiles_and_byte_order(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, tile=(16, 16), byteorder=">", compression="lzw")
    image = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(image, IMAGE)
    assert image.dtype.isnative


def test_several_planes_give_their_maximum(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "1.tif", IMAGE)
    tifffile.imwrite(tmp_path / "2.tif", IMAGE[::-1])
    image = read_image(tmp_path, [Plane("w1", "1.tif", 1), Plane("w1", "2.tif", 2)])
    np.testing.assert_array_equal(image, np.maximum(IMAGE, IMAGE[::-1]))


def test_a_page_of_several(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([IMAGE, IMAGE + 7]), photometric="minisblack")
    np.testing.assert_array_equal(read_image(tmp_path, [Plane("w1", "a.tif", page=1, page_named=True)]), IMAGE + 7)
    with pytest.raises(PlaneError, match="has 2 pages; page 2"):
        read_image(tmp_path, [Plane("w1", "a.tif", page=2, page_named=True)])


@pytest.mark.parametrize("how", [{"photometric": "minisblack"}, {"imagej": True}], ids=["pages", "imagej"])
def test_a_file_whose_name_is_of_one_plane_and_that_holds_several_is_not_cut_down(
    tmp_path: Path, how: dict[str, object]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([IMAGE] * 5), **how)
    with pytest.raises(PlaneError, match=r"a\.tif holds 5 images .* and its name is of one") as caught:
        read_image(tmp_path, [Plane("w1", "a.tif")])
    assert caught.value.fault == "wrong-type"


def test_a_preview_behind_an_image_is_no_second_one(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(IMAGE)
        writer.write(IMAGE[::4, ::4], subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path, [Plane("w1", "a.tif")]), IMAGE)


def test_compressions_that_no_microscope_uses_reach_no_decoder(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, compression="jpegxl")
    with pytest.raises(PlaneError, match=r"a\.tif is compressed by JPEGXL; expected NONE, LZW, "):
        read_image(tmp_path, [Plane("w1", "a.tif")])


def test_white_is_zero_is_turned_over(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="miniswhite")
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), 65535 - IMAGE)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_grey_in_three_channels_is_read_and_colour_is_not(tmp_path: Path, planar: str) -> None:
    axis = -1 if planar == "contig" else 0
    grey = np.stack([IMAGE.astype(np.uint8)] * 3, axis=axis)
    tifffile.imwrite(tmp_path / "grey.tif", grey, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(read(tmp_path / "grey.tif"), IMAGE.astype(np.uint8))
    grey.reshape(-1)[0] += 1
    tifffile.imwrite(tmp_path / "colour.tif", grey, photometric="rgb", planarconfig=planar)
    assert "colour image; a single-channel" in refused(tmp_path / "colour.tif")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_grey_in_other_kinds_of_png(tmp_path: Path, mode: str) -> None:
    grey = IMAGE.astype(np.uint8)
    Image.fromarray(grey).convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), grey)


def test_a_colour_png_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([IMAGE.astype(np.uint8)] * 2 + [IMAGE.T.reshape(35, 50).astype(np.uint8)])).save(
        tmp_path / "a.png"
    )
    assert "colour image" in refused(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("dtype", "said"),
    [("f4", "32-bit floating-point"), ("u4", "32-bit unsigned"), ("i2", "16-bit signed"), ("?", "black")],
)
def test_other_numbers_are_refused_with_advice(tmp_path: Path, dtype: str, said: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE.astype(dtype))
    message = refused(tmp_path / "a.tif")
    assert said in message
    assert "Export single-channel" in message


def test_missing_says_which_plane_and_the_instruments_words(tmp_path: Path) -> None:
    with pytest.raises(PlaneError, match=r"missing \(channel w2, time point 3, z 4\): AF Error at C14"):
        read_image(tmp_path, [Plane("w2", "", 4, 3, error="AF Error at C14")])
    with pytest.raises(PlaneError, match=r"missing \(channel w2, time point 0, projection\)"):
        read_image(tmp_path, [Plane("w2", "", projection=True)])
    with pytest.raises(PlaneError, match="No plane is expected"):
        read_image(tmp_path, [])


def test_a_file_that_is_gone_empty_or_no_file(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "gone.tif")
    (tmp_path / "empty.tif").touch()
    assert "empty (0 bytes)" in refused(tmp_path / "empty.tif")
    (tmp_path / "folder.tif").mkdir()
    assert "is not a file" in refused(tmp_path / "folder.tif")
    os.mkfifo(tmp_path / "pipe.tif")
    assert "is not a file" in refused(tmp_path / "pipe.tif")


@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
@pytest.mark.parametrize("kept", [0.99, 0.5, 0.1])
def test_a_truncated_tiff(tmp_path: Path, compression: str | None, kept: float) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rng.integers(0, 60000, (64, 64), dtype=np.uint16), compression=compression, rowsperstrip=8)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert "truncated" in refused(path)
    with pytest.raises(PlaneError, match="truncated"):
        first_shape(tmp_path, [Plane("w1", "a.tif")])


@pytest.mark.parametrize("kept", [20, 60, -30, -5])
def test_a_truncated_png(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(IMAGE).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(path)


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_no_image_at_all(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"The quick brown fox jumps over the lazy dog, again and again and again.")
    assert refused(tmp_path / name)
    with pytest.raises(PlaneError, match=name):
        first_shape(tmp_path, [Plane("w1", name)])


def test_planes_of_different_size_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "1.tif", IMAGE)
    tifffile.imwrite(tmp_path / "2.tif", IMAGE[:-1])
    with pytest.raises(PlaneError, match=r"2\.tif is 50 × 34 .* but 1\.tif .* is 50 × 35"):
        read_image(tmp_path, [Plane("w1", "1.tif"), Plane("w1", "2.tif")])


def test_tags_that_ask_for_too_much_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags["ImageWidth"].overwrite(60_000, dtype=4)
        tiff.pages.first.tags["ImageLength"].overwrite(60_000, dtype=4)
    assert "at most 400,000,000 samples" in refused(path)
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 16, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )
    assert "at most 400,000,000 samples" in refused(tmp_path / "a.png")


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("valid")
    tifffile.imwrite(folder / "plain.tif", IMAGE, rowsperstrip=8)
    tifffile.imwrite(folder / "lzw.tif", IMAGE, compression="lzw", predictor=True)
    tifffile.imwrite(folder / "tiled.tif", IMAGE, compression="deflate", tile=(16, 16))
    Image.fromarray(IMAGE).save(folder / "grey.png")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_of_any_kind_is_an_image_or_a_plane_error(
    tmp_path: Path, valid: dict[str, bytes], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(valid)))
    content = bytearray(valid[name])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    # Damage to what is not pixels, where most of the ways to fail are.
    for place in data.draw(st.lists(st.integers(0, min(len(content), 256) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / name
    path.write_bytes(bytes(content))
    for call in (read_image, first_shape):
        with contextlib.suppress(PlaneError):
            call(tmp_path, [Plane("w1", name)])
