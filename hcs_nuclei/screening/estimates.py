"""What is known of a number: its value, its 95 % interval, how many wells it rests on, and why it may be absent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Fewer wells on a side say nothing about how far wells of one kind lie apart.
MINIMUM_WELLS = 4
#: Two-sided, of every interval.
CONFIDENCE = 0.95
#: Makes the median absolute deviation of a normal distribution its standard deviation.
MAD_TO_SD = 1.4826


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval; `value` is None where it cannot be told, and `reason` says why.

    An end of the interval is None where nothing bounds it on that side, both where there is no interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def times(self, factor: float) -> Estimate:
        """The same in another unit; `factor` is above 0."""
        value, low, high = (None if end is None else end * factor for end in (self.value, self.low, self.high))
        return Estimate(value, low, high, self.reason)


def known(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The finite ones of well values, float64 (n,)."""
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


def mad(values: npt.NDArray[np.float64]) -> float:
    """Median absolute deviation × 1.4826 of values (n,), n >= 1."""
    return MAD_TO_SD * float(np.median(np.abs(values - np.median(values))))


def varies(spread: float, values: npt.NDArray[np.float64]) -> bool:
    """Whether a spread is more than the rounding of the values that it is of."""
    return spread > 1e-9 * float(np.max(np.abs(values), initial=0.0))
