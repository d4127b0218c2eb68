"""A Zarr array on disk in, one of its planes out: Zarr 2 and 3, chunk files that are missing or damaged said.

::

    <array>/.zarray      0/1/0/0/0  or  0.1.0.0.0         Zarr 2: chunks by their place on each axis
    <array>/zarr.json    c/0/1/0/0/0                      Zarr 3: chunks, or shards that hold several

Zarr reads a chunk file that is not there as its fill value, so that a copy that broke off would be black images. Here
a plane of which no chunk file is there is missing, and one of which some are is damaged. Chunks that are left out
*within* a shard are recorded so by the shard's own index, and are the fill value.

Sources: the Zarr 2 and Zarr 3 core specifications; https://ngff.openmicroscopy.org/0.4/ and 0.5.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcs_nuclei.errors import PlaneError
from hcs_nuclei.plate import RemoteFiles
from hcs_nuclei.sources.staging import shared_staging

if TYPE_CHECKING:
    import numpy.typing as npt

DOCUMENTS = ("zarr.json", ".zarray")
_DTYPES = {"uint8": "uint8", "uint16": "uint16", "|u1": "uint8", "<u1": "uint8", "<u2": "uint16", ">u2": "uint16"}
#: Whatever else a store may name is refused: numcodecs has a filter that runs code from the file (pickle).
_CODECS = frozenset(
    {"blosc", "zstd", "gzip", "zlib", "bz2", "lzma", "lz4", "shuffle", "delta"}
    | {"bytes", "transpose", "crc32c", "sharding_indexed"}
)
_AT_ONCE = 1 << 16
_BLOSC_HEADER = 16
_AGAIN = "Copy it again, or convert the plate again."


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """How an array is stored: `shape` and `chunks` (those of a file: a chunk, or a shard) over all axes, y and x last.

    `separator` stands between a chunk's places in its name, `prefix` before them. `codec` is what the bytes of a file
    went through last, empty where nothing is said.
    """

    zarr_format: int
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    separator: str
    prefix: str
    codec: str

    @property
    def leading(self) -> tuple[int, ...]:
        """Lengths of the axes before y and x; a plane's page counts through them, the last one fastest."""
        return self.shape[:-2]

    def place(self, page: int) -> tuple[int, ...]:
        """Index on each leading axis of a page."""
        index = []
        for length in reversed(self.leading):
            page, rest = divmod(page, length)
            index.append(rest)
        return tuple(reversed(index))

    def chunk_names(self, page: int) -> Iterator[str]:
        """Names, relative to the array, of the files that hold a page."""
        head = [at // size for at, size in zip(self.place(page), self.chunks, strict=False)]
        tail = (range(-(-n // size)) for n, size in zip(self.shape[-2:], self.chunks[-2:], strict=True))
        for place in product(*tail):
            yield self.prefix + self.separator.join(map(str, (*head, *place)))


def read_form(array: Path | str) -> ArrayForm | None:
    """The form of the array in the directory `array`; None where there is no array.

    Raises:
        PlaneError: its metadata cannot be read, or are of an array that cannot be an image here.
    """
    for name in DOCUMENTS:
        try:
            content = read_document(f"{array}/{name}")
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise PlaneError(f"{name} of the array is a link, and is not followed.", fault="missing") from None
            raise PlaneError(f"{name} of the array cannot be read: {error.strerror}.") from None
        return _form(content, name)
    return None


def read_document(path: str) -> bytes:
    """Content of a metadata file, by as few calls as there are: a plate has tens of thousands of them.

    Raises:
        OSError: it cannot be read; with ``ELOOP`` it is a link, which is not followed.
    """
    if os.path.islink(path):
        raise OSError(errno.ELOOP, "it is a link")
    # Nothing waits for a pipe that stands in its place.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        parts = [os.read(file, _AT_ONCE)]
        while len(parts[-1]) == _AT_ONCE:
            parts.append(os.read(file, _AT_ONCE))
        return b"".join(parts)
    finally:
        os.close(file)


@lru_cache(maxsize=256)  # the arrays of a plate are alike, and so are their documents
def _form(content: bytes, name: str) -> ArrayForm:
    try:
        document = json.loads(content)
        form, codecs = _of_zarr_2(document) if name == ".zarray" else _of_zarr_3(document)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise PlaneError(f"{name} of the array does not describe a Zarr array ({error!r}). {_AGAIN}") from None
    if form.dtype not in {"uint8", "uint16"}:
        raise PlaneError(
            f"The array holds {form.dtype}; expected uint8 or uint16: convert it to counts.", fault="wrong-type"
        )
    if not 2 <= len(form.shape) == len(form.chunks) or min((*form.shape, *form.chunks)) < 1:
        raise PlaneError(f"The array has the shape {form.shape} in chunks of {form.chunks}. {_AGAIN}")
    if odd := sorted(set(codecs) - _CODECS):
        raise PlaneError(f"The array is stored with {', '.join(odd)}, which is not read; write it with blosc or zstd.")
    return form


def _of_zarr_2(document: dict[str, Any]) -> tuple[ArrayForm, list[str]]:
    parts = [document.get("compressor"), *(document.get("filters") or ())]
    dtype = str(document["dtype"])
    separator = document.get("dimension_separator", ".")
    names = [str(part["id"]) for part in parts if part]
    codec = names[0] if parts[0] else ""
    shape, chunks = _sizes(document["shape"]), _sizes(document["chunks"])
    return ArrayForm(2, shape, chunks, _DTYPES.get(dtype, dtype), separator, "", codec), names


def _of_zarr_3(document: dict[str, Any]) -> tuple[ArrayForm, list[str]]:
    dtype = str(document["data_type"])
    encoding = document["chunk_key_encoding"]
    plain = encoding["name"] == "default"
    separator = encoding.get("configuration", {}).get("separator", "/" if plain else ".")
    chunks = _sizes(document["chunk_grid"]["configuration"]["chunk_shape"])
    prefix = f"c{separator}" if plain else ""
    codec = next(_codec_names(document["codecs"][-1:]), "")
    form = ArrayForm(3, _sizes(document["shape"]), chunks, _DTYPES.get(dtype, dtype), separator, prefix, codec)
    return form, list(_codec_names(document["codecs"]))


def _codec_names(codecs: Iterable[dict[str, Any]]) -> Iterator[str]:
    for codec in codecs:
        name = str(codec["name"]).removeprefix("numcodecs.")
        inner = codec.get("configuration", {})
        if name == "sharding_indexed" and not _guarded(inner):
            name += " without a checked index at its end"
        yield name
        yield from _codec_names([*inner.get("codecs", ()), *inner.get("index_codecs", ())])


def _guarded(sharding: dict[str, Any]) -> bool:
    """Whether a shard that was cut short is seen as such: its index stands at the end and has a checksum."""
    index = [str(codec["name"]) for codec in sharding.get("index_codecs", ())]
    return sharding.get("index_location", "end") == "end" and "crc32c" in index


def _sizes(numbers: Iterable[Any]) -> tuple[int, ...]:
    sizes = tuple(numbers)
    if not all(type(size) is int for size in sizes):
        raise ValueError(f"{sizes} are not whole numbers")
    return sizes


def pages_there(array: str, form: ArrayForm, exists: Callable[[str], bool] = os.path.exists) -> list[bool]:
    """For each page of the array whether at least one file of it is there; no file is opened."""
    return [
        exists(f"{array}/{first}") or any(exists(f"{array}/{name}") for name in form.chunk_names(page))
        for page, first in enumerate(_first_names(form))
    ]


@lru_cache(maxsize=256)
def _first_names(form: ArrayForm) -> tuple[str, ...]:
    return tuple(next(form.chunk_names(page)) for page in range(math.prod(form.leading)))


#: A chunk file's name in, its size and what its first 16 bytes are read by out; ``OSError`` where it is not there.
Look = Callable[[str], tuple[int, Callable[[], bytes]]]


def look_at(root: str, array: Path, name: str) -> tuple[int, Callable[[], bytes]]:
    """The chunk file `name` of the array on disk at `array`; `root` is the plate's, without links.

    Raises:
        PlaneError: it leads out of `root`, or is no file.
    """
    path = os.path.realpath(array / name)
    if not path.startswith(root + os.sep):
        raise PlaneError(f"its chunk {name} is a link that leaves the plate directory, and is not followed")
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise PlaneError(f"its chunk {name} is not a file")

    def beginning() -> bytes:
        with open(path, "rb") as file:
            return file.read(_BLOSC_HEADER)

    return status.st_size, beginning


def look_at_remote(remote: RemoteFiles, array: str, name: str) -> tuple[int, Callable[[], bytes]]:
    """The chunk file `name` of the array `array` at a URL."""
    chunk = remote.files.get(f"{array}/{name}")
    if chunk is None:
        raise FileNotFoundError(name)

    def beginning() -> bytes:
        with shared_staging().open(remote, f"{array}/{name}") as file:
            return file.read(_BLOSC_HEADER)

    return chunk.size, beginning


def check_plane(look: Look, form: ArrayForm, page: int, most: int) -> None:
    """Every file of a page is there, as `look` sees it, and the page and its chunks are of at most `most` samples.

    Raises:
        PlaneError: they are not; the words begin with what is wrong, and name no array.
    """
    if not 0 <= page < math.prod(form.leading):
        raise PlaneError(f"it has {math.prod(form.leading)} planes; plane {page} is expected", fault="truncated")
    if max(math.prod(form.shape[-2:]), math.prod(form.chunks)) > most:
        raise PlaneError(
            f"it says that it is {form.shape[-1]:,} × {form.shape[-2]:,} pixels in chunks of {form.chunks}; "
            f"at most {most:,} samples are read",
            fault="wrong-size",
        )
    names = list(form.chunk_names(page))
    absent = 0
    for name in names:
        try:
            size, beginning = look(name)
        except PlaneError:
            raise
        except OSError:
            absent += 1
            continue
        if size == 0:
            raise PlaneError(f"its chunk {name} is empty (0 bytes)", fault="zero-byte")
        if form.codec == "blosc":
            _check_blosc(beginning(), name, form, size)
    if absent == len(names):
        raise PlaneError("none of its chunks is there", fault="missing")
    if absent:
        raise PlaneError(f"{len(names) - absent} of its {len(names)} chunks are there", fault="truncated")


def _check_blosc(header: bytes, name: str, form: ArrayForm, size: int) -> None:
    """The lengths in the header are the file's and the chunk's: of a shorter file, the decoder reads past the end."""
    decoded = math.prod(form.chunks) * (1 if form.dtype == "uint8" else 2)
    told = int.from_bytes(header[4:8], "little"), int.from_bytes(header[12:16], "little")
    if len(header) < _BLOSC_HEADER or told != (decoded, size):
        raise PlaneError(
            f"its chunk {name} is truncated or no blosc chunk: {size:,} bytes, its header says {told[1]:,}",
            fault="truncated",
        )


def read_page(array: Path, form: ArrayForm, page: int) -> npt.NDArray[Any]:
    """One page, shape (y, x), uint8 or uint16; raises whatever zarr and its decoders raise for what the files hold."""
    import numpy as np
    import zarr

    if os.path.islink(os.path.join(array, ".zattrs")):  # zarr reads the attributes of an array, too
        raise PlaneError(".zattrs of the array is a link, and is not followed", fault="missing")
    stored = zarr.open_array(array, mode="r", zarr_format=2 if form.zarr_format == 2 else 3)
    plane: Any = (*form.place(page), slice(None), slice(None))
    image: npt.NDArray[Any] = np.asarray(stored[plane])
    return image.astype(image.dtype.newbyteorder("="), copy=False)
