"""A plate in, a description of it out: as plain data for programs, and as text for people."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hcs_nuclei.plate import PLATE_FORMATS, Channel, Plate, Well, row_name
from hcs_nuclei.sources.assembly import ranges

_SYMBOLS = {"complete": "●", "incomplete": "◐", "empty": "○"}
_MOST_LINES = 20


def inspection(plate: Plate) -> dict[str, Any]:
    """What `plate` is, what it should have and what it lacks, as data that JSON can hold.

    ``wells`` are names in row-major order; ``well_status`` is ``complete``, ``incomplete`` or ``empty`` for each;
    ``missing`` has one entry for each plane that is expected and not there.
    """
    rows, columns = PLATE_FORMATS[plate.wells_in_format]
    planes = [plane for well in plate for site in well.fields for plane in site.planes]
    z_planes: dict[str, set[int]] = defaultdict(set)
    projected = set()
    for plane in planes:
        if plane.projection:
            projected.add(plane.channel)
        else:
            z_planes[plane.channel].add(plane.z)
    return {
        "vendor": plate.vendor,
        "reason": plate.reason,
        "plate": plate.name,
        "acquisition": plate.acquisition,
        "root": str(plate.root),
        "format": plate.wells_in_format,
        "rows": rows,
        "columns": columns,
        "wells": [well.name for well in plate],
        "well_status": {well.name: _status(well) for well in plate},
        "fields": {well.name: [site.number for site in well.fields] for well in plate},
        "channels": [_channel(c, z_planes[c.token], c.token in projected) for c in plate.channels],
        "timepoints": plate.timepoints,
        "pixel_size_um": plate.pixel_size_um,
        "expected_planes": len(planes),
        "found_planes": sum(bool(plane.path) for plane in planes),
        "expected_from": plate.expected_from,
        "missing": [
            {
                "well": well.name,
                "field": site.number,
                "channel": plane.channel,
                "timepoint": plane.timepoint,
                "z": plane.z,
                "projection": plane.projection,
                "error": plane.error,
            }
            for well, site, plane in plate.missing_planes()
        ],
        "warnings": list(plate.warnings),
        "metadata_files": list(plate.metadata_files),
    }


def render_inspection(inspection: dict[str, Any], width: int = 100) -> str:
    """`inspection` as text for people: a header, a map of the plate, what is missing, warnings.

    The map is drawn narrowly where it would pass `width` characters; long sentences are not broken.
    """
    parts = [_header(inspection), _map(inspection, width), _missing(inspection)]
    if inspection["warnings"]:
        parts.append("\n".join(["Warnings", *(f"  {warning}" for warning in inspection["warnings"])]))
    return "\n\n".join(part for part in parts if part)


def _channel(channel: Channel, z_planes: set[int], projection: bool) -> dict[str, Any]:
    return {"token": channel.token, "name": channel.name, "z_planes": sorted(z_planes), "projection": projection}


def _status(well: Well) -> str:
    there = [bool(plane.path) for site in well.fields for plane in site.planes]
    return "complete" if there and all(there) else "incomplete" if any(there) else "empty"


def _header(found: dict[str, Any]) -> str:
    name = found["plate"] + (f", acquisition {found['acquisition']}" if found["acquisition"] else "")
    numbers = sorted({number for fields in found["fields"].values() for number in fields})
    per_well = sorted({len(fields) for fields in found["fields"].values()})
    most = "" if len(per_well) == 1 else f"{per_well[0]} to "
    pixel = f"{found['pixel_size_um']:.4g} µm" if found["pixel_size_um"] else "not said by the instrument"
    source = "the instrument's metadata" if found["expected_from"] == "metadata" else "the regularity of the plate"
    lines = [
        ("Plate", name),
        ("Directory", found["root"]),
        ("Format", f"{found['vendor']}: {found['reason']}"),
        ("Wells", f"{len(found['wells'])} of a {found['format']}-well plate"),
        ("Fields", f"{most}{per_well[-1]} a well (numbers {ranges(numbers)})"),
        ("Channels", "; ".join(_channel_text(channel) for channel in found["channels"])),
        ("Time points", str(found["timepoints"])),
        ("Pixel size", pixel),
        ("Planes", f"{found['found_planes']:,} of {found['expected_planes']:,} expected from {source}"),
    ]
    return "\n".join(f"{label:<12} {text}" for label, text in lines)


def _channel_text(channel: dict[str, Any]) -> str:
    token = f" ({channel['token']})" if channel["token"] not in {"", channel["name"]} else ""
    depth = len(channel["z_planes"])
    parts = [f"{depth} z planes"] if depth > 1 else []
    if channel["projection"]:
        parts.append("projection")
    return f"{channel['name']}{token}" + (f": {' + '.join(parts)}" if parts else "")


def _map(found: dict[str, Any], width: int) -> str:
    columns = range(1, found["columns"] + 1)
    step = 3 if 4 + 3 * found["columns"] <= width else 1
    if step == 3:
        lines = ["    " + " ".join(f"{column:02d}" for column in columns)]
    else:
        lines = ["    " + "".join(str(c // 10) if c % 10 == 0 else " " for c in columns)]
        lines.append("    " + "".join(str(column % 10) for column in columns))
    for row in range(1, found["rows"] + 1):
        name = row_name(row)
        cells = (_SYMBOLS.get(found["well_status"].get(f"{name}{column:02d}", ""), "·") for column in columns)
        lines.append(f"{name:>2}  " + "".join(f"{cell:<{step}}" for cell in cells).rstrip())
    used = set(found["well_status"].values())
    words = {"complete": "complete", "incomplete": "something is missing", "empty": "nothing is there"}
    legend = [f"{_SYMBOLS[status]} {text}" for status, text in words.items() if status in used]
    return "\n".join([*lines, "    " + "   ".join([*legend, "· not expected"])])


def _missing(found: dict[str, Any]) -> str:
    if not found["missing"]:
        return ""
    names = {channel["token"]: channel["name"] for channel in found["channels"]}
    groups: dict[tuple[str, str], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for plane in found["missing"]:
        well = plane["well"]
        if found["well_status"][well] == "empty" and not plane["error"]:
            groups[well, "nothing is there"][""].add(plane["field"])
            continue
        what = names.get(plane["channel"]) or plane["channel"]
        what += f", time point {plane['timepoint']}" if found["timepoints"] > 1 else ""
        what += " projection" if plane["projection"] else f" z {plane['z']}" if plane["z"] else ""
        groups[well, plane["error"]][what].add(plane["field"])
    lines = [_missing_line(well, error, planes) for (well, error), planes in groups.items()]
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"  … and {len(lines) - _MOST_LINES} more wells; the rest is in the JSON output"]
    return "\n".join([f"Missing: {len(found['missing']):,} planes", *lines])


def _missing_line(well: str, error: str, planes: dict[str, set[int]]) -> str:
    """One line of a well: fields with the same planes missing are said together."""
    by_fields: dict[str, list[str]] = defaultdict(list)
    for plane, numbers in planes.items():
        by_fields[ranges(numbers)].append(plane)
    parts = []
    for fields, names in by_fields.items():
        shown = "; ".join(names[:4]) + (f" and {len(names) - 4} more planes" if len(names) > 4 else "")
        parts.append(f"field {fields}" + (f" {shown}" if any(names) else ""))
    return f"  {well}  {' | '.join(parts)}" + (f": {error}" if error else "")
