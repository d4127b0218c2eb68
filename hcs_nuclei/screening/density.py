"""A well's valid fields and the nuclei in them in, which nuclei count for the well and the area of the fields out.

A nucleus is counted in the field that holds the lower right corner of its bounding box. Where fields lie side by side
that is the rule of two edges: nuclei cut by the left or upper edge count, those cut by the right or lower edge belong
to the next field, so density does not depend on the size of a field. Where stage positions make several fields hold
that corner, it is the one whose left and upper edges are farthest from it, so that a nucleus is counted where it is
whole if any field shows it whole; and the area is that of all together: each nucleus once, each piece of well once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Fields that share less of their edge than this lie side by side: stages and pixel sizes are no more exact.
_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Frame:
    """A valid field: (height, width) in px, the edge of a pixel in µm and the stage position (x, y) in µm if known."""

    shape: tuple[int, int]
    pixel_size_um: float | None
    position_um: tuple[float, float] | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Frame:
        """Of a measured field's row of the field table."""
        x, y = row["Metadata_Position_X"], row["Metadata_Position_Y"]
        shape = row["Metadata_Height"], row["Metadata_Width"]
        return cls(shape, row["Metadata_PixelSize_um"], None if x is None or y is None else (x, y))


@dataclass(frozen=True, slots=True)
class _Box:
    """The edges of a field in µm, and its pixel's; the stage position is the centre."""

    left: float
    top: float
    right: float
    bottom: float
    pixel: float

    @classmethod
    def of(cls, frame: Frame) -> _Box:
        pixel = frame.pixel_size_um or 0.0
        height, width = (edge * pixel for edge in frame.shape)
        x, y = frame.position_um or (0.0, 0.0)
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2, pixel)

    def counts(self, x: Floats, y: Floats) -> npt.NDArray[np.bool_]:
        """(n,) whether it counts what has its lower right corner at (x, y) µm: its last column and row may be cuts."""
        of_columns = (x >= self.left) & (x < self.right - self.pixel)
        return of_columns & (y >= self.top) & (y < self.bottom - self.pixel)

    def room(self, x: Floats, y: Floats) -> Floats:
        """(n,) µm from the left or the upper edge, whichever is nearer: a nucleus that is larger than that is cut."""
        return np.minimum(x - self.left, y - self.top)


def counted_once(
    frames: Sequence[Frame], where: npt.NDArray[np.integer[Any]], right: Floats, bottom: Floats
) -> npt.NDArray[np.bool_]:
    """(n,) which nuclei of a well count, at one time point: each in one of its valid fields.

    Fields overlap only where the pixel size and the stage position of all are known.

    Args:
        frames: the well's valid fields; among equals the first counts.
        where: (n,) the frame of each nucleus, its place in `frames`; below 0 of one in another field, which is not
            counted.
        right: (n,) last column of each nucleus, px from the upper left pixel.
        bottom: (n,) last row.
    """
    counted = np.zeros(where.shape, dtype=bool)
    boxes = _boxes(frames)
    overlaps = _overlaps(boxes)
    for number, frame in enumerate(frames):
        here = np.flatnonzero(where == number)
        x, y = right[here], bottom[here]
        inside = (x < frame.shape[1] - 1) & (y < frame.shape[0] - 1)
        if boxes:
            box = boxes[number]
            x, y = box.left + (x + 0.5) * box.pixel, box.top + (y + 0.5) * box.pixel
            room = box.room(x, y)
            for place in np.flatnonzero(overlaps[number]):
                other = boxes[place]
                better = other.room(x, y) >= room if place < number else other.room(x, y) > room
                inside &= ~(better & other.counts(x, y))
        counted[here] = inside
    return counted


def area_mm2(frames: Sequence[Frame]) -> float | None:
    """Area of all `frames` together, mm²; None without a frame, or where the pixel size of one is unknown."""
    boxes = [_Box.of(frame) for frame in frames if frame.pixel_size_um is not None]
    if not frames or len(boxes) < len(frames):
        return None
    overlapping = bool(_overlaps(_boxes(frames)).any())
    return (_union(boxes) if overlapping else sum((b.right - b.left) * (b.bottom - b.top) for b in boxes)) / 1e6


def _boxes(frames: Sequence[Frame]) -> list[_Box]:
    """Where the frames lie in the well; empty where that is not known of all of them."""
    placed = all(frame.pixel_size_um is not None and frame.position_um is not None for frame in frames)
    return [_Box.of(frame) for frame in frames] if placed else []


def _overlaps(boxes: Sequence[_Box]) -> npt.NDArray[np.bool_]:
    """(k, k) which boxes lie over each other by more than :data:`_TOLERANCE` of the edges of the first of two."""
    left, top, right, bottom = (
        np.array([getattr(box, edge) for box in boxes]) for edge in ("left", "top", "right", "bottom")
    )
    wide = np.minimum.outer(right, right) - np.maximum.outer(left, left)
    high = np.minimum.outer(bottom, bottom) - np.maximum.outer(top, top)
    over: npt.NDArray[np.bool_] = (wide > _TOLERANCE * (right - left)[:, None]) & (
        high > _TOLERANCE * (bottom - top)[:, None]
    )
    np.fill_diagonal(over, False)
    return over


def _union(boxes: Sequence[_Box]) -> float:
    """Area that at least one of the boxes covers, µm²."""
    columns = np.unique([edge for box in boxes for edge in (box.left, box.right)])
    rows = np.unique([edge for box in boxes for edge in (box.top, box.bottom)])
    covered = np.zeros((rows.size - 1, columns.size - 1), dtype=bool)
    for box in boxes:
        within = (columns[:-1] >= box.left) & (columns[:-1] < box.right)
        covered[(rows[:-1] >= box.top) & (rows[:-1] < box.bottom)] |= within
    return float(np.diff(rows) @ covered @ np.diff(columns))
