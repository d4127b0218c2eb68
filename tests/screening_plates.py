"""Well tables of plates whose treatments, effects and harm are known, for the tests of what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from outputs_samples import MEASURED

from hcs_nuclei.columns import Column
from hcs_nuclei.outputs import well_schema
from hcs_nuclei.plate import PLATE_FORMATS, well_name
from hcs_nuclei.simulate.design import WellDesign, design_wells

DENSITY = "Metadata_Density_per_mm2"
AREA = "Median_Nuclei_AreaShape_Area"
TREATMENTS = (
    Column("Metadata_Compound", "string", "", "compound"),
    Column("Metadata_Concentration", "float64", "uM", "dose"),
    Column("Metadata_Concentration_unit", "string", "", "unit"),
    Column("Metadata_control_type", "string", "", "kind"),
    Column("Metadata_Replicate", "int64", "", "replicate"),
)
#: Nuclei per mm² of an untreated well, and how much one such well differs from another.
FULL, NOISE = 660.0, 0.05
EDGE_LOSS = 0.25


def design_384() -> tuple[WellDesign, ...]:
    """A full 384-well plate: DMSO left, staurosporine right, dose series of two compounds between."""
    return design_wells(384)


def treated_by(design: WellDesign) -> dict[str, Any]:
    """The treatment of a well as a layout has it."""
    return {
        "Metadata_Compound": design.compound,
        "Metadata_Concentration": design.concentration_um,
        "Metadata_Concentration_unit": "uM",
        "Metadata_control_type": design.control_type,
        "Metadata_Replicate": design.replicate,
    }


def well_table(
    wells: int = 384,
    *,
    layout: Callable[[WellDesign], dict[str, Any]] = treated_by,
    treatments: tuple[Column, ...] = TREATMENTS,
    edge_loss: float = 0.0,
    lost_columns: tuple[int, ...] = (),
    timepoints: int = 1,
    pixel_size: bool = True,
    few: Mapping[str, int] | None = None,
    seed: int = 0,
) -> pa.Table:
    """The well table of a simulated design; wells of `lost_columns` have no valid field, later times fewer cells,
    and wells of `few` that many aggregated nuclei instead of 200."""
    rng = np.random.default_rng(seed)
    rows = []
    for time in range(timepoints):
        for design in design_wells(wells):
            rim = design.row in (1, PLATE_FORMATS[wells][0]) or design.column in (1, PLATE_FORMATS[wells][1])
            value = FULL * design.density * (1 - edge_loss * rim) / (1 + time) * (1 + NOISE * rng.standard_normal())
            lost = design.column in lost_columns
            area = 380 * design.phenotype.diameter**2 * (1 + 0.03 * rng.standard_normal())
            rows.append(
                {
                    "Metadata_Plate": "P1",
                    "Metadata_Acquisition": "",
                    "Metadata_Well": well_name(design.row, design.column),
                    "Metadata_Row": design.row,
                    "Metadata_Column": design.column,
                    "Metadata_Timepoint": time,
                    "status": "ok",
                    "Metadata_Excluded": False,
                    "Metadata_QC_TooFewFields": lost,
                    "Metadata_Count_Aggregated": (few or {}).get(well_name(design.row, design.column), 200),
                    "Metadata_Object_Count_PerField": value * 0.05,
                    "Metadata_QC_OutOfFocus_Fields": 2 if lost else 0,
                    DENSITY: None if lost or not pixel_size else value,
                    AREA: None if lost else area,
                    **layout(design),
                }
            )
    return pa.Table.from_pylist(rows, schema=well_schema(MEASURED, treatments))
