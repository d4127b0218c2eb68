"""Wells in, their images out, one field at one time point after another, read before they are asked for.

Of a plate at a URL the reading thread copies a well's files here with its first image and lets them go with its last:
waiting for a store then holds nothing else up.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from hcs_nuclei.errors import PlaneError
from hcs_nuclei.pipeline.plan import Context, WellJob
from hcs_nuclei.plate import Channel, Field, Plane, RemoteFiles
from hcs_nuclei.segmentation.predict import Prediction
from hcs_nuclei.sources import image_reader
from hcs_nuclei.sources.assembly import ranges

ReadImage = Callable[[Sequence[Plane]], npt.NDArray[Any]]


@dataclass(slots=True)
class View:
    """One field at one time point on its way through the stages.

    `faults` has a kind for each channel that has one; `seconds` were spent on reading, which ended at `read_at`
    (``time.perf_counter``).
    """

    field: Field
    timepoint: int
    images: dict[str, npt.NDArray[Any]] = dataclasses.field(default_factory=dict)
    prediction: Prediction | None = None
    status: str = "ok"
    error: str = ""
    faults: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    read_at: float = 0.0


def open_images(
    context: Context, remote: RemoteFiles | None, planes: Iterable[Plane]
) -> AbstractContextManager[ReadImage]:
    """What reads images of `planes`, wherever the plate lies, within the room that the recipe gives to copies."""
    return image_reader(context.root, remote, planes, limit_gib=context.settings.staging.limit_gib)


class _WellInput:
    """The images of one well: of a plate at a URL they are copied here with the first one, and let go with the last."""

    def __init__(self, context: Context, job: WellJob) -> None:
        self._context, self._remote = context, job.remote
        self._views = [(site, t) for site in job.well.fields for t in range(context.timepoints)]
        self._left = len(self._views)
        self._staged = ExitStack()
        self._image: ReadImage | None = None

    def __enter__(self) -> _WellInput:
        return self

    def __exit__(self, *_: object) -> None:
        self._staged.close()

    def __iter__(self) -> Iterator[tuple[Field, int]]:
        return iter(self._views)

    def read(self, site: Field, timepoint: int) -> View:
        """One of the views; in the thread that reads, where waiting for a store holds nothing else up."""
        context, start = self._context, time.perf_counter()
        if self._image is None:
            planes = [p for at, t in self._views for c in context.channels for p in _planes(context, at, c, t)]
            self._image = self._staged.enter_context(open_images(context, self._remote, planes))
        view = read_view(context, self._image, site, timepoint)
        view.read_at = time.perf_counter()
        view.seconds = view.read_at - start
        self._left -= 1
        if not self._left:
            self._staged.close()
        return view


def read_ahead(
    context: Context, jobs: Sequence[WellJob], pool: ThreadPoolExecutor, staged: ExitStack, ahead: int = 2
) -> Iterator[Future[View]]:
    """The shard's images in order, at most `ahead` of them read before they are asked for."""
    queue: list[Future[View]] = []
    for job in jobs:
        well = staged.enter_context(_WellInput(context, job))
        for site, t in well:
            queue.append(pool.submit(well.read, site, t))
            if len(queue) > ahead:
                yield queue.pop(0)
    yield from queue


def _planes(context: Context, site: Field, channel: Channel, timepoint: int) -> tuple[Plane, ...]:
    return site.planes_of(channel.token, timepoint, context.settings.z)


def read_view(context: Context, image_of: ReadImage, site: Field, timepoint: int) -> View:
    """Every channel of one field at one time point; what is wrong with it stands in `status` and `error`."""
    view = View(site, timepoint)
    faults: list[str] = []
    notes: list[str] = []
    for channel in sorted(context.channels, key=lambda c: c != context.nuclear):
        nuclear = channel == context.nuclear
        planes = _planes(context, site, channel, timepoint)
        if not planes:
            if nuclear:
                view.status, view.error = "missing", f"no {channel.name} plane is expected or there at this time point"
                view.faults.append("missing")
                return view
            continue
        lost = [p for p in planes if not p.path]
        if lost:
            which = f" (z {ranges(p.z for p in lost)})" if len(planes) > 1 else ""
            why = f" ({lost[0].error})" if lost[0].error else ""
            fault = f"{channel.name} plane is not there{which}{why}"
            view.faults.append("missing")
            if nuclear:
                view.status, view.error = "missing", fault
                return view
            faults.append(fault)
            continue
        try:
            image = image_of(planes)
            if not nuclear and image.shape != view.images[context.nuclear.token].shape:
                height, width = view.images[context.nuclear.token].shape
                raise PlaneError(
                    f"{planes[0].path} is {image.shape[1]} × {image.shape[0]} pixels, "
                    f"{context.nuclear.name} is {width} × {height}",
                    fault="wrong-size",
                )
        except PlaneError as error:
            view.faults.append(error.fault)
            if nuclear:
                view.status, view.error = "unreadable", f"{channel.name} ({error.fault}): {error}"
                return view
            faults.append(f"{channel.name} ({error.fault}): {error}")
            continue
        notes += (
            f"{channel.name} (duplicate): {plane.path} is used, not {', '.join(plane.doubles)}"
            for plane in planes
            if plane.doubles
        )
        view.images[channel.token] = image
    if faults:
        view.status = "incomplete"
    view.error = "; ".join(faults + notes)
    return view
