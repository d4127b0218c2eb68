"""Epochs and a verdict in, what Prefect's UI shows of a training out: a bar, the curves as a table, the comparison."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from flows.display import artifact_key, shown
from hcs_nuclei.training.comparison import Comparison
from hcs_nuclei.training.retraining import epoch_in_words

_BLOCKS = "▁▂▃▄▅▆▇█"
_LOG_EVERY_S = 15.0
#: Each is a version of the artifact, of which a training of hundreds of short epochs would make too many.
_CURVES_EVERY_S = 20.0


class EpochDisplay:
    """Follows one training, in the thread of its flow: call it with each epoch's row of the history."""

    def __init__(self, title: str, epochs: int) -> None:
        self._title = title
        self._epochs = epochs
        self._artifact: UUID | None = None
        self._rows: list[Mapping[str, Any]] = []
        self._next_line = self._next_curves = 0.0

    def __call__(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        now, last = time.monotonic(), row["epoch"] == self._epochs
        if last or now >= self._next_line:
            self._next_line = now + _LOG_EVERY_S
            get_run_logger().info("%s", epoch_in_words(row, self._epochs))
        shown(self._update)
        if last or now >= self._next_curves:
            self._next_curves = now + _CURVES_EVERY_S
            shown(self._curves)

    def _update(self) -> None:
        row = self._rows[-1]
        percent, words = 100.0 * row["epoch"] / self._epochs, epoch_in_words(row, self._epochs)
        if self._artifact is None:
            key = artifact_key(self._title, "training-progress")
            self._artifact = cast(UUID, create_progress_artifact(percent, key=key, description=words))
        else:
            update_progress_artifact(self._artifact, percent, description=words)

    def _curves(self) -> None:
        create_markdown_artifact(
            curves(self._rows),
            key=artifact_key(self._title, "training-curves"),
            description=epoch_in_words(self._rows[-1], self._epochs),
        )


def curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """Loss and accuracy as lines of blocks, and a table of every epoch, in Markdown."""
    names = [name for name in rows[0] if name not in {"epoch", "seconds"}]
    lines = [f"`{_line([float(row[name]) for row in rows])}` {name.replace('_', ' ')}  " for name in names]
    table = [f"| epoch | {' | '.join(name.replace('_', ' ') for name in names)} | s |", "|---" * (len(names) + 2) + "|"]
    for row in rows:
        values = " | ".join(f"{row[name]:.4g}" for name in names)
        table.append(f"| {row['epoch']:.0f} | {values} | {row['seconds']:.0f} |")
    return "\n".join([*lines, "", *table])


def _line(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return "".join(_BLOCKS[int((v - low) / ((high - low) or 1.0) * (len(_BLOCKS) - 1))] for v in values)


def log_looked_at(images: int) -> Callable[[int], None]:
    """A function that logs now and then how many of so many images both models have looked at."""
    next_line = time.monotonic() + _LOG_EVERY_S

    def tell(done: int) -> None:
        nonlocal next_line
        if done == images or time.monotonic() >= next_line:
            next_line = time.monotonic() + _LOG_EVERY_S
            get_run_logger().info("%s of %s images compared, counting each model's", f"{done:,}", f"{images:,}")

    return tell


def show_comparison(title: str, comparison: Comparison, report: Path) -> None:
    """Make the artifact of a judged candidate: the verdict, what it rests on, and where the report is."""
    place = report.resolve()
    verdict = "may take the current model's place" if comparison.verdict.passed else "is refused"
    lines = [
        f"**The candidate {verdict}.**",
        "",
        "| set | rule | found | |",
        "|---|---|---|---|",
        *(f"| {c.set} | {c.rule} | {c.said} | {'ok' if c.passed else 'no'} |" for c in comparison.verdict.checks),
        "",
        f"[{place}]({place.as_uri()})",
    ]
    shown(
        lambda: create_markdown_artifact(
            "\n".join(lines),
            key=artifact_key(title, "comparison"),
            description=f"{comparison.candidate.name} against {comparison.current.name}",
        )
    )
