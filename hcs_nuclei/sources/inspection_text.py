"""What an inspection found in, text for people out: a header, a map of the plate, what is wrong, warnings."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hcs_nuclei.plate import row_name
from hcs_nuclei.sources.assembly import ranges

_SYMBOLS = {"complete": "●", "incomplete": "◐", "damaged": "×", "empty": "○", "surplus": "+"}
_WORDS = {
    "complete": "complete",
    "incomplete": "something is missing",
    "damaged": "an image cannot be used",
    "empty": "nothing is there",
    "surplus": "complete, and more is there",
}
_TITLES = {
    "zero-byte": "Empty files",
    "truncated": "Truncated or damaged",
    "wrong-size": "Of another size",
    "wrong-type": "No image, or of another type",
    "duplicate": "There more than once",
    "extra": "Not expected",
}
_MOST_LINES = 20


def render_inspection(inspection: dict[str, Any], width: int = 100) -> str:
    """`inspection` as text for people: a header, a map of the plate, what is missing, warnings.

    Its keys ``layout`` (None, or ``source``, ``origin``, ``columns``, ``wells``, ``warnings``) and ``barcodes``
    (``list``, ``barcodes``, ``known``) may be left out.

    The map is drawn narrowly where it would pass `width` characters; long sentences are not broken.
    """
    parts = [_header(inspection), _map(inspection, width), _missing(inspection), *_faults(inspection)]
    warnings = [*inspection["warnings"], *((inspection.get("layout") or {}).get("warnings", ()))]
    if warnings:
        parts.append("\n".join(["Warnings", *(f"  {warning}" for warning in warnings)]))
    return "\n\n".join(part for part in parts if part)


def _header(found: dict[str, Any]) -> str:
    name = found["plate"] + (f", acquisition {found['acquisition']}" if found["acquisition"] else "")
    numbers = sorted({number for fields in found["fields"].values() for number in fields})
    per_well = sorted({len(fields) for fields in found["fields"].values()})
    most = "" if len(per_well) == 1 else f"{per_well[0]} to "
    pixel = (
        f"{found['pixel_size_um']:.4g} µm"
        if found["pixel_size_um"]
        else "not said by the instrument (a recipe's pixel_size_um can)"
    )
    source = "from the instrument's metadata"
    if found["expected_from"] == "regularity":
        source = "from the regularity of the plate (inferred)"
    absent = sum(absence["planes"] for absence in found["absent"] if absence["certain"])
    beyond = f"; {absent:,} more are promised, of which there is nothing" if absent else ""
    lines = [
        ("Plate", name),
        ("Directory", found["root"]),
        ("Format", f"{found['vendor']}: {found['reason']}"),
        ("Wells", f"{len(found['wells'])} of a {found['format']}-well plate"),
        ("Fields", f"{most}{per_well[-1]} a well (numbers {ranges(numbers)})"),
        ("Channels", "; ".join(_channel_text(channel) for channel in found["channels"])),
        ("Time points", str(found["timepoints"])),
        ("Pixel size", pixel),
        ("Planes", f"{found['found_planes']:,} of {found['expected_planes']:,} expected {source}{beyond}"),
    ]
    if "layout" in found:
        lines.append(("Treatments", _treatments_text(found["layout"])))
    if found.get("barcodes"):
        lines.append(("Barcode", _barcode_text(found["plate"], found["barcodes"])))
    if found["checked"]["files"]:
        lines.append(("Looked at", _looked_at(**found["checked"])))
    return "\n".join(f"{label:<12} {text}" for label, text in lines)


def _treatments_text(layout: dict[str, Any] | None) -> str:
    """Where a run would have its treatments from, and which."""
    if layout is None:
        return "none: no layout lies in the plate's directory, and none is named"
    place = ", in the plate's directory" if layout["origin"] == "vendor" else ""
    names = ", ".join(name.removeprefix("Metadata_") for name in layout["columns"])
    return f"{layout['source']}{place}: " + (f"{names} of {layout['wells']} wells" if names else "no treatment in it")


def _barcode_text(plate: str, found: dict[str, Any]) -> str:
    which = f"the list {found['list']} ({found['barcodes']:,} barcodes)"
    return f"{plate} is on {which}" if found["known"] else f"{plate} is not on {which}: a run would hold it"


def _channel_text(channel: dict[str, Any]) -> str:
    token = f" ({channel['token']})" if channel["token"] not in {"", channel["name"]} else ""
    depth = len(channel["z_planes"])
    parts = [f"{depth} z planes"] if depth > 1 else []
    if channel["projection"]:
        parts.append("projection")
    return f"{channel['name']}{token}" + (f": {' + '.join(parts)}" if parts else "")


def _map(found: dict[str, Any], width: int) -> str:
    columns = range(1, found["columns"] + 1)
    more = {fault["well"] for fault in found["faults"] if fault["kind"] in {"duplicate", "extra"}}
    status = {**dict.fromkeys(more, "complete"), **found["well_status"]}
    status = {well: "surplus" if well in more and state == "complete" else state for well, state in status.items()}
    step = 3 if 4 + 3 * found["columns"] <= width else 1
    if step == 3:
        lines = ["    " + " ".join(f"{column:02d}" for column in columns)]
    else:
        lines = ["    " + "".join(str(c // 10) if c % 10 == 0 else " " for c in columns)]
        lines.append("    " + "".join(str(column % 10) for column in columns))
    for row in range(1, found["rows"] + 1):
        name = row_name(row)
        cells = (_SYMBOLS.get(status.get(f"{name}{column:02d}", ""), "·") for column in columns)
        lines.append(f"{name:>2}  " + "".join(f"{cell:<{step}}" for cell in cells).rstrip())
    legend = [f"{_SYMBOLS[state]} {text}" for state, text in _WORDS.items() if state in status.values()]
    return "\n".join([*lines, "    " + "   ".join([*legend, "· not expected"])])


def _missing(found: dict[str, Any]) -> str:
    if not found["missing"]:
        return ""
    names = {channel["token"]: channel["name"] for channel in found["channels"]}
    groups: dict[tuple[str, str], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    files: dict[tuple[str, str], list[str]] = defaultdict(list)
    for plane in found["missing"]:
        well = plane["well"]
        if found["well_status"][well] == "empty" and not plane["error"]:
            groups[well, "nothing is there"][""].add(plane["field"])
            continue
        files[well, plane["error"]].append(plane["file"])
        groups[well, plane["error"]][_plane_text(plane, names, found["timepoints"])].add(plane["field"])
    lines = [_missing_line(well, error, planes, files[well, error]) for (well, error), planes in groups.items()]
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"  … and {len(lines) - _MOST_LINES} more wells; the rest is in the JSON output"]
    inferred = " (inferred from the regularity of the plate)" if found["expected_from"] == "regularity" else ""
    return "\n".join([f"Missing: {len(found['missing']):,} planes{inferred}", *lines])


def _faults(found: dict[str, Any]) -> list[str]:
    """A paragraph for each kind of fault but missing planes: one line a plane, which names its file."""
    names = {channel["token"]: channel["name"] for channel in found["channels"]}
    paragraphs = []
    for kind, title in _TITLES.items():
        of_kind = [fault for fault in found["faults"] if fault["kind"] == kind]
        lines = [
            f"  {f['well']}  field {f['field']} {_plane_text(f, names, found['timepoints'])}: {f['error']}"
            for f in of_kind[:_MOST_LINES]
        ]
        if len(of_kind) > _MOST_LINES:
            lines.append(f"  … and {len(of_kind) - _MOST_LINES:,} more; the rest is in the JSON output")
        if of_kind:
            paragraphs.append("\n".join([f"{title}: {len(of_kind):,} planes", *lines]))
    return paragraphs


def _plane_text(plane: dict[str, Any], names: dict[str, str], timepoints: int) -> str:
    """Channel, time point and z of `plane`, as far as it takes to tell it from others."""
    text: str = names.get(plane["channel"]) or plane["channel"]
    text += f", time point {plane['timepoint']}" if timepoints > 1 else ""
    return text + (" projection" if plane["projection"] else f" z {plane['z']}" if plane["z"] else "")


def _looked_at(files: int, headers: int, images: int) -> str:
    return f"the sizes of {files:,} files, the tags of {'all' if headers >= images else f'{headers:,}'} images"


def _missing_line(well: str, error: str, planes: dict[str, set[int]], files: list[str]) -> str:
    """One line of a well: fields with the same planes missing are said together; a single file is named."""
    by_fields: dict[str, list[str]] = defaultdict(list)
    for plane, numbers in planes.items():
        by_fields[ranges(numbers)].append(plane)
    parts = []
    for fields, names in by_fields.items():
        shown = "; ".join(names[:4]) + (f" and {len(names) - 4} more planes" if len(names) > 4 else "")
        parts.append(f"field {fields}" + (f" {shown}" if any(names) else ""))
    file = f" ({files[0].rpartition('/')[2]})" if len(files) == 1 and files[0] else ""
    return f"  {well}  {' | '.join(parts)}{file}" + (f": {error}" if error else "")
