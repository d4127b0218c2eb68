"""Plate directory in, :class:`~hcs_nuclei.plate.Plate` out; then plane in, pixels out."""

from __future__ import annotations

from hcs_nuclei.sources.completeness import check_completeness, wait_until_complete
from hcs_nuclei.sources.faults import check_files
from hcs_nuclei.sources.harmony_flatfield import HarmonyFlatField, read_flat_fields
from hcs_nuclei.sources.image_files import decode_image
from hcs_nuclei.sources.inspection import inspection
from hcs_nuclei.sources.inspection_text import render_inspection
from hcs_nuclei.sources.opening import open_plate
from hcs_nuclei.sources.operetta import INDEX_NAMES as HARMONY_INDICES
from hcs_nuclei.sources.planes import first_shape, read_image
from hcs_nuclei.sources.reference_images import read_reference
from hcs_nuclei.sources.remote import address_of
from hcs_nuclei.sources.remote_planes import image_reader
from hcs_nuclei.sources.yokogawa_shading import reference_names

__all__ = [
    "HARMONY_INDICES",
    "HarmonyFlatField",
    "address_of",
    "check_completeness",
    "check_files",
    "decode_image",
    "first_shape",
    "image_reader",
    "inspection",
    "open_plate",
    "read_flat_fields",
    "read_image",
    "read_reference",
    "reference_names",
    "render_inspection",
    "wait_until_complete",
]
