"""Single image files: what a TIFF or PNG may be, which page is meant, and what is said of those that cannot be read."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from hcs_nuclei.errors import PlaneError
from hcs_nuclei.sources import decode_image

GREY = (np.arange(24 * 32).reshape(24, 32) % 251).astype(np.uint8)
COLOUR = np.dstack([GREY, 255 - GREY, GREY // 2])


def _tiff(pixels: npt.NDArray[Any], **how: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **how)
    return file.getvalue()


@pytest.mark.parametrize(
    "pixels",
    [GREY, GREY.astype(np.uint16) * 200, GREY.astype(np.int16) - 100, GREY / np.float32(7), GREY > 100, GREY[:1, :1]],
    ids=["uint8", "uint16", "int16", "float32", "bool", "one-pixel"],
)
@pytest.mark.parametrize("how", [{}, {"compression": "zlib", "tile": (16, 16)}, {"byteorder": ">"}], ids=str)
def test_a_tiff_is_read_as_it_is_stored(pixels: npt.NDArray[Any], how: dict[str, Any]) -> None:
    found = decode_image(_tiff(pixels, **how), "a.tif")

    assert found.dtype.newbyteorder("=") == pixels.dtype
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_tiff(COLOUR, photometric="rgb"), id="tiff"),
        pytest.param(_tiff(np.moveaxis(COLOUR, -1, 0), photometric="rgb", planarconfig="separate"), id="planes"),
        pytest.param(imagecodecs.png_encode(COLOUR), id="png"),
    ],
)
def test_colour_is_read_with_its_channels_last(data: bytes) -> None:
    np.testing.assert_array_equal(decode_image(data, "a"), COLOUR)


def test_a_palette_is_its_colours_or_where_asked_its_numbers() -> None:
    palette = np.random.default_rng(0).integers(0, 256, (3, 256))
    tiff = _tiff(GREY, photometric="palette", colormap=(palette * 257).astype(np.uint16))
    picture = Image.fromarray(GREY).convert("P")
    picture.putpalette(palette.T.astype(np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG")
    for data in (tiff, file.getvalue()):
        np.testing.assert_array_equal(decode_image(data, "a"), np.moveaxis(palette[:, GREY], 0, -1))
        np.testing.assert_array_equal(decode_image(data, "a", numbers=True), GREY)


def test_where_0_is_white_the_image_is_turned_round_but_numbers_are_not() -> None:
    data = _tiff(GREY, photometric="miniswhite")

    np.testing.assert_array_equal(decode_image(data, "a.tif"), 255 - GREY)
    np.testing.assert_array_equal(decode_image(data, "a.tif", numbers=True), GREY)


@pytest.mark.parametrize("how", [{}, {"imagej": True}, {"ome": True}], ids=str)
def test_of_several_pages_one_must_be_asked_for(how: dict[str, Any]) -> None:
    data = _tiff(np.stack([GREY, GREY // 2, GREY // 3]), photometric="minisblack", **how)

    with pytest.raises(PlaneError, match=r"^z\.tif has 3 pages \(channels, planes or time points\); expected one"):
        decode_image(data, "z.tif")
    np.testing.assert_array_equal(decode_image(data, "z.tif", page=2), GREY // 2)
    with pytest.raises(PlaneError, match=r"^z\.tif has 3 pages; page 4 is asked for"):
        decode_image(data, "z.tif", page=4)


def test_a_preview_is_not_another_image() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(GREY, photometric="minisblack")
        writer.write(GREY[::2, ::2], photometric="minisblack", subfiletype=1)

    np.testing.assert_array_equal(decode_image(file.getvalue(), "a.tif"), GREY)


def _with_strips_that_were_never_written() -> bytes:
    whole = _tiff(GREY, rowsperstrip=3)
    with tifffile.TiffFile(io.BytesIO(whole)) as tiff:
        tags = tiff.pages.first.tags
        places = [(tags[code].valueoffset, tags[code].dtype) for code in (273, 279)]  # StripOffsets, StripByteCounts
    data = bytearray(whole)
    for place, kind in places:
        width = {3: 2, 4: 4, 16: 8}[int(kind)]
        data[place + 4 * width : place + 8 * width] = bytes(4 * width)
    return bytes(data)


PNG, TIFF = imagecodecs.png_encode(GREY), _tiff(GREY, compression="zlib", rowsperstrip=8)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", r"^a is empty \(0 bytes\)"),
        (_with_strips_that_were_never_written(), "^a is damaged: 4 of the 8 parts of its pixels are there"),
        (TIFF[:-60], "^a (is truncated|cannot be read)"),
        (PNG[:-20], "^a is truncated"),
        (PNG[:60] + bytes(30) + PNG[90:], "^a cannot be read: "),
        (b"\xff\xd8\xff\xe0" + bytes(50), "^a is a JPEG image; expected an image as TIFF or PNG"),
        (b"name,split\n", "^a is neither TIFF nor PNG; expected an image as TIFF or PNG"),
        (b"II*\0 and nothing else", "^a "),
        (PNG[:16] + (60_000).to_bytes(4, "big") * 2 + PNG[24:], "^a says that it is 60,000 × 60,000 pixels"),
        (_tiff(GREY.astype(np.complex64)), "^a holds complex64 pixels; expected integers or floats"),
    ],
    ids=["empty", "strips", "cut", "cut-png", "png", "jpeg", "text", "header", "huge", "complex"],
)
def test_what_cannot_be_read_is_said_with_its_name(
    data: bytes, said: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(PlaneError, match=said):
        decode_image(data, "a")
    assert capsys.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize("data", [PNG, TIFF], ids=["png", "tiff"])
def test_whatever_is_cut_off_or_overwritten_nothing_but_a_plane_error_is_raised(data: bytes) -> None:
    rng = np.random.default_rng(1)
    damaged = [data[:end] for end in range(1, len(data), 7)]
    for _ in range(60):
        place = int(rng.integers(0, len(data) - 8))
        damaged.append(data[:place] + rng.bytes(8) + data[place + 8 :])
    said: list[str] = []
    for one in damaged:
        try:
            decode_image(one, "a")
        except PlaneError as error:
            said.append(str(error))

    assert all(message.startswith("a ") for message in said)
    assert len(said) > len(range(1, len(data), 7)) * 0.9
