"""Treatments of wells as values: what a layout file says (text) and what the tables take from it (typed)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from hcs_nuclei.columns import Column

Position = tuple[int, int]
"""1-based row and column of a well."""

Value = str | int | float
"""What a treatment column holds for a well; where it holds nothing, the well has no such key."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one line (or grid, or layer) of a file says of one well: its non-empty cells by the file's own names."""

    where: str
    position: Position
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RawLayout:
    """A layout as its file has it: names in order, entries in order, nothing but text.

    `faults` make it unusable, `warnings` do not. `decimal_comma` says that a comma may stand for the point.
    """

    names: tuple[str, ...]
    entries: tuple[Entry, ...]
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    decimal_comma: bool = False


@dataclass(frozen=True)
class Layout:
    """The treatments of one plate.

    Attributes:
        source: the file, in words for the user.
        origin: ``file`` where the user named it, ``vendor`` where it lay in the plate's directory.
        columns: the treatment columns in the file's order, named as they stand in the tables (``Metadata_Compound``).
        wells: by name ("B03") the values by column; a value that the file leaves empty has no key.
        warnings: what was odd about it, in sentences.
    """

    source: str
    origin: Literal["file", "vendor"]
    columns: tuple[Column, ...]
    wells: Mapping[str, Mapping[str, Value]]
    warnings: tuple[str, ...] = field(default=())

    @property
    def sha256(self) -> str:
        """Of the columns and values alone: the same treatments in another file have the same."""
        content = [[asdict(column) for column in self.columns], {name: dict(v) for name, v in self.wells.items()}]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def negative_controls(self) -> tuple[str, ...]:
        """Names of the wells whose ``Metadata_control_type`` is ``negcon``, or one of several (``negcon_…``)."""
        kinds = {well: str(values.get("Metadata_control_type", "")) for well, values in self.wells.items()}
        return tuple(well for well, kind in kinds.items() if kind == "negcon" or kind.startswith("negcon_"))

    def of(self, well: str) -> dict[str, Value | None]:
        """The treatment of a well ("B03"), one value for each column; None where the layout says nothing."""
        values = self.wells.get(well, {})
        return {column.name: values.get(column.name) for column in self.columns}
