"""Which plate layout a run has: the one that it is told of, its own from before, or the one beside the images.

A layout changes no nucleus, so it is no part of any fingerprint: it enters when the wells are done, and another one
remakes the well table, the report and ``run.json`` alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from hcs_nuclei.errors import LayoutError
from hcs_nuclei.layouts import Layout, check_barcode, read_layout, read_vendor_layout
from hcs_nuclei.outputs.provenance import LayoutRecord, RunRecord, TreatmentRecord
from hcs_nuclei.outputs.treatments import LAYOUT_FILE, kept_layout
from hcs_nuclei.plate import Plate
from hcs_nuclei.settings import Settings


def choose_layout(
    plate: Plate, settings: Settings, run_dir: Path, record: RunRecord | None
) -> tuple[Layout | None, Settings]:
    """The layout of a run, and the settings as they then stand: ``auto`` is what the run was told before.

    A run that was never told takes the vendor's layout anew each time: it may have been filled in meanwhile.

    Raises:
        LayoutError: the layout cannot be read, or does not fit the plate.
    """
    told = record.settings.layout if record and settings.layout == "auto" else settings.layout
    said = settings.model_copy(update={"layout": told})
    if told == "none":
        return None, said
    if told == "auto":
        return read_vendor_layout(plate), said
    if settings.layout == "auto" and record and record.layout:
        return layout_of_run(run_dir, record), said
    return read_layout(Path(os.path.expanduser(told)), plate), said


def layout_of_run(run_dir: Path, record: RunRecord) -> Layout | None:
    """The layout that a run was finished with, from its own files.

    Raises:
        LayoutError: ``layout.parquet`` is gone, or another.
    """
    made = record.layout
    if made is None:
        return None
    if not made.columns:
        return Layout(made.source, made.origin, (), {}, made.warnings)
    layout = kept_layout(run_dir, made.source, made.origin, made.warnings)
    if layout is None:
        raise LayoutError(
            f"{run_dir / LAYOUT_FILE} is gone, in which the run kept the layout {made.source}. Name it again with "
            "--layout, or go on without treatments with --layout none."
        )
    if layout.sha256 != made.sha256:
        raise LayoutError(
            f"{run_dir / LAYOUT_FILE} is not the layout {made.source} that the run was finished with: a change of it "
            "was interrupted. Name the layout that is meant with --layout, or none."
        )
    return layout


def check_plate(plate: Plate, settings: Settings) -> None:
    """Hold a plate whose barcode is not on the recipe's list.

    Raises:
        LayoutError: names the plate and the list.
    """
    if settings.barcodes is not None:
        check_barcode(Path(os.path.expanduser(settings.barcodes)), plate.name)


def record_of(layout: Layout | None) -> LayoutRecord | None:
    """What ``run.json`` says of a layout."""
    if layout is None:
        return None
    return LayoutRecord(
        source=layout.source,
        origin=layout.origin,
        sha256=layout.sha256,
        columns=tuple(TreatmentRecord(name=c.name, dtype=c.dtype, unit=c.unit) for c in layout.columns),
        wells=len(layout.wells),
        warnings=layout.warnings,
    )


def layout_words(layout: LayoutRecord | None) -> str:
    """Where the treatments came from, in words; empty where there is no layout."""
    if layout is None:
        return ""
    place = ", found in the plate's directory" if layout.origin == "vendor" else ""
    if not layout.columns:
        return f"{layout.source}{place}: no treatment in it"
    names = ", ".join(column.name.removeprefix("Metadata_") for column in layout.columns)
    return f"{layout.source}{place}: {names} of {layout.wells} wells"
