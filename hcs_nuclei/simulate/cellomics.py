"""A Cellomics ArrayScan / CellInsight export: one folder of TIFF files and nothing else.

::

    <name>/<name>_B02f00d0.tif      fields and channels count from 0; no file says channel names or the pixel size
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import tifffile

from hcs_nuclei.simulate.acquisition import Acquisition, Picture


def write_cellomics(out: Path, plate: Acquisition, pictures: Iterable[Picture]) -> Path:
    """Write `pictures` as a Cellomics export under `out`; returns its directory."""
    root = out / plate.name
    root.mkdir(parents=True)
    for picture in pictures:
        name = f"{plate.name}_{picture.well.name}f{picture.field:02d}d{picture.channel}.tif"
        tifffile.imwrite(root / name, picture.pixels, photometric="minisblack", rowsperstrip=16, metadata=None)
    return root
