"""A well's field rows and nuclei in, its row of the well table out: counts, QC and medians at one time point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_IDENTITY = (
    "Metadata_Plate",
    "Metadata_Acquisition",
    "Metadata_Well",
    "Metadata_Row",
    "Metadata_Column",
    "Metadata_Timepoint",
)


def well_row(
    fields: Sequence[Mapping[str, Any]], features: Mapping[str, npt.NDArray[np.float64]], whole: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """The row of one well at one time point, without what :func:`hcs_nuclei.columns.well_columns` does not name.

    Args:
        fields: the well's rows of the field table at this time point, at least one; a field is measured where its
            ``Metadata_Object_Count`` is not None.
        features: by ``Nuclei_*`` name an array (n,), NaN where a nucleus has no value.
        whole: (n,), whether the nucleus lies wholly in its field; medians are over these.
    """
    measured = [row for row in fields if row["Metadata_Object_Count"] is not None]
    count = sum(row["Metadata_Object_Count"] for row in measured) if measured else None
    pixels = [row["Metadata_Height"] * row["Metadata_Width"] for row in measured]
    return {
        **{name: fields[0][name] for name in _IDENTITY},
        "status": _status(fields, measured),
        "error": _errors(fields),
        "Metadata_Site_Count_Expected": len(fields),
        "Metadata_Site_Count": len(measured),
        "Metadata_Object_Count": count,
        "Metadata_Object_Count_PerField": None if count is None else count / len(measured),
        "Metadata_Density_per_mm2": None if count is None else _density(count, measured, pixels),
        "Metadata_NuclearAreaFraction": _area_fraction(measured, pixels),
        "Metadata_QC_Blank_Fields": _flagged(measured, "Metadata_QC_Blank"),
        "Metadata_QC_Saturated_Fields": _flagged(measured, "Metadata_QC_Saturated"),
        **{f"Median_{name}": _median(values[whole]) for name, values in features.items()},
    }


def _status(fields: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]) -> str:
    if not measured:
        return "failed"
    return "ok" if all(row["status"] == "ok" for row in fields) else "incomplete"


def _errors(fields: Sequence[Mapping[str, Any]]) -> str:
    """Each error once, with the fields that have it: ``field 2: no file; fields 3, 4: truncated``."""
    numbers: dict[str, list[str]] = {}
    for row in fields:
        if row["error"]:
            numbers.setdefault(row["error"], []).append(str(row["Metadata_Field"]))
    return "; ".join(
        f"field{'s' if len(which) > 1 else ''} {', '.join(which)}: {error}" for error, which in numbers.items()
    )


def _density(count: int, measured: Sequence[Mapping[str, Any]], pixels: Sequence[int]) -> float | None:
    """Nuclei per mm² of the measured fields; None where the pixel size of one of them is unknown."""
    area = 0.0
    for row, size in zip(measured, pixels, strict=True):
        if row["Metadata_PixelSize_um"] is None:
            return None
        area += size * (row["Metadata_PixelSize_um"] / 1000) ** 2
    return count / area


def _area_fraction(measured: Sequence[Mapping[str, Any]], pixels: Sequence[int]) -> float | None:
    if not measured or any(row["Metadata_NuclearAreaFraction"] is None for row in measured):
        return None
    inside = [row["Metadata_NuclearAreaFraction"] * size for row, size in zip(measured, pixels, strict=True)]
    return float(sum(inside) / sum(pixels))


def _flagged(measured: Sequence[Mapping[str, Any]], flag: str) -> int | None:
    return sum(bool(row[flag]) for row in measured) if measured else None


def _median(values: npt.NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else None
