"""A training in, its beginning and its end in the audit log out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hcs_nuclei.audit import note
from hcs_nuclei.errors import reason_of
from hcs_nuclei.training.child import TrainingJob

logger = logging.getLogger("hcs_nuclei.training")


class TrainingFollower:
    """Told how one training ends; what it is not told is *trained*."""

    def __init__(self) -> None:
        self.state, self.reason = "trained", ""
        self.what: dict[str, Any] = {}

    def ends(self, state: str, reason: str = "", **what: Any) -> None:
        """It will have ended as `state` (*better*, *promoted*, *refused*), with `what`; `reason` is why, in words."""
        self.state, self.reason = state, reason
        self.what |= what


@contextmanager
def follow_training(
    job: TrainingJob,
    *,
    flow_run: str = "",
    by: str = "",
    warn: Callable[[str], object] = logger.warning,
    stopping: tuple[type, ...] = (),
) -> Iterator[TrainingFollower]:
    """Write ``training.begin`` and ``training.end`` into the audit log; that neither can be written ends no training.

    Args:
        job: what is trained.
        flow_run: Prefect's id of the run that it belongs to.
        by: who asked for it.
        warn: told what could not be written.
        stopping: errors that stand for Ctrl-C.

    Yields:
        Who is to be told how it ended. An error ends it as *failed*, whatever stops this process as *cancelled*.
    """
    subject, started, follower = job.out.name, time.monotonic(), TrainingFollower()
    about = {
        "data": [str(dataset) for dataset in job.datasets],
        "from": job.settings.parent or "scratch",
        "architecture": job.settings.architecture,
        "epochs": job.settings.epochs,
        "out": str(job.out.absolute()),
        "flow_run": flow_run,
    }

    def say(what: str, new: dict[str, Any], reason: str = "") -> None:
        if fault := note(what, subject, new=new, reason=reason, by=by):
            warn(fault)

    say("training.begin", {name: value for name, value in about.items() if value != ""})
    try:
        yield follower
    except Exception as error:
        if isinstance(error, stopping):
            follower.ends("cancelled")
        else:
            follower.ends("failed", reason_of(error))
        raise
    except BaseException:  # Ctrl-C, or what a flow run that is cancelled is sent
        follower.ends("cancelled")
        raise
    finally:
        seconds = round(time.monotonic() - started, 1)
        say("training.end", {"state": follower.state, "seconds": seconds, **follower.what}, follower.reason)
