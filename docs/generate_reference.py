"""Writes the reference pages of columns, settings and ``run.json`` from the code, so that the two cannot differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from hcs_nuclei import columns
from hcs_nuclei.columns.statistics import DOSE_RESPONSE, REPLICATES, STATISTICS, TREATMENTS, normalised_columns
from hcs_nuclei.outputs.provenance import run_schema
from hcs_nuclei.settings import ENV_PREFIX, FeatureGroup, Settings

FOLDER = Path(__file__).resolve().parent / "reference"
_MADE = "<!-- Made by `make docs` from {source}: change it there. -->\n\n"


def columns_page() -> str:
    """`columns.md`: every table with each column's name, type, unit and meaning."""
    channel, gate, readout = (
        "<channel>",
        "<gate>",
        columns.Column("Metadata_<readout>", "float64", "its own", "readout"),
    )
    measured = columns.Measured((channel,), channel, frozenset(get_args(FeatureGroup)))
    prefixes = tuple(columns.AGGREGATES)
    wells = [c for c in columns.well_columns(measured, (), (gate,)) if not c.name.startswith(prefixes)]
    told = normalised_columns([readout], inhibition=True, b_score=True, loess=True)
    return "\n".join(
        [
            _MADE.format(source="`hcs_nuclei/columns/`") + "# Columns of the tables\n",
            f"Version {columns.SCHEMA_VERSION} of the schema. `{channel}` stands for a channel's name in letters and",
            f"digits, `{gate}` for a gate's; such columns are there once for each. Units: px and px² are pixels of the",
            "image, counts are the camera's.\n",
            *_section("Nuclei: `nuclei/<well>.parquet`", columns.nucleus_columns(measured)),
            *_section("Nuclei, joined by `read_nuclei`", columns.nucleus_calls((gate,))),
            "\n[Rules and thresholds](../how-to/statistics.md#classes). Treatments of a layout are joined as well.",
            *_section("Fields: `fields.parquet`", columns.field_columns(measured)),
            *_section("Wells: `wells.parquet`, `wells.csv`", wells),
            "\nWith a [plate layout](../how-to/plate-layouts.md), its columns stand after `Metadata_Timepoint`. Behind",
            "these follow, for each feature `Nuclei_…`, figures of the well's aggregated nuclei, in its unit:\n",
            *_table(("column", "what"), [(f"`{prefix}Nuclei_…`", what) for prefix, what in columns.AGGREGATES.items()]),
            "\nLast, where the layout names negative controls, for each [readout](../how-to/statistics.md) (without",
            "`Metadata_`):\n",
            *_table(("column", "type", "unit", "meaning"), map(_column_row, told)),
            *_section("Statistics: `statistics.parquet`, `statistics.csv`", STATISTICS),
            *_section("Curves: `dose_response.parquet`, `dose_response.csv`", DOSE_RESPONSE),
            *_section("Treatments: `replicates.parquet`, `replicates.csv`", REPLICATES),
            *_section("Treatments over plates: `read_treatments`, `<screen>-treatments.csv`", TREATMENTS),
            "",
        ]
    )


def _section(title: str, listed: Iterable[columns.Column]) -> list[str]:
    return [f"\n## {title}\n", *_table(("column", "type", "unit", "meaning"), map(_column_row, listed))]


def settings_page() -> str:
    """`settings.md`: every setting of an assay recipe with its variable, default and meaning."""
    return "\n".join(
        [
            _MADE.format(source="`hcs_nuclei/settings/`") + "# Settings\n",
            "What an [assay recipe](../how-to/assay-recipe.md) can hold. What does not change a result (number of",
            "workers, cluster, overwriting) is an [option](commands.md) and not a setting.\n",
            *_table(("setting", "variable", "default", "meaning"), _setting_rows(Settings, ())),
            "",
        ]
    )


def _column_row(column: columns.Column) -> tuple[str, ...]:
    return f"`{column.name}`", column.dtype, column.unit, column.meaning


def _setting_rows(model: type[BaseModel], path: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        here = (*path, name)
        if isinstance(field.default, BaseModel):
            yield from _setting_rows(type(field.default), here)
        else:
            default = "left out" if field.default is None else f"`{json.dumps(field.default)}`"
            variable = ENV_PREFIX + "__".join(here).upper()
            yield f"`{'.'.join(here)}`", f"`{variable}`", default, field.description or ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["| " + " | ".join(row) + " |" for row in cells]


def schema_page() -> str:
    """`run.schema.json`: what `run.json` of a run holds, as JSON Schema."""
    return json.dumps(run_schema(), indent=1, ensure_ascii=False) + "\n"


PAGES = {"columns.md": columns_page, "settings.md": settings_page, "run.schema.json": schema_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
