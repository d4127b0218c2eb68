"""Values of replicate wells in, their summary out; n is wells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcs_nuclei.screening.estimates import known, mad


@dataclass(frozen=True, slots=True)
class Replicates:
    """Summary of wells that were treated alike, in their unit; None where there are too few of them.

    `spread` is the sample standard deviation and `mad` the median absolute deviation × 1.4826: both need two wells.
    """

    wells: int
    median: float | None
    mad: float | None
    mean: float | None
    spread: float | None


def summarise(values: npt.ArrayLike) -> Replicates:
    """Summary of values (n,); NaN is a well without one."""
    there = known(values)
    if not there.size:
        return Replicates(0, None, None, None, None)
    several = there.size > 1
    return Replicates(
        there.size,
        float(np.median(there)),
        mad(there) if several else None,
        float(np.mean(there)),
        float(np.std(there, ddof=1)) if several else None,
    )
