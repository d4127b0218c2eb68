"""A plate to lay treatments out on, and layouts to write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from outputs_samples import make_plate

from hcs_nuclei.layouts import Layout

PLATE = replace(make_plate(("B03", "C06", "D06")), expected_from="metadata")


def written(folder: Path, text: str, name: str = "layout.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def values_of(layout: Layout) -> dict[str, list[Any]]:
    return {well: list(layout.of(well).values()) for well in ("B03", "C06")}
