"""Progress in, what Prefect's UI shows of a run while it lasts out: a bar, few log lines, a link to Dask's own page.

All of it is made in the flow's process. What cannot be shown is logged and costs nothing else: the plate goes on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import cast
from uuid import UUID

from prefect.artifacts import create_link_artifact, create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from hcs_nuclei.cluster import Client
from hcs_nuclei.pipeline import Progress

#: The UI asks for artifacts every few seconds; each update is a request to the server.
_PROGRESS_EVERY_S = 3.0
_LOG_EVERY_S = 15.0
#: While the server does not answer, a plate must not wait for it at every well.
_RETRY_AFTER_S = 60.0
_STAGES = {"prepare": "prepared", "calibrate": "calibrated", "finish": "tables and report follow"}


class ProgressDisplay:
    """Follows one run, in the thread of its flow: call it with each `Progress`; it passes them on to `also`.

    `fields` are those of a well, on average and over all time points: for the speed.
    """

    def __init__(self, also: Callable[[Progress], None], fields: float = 0.0) -> None:
        self._also = also
        self._fields = fields
        self._began: tuple[float, int] | None = None
        self._artifact: UUID | None = None
        self._faults = 0
        self._next_update = self._next_line = 0.0

    def __call__(self, progress: Progress) -> None:
        self._also(progress)
        if progress.remark:
            get_run_logger().warning("%s", progress.remark)
            return
        now = time.monotonic()
        if progress.stage == "calibrate":
            self._began = now, progress.done
        self._log(progress)
        if now >= self._next_update or progress.stage == "finish":
            answered = shown(lambda: self._update(progress))
            self._next_update = now + (_PROGRESS_EVERY_S if answered else _RETRY_AFTER_S)

    def ended(self, line: str) -> None:
        """Leave `line`, how the run ended, beside the full bar."""
        if (bar := self._artifact) is not None:
            shown(lambda: update_progress_artifact(bar, 100.0, description=line))

    def _log(self, progress: Progress) -> None:
        logger, now = get_run_logger(), time.monotonic()
        if progress.faults > self._faults:
            new, self._faults = progress.faults - self._faults, progress.faults
            logger.warning("Well %s: %s", progress.well, faults_in_words(new))
        last = progress.stage == "wells" and progress.done == progress.total
        if progress.stage != "wells" or last or now >= self._next_line:
            self._next_line = now + _LOG_EVERY_S
            logger.info("%s", self._line(progress))

    def _update(self, progress: Progress) -> None:
        percent = 100.0 * progress.done / max(progress.total, 1)
        if self._artifact is None:
            key = artifact_key(progress.plate, "progress")
            self._artifact = cast(UUID, create_progress_artifact(percent, key=key, description=self._line(progress)))
        else:
            update_progress_artifact(self._artifact, percent, description=self._line(progress))

    def _line(self, progress: Progress) -> str:
        if self._began is None or progress.stage != "wells":
            return in_words(progress)
        seconds, wells = time.monotonic() - self._began[0], progress.done - self._began[1]
        return in_words(progress) + speed_in_words(seconds, wells, progress.total - progress.done, self._fields)


def in_words(progress: Progress) -> str:
    """One line for people: ``Plate P12: 40 of 96 wells, last C04; 8,112 nuclei``."""
    line = f"Plate {progress.plate}: {progress.done} of {progress.total} wells"
    if progress.stage != "wells":
        return f"{line} done; {_STAGES[progress.stage]}"
    faults = f"; {faults_in_words(progress.faults)}" if progress.faults else ""
    return f"{line}, last {progress.well}; {progress.nuclei:,} nuclei{faults}"


def speed_in_words(seconds: float, wells: int, left: int, fields: float) -> str:
    """``; 1.4 fields/s, about 12 min left``, for `wells` made in so many seconds and as many `left` to be made.

    `fields` are those of a well (0: not known). Empty where there is nothing to tell yet.
    """
    if not fields or wells < 1 or seconds <= 0:
        return ""
    speed = f"; {wells * fields / seconds:.2g} fields/s"
    minutes = left * seconds / wells / 60
    return speed + (f", about {max(minutes, 1):.0f} min left" if left else "")


def show_dashboard(plate: str, client: Client) -> None:
    """Make the link to the page on which Dask shows what its workers do; a scheduler may have none."""
    try:
        link = client.dashboard_link
    except (KeyError, OSError):
        return
    if link:
        words = f"[What the workers do]({link}), on Dask's own page"
        key = artifact_key(plate, "dask")
        shown(lambda: create_link_artifact(link, link_text="Dask dashboard", key=key, description=words))


def artifact_key(plate: str, what: str) -> str:
    """A key that Prefect accepts (a-z, 0-9, dashes); runs of one plate are versions of one artifact."""
    return re.sub(r"[^a-z0-9]+", "-", f"{plate}-{what}".lower()).strip("-")


def faults_in_words(number: int) -> str:
    """``1 field with a fault``."""
    return f"{number} field{'s' if number != 1 else ''} with a fault"


def shown(show: Callable[[], object]) -> bool:
    """Whether an artifact could be made or updated; what cannot be shown is logged."""
    try:
        # A server that is away is asked again in a minute, not at once: the wells must not wait for it.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            show()
    except Exception as error:  # HTTP, Prefect's own tree, a table that is gone: a picture is never worth a plate
        get_run_logger().warning("An artifact could not be shown: %s", error)
        return False
    return True
