"""Small annotated data sets of simulated fields."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from hcs_nuclei.simulate import simulate_field


def annotated_folder(folder: Path, splits: Sequence[str], *, size: int = 96, nuclei: int = 8, first: int = 0) -> Path:
    """A data set of one field for each of `splits`, f0, f1 …; fields of other `first` are others."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for i in range(len(splits)):
        field = simulate_field(np.random.default_rng(first + i), size=size, nuclei=nuclei, diameter_px=18)
        tifffile.imwrite(folder / "images" / f"f{i}.tif", field.images["DAPI"])
        tifffile.imwrite(folder / "labels" / f"f{i}.tif", field.labels.astype(np.uint16))
    rows = "".join(f"f{i},{split}\n" for i, split in enumerate(splits))
    (folder / "index.csv").write_text(f"name,split\n{rows}")
    return folder
