"""A CellVoyager's ``.mrf`` in, the names of each channel's shading (``SC_``) and dark (``DC_``) images out."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hcs_nuclei.sources.metadata_xml import attributes, elements

_DARK = re.compile(r"DC_.*CAM(?P<camera>\d+)\.tiff?", re.IGNORECASE)


def reference_names(root: Path, detail: str) -> dict[str, tuple[str, str]]:
    """(shading image, dark image) of each channel that has a shading image, by token, relative to `root`.

    The dark image is empty where the channel's camera has none. `detail` is the ``.mrf``, relative to `root`; only
    files beside it are named.

    Raises:
        NotAPlateError: the ``.mrf`` is damaged.
    """
    folder = detail.rpartition("/")[0]
    with os.scandir(root / folder) as entries:
        beside = sorted(entry.name for entry in entries if _is_inside(root, Path(entry.path)))
    darks = {int(match["camera"]): name for name in beside if (match := _DARK.fullmatch(name))}
    names: dict[str, tuple[str, str]] = {}
    for _, element in elements(root / detail, {"MeasurementChannel"}):
        values = attributes(element)
        shading = values.get("ShadingCorrectionSource", "").replace("\\", "/").rpartition("/")[2]
        camera = values.get("CameraNumber", "")
        if values.get("Ch", "").isdigit() and shading in beside:
            dark = darks.get(int(camera), "") if camera.isdigit() else ""
            prefix = f"{folder}/" if folder else ""
            names[f"C{int(values['Ch']):02d}"] = (prefix + shading, prefix + dark if dark else "")
    return names


def _is_inside(root: Path, path: Path) -> bool:
    """A regular file, or a link to one that lies in the plate."""
    return path.is_file() and path.resolve().is_relative_to(root.resolve())
