"""What was done, counted for Prometheus: in one file that outlives the runs, and on the page of each Dask worker.

A run is a short-lived process, which nobody can scrape. So runs add what they did to one file, in Prometheus' own text
format, under a lock; it never falls back, whatever dies and comes back. ``hcs-nuclei serve`` shows it on its page, and
node_exporter's textfile collector reads it where there is no service. Its name is ``$HCS_NUCLEI_METRICS_FILE``; runs
keep none where that is not set.

Labels have few values: no plate and no well, of which there are ever more. Those stand in the tables and the audit log.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcs_nuclei.files import temporary_path

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

METRICS_FILE = "HCS_NUCLEI_METRICS_FILE"
PREFIX = "hcs_nuclei_"
#: A field so makes its well a quarantined one: it counts as done until ``--retry-failed``.
QUARANTINING = frozenset({"missing", "unreadable", "failed"})

#: What is counted, without prefix and ``_total``: its labels, and what it is.
COUNTERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "wells": ((), "Wells that were processed."),
    "wells_quarantined": ((), "Wells among them with fields that are missing, unreadable or failed."),
    "fields": (("status",), "Fields (each time point of one) that were processed, by status in the field table."),
    "nuclei": ((), "Nuclei that were measured."),
    "faults": (("kind",), "Faults of fields, one for each channel that has one, by kind."),
    "stage_seconds": (("stage",), "Time that workers spent in each stage of their wells; stages run side by side."),
    "device_wait_seconds": ((), "Time that images which were read waited for the GPU (or the CPU) with the network."),
    "device_idle_seconds": ((), "Time that the network waited for images to be read, or for earlier ones to be done."),
    "runs_started": ((), "Runs that were begun; those that neither ended nor go on were killed."),
    "runs": (("state",), "Runs that ended, by state."),
    "run_seconds": ((), "Time from the beginning to the end of the runs that ended."),
}
#: What is set and not added to.
GAUGES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "last_run_end_timestamp_seconds": (("state",), "When the last run ended in each state, Unix time."),
}
#: What a worker process counts of its own.
_OF_WELLS = ("wells", "wells_quarantined", "fields", "nuclei", "faults", "stage_seconds")
_OF_DEVICES = ("device_wait_seconds", "device_idle_seconds")
RUN_STATES = ("completed", "quarantined", "failed", "cancelled", "refused")
#: What is shown as 0 before it happens for the first time, so that a rise from nothing is seen.
_KNOWN = {"runs": RUN_STATES, "fields": ("ok", "incomplete", "missing", "unreadable", "failed")}

#: A value's name and the values of its labels.
Key = tuple[str, tuple[str, ...]]
Counts = Mapping[Key, float]


def counts_of_well(
    *, nuclei: int, statuses: Sequence[str], seconds: Mapping[str, float], faults: Mapping[str, int]
) -> Counts:
    """What one processed well adds.

    Args:
        statuses: of each of its fields (and time points), as in the field table.
        seconds: by stage; ``wait`` and ``idle`` are the device's and no stages.
        faults: by kind.
    """
    device = {f"device_{kind}_seconds": seconds[kind] for kind in ("wait", "idle") if kind in seconds}
    quarantined = not QUARANTINING.isdisjoint(statuses)
    return {
        **{(name, ()): n for name, n in {"wells": 1, "wells_quarantined": quarantined, "nuclei": nuclei}.items()},
        **{(name, ()): spent for name, spent in device.items()},
        **{("fields", (status,)): statuses.count(status) for status in statuses},
        **{("faults", (kind,)): number for kind, number in faults.items()},
        **{("stage_seconds", (stage,)): spent for stage, spent in seconds.items() if stage not in {"wait", "idle"}},
    }


def count_here(counts: Counts) -> None:
    """Add to the counters of this process, which a Dask worker shows at ``/metrics`` as ``hcs_nuclei_worker_*``.

    They have names of their own, since whoever scrapes workers and service would count everything twice.
    """
    families = _of_this_process()
    for (name, labels), amount in counts.items():
        family = families[name]
        (family.labels(*labels) if labels else family).inc(amount)


@cache
def _of_this_process() -> dict[str, Any]:
    """In the registry that Dask's page shows; made with the first count, so that other processes show nothing."""
    from prometheus_client import Counter as Counted

    names = (*_OF_WELLS, *_OF_DEVICES)
    return {name: Counted(f"{PREFIX}worker_{name}", COUNTERS[name][1], COUNTERS[name][0]) for name in names}


class MetricsFile:
    """The totals of all runs that add to it, from any process of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_environment(cls) -> MetricsFile | None:
        """The one that ``$HCS_NUCLEI_METRICS_FILE`` names; None where it names none."""
        name = os.environ.get(METRICS_FILE)
        return cls(Path(name)) if name else None

    def add(self, counts: Counts, gauges: Counts | None = None) -> None:
        """Add `counts` and set `gauges`; the file is whole at any time.

        Raises:
            OSError: it cannot be written.
        """
        if not self.path.parent.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f".{self.path.name}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            values = self.read()
            _add(values, counts)
            values.update(gauges or {})
            # Without waiting for the disk: a crash of the machine may set it back, which Prometheus knows to handle.
            fresh = temporary_path(self.path)
            try:
                fresh.write_bytes(as_text(families_of(values)))
                os.replace(fresh, self.path)
            except BaseException:
                fresh.unlink(missing_ok=True)
                raise

    def read(self) -> dict[Key, float]:
        """Each value by name and labels; none where there is no file, or one that is damaged."""
        from prometheus_client.parser import text_string_to_metric_families

        try:
            families = list(text_string_to_metric_families(self.path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return {}
        known = {**COUNTERS, **GAUGES}
        values = {}
        for family in families:
            name = family.name.removeprefix(PREFIX)
            for sample in family.samples:
                if name in known:
                    values[name, tuple(sample.labels.get(label, "") for label in known[name][0])] = sample.value
        return values


def _add(to: dict[Key, float], counts: Counts) -> None:
    for key, amount in counts.items():
        to[key] = to.get(key, 0.0) + amount


def families_of(values: Counts) -> list[Metric]:
    """Every family, those without a value yet too: with a 0 where it has no labels, so that rates begin somewhere."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    families: list[Metric] = []
    for kinds, make in ((COUNTERS, CounterMetricFamily), (GAUGES, GaugeMetricFamily)):
        for name, (labels, meaning) in kinds.items():
            family = make(f"{PREFIX}{name}", meaning, labels=labels)
            found = {key[1]: value for key, value in values.items() if key[0] == name}
            nothing: dict[tuple[str, ...], float] = dict.fromkeys(((value,) for value in _KNOWN.get(name, ())), 0.0)
            found = {**(nothing if labels else {(): 0.0}), **found}
            for label_values, value in sorted(found.items()):
                family.add_metric(label_values, value)
            families.append(family)
    return families


def as_text(families: Sequence[Metric]) -> bytes:
    """Families in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest

    class Collector:
        def collect(self) -> Sequence[Metric]:
            return families

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return generate_latest(registry)


class RunMetrics:
    """What one run adds: kept here for a second at most, so that a run of many small wells writes no file for each."""

    _EVERY_S = 1.0

    def __init__(self, file: MetricsFile | None = None) -> None:
        self._file = file or MetricsFile.of_environment()
        self._waiting: dict[Key, float] = {}
        self._next = 0.0

    def count(self, counts: Counts) -> str:
        """Add; written with the first call that comes a second after the last writing, or with `flush`, as that."""
        _add(self._waiting, counts)
        return self.flush() if time.monotonic() >= self._next else ""

    def flush(self, gauges: Counts | None = None) -> str:
        """Write what waits; what cannot be written is kept for the next time, and the reason returned in words."""
        self._next = time.monotonic() + self._EVERY_S
        if self._file is None:
            self._waiting.clear()
            return ""
        try:
            self._file.add(self._waiting, gauges)
        except OSError as error:
            return f"The metrics {self._file.path} cannot be written: {error.strerror}."
        self._waiting.clear()
        return ""
