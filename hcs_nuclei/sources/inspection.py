"""A plate in, a description of it out, as plain data: what it is, what it should have, what is there, what is wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict
from typing import Any

from hcs_nuclei.plate import PLATE_FORMATS, Channel, Plate, Well
from hcs_nuclei.sources.faults import COSTLY, KINDS, Fault, FileCheck, check_names


def inspection(plate: Plate, checked: FileCheck | None = None) -> dict[str, Any]:
    """What `plate` is, what it should have and what it lacks, as data that JSON can hold.

    ``wells`` are names in row-major order. ``well_status`` is for each ``complete``, ``incomplete`` (a plane is not
    there), ``damaged`` (a plane is there and cannot be used) or ``empty``. ``missing`` has one entry for each plane
    that is expected and not there; ``faults`` one for each fault of any kind, ``fault_counts`` their number by kind.
    ``absent`` are whole channels, time points and z planes that metadata promise and of which nothing is there.
    ``checked`` says how many files were looked up and of how many images the tags were read.

    Args:
        checked: what :func:`~hcs_nuclei.sources.faults.check_files` found; without it only names are judged.
    """
    checked = check_names(plate) if checked is None else checked
    rows, columns = PLATE_FORMATS[plate.wells_in_format]
    planes = [plane for well in plate for site in well.fields for plane in site.planes]
    z_planes: dict[str, set[int]] = defaultdict(set)
    projected = set()
    for plane in planes:
        if plane.projection:
            projected.add(plane.channel)
        else:
            z_planes[plane.channel].add(plane.z)
    counts = Counter(fault.kind for fault in checked.faults)
    costs: dict[str, set[str]] = defaultdict(set)
    for fault in checked.faults:
        costs[fault.well].add(fault.kind)
    lost = counts["missing"]
    return {
        "vendor": plate.vendor,
        "reason": plate.reason,
        "plate": plate.name,
        "acquisition": plate.acquisition,
        "root": plate.place,
        "format": plate.wells_in_format,
        "rows": rows,
        "columns": columns,
        "wells": [well.name for well in plate],
        "well_status": {well.name: _status(well, costs[well.name]) for well in plate},
        "fields": {well.name: [site.number for site in well.fields] for well in plate},
        "channels": [_channel(c, z_planes[c.token], c.token in projected) for c in plate.channels],
        "timepoints": plate.timepoints,
        "pixel_size_um": plate.pixel_size_um,
        "expected_planes": len(planes),
        "found_planes": len(planes) - lost,
        "expected_from": plate.expected_from,
        "missing": [_missing_entry(fault) for fault in checked.faults if fault.kind == "missing"],
        "faults": [asdict(fault) for fault in checked.faults],
        "fault_counts": {kind: counts[kind] for kind in KINDS},
        "absent": [asdict(absence) for absence in plate.absent],
        "checked": {"files": checked.files, "headers": checked.headers, "images": checked.images},
        "warnings": list(plate.warnings),
        "metadata_files": list(plate.metadata_files),
    }


def _channel(channel: Channel, z_planes: set[int], projection: bool) -> dict[str, Any]:
    return {"token": channel.token, "name": channel.name, "z_planes": sorted(z_planes), "projection": projection}


def _missing_entry(fault: Fault) -> dict[str, Any]:
    return {
        "well": fault.well,
        "field": fault.field,
        "channel": fault.channel,
        "timepoint": fault.timepoint,
        "z": fault.z,
        "projection": fault.projection,
        "error": fault.error,
        "file": fault.path,
    }


def _status(well: Well, faults: set[str]) -> str:
    if not any(plane.path for site in well.fields for plane in site.planes):
        return "empty"
    if faults & (COSTLY - {"missing"}):
        return "damaged"
    return "incomplete" if "missing" in faults else "complete"
