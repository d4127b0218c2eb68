"""Batch high-content screening of cell nuclei: plate directories in, label images and tables out.

Public are the names in ``__all__`` and nothing else. They are imported when first used, so that ``import hcs_nuclei``
takes milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hcs_nuclei.models.loading import load_model, segment
    from hcs_nuclei.outputs.reading import read_fields, read_nuclei, read_wells
    from hcs_nuclei.outputs.replicates import read_treatments
    from hcs_nuclei.pipeline.run import process_plate
    from hcs_nuclei.sources.opening import open_plate

__all__ = [
    "load_model",
    "open_plate",
    "process_plate",
    "read_fields",
    "read_nuclei",
    "read_treatments",
    "read_wells",
    "segment",
]

_HOMES = {
    "load_model": "hcs_nuclei.models.loading",
    "open_plate": "hcs_nuclei.sources.opening",
    "process_plate": "hcs_nuclei.pipeline.run",
    "read_fields": "hcs_nuclei.outputs.reading",
    "read_nuclei": "hcs_nuclei.outputs.reading",
    "read_treatments": "hcs_nuclei.outputs.replicates",
    "read_wells": "hcs_nuclei.outputs.reading",
    "segment": "hcs_nuclei.models.loading",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hcs_nuclei' has no attribute {name!r}")
