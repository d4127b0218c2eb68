"""What is written beside the tables for other programs: settings that are applied when the wells are done."""

from __future__ import annotations

from pydantic import Field

from hcs_nuclei.settings.groups import Group


class ExportSettings(Group):
    """Nuclei in the formats of other programs."""

    anndata: bool = Field(
        default=False,
        title="AnnData",
        description="Write nuclei.h5ad: all nuclei, features as float32, for scanpy (needs the extra anndata).",
    )
    feature_tables: bool = Field(
        default=False,
        title="Feature tables beside the labels",
        description="Write a table of features into each field of plate.ome.zarr, as ngio and Fractal read them.",
    )
