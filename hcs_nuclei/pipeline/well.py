"""A shard of wells in, their label images and tables on disk and a few numbers out: what a worker does.

Within a shard a reader thread fetches the next image while the network sees this one and a third thread makes
instances, measures and writes; at most two images wait between stages, so memory does not grow with the shard.
A well owns its group in the store and its one Parquet file; running it again replaces both whole.
"""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.cluster import emit_event, should_stop
from hcs_nuclei.columns import committed_field_columns, nucleus_columns, saturated_columns
from hcs_nuclei.errors import OutputError, UserError
from hcs_nuclei.logs import set_up_logs
from hcs_nuclei.measurement import (
    FieldNuclei,
    correct,
    measure_field,
    measure_nuclei,
    measure_position,
    middle_of_fields,
    own_saturation_level,
    saturated_fraction,
)
from hcs_nuclei.metrics import count_here
from hcs_nuclei.models.loading import load_segmenter
from hcs_nuclei.outputs.ome_zarr import WellWriter
from hcs_nuclei.outputs.tables import well_table_path, write_well
from hcs_nuclei.pipeline.illumination import profiles_of
from hcs_nuclei.pipeline.plan import Context, Shard, WellJob
from hcs_nuclei.pipeline.reading import View, read_ahead
from hcs_nuclei.pipeline.summary import WellSummary, log_well
from hcs_nuclei.plate import Well
from hcs_nuclei.segmentation.predict import Prediction, Segmenter

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def process_shard(shard: Shard) -> list[WellSummary]:
    """Process the shard's wells one after another, its stages side by side; ends early where the run was stopped.

    Raises:
        ModelError: the model is not there or not the one that the run began with.
        OutputError: the output cannot be written (a full disk, no permission).
    """
    set_up_logs()
    context = shard.context
    segmenter = load_segmenter(context.model_directory, context.model_sha256)
    ended: list[Future[WellSummary | None]] = []
    runs: list[_WellRun] = []
    with (
        ExitStack() as staged,
        ThreadPoolExecutor(1, "read") as reading,
        ThreadPoolExecutor(1, "finish") as finishing,
    ):
        try:
            views = read_ahead(context, shard.jobs, reading, staged)
            for job in shard.jobs:
                runs.append(run := _WellRun(context, job, segmenter))
                for _ in range(len(job.well.fields) * context.timepoints):
                    view = run.timed("idle", next(views).result)
                    run.spent("read", view.seconds)
                    if should_stop():
                        return []
                    if view.status in ("ok", "incomplete"):
                        run.spent("wait", time.perf_counter() - view.read_at)
                        run.timed("network", partial(_predict, view, context, segmenter))
                    ended.append(finishing.submit(run.take, view))
                    if len(ended) > 2:
                        run.timed("idle", ended[-3].result)
                ended.append(finishing.submit(run.commit))
            return [summary for future in ended if (summary := future.result()) is not None]
        finally:
            finishing.shutdown(cancel_futures=True)
            for run in runs:
                run.close()


def fail_well(context: Context, job: WellJob, reason: str) -> WellSummary:
    """Commit a well that cannot be processed: no nuclei, every field ``failed`` with the reason.

    Raises:
        OutputError: not even that can be written.
    """
    rows = [
        _field_row(context, job.well, View(site, t, status="failed", error=reason))
        for site in job.well.fields
        for t in range(context.timepoints)
    ]
    with _disk_errors(context, job.well):
        with _writer(context, job.well) as writer:
            writer.commit(job.fingerprint)  # without a field: label images of an earlier attempt go
        write_well(
            well_table_path(context.run_dir, job.well.name),
            nuclei=[],
            fields=rows,
            fingerprint=job.fingerprint,
            measured=context.measured,
        )
    return WellSummary(job.well.name, 0, tuple("failed" for _ in rows), {}, {"failed": len(rows)})


class _WellRun:
    """One well being made: collects its fields, writes them as they come, commits at the end."""

    def __init__(self, context: Context, job: WellJob, segmenter: Segmenter) -> None:
        self._context = context
        self._job = job
        self._segmenter = segmenter
        self._closing = ExitStack()
        with _disk_errors(context, job.well):
            self._writer = self._closing.enter_context(_writer(context, job.well))
        self._rows: list[dict[str, object]] = []
        self._nuclei: list[dict[str, object]] = []
        self._stack_of: dict[int, dict[int, tuple[npt.NDArray[Any], npt.NDArray[np.uint32]]]] = {}
        self._numbers: dict[int, int] = {}
        self._seconds: dict[str, float] = {}
        self._faults: Counter[str] = Counter()

    def spent(self, stage: str, seconds: float) -> None:
        """Add to the seconds of `stage`."""
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def timed(self, stage: str, action: Any) -> Any:
        """Call `action` and add its seconds to `stage`."""
        start = time.perf_counter()
        result = action()
        self.spent(stage, time.perf_counter() - start)
        return result

    def take(self, view: View) -> None:
        """Make instances of one view, measure it, and write its field once all time points are there."""
        if view.prediction is not None:
            try:
                self._measure(view)
            except (UserError, MemoryError):
                raise
            except Exception as error:  # one field's failure is a line in the table, whatever it was
                view.status, view.error = "failed", f"{type(error).__name__}: {error}"
        if view.status not in ("ok", "incomplete"):
            self._rows.append(_field_row(self._context, self._job.well, view))
        self._faults.update([*view.faults, *(["failed"] if view.status == "failed" else [])])
        view.images, view.prediction = {}, None
        if view.timepoint == self._context.timepoints - 1:
            with _disk_errors(self._context, self._job.well):
                self.timed("write", partial(self._write, view.field.number))

    def commit(self) -> WellSummary:
        """Put the well's group and table in place: group first, the Parquet file is what makes the well done."""
        context, well = self._context, self._job.well
        if len(self._rows) != len(well.fields) * context.timepoints:
            raise RuntimeError(
                f"well {well.name}: only {len(self._rows)} of its images were finished"
            )  # its error is told

        def place() -> None:
            self._writer.commit(self._job.fingerprint)
            write_well(
                well_table_path(context.run_dir, well.name),
                nuclei=self._nuclei,
                fields=self._rows,
                fingerprint=self._job.fingerprint,
                measured=context.measured,
            )

        with _disk_errors(context, well):
            self.timed("write", place)
            self.close()
        counts = [row["Metadata_Object_Count"] for row in self._rows]
        summary = WellSummary(
            well.name,
            sum(n for n in counts if isinstance(n, int)),
            tuple(str(row["status"]) for row in self._rows),
            self._seconds,
            dict(self._faults),
        )
        count_here(summary.counts())
        log_well(context, summary, self._rows)
        emit_event(summary.as_event())
        return summary

    def close(self) -> None:
        """Remove what was not committed; may be called again."""
        self._closing.close()

    def _measure(self, view: View) -> None:
        context = self._context
        assert view.prediction is not None
        calibration = context.calibration
        assert calibration is not None
        prediction = view.prediction
        made = self.timed(
            "instances",
            lambda: self._segmenter.instances_of(
                prediction, minimum_area_px=context.settings.segmentation.minimum_area_px
            ),
        )
        nuclear = view.images[context.nuclear.token]
        columns = dict(zip((c.token for c in context.channels), context.channel_columns, strict=True))
        profiles = profiles_of(calibration.illumination)

        def measure() -> tuple[dict[str, Any], dict[str, Any]]:
            images = {
                columns[token]: correct(image, profiles[token]) if token in profiles else image
                for token, image in view.images.items()
            }
            # A camera saturates before anything is corrected.
            raw = {columns[token]: image for token, image in view.images.items()}
            column = context.measured.nuclear
            limits = _limits(raw, {column: calibration.saturation})
            nuclei = measure_nuclei(
                made.labels,
                images,
                nuclear=column,
                saturation=limits,
                groups=context.measured.groups,
                full_scale=context.settings.measurement.texture_full_scale,
                raw=raw,
                reach=context.reach,
            )
            nuclei |= measure_position(
                nuclei["Metadata_Center_X"],
                nuclei["Metadata_Center_Y"],
                shape=made.labels.shape,
                field_um=view.field.position_um,
                middle_um=middle_of_fields([site.position_um for site in self._job.well.fields]),
                pixel_size_um=context.pixel_size_um,
            )
            quality = measure_field(
                nuclear,
                made.labels,
                FieldNuclei(
                    area=nuclei["Nuclei_AreaShape_Area"],
                    x=nuclei["Metadata_Center_X"],
                    y=nuclei["Metadata_Center_Y"],
                    mean=nuclei[f"Nuclei_Intensity_MeanIntensity_{column}"],
                    confidence=made.confidence,
                ),
                saturation=limits[column],
                diameter_px=calibration.diameter_px,
                corrected=images[column],
            )
            for name, image in raw.items():
                quality[f"Metadata_QC_SaturatedFraction_{name}"] = saturated_fraction(image, limits[name])
            return nuclei, quality

        nuclei, quality = self.timed("measure", measure)
        count = int(made.confidence.size)
        # Numbers go on over a field's time points: an object number is unique in the field's label array.
        before = self._numbers.get(view.field.number, 0)
        self._numbers[view.field.number] = before + count
        labels = made.labels
        if before:
            labels = np.where(labels > 0, labels + np.uint32(before), np.uint32(0)).astype(np.uint32)
            nuclei["Metadata_ObjectNumber"] = nuclei["Metadata_ObjectNumber"] + np.uint32(before)
        features = (c.name for c in nucleus_columns(context.measured) if c.name.startswith("Nuclei_"))
        missing: dict[str, object] = dict.fromkeys(features, np.nan)
        missing |= {c.name: None for c in saturated_columns(context.measured.channels)}
        identity = _identity(context, self._job.well, view)
        self._nuclei.append({**missing, **identity, **nuclei, "Metadata_Confidence": made.confidence})
        self._rows.append(_field_row(context, self._job.well, view, count=count, shape=nuclear.shape, quality=quality))
        self._stack_of.setdefault(view.field.number, {})[view.timepoint] = (nuclear, labels)

    def _write(self, number: int) -> None:
        measured = self._stack_of.pop(number, {})
        if not measured:
            return
        shape = tuple(max(pixels.shape[axis] for pixels, _ in measured.values()) for axis in (0, 1))
        image = np.zeros((self._context.timepoints, *shape), np.result_type(*(p.dtype for p, _ in measured.values())))
        labels = np.zeros(image.shape, np.uint32)
        for t in sorted(measured):
            pixels, numbers = measured.pop(t)  # so that a long time-lapse is not in memory twice
            image[t, : pixels.shape[0], : pixels.shape[1]] = pixels
            labels[t, : pixels.shape[0], : pixels.shape[1]] = numbers
        self._writer.add_field(number, image, labels)


def _predict(view: View, context: Context, segmenter: Segmenter) -> None:
    assert context.calibration is not None
    image = view.images[context.nuclear.token]
    if image.min() == image.max():  # lamp, shutter or export: no model is asked what it sees in nothing
        view.prediction = Prediction.of_nothing(image)
        return
    try:
        view.prediction = segmenter.prediction_for(image, context.calibration.diameter_px)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a field that the network cannot take costs itself, never its well
        view.status, view.error = "failed", f"{type(error).__name__}: {error}"


def _limits(raw: Mapping[str, npt.NDArray[Any]], sample: Mapping[str, int | None]) -> dict[str, int | None]:
    """The camera's limit by channel: what the plate's sample shows, else what the field's own image shows.

    A sample of a few fields may miss the wells that are saturated, and has the nuclear channel alone: to read the
    others would be to read files twice.
    """
    known = {name: limit for name, limit in sample.items() if limit is not None}
    return {name: known[name] if name in known else own_saturation_level(image) for name, image in raw.items()}


def _writer(context: Context, well: Well) -> WellWriter:
    return WellWriter(
        context.store,
        well,
        channel=context.nuclear,
        pixel_size_um=context.pixel_size_um,
        timepoints=context.timepoints,
        image=context.settings.output.image,
    )


def _identity(context: Context, well: Well, view: View) -> dict[str, object]:
    return {
        "Metadata_Plate": context.plate,
        "Metadata_Acquisition": context.acquisition,
        "Metadata_Well": well.name,
        "Metadata_Row": well.row,
        "Metadata_Column": well.column,
        "Metadata_Field": view.field.number,
        "Metadata_Timepoint": view.timepoint,
    }


def _field_row(
    context: Context,
    well: Well,
    view: View,
    *,
    count: int | None = None,
    shape: tuple[int, ...] = (),
    quality: Mapping[str, float | bool] | None = None,
) -> dict[str, object]:
    position = view.field.position_um or (None, None)
    known: dict[str, object] = {
        **_identity(context, well, view),
        "status": view.status,
        "error": view.error,
        "Metadata_Object_Count": count,
        "Metadata_PixelSize_um": context.pixel_size_um,
        "Metadata_Height": shape[0] if shape else None,
        "Metadata_Width": shape[1] if shape else None,
        "Metadata_Position_X": position[0],
        "Metadata_Position_Y": position[1],
        **(quality or {}),
    }
    return {c.name: known.get(c.name) for c in committed_field_columns(context.measured)}


@contextmanager
def _disk_errors(context: Context, well: Well) -> Iterator[None]:
    """A write error that no other well can escape either ends the run; any other costs this well alone."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise OutputError(
            f"Plate {context.plate}, well {well.name}: the output {context.run_dir} cannot be written to "
            f"({error.strerror}). Free space or mend the permission, then start the run again: finished wells are kept."
        ) from error
