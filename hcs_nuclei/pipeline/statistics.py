"""The well table in, what its controls, treatments and doses say out: normalised columns, tables, and warnings.

None of it changes a nucleus, so it is no part of any fingerprint: another layout or other readouts make it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from hcs_nuclei.columns import Column, Measured, field_flags, well_columns
from hcs_nuclei.columns.statistics import (
    DOSE_RESPONSE,
    REPLICATES,
    STATISTICS,
    is_of_nuclei,
    normalised_columns,
    readout_name,
)
from hcs_nuclei.errors import SettingsError
from hcs_nuclei.outputs.arrow import append_columns, write_rows
from hcs_nuclei.plate import PLATE_FORMATS, row_name
from hcs_nuclei.screening.lost_lines import lost_lines
from hcs_nuclei.screening.plate_statistics import (
    LOW_Z_PRIME,
    ReadoutWells,
    control_rows,
    dose_rows,
    effect_rows,
    replicate_rows,
)
from hcs_nuclei.screening.treated_wells import REAGENTS, TreatedWells
from hcs_nuclei.settings import Settings, StatisticsSettings
from hcs_nuclei.settings.statistics import NUCLEAR

if TYPE_CHECKING:
    import pyarrow as pa

STATISTICS_FILE, DOSE_RESPONSE_FILE, REPLICATES_FILE = "statistics", "dose_response", "replicates"
#: What a run directory may hold of them.
STATISTICS_FILES = tuple(
    f"{name}.{kind}" for name in (STATISTICS_FILE, DOSE_RESPONSE_FILE, REPLICATES_FILE) for kind in ("parquet", "csv")
)
#: The primary count, and what stands in for it where the size of a pixel is not known: never a raw count, which falls
#: with every field that is lost.
DENSITY, PER_FIELD = "Metadata_Density_per_mm2", "Metadata_Object_Count_PerField"
#: A well of which one of these is true has no figures.
_INVALID = ("Metadata_Excluded", "Metadata_QC_TooFewFields")
#: A well of which this is true has none of its nuclei: a median of two of them would weigh like that of a thousand.
_FEW = "Metadata_QC_FewNuclei"
#: An effect of the plate that is warned of; smaller ones stand in the table.
_WARN_PERCENT = 10.0
#: Share of the negative controls on the outer ring from which they say little of the wells inside.
_ON_THE_RIM = 0.75
_PLATE = ("Metadata_Plate", "Metadata_Acquisition", "Metadata_Timepoint")


def readouts_of(settings: StatisticsSettings, measured: Measured, gates: Iterable[str] = ()) -> tuple[str, ...]:
    """The readouts of a recipe as the well table names them.

    Raises:
        SettingsError: one is no column of numbers of the well table; names it and what is alike.
    """
    numbers = [c.name for c in well_columns(measured, (), tuple(gates)) if c.dtype not in {"string", "bool"}]
    names = tuple(name.replace(NUCLEAR, measured.nuclear) for name in settings.readouts)
    for name in names:
        if name not in numbers:
            alike = [n for n in numbers if name.casefold().rpartition("_")[0] in n.casefold()][:6]
            raise SettingsError(
                f"statistics.readouts: the well table has no column of numbers {name}"
                + (f"; it has {', '.join(alike)}" if alike else "")
                + ". Columns are listed in docs/reference/columns.md."
            )
    return names


@dataclass(frozen=True)
class PlateStatistics:
    """What is told of one plate: how, of which readouts, and the number of wells that its format has."""

    settings: StatisticsSettings
    readouts: tuple[str, ...]
    wells_in_format: int

    @classmethod
    def of(cls, settings: Settings, measured: Measured, wells_in_format: int) -> PlateStatistics:
        """For a recipe and what was measured.

        Raises:
            SettingsError: a readout is no column of numbers of the well table.
        """
        readouts = readouts_of(settings.statistics, measured, settings.gates)
        return cls(settings.statistics, readouts, wells_in_format)

    def normalised(self, wells: pa.Table) -> pa.Table:
        """The well table with wells of few nuclei flagged, and the normalised columns behind it where the layout names
        negative controls."""
        wells = _few_flagged(wells, self.settings.minimum_nuclei)
        times = list(self._times(wells))
        if not any(treated.negative.any() for treated, _, _ in times):
            return wells
        settings = self.settings
        one_positive = all(len(treated.positives) == 1 for treated, _, _ in times)
        methods: list[tuple[str, Callable[[ReadoutWells], Any]]] = [
            ("PercentOfControl", lambda readout: readout.percent),
            ("RobustZ", lambda readout: readout.z),
            *([("PercentInhibition", lambda readout: readout.inhibition)] * one_positive),
            *([("BScore", lambda readout: readout.patterns_taken_out("b_score"))] * settings.b_score),
            *([("Loess", lambda readout: readout.patterns_taken_out("loess"))] * settings.loess),
        ]
        values = {
            f"{kind}_{readout_name(name)}": np.full(wells.num_rows, np.nan)
            for name in self._names(wells)
            for kind, _ in methods
        }
        for _, places, readouts in times:
            for name, readout in readouts.items():
                for kind, method in methods:
                    values[f"{kind}_{readout_name(name)}"][places] = method(readout)
        sources = [_column(wells, name) for name in self._names(wells)]
        columns = normalised_columns(sources, inhibition=one_positive, b_score=settings.b_score, loess=settings.loess)
        return append_columns(wells, columns, values)

    def write(self, run_dir: Path, wells: pa.Table) -> tuple[str, ...]:
        """Write the tables that the layout's treatments allow, take away those that it does not, and return warnings.

        Raises:
            OSError: a table cannot be written; a former one is then as it was.
        """
        statistics: list[dict[str, Any]] = []
        doses: list[dict[str, Any]] = []
        replicates: list[dict[str, Any]] = []
        warnings: list[str] = []
        shape = PLATE_FORMATS[self.wells_in_format]
        for treated, places, readouts in self._times(wells):
            plate = {name: wells[name][int(places[0])].as_py() for name in _PLATE}
            if not treated.any_known:
                continue
            count = readouts.get(DENSITY) or readouts.get(PER_FIELD) or self._count(wells, treated, places)
            for name, readout in readouts.items():
                of = {**plate, "Metadata_Readout": name}
                effects = list(effect_rows(readout, shape))
                statistics += [{**of, **row} for row in (*control_rows(readout), *effects)]
                warnings += _controls_on_the_rim(name, treated, shape, effects)
                doses += [{**of, **row} for row in dose_rows(readout, count, self.settings.normalise)]
                replicates += [{**of, **row} for row in replicate_rows(readout, count)]
            warnings += self._cautions(readouts)
        for name, rows, columns in (
            (STATISTICS_FILE, statistics, STATISTICS),
            (DOSE_RESPONSE_FILE, doses, DOSE_RESPONSE),
            (REPLICATES_FILE, replicates, REPLICATES),
        ):
            write_rows(run_dir / f"{name}.parquet", rows, columns)
        if statistics and DENSITY in self.readouts and _without_pixel_size(wells):
            warnings.append(
                "The size of a pixel is not known, so there is no density: nuclei per valid field stand in for it. "
                "Name it in the recipe, as pixel_size_um."
            )
        return (
            *dict.fromkeys(warnings),
            *_lost_lines(wells),
            *_low_controls(statistics),
            *_strong_effects(statistics),
        )

    def _names(self, wells: pa.Table) -> tuple[str, ...]:
        """The readouts, with the count per field for a density where the size of a pixel is not known."""
        if not _without_pixel_size(wells):
            return self.readouts
        return tuple(dict.fromkeys(PER_FIELD if name == DENSITY else name for name in self.readouts))

    def _times(self, wells: pa.Table) -> Iterator[tuple[TreatedWells, Any, dict[str, ReadoutWells]]]:
        """(wells, their row numbers in the table (n,), readouts by name) of each time point."""
        times = wells["Metadata_Timepoint"].to_numpy()
        for time in np.unique(times):
            places = np.flatnonzero(times == time)
            here = wells.take(places)
            known = [name for name in _TREATMENT if name in wells.column_names]
            treated = TreatedWells.of({name: here[name].to_pylist() for name in known})
            yield treated, places, {name: ReadoutWells(treated, _values(here, name)) for name in self._names(wells)}

    def _count(self, wells: pa.Table, treated: TreatedWells, places: Any) -> ReadoutWells:
        """The primary count where it is no readout."""
        name = PER_FIELD if _without_pixel_size(wells) else DENSITY
        return ReadoutWells(treated, _values(wells.take(places), name))

    def _cautions(self, readouts: Mapping[str, ReadoutWells]) -> Iterator[str]:
        asked = [name for name, on in (("B-score", self.settings.b_score), ("loess", self.settings.loess)) if on]
        for name, readout in readouts.items() if asked else ():
            for words in readout.cautions():
                yield f"{' and '.join(asked)} of {readout_name(name)} may take effects for patterns: {words}."


_TREATMENT = (
    "Metadata_Row",
    "Metadata_Column",
    "Metadata_control_type",
    *(f"Metadata_{name}" for name in REAGENTS),
    "Metadata_Concentration",
    "Metadata_Concentration_unit",
    "Metadata_Replicate",
)


def _without_pixel_size(wells: pa.Table) -> bool:
    """Whether wells that have a count per field have no density."""
    return bool(wells[DENSITY].null_count == wells.num_rows and wells[PER_FIELD].null_count < wells.num_rows)


def _few_flagged(wells: pa.Table, minimum: int) -> pa.Table:
    """The well table with its flag of few nuclei; a well without figures, with too few fields, has it not."""
    place = wells.schema.get_field_index(_FEW)
    flags = pc.less(wells["Metadata_Count_Aggregated"], minimum).fill_null(False)
    return wells.set_column(place, wells.schema.field(place), flags)


def _values(wells: pa.Table, name: str) -> Any:
    """A readout of wells, float64 (n,); NaN where it is null or the well does not count for it."""
    values = wells[name].cast("float64").to_numpy().copy()
    for flag in (*_INVALID, *([_FEW] * is_of_nuclei(name))):
        if flag in wells.column_names:
            values[wells[flag].fill_null(False).to_numpy().astype(bool)] = np.nan
    return values


def _column(wells: pa.Table, name: str) -> Column:
    described = wells.schema.field(name).metadata or {}
    return Column(name, "float64", *(described.get(key, b"").decode() for key in (b"unit", b"meaning")))


def _lost_lines(wells: pa.Table) -> Iterator[str]:
    """One warning for each row or column that lost its wells to faults or flags, whatever the layout."""
    first = {well: place for place, well in reversed(list(enumerate(wells["Metadata_Well"].to_pylist())))}
    excluded, few = (wells[name].fill_null(False).to_numpy().astype(bool) for name in _INVALID)
    of_well: dict[str, bool] = dict.fromkeys(first, True)
    for well, lost in zip(wells["Metadata_Well"].to_pylist(), few & ~excluded, strict=True):
        of_well[well] &= bool(lost)  # at every time point
    rows, columns = ([wells[f"Metadata_{name}"][first[w]].as_py() for w in of_well] for name in ("Row", "Column"))
    for line in lost_lines(rows, columns, list(of_well.values())):
        here = wells.filter(pc.equal(wells[f"Metadata_{line.kind.capitalize()}"], line.number))
        flags = [c.name for c in field_flags() if (pc.sum(here[f"{c.name}_Fields"]).as_py() or 0) >= line.lost]
        why = f" ({', '.join(name.removeprefix('Metadata_QC_') for name in flags)})" if flags else ""
        name = row_name(line.number) if line.kind == "row" else str(line.number)
        yield (
            f"{line.kind} {name}: {line.lost} of {line.wells} wells have too few valid fields{why}, and few other "
            "wells have."
        )


def _low_controls(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One warning for each positive control: the readouts by which it is not told from the negative one."""
    low: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["Metadata_Statistic"] == "ZPrime" and row["Notable"]:
            worst = low.setdefault(row["Metadata_Control"], {})
            name = readout_name(row["Metadata_Readout"])
            worst[name] = min(row["Value"], worst.get(name, row["Value"]))
    for control, readouts in low.items():
        listed = ", ".join(f"{value:.2g} in {name}" for name, value in readouts.items())
        yield f"Z′ of {control} is below {LOW_Z_PRIME}: {listed}."


def _controls_on_the_rim(
    name: str, treated: TreatedWells, shape: tuple[int, int], effects: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """What is held against controls that lie on the rim is off by what the rim does to them."""
    rim = np.isin(treated.rows, (1, shape[0])) | np.isin(treated.columns, (1, shape[1]))
    if not treated.negative.any() or rim[treated.negative].mean() < _ON_THE_RIM:
        return
    for row in effects:
        percent = row["Percent"]
        if row["Metadata_Statistic"] == "EdgeEffect" and row["Notable"] and abs(percent) >= _WARN_PERCENT:
            way, other = ("lower", "high") if percent < 0 else ("higher", "low")
            yield (
                f"{readout_name(name)}: the negative controls lie on the outer ring, where wells are "
                f"{abs(percent):.3g} % {way}, so per cent of control of the wells inside is too {other}."
            )


def _strong_effects(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One warning for each effect of the plate of 10 % or more, with the readouts that it is seen in."""
    strong: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["Notable"] and row["Percent"] is not None and abs(row["Percent"]) >= _WARN_PERCENT:
            strong.setdefault(row["Metadata_Statistic"], {})[readout_name(row["Metadata_Readout"])] = row["Words"]
    for effect, readouts in strong.items():
        listed = "; ".join(f"{name} {words}" for name, words in readouts.items())
        yield f"{effect}: {listed}."
