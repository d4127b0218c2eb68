"""One image file of any kind in, its pixels out: images given by hand and of data sets, which no plate describes."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any

from hcs_nuclei.errors import PlaneError
from hcs_nuclei.plate import Plane
from hcs_nuclei.sources.planes import check_parts, check_png, check_size
from hcs_nuclei.sources.tiff import opened_tiff, page_pixels

if TYPE_CHECKING:
    import numpy.typing as npt

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: What people take for images as well, by how it begins.
_OTHERS = {b"\xff\xd8\xff": "a JPEG image", b"GIF8": "a GIF image", b"BM": "a BMP image", b"PK": "a zip file"}


def decode_image(data: bytes, name: str, *, page: int | None = None, numbers: bool = False) -> npt.NDArray[Any]:
    """The image in the bytes of a TIFF or PNG file: (y, x), or (y, x, c) in colour or with opacity.

    Args:
        data: of the whole file; what it is they say themselves.
        name: what the file is called in messages.
        page: of a TIFF with several (channels, planes, time points), the one to read, from 1; None takes the only one.
        numbers: of an image with a palette, the numbers of its colours and not the colours.

    Returns:
        boolean, integers or floats of any size, as they are stored; a palette as uint8 (y, x, 3).

    Raises:
        PlaneError: no image, a damaged one, one that is too large, or one of several; names the file. Nothing else is
            raised, whatever the bytes hold.
    """
    if not data:
        raise PlaneError(f"{name} is empty (0 bytes). Copy it again.", fault="zero-byte")
    if not data.startswith((_PNG, *_TIFF)):
        what = next((kind for beginning, kind in _OTHERS.items() if data.startswith(beginning)), "neither TIFF nor PNG")
        raise PlaneError(f"{name} is {what}; expected an image as TIFF or PNG. Export it as one of these.")
    try:
        image = _png(data, name, page, numbers) if data.startswith(_PNG) else _tiff(data, name, page, numbers)
    except PlaneError:
        raise
    except Exception as error:  # decoders raise whatever the damage led them to
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise PlaneError(f"{name} cannot be read: {what}. Copy it again.", fault="truncated") from None
    if image.dtype.kind not in "buif":
        raise PlaneError(f"{name} holds {image.dtype} pixels; expected integers or floats.")
    return image


def _png(data: bytes, name: str, page: int | None, numbers: bool) -> npt.NDArray[Any]:
    import imagecodecs
    import numpy as np

    check_png(io.BytesIO(data), Plane("", name))
    if page not in (None, 1):
        raise PlaneError(f"{name} is a PNG image, which has one page; page {page} is asked for.")
    if numbers and data[25:26] == b"\x03":
        from PIL import Image

        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image)
    return np.asarray(imagecodecs.png_decode(data))


def _tiff(data: bytes, name: str, wanted: int | None, numbers: bool) -> npt.NDArray[Any]:
    import numpy as np
    from tifffile import PHOTOMETRIC

    with opened_tiff(partial(io.BytesIO, data)) as tiff:
        every: list[Any] = list(tiff.pages)
        pages = [page for page in every if not page.is_reduced]  # a preview is not another image
        if not pages:
            raise ValueError("it holds no image")
        if wanted is None and len(pages) > 1:
            raise PlaneError(
                f"{name} has {len(pages)} pages (channels, planes or time points); expected one image. Say which with "
                "--page where a command has it, or save that one as a file of its own."
            )
        if not 1 <= (wanted or 1) <= len(pages):
            raise PlaneError(f"{name} has {len(pages)} pages; page {wanted or 1} is asked for.", fault="truncated")
        page, plane = pages[(wanted or 1) - 1], Plane("", name)
        check_size(plane, page.imagewidth, page.imagelength, page.samplesperpixel * page.imagedepth)
        check_size(plane, page.tilewidth or 1, page.tilelength or 1, page.samplesperpixel)
        check_parts(plane, page, tiff.filehandle.size)
        image = page_pixels(page)
        if numbers:
            return image
        if page.photometric == PHOTOMETRIC.PALETTE:
            return np.moveaxis(np.asarray(page.colormap)[:, image] >> 8, 0, -1).astype(np.uint8)
        return _white_is_most(image) if page.photometric == PHOTOMETRIC.MINISWHITE else image


def _white_is_most(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    import numpy as np

    if image.dtype.kind == "b":  # programs call it so without meaning it
        return image
    return np.asarray(np.iinfo(image.dtype).max - image) if image.dtype.kind == "u" else -image
