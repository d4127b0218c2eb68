"""Plate directory in, :class:`~hcs_nuclei.plate.Plate` out; then plane in, pixels out."""

from __future__ import annotations

from hcs_nuclei.sources.completeness import check_completeness, wait_until_complete
from hcs_nuclei.sources.faults import check_files
from hcs_nuclei.sources.inspection import inspection
from hcs_nuclei.sources.inspection_text import render_inspection
from hcs_nuclei.sources.opening import open_plate
from hcs_nuclei.sources.planes import first_shape, read_image

__all__ = [
    "check_completeness",
    "check_files",
    "first_shape",
    "inspection",
    "open_plate",
    "read_image",
    "render_inspection",
    "wait_until_complete",
]
