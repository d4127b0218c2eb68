"""What crosses back from a worker of one well, and what of it is counted and logged there."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hcs_nuclei.logs import json_wanted
from hcs_nuclei.metrics import Counts, counts_of_well
from hcs_nuclei.pipeline.plan import Context

logger = logging.getLogger("hcs_nuclei.well")


@dataclass(frozen=True, slots=True)
class WellSummary:
    """Counts and times of one well, never pixels.

    `seconds` by stage: read, network, instances, measure and write, which run side by side; how long its images waited
    for the network (wait), and the network for images (idle). `faults` of its channels by kind.
    """

    well: str
    nuclei: int
    statuses: tuple[str, ...]
    seconds: Mapping[str, float]
    faults: Mapping[str, int]

    def counts(self) -> Counts:
        """What it adds to the metrics."""
        return counts_of_well(nuclei=self.nuclei, statuses=self.statuses, seconds=self.seconds, faults=self.faults)

    def as_event(self) -> dict[str, Any]:
        """As plain data, which a worker can send."""
        return {**asdict(self), "statuses": list(self.statuses)}

    @classmethod
    def of_event(cls, event: Mapping[str, Any]) -> WellSummary:
        """What was sent."""
        return cls(**{**event, "statuses": tuple(event["statuses"])})


def log_well(context: Context, summary: WellSummary, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line a well, and one a field that is not ok, where JSON is asked for; in text the run itself tells enough."""
    if not json_wanted():
        return
    here = {"plate": context.plate, "run": context.run_dir.name, "well": summary.well}
    network = summary.seconds.get("network", 0.0)
    logger.info("%d nuclei in %d fields, network %.1f s", summary.nuclei, len(rows), network, extra=here)
    for row in rows:
        if row["status"] != "ok":
            logger.warning("%s: %s", row["status"], row["error"], extra={**here, "field": row["Metadata_Field"]})
