"""Where in its well a nucleus lies, from the stage positions of the well's fields."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Place = tuple[float, float]


def middle_of_fields(positions_um: Sequence[Place | None]) -> Place | None:
    """The middle (x, y) of a well's fields: half way between the outermost of their stage positions, µm.

    Instruments count from the well's centre or from the plate's corner; from here, all wells are alike. None where the
    position of a field is not known.
    """
    known = [place for place in positions_um if place is not None]
    if not known or len(known) < len(positions_um):
        return None
    x, y = ([place[axis] for place in known] for axis in (0, 1))
    return (min(x) + max(x)) / 2, (min(y) + max(y)) / 2


def measure_position(
    center_x: Floats,
    center_y: Floats,
    *,
    shape: tuple[int, int],
    field_um: Place | None,
    middle_um: Place | None,
    pixel_size_um: float | None,
) -> dict[str, Floats]:
    """``Metadata_Position_Well_X_um`` and ``_Y_um``, (n,) µm right of and below the middle of the well's fields.

    NaN where the stage positions or the pixel size are not known.

    Args:
        center_x, center_y: (n,) centroids in px from the first pixel's centre.
        shape: rows and columns of the field.
        field_um: stage position (x, y) of the field's centre, µm, y pointing down.
        middle_um: :func:`middle_of_fields` of its well.
        pixel_size_um: edge of a pixel.
    """
    columns = {}
    for axis, center, edge in ((0, center_x, shape[1]), (1, center_y, shape[0])):
        if field_um is None or middle_um is None or pixel_size_um is None:
            place = np.full(center.shape, np.nan)
        else:
            place = field_um[axis] - middle_um[axis] + (center - (edge - 1) / 2) * pixel_size_um
        columns[f"Metadata_Position_Well_{'XY'[axis]}_um"] = place
    return columns
