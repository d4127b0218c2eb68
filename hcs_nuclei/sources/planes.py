"""Planes in, one image out: the only place where the pixels of a plate are read."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hcs_nuclei.errors import PlaneError
from hcs_nuclei.plate import Plane, RemoteFiles
from hcs_nuclei.sources import ome_zarr_arrays
from hcs_nuclei.sources.staging import shared_staging
from hcs_nuclei.sources.tiff import opened_tiff, page_pixels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Image = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    #: (height, width) in pixels, and the dtype.
    Shape = tuple[tuple[int, int], np.dtype[Any]]

#: Pixels × samples. The largest sensors sold have 150 million pixels; tags that ask for more are damaged or hostile.
MAX_SAMPLES = 20_000 * 20_000
_PNG_HEADER = 33
#: Of TIFF and BigTIFF in both byte orders, and of PNG.
_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x89PNG")
#: What pixels may be compressed by: foreign bytes reach these decoders and no others.
_COMPRESSIONS = (
    "NONE",
    "LZW",
    "ADOBE_DEFLATE",
    "DEFLATE",
    "PACKBITS",
    "ZSTD",
    "LZMA",
    "JPEG",
    "JPEG2000",
    "APERIO_JP2000_YCBC",
    "APERIO_JP2000_RGB",
)
_EXPORT = "Export single-channel greyscale TIFFs with 8 or 16 bits."


def read_image(root: Path, planes: Sequence[Plane]) -> Image:
    """The maximum over `planes` (most often a single one), shape (y, x), uint8 or uint16, camera counts.

    Args:
        root: the plate's root, which the planes' paths are relative to.
        planes: of one field, channel and time point, as :meth:`~hcs_nuclei.plate.Field.planes_of` gives them.

    Raises:
        PlaneError: a plane is missing, empty, truncated, no image, not single-channel, not 8 or 16 bits, of another
            size than the others, or too large; names the file. Nothing else is raised, whatever the files hold.
    """
    import numpy as np

    paths = [_existing(root, plane) for plane in _expected(planes)]
    image = _read(root, paths[0], planes[0])
    for path, plane in zip(paths[1:], planes[1:], strict=True):
        other = _read(root, path, plane)
        if (other.shape, other.dtype) != (image.shape, image.dtype):
            raise PlaneError(
                f"{plane.path} is {_size(other)}, but {planes[0].path} of the same field and channel is "
                f"{_size(image)}.",
                fault="wrong-size",
            )
        image = np.maximum(image, other)
    return image


def first_shape(root: Path, planes: Sequence[Plane], remote: RemoteFiles | None = None) -> Shape:
    """((height, width) in pixels, dtype) of the first of `planes` that is there, from its tags; reads no pixels.

    Of a plate at a URL, `remote` is what lies there, and `root` is where copies of it have their places.

    Raises:
        PlaneError: none is there, or the first that is there cannot be read as :func:`read_image` would.
    """
    plane = next((plane for plane in _expected(planes) if plane.path), planes[0])
    if remote is None or not plane.path:
        path = _existing(root, plane)
        return _array_shape(root, plane, None) if path.is_dir() else _shape(lambda: path.open("rb"), plane)
    if plane.path not in remote.files:
        documents = [name for kind in ome_zarr_arrays.DOCUMENTS if (name := f"{plane.path}/{kind}") in remote.files]
        shared_staging().bring(remote, documents)
        return _array_shape(root, plane, partial(ome_zarr_arrays.look_at_remote, remote, plane.path))
    return _shape(partial(shared_staging().open, remote, plane.path), plane)


def _shape(opened: Callable[[], BinaryIO], plane: Plane) -> Shape:
    try:
        if plane.path.lower().endswith(".png"):
            with opened() as file:
                return check_png(file, plane)
        with opened_tiff(opened) as tiff:
            page = _checked_page(tiff, plane)
            return (int(page.imagelength), int(page.imagewidth)), page.dtype
    except PlaneError:
        raise
    except Exception as error:
        raise _unreadable(opened, plane, error) from None


def _array_shape(root: Path, plane: Plane, look: ome_zarr_arrays.Look | None) -> Shape:
    import numpy as np

    try:
        form = _checked_array(root, root / plane.path, plane, look)
    except PlaneError:
        raise
    except Exception as error:
        raise _unreadable(None, plane, error) from None
    return (form.shape[-2], form.shape[-1]), np.dtype(form.dtype)


def _expected(planes: Sequence[Plane]) -> Sequence[Plane]:
    if not planes:
        raise PlaneError("No plane is expected here: the plate has none of this channel at this time point and z.")
    return planes


def _existing(root: Path, plane: Plane) -> Path:
    where = f"channel {plane.channel or '(the only one)'}, time point {plane.timepoint}"
    where += ", projection" if plane.projection else f", z {plane.z}" if plane.z else ""
    if not plane.path:
        raise PlaneError(f"The plane is missing ({where}){': ' + plane.error if plane.error else ''}.", fault="missing")
    path = root / plane.path
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise PlaneError(f"{plane.path} cannot be read: {why}.", fault="missing") from None
    if stat.S_ISDIR(status.st_mode) and any((path / name).is_file() for name in ome_zarr_arrays.DOCUMENTS):
        return path
    if not stat.S_ISREG(status.st_mode):
        raise PlaneError(f"{plane.path} is not a file.")
    if status.st_size == 0:
        raise PlaneError(f"{plane.path} is empty (0 bytes). Copy it again from the instrument.", fault="zero-byte")
    return path


def _read(root: Path, path: Path, plane: Plane) -> Image:
    try:
        if path.is_dir():
            image = ome_zarr_arrays.read_page(path, _checked_array(root, path, plane), plane.page)
        else:
            image = _read_png(path, plane) if path.suffix.lower() == ".png" else _read_tiff(path, plane)
        return _single_channel(image, plane)
    except PlaneError:
        raise
    except Exception as error:  # decoders raise whatever the damage led them to
        raise _unreadable(None if path.is_dir() else lambda: path.open("rb"), plane, error) from None


def _checked_array(
    root: Path, path: Path, plane: Plane, look: ome_zarr_arrays.Look | None = None
) -> ome_zarr_arrays.ArrayForm:
    """The form of the Zarr array at `path`, whose files of this plane are all there."""
    try:
        form = ome_zarr_arrays.read_form(path)
        if form is None:
            raise PlaneError("its zarr.json or .zarray is gone", fault="missing")
        look = look or partial(ome_zarr_arrays.look_at, os.path.realpath(root), path)
        ome_zarr_arrays.check_plane(look, form, plane.page, MAX_SAMPLES)
    except PlaneError as error:
        which = f"{plane.path}, channel {plane.channel}, time point {plane.timepoint}, z {plane.z}"
        raise PlaneError(f"{which}: {error}. Copy it again, or convert the plate again.", fault=error.fault) from None
    return form


def _read_tiff(path: Path, plane: Plane) -> npt.NDArray[Any]:
    import numpy as np
    import tifffile

    with opened_tiff(path) as tiff:
        page = _checked_page(tiff, plane)
        image = page_pixels(page)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            image = np.iinfo(image.dtype).max - image
    return image


def _checked_page(tiff: Any, plane: Plane) -> Any:
    """The page of `plane`, whose tags promise an image that can be decoded and bytes that are there."""
    import tifffile

    if not 0 <= plane.page < len(tiff.pages):
        pages = f"{plane.path} has {len(tiff.pages)} pages; page {plane.page} is expected."
        raise PlaneError(pages, fault="truncated")
    if not plane.page_named and (images := _images_in(tiff)) > 1:
        raise PlaneError(
            f"{plane.path} holds {images} images (planes, channels or time points), and its name is of one. Export "
            "each as a file of its own, or the plate as OME-TIFF or OME-Zarr.",
            fault="wrong-type",
        )
    page = tiff.pages[plane.page]
    check_size(plane, page.imagewidth, page.imagelength, page.samplesperpixel * page.imagedepth)
    check_size(plane, page.tilewidth or 1, page.tilelength or 1, page.samplesperpixel)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise PlaneError(f"{plane.path} has palette colours; a single-channel image is expected. {_EXPORT}")
    if page.dtype is None or page.dtype.name not in {"uint8", "uint16"}:
        raise PlaneError(f"{plane.path} has {_kind(page.dtype)}; expected 8 or 16 bits unsigned. {_EXPORT}")
    check_parts(plane, page, tiff.filehandle.size)
    return page


def _images_in(tiff: Any) -> int:
    """How many images a TIFF holds: its pages that are no previews, or what ImageJ says of a single page."""
    if len(tiff.pages) > 1:
        return sum(not page.is_reduced for page in tiff.pages)
    return int((tiff.imagej_metadata or {}).get("images") or 1) if tiff.is_imagej else 1


def check_parts(plane: Plane, page: Any, size: int) -> None:
    """Every strip or tile of a tifffile page is listed and lies within the file's `size`; else zeros would be read.

    Raises:
        PlaneError: it is not so, or they are compressed in a way that no microscope uses; names the plane's file.
    """
    compression = getattr(page.compression, "name", str(page.compression))
    if compression not in _COMPRESSIONS:
        raise PlaneError(f"{plane.path} is compressed by {compression}; expected {', '.join(_COMPRESSIONS)}. {_EXPORT}")
    there = [(o, n) for o, n in zip(page.dataoffsets, page.databytecounts, strict=False) if o > 0 and n > 0]
    parts = math.prod(page.chunked)
    if len(there) < parts:
        raise PlaneError(
            f"{plane.path} is damaged: {len(there)} of the {parts} parts of its pixels are there. "
            "Copy it again from the instrument.",
            fault="truncated",
        )
    end = max(offset + count for offset, count in there)
    if end > size:
        raise PlaneError(
            f"{plane.path} is truncated: its pixels end at byte {end:,}, the file at {size:,}. "
            "Copy it again from the instrument.",
            fault="truncated",
        )


def _read_png(path: Path, plane: Plane) -> npt.NDArray[Any]:
    import imagecodecs
    import numpy as np

    with path.open("rb") as file:
        check_png(file, plane)
    image: npt.NDArray[Any] = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    if image.ndim == 3 and image.shape[2] in {2, 4}:
        image = image[..., :-1]
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image


def check_png(file: BinaryIO, plane: Plane) -> Shape:
    """((height, width) in pixels, dtype) of a PNG by its header; reads no pixels.

    Raises:
        PlaneError: it is no PNG, has no end, or is too large; names the plane's file.
    """
    import numpy as np

    header = file.read(_PNG_HEADER)
    file.seek(max(0, file.seek(0, os.SEEK_END) - 16))
    end = file.read()
    if len(header) < _PNG_HEADER and b"\x89PNG\r\n\x1a\n".startswith(header[:8]):
        raise _truncated(plane)
    if len(header) < _PNG_HEADER or header[:8] != b"\x89PNG\r\n\x1a\n" or header[12:16] != b"IHDR":
        raise PlaneError(f"{plane.path} is not a PNG image. Copy it again from the instrument.")
    width, height = int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
    check_size(plane, width, height, 4 if header[25] in {2, 6} else 1)
    if b"IEND" not in end:
        raise _truncated(plane)
    return (height, width), np.dtype(np.uint16 if header[24] == 16 else np.uint8)


def _single_channel(image: npt.NDArray[Any], plane: Plane) -> Image:
    import numpy as np

    if image.ndim == 3 and image.shape[2] in {3, 4}:
        colours = image[..., :3]
        if not (colours == colours[..., :1]).all():
            raise PlaneError(f"{plane.path} is a colour image; a single-channel image is expected. {_EXPORT}")
        image = colours[..., 0]
    if image.ndim != 2:
        raise PlaneError(f"{plane.path} has the shape {image.shape}; one (y, x) image is expected. {_EXPORT}")
    if image.dtype.name not in {"uint8", "uint16"}:
        raise PlaneError(f"{plane.path} has {_kind(image.dtype)}; expected 8 or 16 bits unsigned. {_EXPORT}")
    return np.ascontiguousarray(image)


def check_size(plane: Plane, width: int, height: int, samples: int) -> None:
    """An image of that many pixels and samples a pixel is one that a camera takes, and can be held.

    Raises:
        PlaneError: it is none; names the plane's file.
    """
    if width < 1 or height < 1 or width * height * max(1, samples) > MAX_SAMPLES:
        raise PlaneError(
            f"{plane.path} says that it is {width:,} × {height:,} pixels with {samples} samples; "
            f"at most {MAX_SAMPLES:,} samples are read. It is probably damaged: copy it again from the instrument.",
            fault="wrong-size",
        )


def _size(image: npt.NDArray[Any]) -> str:
    return f"{image.shape[1]} × {image.shape[0]} pixels of {image.dtype.itemsize * 8} bits"


def _kind(dtype: np.dtype[Any] | None) -> str:
    kinds = {"f": "floating-point", "i": "signed", "u": "unsigned", "b": "black-and-white", "c": "complex"}
    return (
        "pixels of an unknown kind" if dtype is None else f"{dtype.itemsize * 8}-bit {kinds.get(dtype.kind, '')} pixels"
    )


def _truncated(plane: Plane) -> PlaneError:
    return PlaneError(
        f"{plane.path} is truncated: its last part is not there. Copy it again from the instrument.", fault="truncated"
    )


def _unreadable(opened: Callable[[], BinaryIO] | None, plane: Plane, error: Exception) -> PlaneError:
    """What is said of the file that `opened` opens, or of an array."""
    what = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
    # A file that begins as an image does was one: the rest of it is what is wrong.
    return PlaneError(
        f"{plane.path} cannot be read as an image: {what}. Copy it again from the instrument.",
        fault="truncated" if opened is None or _begins_as_image(opened) else "wrong-type",
    )


def _begins_as_image(opened: Callable[[], BinaryIO]) -> bool:
    try:
        with opened() as file:
            beginning = file.read(4)
    except OSError:
        return False
    return any(beginning and kind.startswith(beginning) for kind in _BEGINNINGS)
