"""A finished run in, ``nuclei.h5ad`` out: its nuclei as AnnData, for scanpy and its like.

Features are ``X`` (float32, NaN where a nucleus has no value) with unit and meaning in ``var``; everything else,
treatments, classes and gates too, is ``obs``; centres in pixels are ``obsm["spatial"]``. The whole plate is in memory
while it is written: 4 bytes a feature and nucleus, some 0.4 GB for a million nuclei.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcs_nuclei.columns import Measured, nucleus_columns
from hcs_nuclei.files import replace_file, temporary_path
from hcs_nuclei.outputs.reading import read_nuclei

if TYPE_CHECKING:
    import pandas as pd

ANNDATA_FILE = "nuclei.h5ad"
_NUMBER = ("Metadata_Well", "Metadata_Field", "Metadata_ObjectNumber")


def anndata_missing() -> str:
    """Why no such file can be written here; empty where it can."""
    if find_spec("anndata") is not None:
        return ""
    return "export.anndata needs the package anndata; install hcs-nuclei[anndata], or leave the setting out"


def write_anndata(run_dir: Path, measured: Measured) -> Path:
    """Write ``nuclei.h5ad`` of a finished run; a file with the same content is not touched.

    Raises:
        OSError: it cannot be written; a former one is then as it was.
    """
    import anndata
    import pandas as pd

    nuclei = read_nuclei(run_dir)
    described = {column.name: column for column in nucleus_columns(measured)}
    features = [name for name in nuclei if name.startswith("Nuclei_")]
    names = ["_".join(map(str, number)) for number in nuclei[list(_NUMBER)].itertuples(index=False)]
    of_nuclei = {name: _plain(nuclei[name]) for name in nuclei if not name.startswith("Nuclei_")}
    of_features = {what: _categories([getattr(described[n], what) for n in features]) for what in ("unit", "meaning")}
    data = anndata.AnnData(
        X=nuclei[features].to_numpy(np.float32),
        obs=pd.DataFrame(of_nuclei, index=_texts(names)).set_axis(_texts(of_nuclei), axis=1),
        var=pd.DataFrame(of_features, index=_texts(features)).set_axis(_texts(of_features), axis=1),
        obsm={"spatial": nuclei[["Metadata_Center_X", "Metadata_Center_Y"]].to_numpy(np.float64)},
    )
    path = run_dir / ANNDATA_FILE
    temporary = temporary_path(path)
    try:
        data.write_h5ad(temporary)
        content = temporary.read_bytes()
    finally:
        if temporary.exists():
            os.unlink(temporary)
    replace_file(path, content)
    return path


def _plain(values: pd.Series) -> Any:
    """A column of nuclei as AnnData stores it: texts, and flags that may be unknown, become categories."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_numeric_dtype(values.dtype):
        return values.to_numpy()
    return _categories([None if value is None or value != value else str(value) for value in values])


def _categories(texts: Sequence[str | None]) -> Any:
    import pandas as pd

    known = sorted({text for text in texts if text is not None})
    codes = {text: number for number, text in enumerate(known)}
    return pd.Categorical.from_codes([-1 if text is None else codes[text] for text in texts], _texts(known))


def _texts(texts: Iterable[str]) -> Any:
    """Objects, not pandas' own texts: what writes HDF5 does not know these."""
    import pandas as pd

    return pd.Index(np.array(list(texts), dtype=object), dtype=object)
