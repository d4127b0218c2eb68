"""A run in, what is kept of it beside its results out: entries in the audit log, numbers in the metrics.

Neither is worth a plate: what cannot be written is said once, and the run goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hcs_nuclei.audit import audit_path, last_entry, note
from hcs_nuclei.errors import RunConflictError, listed, reason_of
from hcs_nuclei.logs import log_places
from hcs_nuclei.metrics import RunMetrics
from hcs_nuclei.models.card import ModelCard
from hcs_nuclei.outputs.provenance import ModelRecord, RunRecord, read_record
from hcs_nuclei.pipeline.plan import Plan, RunResult
from hcs_nuclei.pipeline.summary import WellSummary
from hcs_nuclei.screening.exclusions import Exclusions
from hcs_nuclei.settings import WHEN_FINISHED, Settings

logger = logging.getLogger("hcs_nuclei.run")
_WELLS_NAMED = 20


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run comes from: the name of its recipe, why it is made, Prefect's id of it, and who asked for it."""

    recipe: str = ""
    reason: str = ""
    flow_run: str = ""
    by: str = ""


class RunFollower:
    """Told of one run, in its thread: `begin` once it may begin, `made` with each well, `end` when it is finished."""

    def __init__(self, origin: Origin, warn: Callable[[str], object], here: dict[str, Any]) -> None:
        self._origin, self._here = origin, here
        self._say = _Once(warn)
        self._metrics = RunMetrics()
        self._started = time.monotonic()
        self._run = self._model = ""
        self._made: set[str] = set()
        self._over = False

    def begin(self, plan: Plan, card: ModelCard, *, overwrite: bool = False, retry_failed: bool = False) -> None:
        """The run was prepared, and nothing stands against it."""
        context, former = plan.context, plan.record or _former(plan)
        self._run, self._model = context.run_dir.name, _in_words(card)
        self._here.update(plate=context.plate, run=self._run)
        about = {
            "plate": context.plate,
            "model": self._model,
            "recipe": self._origin.recipe,
            "settings": context.settings.fingerprint()[:12],
            "wells": len(plan.outstanding),
            "kept": plan.finished,
            "run": str(context.run_dir.absolute()),
            "source": context.place,
            "flow_run": self._origin.flow_run,
        }
        why = self._origin.reason
        self._note("run.begin", new={name: value for name, value in about.items() if value != ""}, reason=why)
        if overwrite and former is not None:
            now = {"model": self._model, "settings": about["settings"]}
            self._note("run.overwrite", old=_made_as(former), new=now, reason=why)
        if retry_failed and plan.record is not None and plan.outstanding:
            wells = listed((job.well.name for job in plan.outstanding), _WELLS_NAMED)
            self._note("run.retry", new={"wells": wells}, reason=why)
        excluded = former.exclusions if former else None
        self._say(note_exclusions(self._run, excluded, plan.exclusions, why, by=self._origin.by))
        self._say(self._metrics.count({("runs_started", ()): 1}))

    def made(self, summary: WellSummary) -> None:
        """A well was processed. One that is told of again, since its worker died afterwards, counts once."""
        if summary.well not in self._made:
            self._made.add(summary.well)
            self._say(self._metrics.count(summary.counts()))

    def end(self, result: RunResult) -> None:
        """The run is finished."""
        self.ended(
            "quarantined" if result.exit_status else "completed",
            made=result.made,
            wells=result.wells_by_status,
            fields=result.fields_by_status,
            nuclei=result.nuclei,
        )

    def stopped(self, state: str, reason: str = "") -> None:
        """The run came to no end of its own: it ``failed`` or was ``cancelled``; before it was begun it was refused."""
        if self._run:
            self.ended(state, reason)
        elif state == "failed":  # nothing happened, so there is nothing to write down
            self._metrics.count({("runs", ("refused",)): 1})
            self._say(self._metrics.flush({("last_run_end_timestamp_seconds", ("refused",)): time.time()}))

    def ended(self, state: str, reason: str = "", **counts: Any) -> None:
        """The run ended in `state`, one of :data:`hcs_nuclei.metrics.RUN_STATES`; `reason` is why, in one line."""
        if self._over:  # what happens afterwards, while it is shown, changes nothing
            return
        self._over, seconds = True, time.monotonic() - self._started
        new = {"state": state, "model": self._model, "seconds": round(seconds, 1), **counts}
        self._note("run.end", new=new, reason=reason)
        self._metrics.count({("runs", (state,)): 1, ("run_seconds", ()): seconds})
        self._say(self._metrics.flush({("last_run_end_timestamp_seconds", (state,)): time.time()}))

    def _note(self, what: str, *, old: Any = None, new: Any = None, reason: str = "") -> None:
        self._say(note(what, self._run, old=old, new=new, reason=reason, by=self._origin.by))


@contextmanager
def follow_run(
    origin: Origin | None = None, warn: Callable[[str], object] = logger.warning, stopping: tuple[type, ...] = ()
) -> Iterator[RunFollower]:
    """Who is to be told how a run goes on; how it ends by an error is seen here.

    Args:
        warn: told, once each, what could not be written.
        stopping: errors that stand for Ctrl-C.
    """
    with log_places() as here:
        follower = RunFollower(origin or Origin(), warn, here)
        try:
            yield follower
        except Exception as error:
            if isinstance(error, stopping):
                follower.stopped("cancelled")
            else:
                follower.stopped("failed", reason_of(error))
            raise
        except BaseException:  # Ctrl-C, or what a flow run that is cancelled is sent
            follower.stopped("cancelled")
            raise


def note_exclusions(run: str, old: Exclusions | None, new: Exclusions | None, reason: str = "", by: str = "") -> str:
    """Write down that other wells and fields of `run` do not count any more, if that is so; as `note`."""
    if (old.entries if old else ()) == (new.entries if new else ()):
        return ""
    return note("exclusions.change", run, old=_excluded(old), new=_excluded(new), reason=reason, by=by)


def note_remade(run: str, old: RunRecord, new: RunRecord, reason: str = "") -> str:
    """Write down that tables are made again from the same wells, with other exclusions, layout, gates …; as `note`."""
    fault = note_exclusions(run, old.exclusions, new.exclusions, reason)
    before, now = (r.settings.model_dump(mode="json", include=WHEN_FINISHED - {"exclusions"}) for r in (old, new))
    changed = [name for name in now if before[name] != now[name]]
    if changed and not fault:
        old_values, new_values = ({name: settings[name] for name in changed} for settings in (before, now))
        fault = note("run.remake", run, old=old_values, new=new_values, reason=reason)
    return fault


def note_recipe(name: str, settings: Settings) -> str:
    """Write down that a recipe is used for the first time, or with another content than the last time; as `note`.

    Args:
        name: the recipe's file, without folder and ending.
        settings: what it says, without what was asked for besides.
    """
    content = settings.model_dump(mode="json", exclude_defaults=True)
    try:
        last = last_entry(name, ("recipe.use", "recipe.change"))
    except OSError as error:
        return f"The audit log {audit_path()} cannot be read: {error.strerror}."
    if last is not None and last.new == content:
        return ""
    return note("recipe.use" if last is None else "recipe.change", name, old=last.new if last else None, new=content)


class _Once:
    """Says each sentence once, and nothing where there is none."""

    def __init__(self, warn: Callable[[str], object]) -> None:
        self._warn = warn
        self._said: set[str] = set()

    def __call__(self, sentence: str) -> None:
        if sentence and sentence not in self._said:
            self._said.add(sentence)
            self._warn(sentence)


def _former(plan: Plan) -> RunRecord | None:
    """What the run directory says that is written anew; None where it is damaged as well."""
    try:
        return read_record(plan.context.run_dir)
    except (RunConflictError, OSError):
        return None


def _made_as(record: RunRecord) -> dict[str, Any]:
    """What a former run was made with, and how it ended."""
    outcome = record.outcome
    return {
        "model": _in_words(record.model),
        "settings": record.settings_fingerprint[:12],
        "finished": record.finished,
        **({"wells": outcome.wells_by_status, "nuclei": outcome.nuclei} if outcome else {}),
    }


def _in_words(model: ModelCard | ModelRecord) -> str:
    return f"{model.name} ({model.identifier})"


def _excluded(exclusions: Exclusions | None) -> dict[str, Any] | None:
    if exclusions is None:
        return None
    places = [
        f"{entry.well}{f' field {entry.field}' if entry.field is not None else ''}: {entry.reason}"
        + (f" ({', '.join(filter(None, (entry.who, entry.when)))})" if entry.who or entry.when else "")
        for entry in exclusions.entries
    ]
    return {"file": exclusions.source, "sha256": exclusions.sha256[:12], "excluded": places}
