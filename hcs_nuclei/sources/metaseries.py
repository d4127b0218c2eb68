"""The first bytes of a MetaSeries TIFF in, its channel name, pixel size and place out; no pixels.

Whatever the file holds is no error: what cannot be read is empty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hcs_nuclei.errors import PlaneError
from hcs_nuclei.sources.tiff import TiffSource, opened_tiff


@dataclass(frozen=True)
class PlaneTags:
    """What a MetaSeries TIFF says about itself.

    The illumination setting, a pixel's edge in micrometres, and how far (x, y) the site lies from the well's centre in
    micrometres, y pointing down.
    """

    channel: str = ""
    pixel_size_um: float | None = None
    offset_um: tuple[float, float] | None = None


def read_tags(source: TiffSource) -> PlaneTags:
    """The description of the first page of a TIFF; empty where there is none or it cannot be read.

    Raises:
        PlaneError: it lies at a URL, and cannot be had.
    """
    try:
        with opened_tiff(source) as tiff:
            description = tiff.pages.first.description
    except PlaneError:
        raise
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
