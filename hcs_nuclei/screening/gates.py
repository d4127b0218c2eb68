"""A gate of the recipe and a plate's negative controls in, its cut out; a feature and the cut in, who is positive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hcs_nuclei.settings.aggregation import GateSettings

#: Fewer nuclei give no quantile that a threshold may rest on.
FEWEST_NUCLEI = 50


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate as it was applied to one plate.

    `cut` is in the feature's unit, None where there is none, and then `reason` says why and no nucleus is called.
    `origin` says where the cut comes from, in words.
    """

    name: str
    feature: str
    side: Literal["above", "below"]
    cut: float | None
    origin: str
    reason: str = ""

    def positive(self, values: npt.NDArray[np.float64]) -> np.ma.MaskedArray[tuple[int], np.dtype[np.bool_]]:
        """(n,) whether each nucleus lies beyond the cut, never on it; masked where it has no value, or no cut."""
        if self.cut is None:
            return np.ma.MaskedArray(np.zeros(values.shape, dtype=bool), mask=True)
        beyond = values > self.cut if self.side == "above" else values < self.cut
        return np.ma.MaskedArray(beyond, mask=np.isnan(values))


def make_gate(name: str, settings: GateSettings, controls: npt.NDArray[np.float64], wells: int) -> Gate:
    """The gate `name` on one plate.

    Args:
        name: as the recipe has it.
        settings: its feature, and its cut or quantile.
        controls: (n,) the feature of the nuclei of the plate's negative controls; not looked at for a fixed cut.
        wells: how many negative controls they are of.
    """
    if settings.cut is not None:
        return Gate(name, settings.feature, settings.side, settings.cut, "the recipe")
    share = settings.quantile
    assert share is not None
    known = controls[~np.isnan(controls)]
    origin = f"quantile {share:g} of {known.size} nuclei in {wells} negative controls"
    if known.size < FEWEST_NUCLEI:
        reason = f"{known.size} nuclei in {wells} valid negative controls; a quantile needs {FEWEST_NUCLEI}"
        return Gate(name, settings.feature, settings.side, None, origin, reason)
    return Gate(name, settings.feature, settings.side, float(np.quantile(known, share)), origin)
