"""Planes in, their images out, wherever the plate lies: at a URL, all their files are copied here first, together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hcs_nuclei.errors import NotAPlateError, PlaneError
from hcs_nuclei.plate import Plane, RemoteFiles
from hcs_nuclei.sources.ome_zarr import bring_documents
from hcs_nuclei.sources.ome_zarr_arrays import read_form
from hcs_nuclei.sources.planes import read_image
from hcs_nuclei.sources.staging import shared_staging

if TYPE_CHECKING:
    from hcs_nuclei.sources.planes import Image


@contextmanager
def image_reader(
    root: Path, remote: RemoteFiles | None, planes: Iterable[Plane], *, limit_gib: float | None = None
) -> Iterator[Callable[[Sequence[Plane]], Image]]:
    """What reads images of `planes` as :func:`~hcs_nuclei.sources.planes.read_image` does, until the block is left.

    Args:
        root: the plate's, where it lies on a disk.
        remote: what lies at the plate's URL, as far as these planes need it; None where it lies on a disk.
        planes: all that will be read: at a URL, their files are copied here at the same time and kept for the block.
        limit_gib: of all copies that this process keeps; those in use are never dropped.

    Raises:
        OutputError: this machine has no room for the copies.
    """
    if remote is None:
        yield partial(read_image, root)
        return
    staging = shared_staging()
    if limit_gib is not None:
        staging.limit = int(limit_gib * 1024**3)
    place = staging.place_of(remote.url)
    refused: dict[str, PlaneError] = {}
    files = {}
    for plane in planes:
        if plane.path:
            try:
                files[plane] = _files(remote, place, plane)
            except PlaneError as error:
                refused[plane.path] = error
    with staging.hold(remote, [name for names in files.values() for name in names]) as lost:

        def read(wanted: Sequence[Plane]) -> Image:
            for plane in wanted:
                for name in (plane.path, *files.get(plane, ())):
                    if error := refused.get(name) or lost.get(name):
                        raise error
            return read_image(place, wanted)

        yield read


def _files(remote: RemoteFiles, place: Path, plane: Plane) -> list[str]:
    """The file of a plane; of a plane of an array, the files of its chunks, whose documents are copied here too."""
    if plane.path in remote.files:
        return [plane.path]
    try:
        bring_documents(remote, [plane.path])
    except NotAPlateError as error:
        raise PlaneError(str(error), fault="unreachable") from None
    form = read_form(place / plane.path)
    chunks = [] if form is None else [f"{plane.path}/{name}" for name in form.chunk_names(plane.page)]
    return [name for name in chunks if name in remote.files]
