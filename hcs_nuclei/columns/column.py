"""What a column is, and the version of all of them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Rises whenever a column is added, renamed or changes meaning; stands in every table and in run.json.
SCHEMA_VERSION = "3"
#: What is read, and made anew from its wells: since 2 columns were only added, and one that is not there is null.
READABLE_VERSIONS = ("2", SCHEMA_VERSION)

Dtype = Literal["string", "int32", "int64", "uint32", "float32", "float64", "bool"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, Arrow type, unit (empty where it has none) and meaning."""

    name: str
    dtype: Dtype
    unit: str
    meaning: str
