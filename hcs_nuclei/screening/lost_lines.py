"""Wells without valid fields in, the rows and columns of the plate that lost them out: a pipette, a lens, a seal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Shorter rows and columns say nothing, since a single dead well may be one of two.
_FEWEST_WELLS = 4
#: Share of a line's wells that must be lost, and share of all other wells that may be.
_MOST, _FEW = 0.75, 0.25


@dataclass(frozen=True, slots=True)
class LostLine:
    """A row or column: `number` is 1-based, `lost` of its `wells` have no figures."""

    kind: str
    number: int
    lost: int
    wells: int


def lost_lines(rows: Sequence[int], columns: Sequence[int], lost: npt.ArrayLike) -> tuple[LostLine, ...]:
    """Rows and columns (1-based, (n,)) in which nearly all wells are `lost` (n,), where few others are."""
    gone = np.asarray(lost, dtype=bool)
    found = []
    for kind, lines in (("row", np.asarray(rows)), ("column", np.asarray(columns))):
        of_line = {int(line): gone[lines == line] for line in np.unique(lines)}
        bad = [n for n, wells in of_line.items() if wells.size >= _FEWEST_WELLS and wells.mean() >= _MOST]
        others = gone[~np.isin(lines, bad)]
        if others.size and others.mean() <= _FEW:
            found += [LostLine(kind, n, int(of_line[n].sum()), int(of_line[n].size)) for n in bad]
    return tuple(found)
