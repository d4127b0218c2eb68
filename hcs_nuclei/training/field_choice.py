"""The fields of finished runs in, those worth annotating out: spread over treatments, plates and wells.

Of every four fields two are those in which the model is least sure, one has a flag of quality, and one is typical, so
that what is annotated is neither of failures alone nor of successes. Each is taken from the treatment (the well, where
there are none), then the plate, then the well of which the fewest were taken. The same runs give the same fields.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcs_nuclei.columns.fields import field_flags

LEAST_SURE, FLAGGED, TYPICAL = "least sure", "flagged", "typical"
#: Why the first field is chosen, the second and so on, over and over.
PATTERN = (LEAST_SURE, FLAGGED, LEAST_SURE, TYPICAL)

_FLAGS = tuple(flag.name for flag in field_flags())
#: Nothing could be annotated in such a field.
_BLANK = "Metadata_QC_Blank"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A measured field: its run, its row of the field table, and its treatment (empty without a layout)."""

    run: Path
    row: Mapping[str, Any]
    treatment: tuple[str, ...] = ()

    @property
    def well(self) -> tuple[Path, str]:
        """The well that it is of."""
        return self.run, str(self.row["Metadata_Well"])

    @property
    def place(self) -> tuple[str, int, int, int, int]:
        """What orders fields of equal merit: run, row, column, field, time point."""
        names = ("Metadata_Row", "Metadata_Column", "Metadata_Field", "Metadata_Timepoint")
        row, column, field, timepoint = (int(self.row[name]) for name in names)
        return str(self.run), row, column, field, timepoint

    @property
    def confidence(self) -> float | None:
        """Mean confidence of its nuclei; None where it has none."""
        value = self.row["Metadata_QC_MeanConfidence"]
        return None if value is None or math.isnan(value) else float(value)

    @property
    def flags(self) -> tuple[str, ...]:
        """Its flags of quality, without their prefix."""
        return tuple(name.removeprefix("Metadata_QC_") for name in _FLAGS if self.row.get(name) is True)


@dataclass(frozen=True, slots=True)
class ChosenField:
    """A field, and why it was chosen: one of :data:`PATTERN`, with what is special about it."""

    candidate: Candidate
    reason: str


def choose_fields(candidates: Sequence[Candidate], number: int) -> list[ChosenField]:
    """At most `number` of the fields in order of choice; blank fields and those excluded by hand are left out."""
    left = [c for c in candidates if c.row.get(_BLANK) is not True and c.row.get("Metadata_Excluded") is not True]
    known = sorted(c.confidence for c in left if c.confidence is not None)
    median = known[len(known) // 2] if known else 0.0
    merit: dict[str, Callable[[Candidate], float]] = {
        LEAST_SURE: lambda c: math.inf if c.confidence is None else c.confidence,
        FLAGGED: lambda c: -len(c.flags),
        TYPICAL: lambda c: math.inf if c.confidence is None else abs(c.confidence - median),
    }
    taken: Counter[Any] = Counter()
    chosen: list[ChosenField] = []
    while left and len(chosen) < number:
        why = PATTERN[len(chosen) % len(PATTERN)]
        fitting = [c for c in left if c.flags] if why == FLAGGED else left
        if not fitting:
            why, fitting = TYPICAL, left
        rank = merit[why]
        best = min(fitting, key=lambda c: (*(taken[group] for group in _groups(c)), rank(c), c.place))
        left.remove(best)
        taken.update(_groups(best))
        chosen.append(ChosenField(best, f"{why}: {', '.join(best.flags)}" if why == FLAGGED else why))
    return chosen


def _groups(candidate: Candidate) -> tuple[tuple[str, Any], ...]:
    treatment = candidate.treatment or candidate.well
    return ("treatment", treatment), ("plate", candidate.run), ("well", candidate.well)
