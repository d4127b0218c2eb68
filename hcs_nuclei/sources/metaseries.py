"""The first bytes of a MetaSeries TIFF in, its channel name, pixel size and place out; no pixels, never an error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from hcs_nuclei.sources.tiff import opened_tiff


@dataclass(frozen=True)
class PlaneTags:
    """What a MetaSeries TIFF says about itself.

    The illumination setting, a pixel's edge in micrometres, and how far (x, y) the site lies from the well's centre in
    micrometres, y pointing down.
    """

    channel: str = ""
    pixel_size_um: float | None = None
    offset_um: tuple[float, float] | None = None


def read_tags(path: Path) -> PlaneTags:
    """The description of the first page of the TIFF at `path`; empty where there is none or it cannot be read."""
    try:
        with opened_tiff(path) as tiff:
            description = tiff.pages.first.description
    except Exception:  # whatever is in the file: the pixel reader names it when the plane is needed
        return PlaneTags()
    return parse_description(description)


def parse_description(description: str) -> PlaneTags:
    """`description` is MetaSeries XML: ``<prop id="spatial-calibration-x" type="float" value="1.3672"/>`` and so on."""
    import defusedxml.ElementTree
    from defusedxml import DefusedXmlException

    try:
        root = defusedxml.ElementTree.fromstring(description.strip("\x00 \r\n"), forbid_dtd=True)
    except (SyntaxError, ValueError, DefusedXmlException):  # ElementTree's ParseError is a SyntaxError
        return PlaneTags()
    values = {prop.get("id", ""): prop.get("value", "") for prop in root.iter("prop")}
    # MetaXpress keeps what it adds to MetaMorph's format apart.
    added = {prop.get("id", ""): prop.get("value", "") for prop in root.iter("custom-prop")}
    return PlaneTags(values.get("_IllumSetting_", "").strip(), _micrometres(values), _offset(added))


def _micrometres(values: dict[str, str]) -> float | None:
    in_um = values.get("spatial-calibration-units", "").strip().lower() in {"um", "µm", "μm", "micron", "microns"}
    if not in_um or values.get("spatial-calibration-state", "on") != "on":
        return None
    try:
        size = float(values.get("spatial-calibration-x", ""))
    except ValueError:
        return None
    return size if math.isfinite(size) and size > 0 else None


def _offset(values: dict[str, str]) -> tuple[float, float] | None:
    try:
        x, y = float(values["OffsetFromWellCenterUmX"]), float(values["OffsetFromWellCenterUmY"])
    except (KeyError, ValueError):
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) else None
