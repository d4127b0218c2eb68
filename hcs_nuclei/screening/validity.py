"""Flagged fields, exclusions and the flags that count in, which fields a well's figures are made of out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hcs_nuclei.columns import field_flags
from hcs_nuclei.screening.exclusions import Exclusions

#: Flags that keep a field out if the recipe names none: of such a field a count says nothing about the cells.
DEFAULT_FLAGS = ("Blank", "OutOfFocus")
#: How a flag of nuclei is told from one of fields.
OF_NUCLEI = "nucleus:"
#: Flags of the nucleus table that a recipe may name; nuclei that touch the edge are never aggregated.
NUCLEUS_FLAGS = ("Saturated",)


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags, without ``Metadata_QC_``, that keep a field, and a nucleus, out of a well's figures."""

    fields: tuple[str, ...] = DEFAULT_FLAGS
    nuclei: tuple[str, ...] = ()


def flags_of(qc: Literal["default", "none"] | Sequence[str]) -> Flags:
    """What a recipe's ``aggregation.qc`` means.

    Raises:
        ValueError: a flag that is not there; says which are.
    """
    if qc == "default":
        return Flags()
    named = () if qc == "none" else tuple(qc)
    nuclei = tuple(name.removeprefix(OF_NUCLEI) for name in named if name.startswith(OF_NUCLEI))
    fields = tuple(name for name in named if not name.startswith(OF_NUCLEI))
    there = [column.name.removeprefix("Metadata_QC_") for column in field_flags()]
    unknown = [*(f for f in fields if f not in there), *(OF_NUCLEI + n for n in nuclei if n not in NUCLEUS_FLAGS)]
    if unknown:
        known = [*there, *(OF_NUCLEI + name for name in NUCLEUS_FLAGS)]
        raise ValueError(f"no flag {', '.join(unknown)}; expected default, none, or any of {', '.join(known)}")
    return Flags(fields, nuclei)


def judge_fields(
    rows: Sequence[Mapping[str, Any]], flags: Flags, exclusions: Exclusions | None = None
) -> list[dict[str, Any]]:
    """`rows` of the field table with every column of :data:`hcs_nuclei.columns.FIELD_CALLS`, in the same order.

    A field is measured where its ``Metadata_Object_Count`` is not None. A flag that is None, since nobody could judge,
    keeps no field out.
    """
    judged = []
    for row in rows:
        place = row["Metadata_Well"], row["Metadata_Field"]
        reason = exclusions.reasons(*place) if exclusions else ""
        flagged = any(row[f"Metadata_QC_{name}"] for name in flags.fields)
        valid = row["Metadata_Object_Count"] is not None and not reason and not flagged
        called = {
            "Metadata_Excluded": bool(reason),
            "Metadata_Exclusion_Reason": reason,
            "Metadata_Exclusion_Who": exclusions.who(*place) if exclusions else "",
            "Metadata_Exclusion_When": exclusions.when(*place) if exclusions else "",
            "Metadata_Valid": valid,
        }
        judged.append({**row, **called})
    return judged
