"""What a simulated microscope was told to do: the values from which each vendor's files are written."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hcs_nuclei.plate import PLATE_FORMATS
from hcs_nuclei.simulate.design import WellDesign
from hcs_nuclei.simulate.optics import Shading

#: A 20× objective on a camera of 6.5 µm pixels, binned 2 × 2.
PIXEL_SIZE_UM = 0.65


@dataclass(frozen=True, slots=True)
class Acquisition:
    """A plate as it was set up: what is on it and what shall be imaged.

    `size` is the edge of a field in pixels. `shading` is the illumination of each channel, in the channels' order.
    """

    name: str
    wells: tuple[WellDesign, ...]
    wells_in_format: int
    fields: int
    size: int
    channels: tuple[str, ...]
    shading: tuple[Shading, ...]
    pixel_size_um: float = PIXEL_SIZE_UM

    @property
    def rows(self) -> int:
        """Rows of the plate format."""
        return PLATE_FORMATS[self.wells_in_format][0]

    @property
    def columns(self) -> int:
        """Columns of the plate format."""
        return PLATE_FORMATS[self.wells_in_format][1]

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the grid of fields in a well; it is filled row by row and may end with gaps."""
        columns = math.ceil(math.sqrt(self.fields))
        return math.ceil(self.fields / columns), columns

    def offset_um(self, field: int) -> tuple[float, float]:
        """(x, y) of a field's centre from the well's, in µm, y pointing down; `field` counts from 0."""
        rows, columns = self.grid
        row, column = divmod(field, columns)
        edge = self.size * self.pixel_size_um
        return round((column - (columns - 1) / 2) * edge, 2), round((row - (rows - 1) / 2) * edge, 2)

    def guid(self, *what: object) -> str:
        """An identifier that is always the same for the same thing on the same plate."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(map(str, (self.name, *what)))))


@dataclass(frozen=True, slots=True)
class Picture:
    """One image that the microscope took: uint16 ``[size, size]``; field and channel count from 0."""

    well: WellDesign
    field: int
    channel: int
    pixels: npt.NDArray[np.uint16]


#: Writes a plate into a directory as its vendor does, taking one picture after another, and returns the plate's
#: outermost directory.
Writer = Callable[[Path, Acquisition, Iterable[Picture]], Path]
