"""Reads the feature tables of a run with ngio; not a part of the test suite, for ngio holds pandas below 3.

In an environment of its own, on a run that was made (or whose report was made again) with ``export.feature_tables``::

    python3.11 -m venv independent-env
    independent-env/bin/pip install ngio
    independent-env/bin/python tests/independent/read_feature_tables.py RUN_DIR

Exit status 0 where every field has a table that ngio reads, with one row for each label of its label image.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ngio import open_ome_zarr_plate


def check(run: Path) -> tuple[int, int]:
    """(fields, nuclei) that were read; the first that is not as it should be ends it."""
    plate = open_ome_zarr_plate(run / "plate.ome.zarr", mode="r")
    fields = nuclei = 0
    for name, image in plate.get_images().items():
        table = image.get_table("nuclei")
        assert table.table_type() == "feature_table", f"{name}: {table.table_type()}"
        assert table.reference_label == "nuclei", f"{name}: {table.reference_label}"
        frame = table.dataframe
        labels = np.unique(image.get_label("nuclei").get_as_numpy())
        assert frame.index.tolist() == [label for label in labels if label], f"{name}: labels differ"
        assert len(frame.columns) > 30, f"{name}: {len(frame.columns)} features"
        fields, nuclei = fields + 1, nuclei + len(frame)
    return fields, nuclei


if __name__ == "__main__":
    fields, nuclei = check(Path(sys.argv[1]))
    print(f"ngio {version('ngio')}: {nuclei} nuclei in {fields} fields, one row for each label")
