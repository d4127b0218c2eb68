"""A CellVoyager's ``.mrf`` in, the names of each channel's shading (``SC_``) and dark (``DC_``) images out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from hcs_nuclei.sources.metadata_xml import attributes, elements

_DARK = re.compile(r"DC_.*CAM(?P<camera>\d+)\.tiff?", re.IGNORECASE)


def reference_names(path: Path, beside: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(shading image, dark image) of each channel that has a shading image, by token; both as they stand in `beside`.

    The dark image is empty where the channel's camera has none. `path` is the ``.mrf``; `beside` are the names of the
    plate's reference images, whatever their folder. A name that is not among them is not looked for anywhere else.

    Raises:
        NotAPlateError: the ``.mrf`` is damaged.
    """
    there = {_last(name): name for name in sorted(beside, reverse=True)}
    darks = {int(match["camera"]): name for last, name in there.items() if (match := _DARK.fullmatch(last))}
    names: dict[str, tuple[str, str]] = {}
    for _, element in elements(path, {"MeasurementChannel"}):
        values = attributes(element)
        shading = there.get(_last(values.get("ShadingCorrectionSource", "").replace("\\", "/")), "")
        camera = values.get("CameraNumber", "")
        if values.get("Ch", "").isdigit() and shading:
            names[f"C{int(values['Ch']):02d}"] = (shading, darks.get(int(camera), "") if camera.isdigit() else "")
    return names


def _last(name: str) -> str:
    return name.rpartition("/")[2]
