"""What a plate's nuclei are called by: found when the plate is done, kept in ``calls.json``, applied on reading.

Classes, DNA content and gates need the whole plate, so no well holds them: the well table's figures and what
``read_nuclei`` adds to the nucleus table come from :func:`call_nuclei` alone, and agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hcs_nuclei.columns import NUCLEUS_CALLS, SCHEMA_VERSION, Measured, nucleus_calls, nucleus_columns
from hcs_nuclei.errors import RunConflictError
from hcs_nuclei.files import replace_file
from hcs_nuclei.screening.classes import NucleusReference, nucleus_class, nucleus_reference
from hcs_nuclei.screening.density import Frame, counted_once
from hcs_nuclei.screening.dna_content import G1Peak, dna_class, dna_content, find_g1
from hcs_nuclei.screening.exclusions import Exclusions
from hcs_nuclei.screening.gates import Gate, make_gate
from hcs_nuclei.screening.validity import Flags
from hcs_nuclei.settings import CallSettings, GateSettings

CALLS_FILE = "calls.json"
#: Wells, evenly spread over the plate, that stand for it where there are more: a peak is no sharper for a thousand.
_MOST_WELLS = 64
_AREA, _ECCENTRICITY, _SOLIDITY = (f"Nuclei_AreaShape_{name}" for name in ("Area", "Eccentricity", "Solidity"))
_ALWAYS = (
    "Metadata_Field",
    "Metadata_Timepoint",
    "Metadata_BoundingBox_Right",
    "Metadata_BoundingBox_Bottom",
    "Metadata_Confidence",
    "Metadata_QC_TouchesEdge",
    "Metadata_QC_Saturated",
    _AREA,
    _ECCENTRICITY,
    _SOLIDITY,
)

Called = dict[str, npt.NDArray[Any]]
"""A column of :func:`hcs_nuclei.columns.nucleus_calls` by name, (n,); masked arrays where a value may be unknown."""


class Calls(BaseModel):
    """The content of ``calls.json``: what was found for this plate, and what it is applied by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: str = SCHEMA_VERSION
    rules: CallSettings = Field(description="the recipe's thresholds")
    nucleus_flags: tuple[str, ...] = Field(description="flags that keep a nucleus out of its well's figures")
    reference: NucleusReference = Field(description="what sizes and intensities are relative to")
    dna: G1Peak
    gates: tuple[Gate, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Columns of the nucleus table that :func:`call_nuclei` looks at."""
        of_calls = (self.reference.mean_feature, self.reference.integrated_feature, self.dna.feature)
        return tuple(dict.fromkeys((*_ALWAYS, *of_calls, *(gate.feature for gate in self.gates))))

    @property
    def refused(self) -> frozenset[str]:
        """What :func:`call_nuclei` leaves unknown for every nucleus, since the plate gives no rule."""
        without = {f"Metadata_Gate_{gate.name}" for gate in self.gates if gate.cut is None}
        if self.reference.reason:
            without.add("Metadata_Class_Nucleus")
        if self.dna.reason:
            without |= {"Metadata_Class_DNA", "Metadata_DNAContent"}
        return frozenset(without)

    @property
    def gate_names(self) -> tuple[str, ...]:
        """In the recipe's order."""
        return tuple(gate.name for gate in self.gates)


@dataclass(frozen=True, slots=True)
class CallRules:
    """What a plate's nuclei and fields are judged by, as the recipe and the run have it.

    `no_dna` says why DNA content cannot be told from such images; empty where it can.
    """

    calls: CallSettings = field(default_factory=CallSettings)
    gates: Mapping[str, GateSettings] = field(default_factory=dict)
    flags: Flags = field(default_factory=Flags)
    exclusions: Exclusions | None = None
    minimum_fields: float = 0.25
    no_dna: str = ""


def find_calls(
    run_dir: Path, rules: CallRules, measured: Measured, fields: Sequence[Mapping[str, Any]], controls: Sequence[str]
) -> Calls:
    """What is called by on this plate, from the wells of its negative controls, or of all wells where there are none.

    Args:
        run_dir: its wells are committed.
        rules: as the recipe has them.
        measured: what is measured of every nucleus.
        fields: the rows of the field table, flagged and judged.
        controls: names of the wells that the layout calls negative controls.
    """
    mean, integrated = intensity_features(measured)
    valid = dict.fromkeys(row["Metadata_Well"] for row in fields if row["Metadata_Valid"])
    named = _spread([well for well in valid if well in set(controls)])
    origin = f"{len(named)} negative controls" if named else _all_wells(controls, len(valid))
    none = Calls(
        rules=rules.calls,
        nucleus_flags=rules.flags.nuclei,
        reference=NucleusReference(mean, integrated, None, None, None, 0, origin),
        dna=G1Peak(integrated, None, None, 0, origin),
        gates=tuple(make_gate(n, g, np.empty(0), 0) for n, g in rules.gates.items() if g.cut is not None),
    )
    features = tuple(dict.fromkeys((*none.features, *(gate.feature for gate in rules.gates.values()))))
    nuclei = _sample(run_dir, named or list(valid), features, fields, none)
    # What lies in two fields would weigh twice among those that all others are held to.
    once = nuclei["Metadata_Counted"]
    whole = nuclei["sound"] & once
    area, bright, stain = (nuclei[name][whole] for name in (_AREA, mean, integrated))
    reference = nucleus_reference(mean, integrated, area, bright, stain, origin)
    single = _single(nuclei, rules.calls)
    dna = find_g1(
        integrated,
        nuclei[integrated][single & once],
        origin,
        minimum=rules.calls.minimum_nuclei,
        widest=rules.calls.widest_peak,
    )
    if rules.no_dna:
        dna = G1Peak(integrated, None, None, dna.nuclei, origin, rules.no_dna)
    counted = nuclei["Metadata_Aggregated"] if named else np.zeros_like(whole)
    gates = tuple(make_gate(n, g, nuclei[g.feature][counted], len(named)) for n, g in rules.gates.items())
    return none.model_copy(update={"reference": reference, "dna": dna, "gates": gates})


def call_nuclei(calls: Calls, nuclei: Mapping[str, npt.NDArray[Any]], fields: Sequence[Mapping[str, Any]]) -> Called:
    """What is said of each nucleus of one well.

    Args:
        calls: the plate's.
        nuclei: (n,) arrays, :attr:`Calls.features` among them, NaN where a nucleus has no value.
        fields: the well's rows of the field table, flagged and judged.
    """
    state = _state(nuclei, fields, calls.nucleus_flags)
    sound = state["sound"]
    reference, dna = calls.reference, calls.dna

    def of_sound(name: str) -> npt.NDArray[np.float64]:
        return np.where(sound, nuclei[name], np.nan)

    shape = of_sound(_AREA), of_sound(reference.mean_feature), of_sound(reference.integrated_feature)
    content = dna_content(np.where(_single({**nuclei, **state}, calls.rules), nuclei[dna.feature], np.nan), dna)
    return {
        **{name: state[name] for name in ("Metadata_Excluded", "Metadata_Counted", "Metadata_Aggregated")},
        "Metadata_Class_Nucleus": nucleus_class(*shape, of_sound(_ECCENTRICITY), reference, calls.rules),
        "Metadata_Class_DNA": dna_class(content, dna),
        "Metadata_DNAContent": content,
        **{f"Metadata_Gate_{gate.name}": gate.positive(nuclei[gate.feature]) for gate in calls.gates},
    }


def intensity_features(measured: Measured) -> tuple[str, str]:
    """Columns of the nuclear stain's mean and sum, with the local background subtracted."""
    there = {column.name for column in nucleus_columns(measured)}
    names = []
    for what in ("Mean", "Integrated"):
        plain, subtracted = (f"Nuclei_Intensity_{what}Intensity{end}_{measured.nuclear}" for end in ("", _SUBTRACTED))
        names.append(subtracted if subtracted in there else plain)
    return names[0], names[1]


_SUBTRACTED = "BackgroundSubtracted"


def write_calls(run_dir: Path, calls: Calls) -> None:
    """Write ``calls.json``; a file with the same content is not touched."""
    text = json.dumps(calls.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    replace_file(run_dir / CALLS_FILE, text.encode())


def read_calls(run_dir: Path) -> Calls | None:
    """A run's calls; None where there are none, since it was not finished.

    Raises:
        RunConflictError: the file is there and this version cannot read it.
    """
    try:
        return Calls.model_validate_json((run_dir / CALLS_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise RunConflictError(
            f"{run_dir / CALLS_FILE} was not written by this version of hcs-nuclei, or is damaged. Make it again with "
            f"'hcs-nuclei report {run_dir}'."
        ) from None


def read_columns(path: Path, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Columns of a well's table as arrays (n,); null becomes NaN, or False of a flag."""
    # Half the time of read_table, which sets up a dataset for one small file.
    with pq.ParquetFile(path) as file:
        return as_arrays(file.read(list(names), use_threads=False), names)


def as_arrays(table: Any, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Columns of an Arrow table as arrays (n,); null becomes NaN, or False of a flag."""
    arrays = {name: table[name].to_numpy() for name in names}
    return {name: a.astype(bool) if name.startswith("Metadata_QC_") else a for name, a in arrays.items()}


@dataclass(frozen=True, slots=True)
class Judged:
    """What a finished run says of its nuclei: its calls, and the judged rows of its field table by well ("B03")."""

    calls: Calls
    fields: Mapping[str, Sequence[Mapping[str, Any]]]


def read_judged(run_dir: Path) -> Judged | None:
    """What :func:`call_nuclei` needs of a run; None where it was not finished.

    Raises:
        RunConflictError: ``calls.json`` cannot be read by this version.
    """
    calls, path = read_calls(run_dir), run_dir / "fields.parquet"
    if calls is None or not path.is_file():
        return None
    fields: dict[str, list[Mapping[str, Any]]] = {}
    for row in pq.read_table(path, columns=list(_JUDGED)).to_pylist():
        fields.setdefault(row["Metadata_Well"], []).append(row)
    return Judged(calls, fields)


def is_called(column: str) -> bool:
    """Whether a column of the nucleus table is one of :func:`hcs_nuclei.columns.nucleus_calls`."""
    return column.startswith("Metadata_Gate_") or column in {c.name for c in NUCLEUS_CALLS}


def join_calls(table: pa.Table, well: str, judged: Judged, wanted: Sequence[str] | None = None) -> pa.Table:
    """A well's `table`, which has the columns of :attr:`Calls.features`, with what its nuclei are called at its end.

    Args:
        table: one row a nucleus.
        well: its name ("B03").
        judged: what the run says of its nuclei.
        wanted: which of the columns; None for all.
    """
    called = call_nuclei(judged.calls, as_arrays(table, judged.calls.features), judged.fields[well])
    for column in nucleus_calls(judged.calls.gate_names):
        if wanted is None or column.name in wanted:
            values = called[column.name]
            mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
            arrow = pa.array(np.ma.getdata(values), type=_TYPES[column.dtype], mask=mask, from_pandas=True)
            table = table.append_column(column.name, arrow)
    return table


_TYPES = {"bool": pa.bool_(), "string": pa.string(), "float64": pa.float64()}
_JUDGED = (
    "Metadata_Well",
    "Metadata_Field",
    "Metadata_Timepoint",
    "Metadata_Excluded",
    "Metadata_Valid",
    "Metadata_QC_OutOfFocus",
    "Metadata_PixelSize_um",
    "Metadata_Height",
    "Metadata_Width",
    "Metadata_Position_X",
    "Metadata_Position_Y",
)


def _all_wells(controls: Sequence[str], wells: int) -> str:
    why = "no negative control has a valid field" if controls else "the layout names no negative control"
    return f"{wells} wells, since {why}"


def _sample(
    run_dir: Path, wells: Sequence[str], features: Sequence[str], fields: Sequence[Mapping[str, Any]], calls: Calls
) -> dict[str, npt.NDArray[Any]]:
    """Nuclei of `wells`, or of some of them, one after another."""
    parts = []
    for well in _spread(wells):
        nuclei = read_columns(run_dir / "nuclei" / f"{well}.parquet", features)
        rows = [row for row in fields if row["Metadata_Well"] == well]
        parts.append({**nuclei, **_state(nuclei, rows, calls.nucleus_flags)})
    names = (*features, "sound", "Metadata_Counted", "Metadata_Aggregated")
    flags = {name for name in features if name.startswith("Metadata_QC_")} | {*names[-3:]}
    empty = {name: np.zeros(0, dtype=bool if name in flags else np.float64) for name in names}
    return {name: np.concatenate([part[name] for part in parts or [empty]]) for name in names}


def _spread(wells: Sequence[str]) -> list[str]:
    """At most :data:`_MOST_WELLS` of `wells`, spread evenly; a step that divides a row would take few columns."""
    places = np.linspace(0, len(wells) - 1, min(len(wells), _MOST_WELLS)).round().astype(int)
    return [wells[place] for place in places]


def _state(
    nuclei: Mapping[str, npt.NDArray[Any]], fields: Sequence[Mapping[str, Any]], flags: Sequence[str]
) -> dict[str, npt.NDArray[np.bool_]]:
    """(n,) whether each nucleus is excluded, counted, aggregated, and ``sound``: whole, in a valid field in focus."""
    by_place = {(row["Metadata_Field"], row["Metadata_Timepoint"]): row for row in fields}
    places, where = np.unique(
        np.stack([nuclei["Metadata_Field"], nuclei["Metadata_Timepoint"]]).astype(np.int64), axis=1, return_inverse=True
    )
    rows = [by_place[int(field), int(timepoint)] for field, timepoint in places.T]

    def of_field(values: list[bool]) -> npt.NDArray[np.bool_]:
        return np.array(values, dtype=bool)[where.reshape(-1)]

    valid = of_field([row["Metadata_Valid"] for row in rows]) & ~nuclei["Metadata_QC_TouchesEdge"]
    in_focus = of_field([not row["Metadata_QC_OutOfFocus"] for row in rows])
    counted = _counted(nuclei, fields)
    aggregated = valid & counted
    for flag in flags:
        aggregated &= ~nuclei[f"Metadata_QC_{flag}"]
    excluded = of_field([row["Metadata_Excluded"] for row in rows])
    return {
        "Metadata_Excluded": excluded,
        "Metadata_Counted": counted,
        "Metadata_Aggregated": aggregated,
        "sound": valid & in_focus,
    }


def _counted(nuclei: Mapping[str, npt.NDArray[Any]], fields: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.bool_]:
    """(n,) whether each nucleus counts for its well, at each time point by itself."""
    counted = np.zeros(nuclei["Metadata_Field"].shape, dtype=bool)
    valid = [row for row in fields if row["Metadata_Valid"]]
    for timepoint in {row["Metadata_Timepoint"] for row in valid}:
        frames = {row["Metadata_Field"]: Frame.of(row) for row in valid if row["Metadata_Timepoint"] == timepoint}
        here = np.flatnonzero(nuclei["Metadata_Timepoint"] == timepoint)
        where = np.full(here.shape, -1)
        for place, field_number in enumerate(frames):
            where[nuclei["Metadata_Field"][here] == field_number] = place
        right, bottom = (nuclei[f"Metadata_BoundingBox_{side}"][here] for side in ("Right", "Bottom"))
        counted[here] = counted_once(list(frames.values()), where, right, bottom)
    return counted


def _single(nuclei: Mapping[str, npt.NDArray[Any]], rules: CallSettings) -> npt.NDArray[np.bool_]:
    """(n,) whether a nucleus' DNA content can be told: sound, unsaturated, one, and known to be a nucleus."""
    single: npt.NDArray[np.bool_] = (
        nuclei["sound"]
        & ~nuclei["Metadata_QC_Saturated"]
        & (nuclei["Metadata_Confidence"] >= rules.minimum_confidence)
        & (nuclei[_SOLIDITY] >= rules.minimum_solidity)
    )
    return single
