"""A well's valid fields and the nuclei in them in, nuclei per mm² out: each nucleus once, each piece of well once.

A nucleus is counted in the field that holds the lower right corner of its bounding box. Where fields lie side by side
that is the rule of two edges: nuclei cut by the left or upper edge count, those cut by the right or lower edge belong
to the next field, so density does not depend on the size of a field. Where stage positions make fields overlap, it is
the first of them, and the area is that of all together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Fields that share less of their edge than this lie side by side: stages and pixel sizes are no more exact.
_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Frame:
    """A valid field: (height, width) in px, the edge of a pixel in µm, the stage position (x, y) in µm if known.

    `right` and `bottom` are (n,): the last column and row of each nucleus, px from the upper left pixel.
    """

    shape: tuple[int, int]
    pixel_size_um: float
    position_um: tuple[float, float] | None
    right: Floats
    bottom: Floats

    @property
    def box_um(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom edge in µm; the stage position is the centre."""
        height, width = (edge * self.pixel_size_um for edge in self.shape)
        x, y = self.position_um or (0.0, 0.0)
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def density_per_mm2(frames: Sequence[Frame]) -> float | None:
    """Nuclei per mm² of the area of all `frames` together; None without a frame."""
    if not frames:
        return None
    placed = all(frame.position_um is not None for frame in frames)
    earlier: list[Frame] = []
    count = 0
    for frame in frames:
        left, top, _, _ = frame.box_um
        inside = (frame.right < frame.shape[1] - 1) & (frame.bottom < frame.shape[0] - 1)
        x = left + (frame.right + 0.5) * frame.pixel_size_um
        y = top + (frame.bottom + 0.5) * frame.pixel_size_um
        for other in earlier if placed else ():
            if _overlap(frame, other):
                o_left, o_top, o_right, o_bottom = other.box_um
                last = other.pixel_size_um  # what lies in its last column or row may go on, and is not counted there
                inside &= ~((x >= o_left) & (x < o_right - last) & (y >= o_top) & (y < o_bottom - last))
        count += int(np.count_nonzero(inside))
        earlier.append(frame)
    overlapping = placed and any(_overlap(a, b) for i, a in enumerate(frames) for b in frames[:i])
    boxes = [frame.box_um for frame in frames]
    area = _union(boxes) if overlapping else sum((r - le) * (b - t) for le, t, r, b in boxes)
    return count / (area / 1e6)


def _overlap(a: Frame, b: Frame) -> bool:
    (a_left, a_top, a_right, a_bottom), (b_left, b_top, b_right, b_bottom) = a.box_um, b.box_um
    wide, high = min(a_right, b_right) - max(a_left, b_left), min(a_bottom, b_bottom) - max(a_top, b_top)
    return wide > _TOLERANCE * (a_right - a_left) and high > _TOLERANCE * (a_bottom - a_top)


def _union(boxes: Sequence[tuple[float, float, float, float]]) -> float:
    """Area that at least one of the boxes (left, top, right, bottom) covers."""
    columns = np.unique([edge for left, _, right, _ in boxes for edge in (left, right)])
    rows = np.unique([edge for _, top, _, bottom in boxes for edge in (top, bottom)])
    covered = np.zeros((rows.size - 1, columns.size - 1), dtype=bool)
    for left, top, right, bottom in boxes:
        covered[(rows[:-1] >= top) & (rows[:-1] < bottom)] |= (columns[:-1] >= left) & (columns[:-1] < right)
    return float(np.diff(rows) @ covered @ np.diff(columns))
