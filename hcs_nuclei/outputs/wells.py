"""A well's field rows and nuclei in, its row of the well table out: counts, QC, fractions and aggregates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.columns import DNA_CLASSES, NUCLEUS_CLASSES, field_flags
from hcs_nuclei.outputs.calls import Called
from hcs_nuclei.screening.aggregates import aggregate
from hcs_nuclei.screening.density import Frame, area_mm2

_IDENTITY = (
    "Metadata_Plate",
    "Metadata_Acquisition",
    "Metadata_Well",
    "Metadata_Row",
    "Metadata_Column",
    "Metadata_Timepoint",
)
_FLAGS = tuple(column.name for column in field_flags())

Arrays = Mapping[str, npt.NDArray[Any]]


def well_row(
    fields: Sequence[Mapping[str, Any]], nuclei: Arrays, called: Called, refused: Collection[str], minimum_fields: float
) -> dict[str, Any]:
    """The row of one well at one time point, without what :func:`hcs_nuclei.columns.well_columns` does not name.

    Args:
        fields: the well's rows of the field table at this time point, at least one, flagged and judged; a field is
            measured where its ``Metadata_Object_Count`` is not None.
        nuclei: at this time point, by ``Nuclei_*`` name an array (n,), NaN where a nucleus has no value.
        called: what the same nuclei are called, as :func:`hcs_nuclei.outputs.calls.call_nuclei` has it.
        refused: those of its columns for which the plate gives no rule.
        minimum_fields: share of the fields that must be valid, 0-1.
    """
    measured = [row for row in fields if row["Metadata_Object_Count"] is not None]
    valid = [row for row in fields if row["Metadata_Valid"]]
    count = sum(row["Metadata_Object_Count"] for row in measured) if measured else None
    enough = bool(valid) and len(valid) >= minimum_fields * len(fields)
    used = called["Metadata_Aggregated"]
    return {
        **{name: fields[0][name] for name in _IDENTITY},
        "status": _status(fields, measured),
        "error": _by_field(fields, "error"),
        "Metadata_Site_Count_Expected": len(fields),
        "Metadata_Site_Count": len(measured),
        "Metadata_Site_Count_Valid": len(valid),
        "Metadata_Excluded": all(row["Metadata_Excluded"] for row in fields),
        "Metadata_Exclusion_Reason": _by_field(fields, "Metadata_Exclusion_Reason"),
        "Metadata_Exclusion_Who": _once(fields, "Metadata_Exclusion_Who"),
        "Metadata_Exclusion_When": _once(fields, "Metadata_Exclusion_When"),
        "Metadata_QC_TooFewFields": not enough,
        "Metadata_Object_Count": count,
        "Metadata_Object_Count_PerField": _per_field(valid) if enough else None,
        "Metadata_Density_per_mm2": _density(valid, called) if enough else None,
        "Metadata_NuclearAreaFraction": _area_fraction(valid) if enough else None,
        **{f"{name}_Fields": sum(bool(row[name]) for row in measured) if measured else None for name in _FLAGS},
        "Metadata_Count_Aggregated": int(np.count_nonzero(used)) if enough else None,
        **(_fractions(called, used, refused) if enough else {}),
        **(_aggregates(nuclei, used) if enough else {}),
    }


def _status(fields: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]) -> str:
    if not measured:
        return "failed"
    return "ok" if all(row["status"] == "ok" for row in fields) else "incomplete"


def _once(fields: Sequence[Mapping[str, Any]], column: str) -> str:
    return "; ".join(dict.fromkeys(row[column] for row in fields if row[column]))


def _by_field(fields: Sequence[Mapping[str, Any]], column: str) -> str:
    """Each text once, with the fields that have it: ``field 2: no file; fields 3, 4: truncated``."""
    numbers: dict[str, list[str]] = {}
    for row in fields:
        if row[column]:
            numbers.setdefault(row[column], []).append(str(row["Metadata_Field"]))
    return "; ".join(
        f"field{'s' if len(which) > 1 else ''} {', '.join(which)}: {text}" for text, which in numbers.items()
    )


def _per_field(valid: Sequence[Mapping[str, Any]]) -> float:
    """Nuclei of a valid field: what is read where no pixel size gives a density, so lost fields must not lower it."""
    return float(sum(row["Metadata_Object_Count"] for row in valid) / len(valid))


def _density(valid: Sequence[Mapping[str, Any]], called: Called) -> float | None:
    """Nuclei per mm² of the valid fields; None where the pixel size of one of them is unknown."""
    area = area_mm2([Frame.of(row) for row in valid])
    return None if area is None else np.count_nonzero(called["Metadata_Counted"]) / area


def _area_fraction(valid: Sequence[Mapping[str, Any]]) -> float | None:
    if any(row["Metadata_NuclearAreaFraction"] is None for row in valid):
        return None
    pixels = [row["Metadata_Height"] * row["Metadata_Width"] for row in valid]
    inside = [row["Metadata_NuclearAreaFraction"] * size for row, size in zip(valid, pixels, strict=True)]
    return float(sum(inside) / sum(pixels))


def _fractions(called: Called, used: npt.NDArray[np.bool_], refused: Collection[str]) -> dict[str, Any]:
    """Number and share of the nuclei of `used` in each class and gate; None where none of them could be called."""
    called = {name: values for name, values in called.items() if name not in refused}
    positive: dict[str, tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]] = {}
    for column, classes in (("Metadata_Class_Nucleus", NUCLEUS_CLASSES), ("Metadata_Class_DNA", DNA_CLASSES)):
        if column in called:
            known = used & np.array([name is not None for name in called[column]], dtype=bool)
            positive |= {end: (known, called[column] == name) for name, end in classes.items()}
    for column, values in called.items():
        if isinstance(values, np.ma.MaskedArray):
            known = used & ~np.ma.getmaskarray(values)
            positive[column.removeprefix("Metadata_")] = known, values.data
    found: dict[str, Any] = {}
    for name, (known, is_positive) in positive.items():
        total, count = np.count_nonzero(known), np.count_nonzero(known & is_positive)
        found[f"Metadata_Count_{name}"] = int(count) if total or not used.any() else None
        found[f"Metadata_Fraction_{name}"] = float(count / total) if total else None
    return found


def _aggregates(nuclei: Arrays, used: npt.NDArray[np.bool_]) -> dict[str, float | None]:
    names = list(nuclei)
    features = np.array([nuclei[name][used] for name in names], dtype=np.float64).reshape(len(names), -1)
    return {
        f"{prefix}{name}": None if np.isnan(value) else float(value)
        for prefix, values in aggregate(features).items()
        for name, value in zip(names, values, strict=True)
    }
