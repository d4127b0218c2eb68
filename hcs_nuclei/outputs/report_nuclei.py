"""A run's nuclei in, those that count and small pictures of single ones out: of each class, of controls, by lot.

All of these pictures have one contrast and one magnification, so that nuclei can be held against each other.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcs_nuclei.columns import DNA_CLASSES, NUCLEUS_CLASSES
from hcs_nuclei.outputs.calls import Judged
from hcs_nuclei.outputs.reading import read_nuclei
from hcs_nuclei.outputs.report_heatmap import number
from hcs_nuclei.outputs.report_pictures import Look, Nucleus, Picture, Shot, in_store, take_portrait

if TYPE_CHECKING:
    import pandas as pd

AREA = "Nuclei_AreaShape_Area"
DNA = "Metadata_DNAContent"
#: What wells that are no controls are called together.
OTHERS = "other wells"
#: Of each kind of nuclei. With ten kinds these are 0.5 MB of the report.
_PORTRAITS = 24
#: Recipes may have more gates than anybody looks at here.
_MOST_GATES = 8
_THREADS = 4
_PLACE = tuple(f"Metadata_{n}" for n in ("Well", "Field", "Timepoint", "ObjectNumber", "Center_Y", "Center_X"))


@dataclass(frozen=True)
class Counted:
    """The nuclei that count: whole, in valid fields, without a flag that keeps them out.

    `table` has their place, area (px²), `stain` (:data:`DNA` in N, or else integrated intensity in counts) and, where
    they are called, classes and gates; `kind` (n,) is the kind of their well, one of `kinds`.
    """

    table: pd.DataFrame
    stain: str
    kind: npt.NDArray[Any]
    kinds: tuple[str, ...]

    def by_kind(self, column: str) -> dict[str, npt.NDArray[np.float64]]:
        """A column's values by kind of well, NaN where a nucleus has none."""
        values = self.table[column].to_numpy(dtype=np.float64, na_value=np.nan)
        return {kind: values[self.kind == kind] for kind in self.kinds}

    @property
    def diameter_px(self) -> float | None:
        """Of a disk with the median area; None without a nucleus."""
        areas = self.table[AREA].to_numpy(dtype=np.float64)
        return float(np.sqrt(4 * np.median(areas) / np.pi)) if areas.size else None


@dataclass(frozen=True, slots=True)
class Portrait:
    """One nucleus: where it is, what is said of it, and its picture."""

    shot: Shot
    words: str
    picture: Picture


@dataclass(frozen=True, slots=True)
class Kind:
    """Nuclei of one kind: how many there are, and pictures of some, drawn by lot, in the order of wells."""

    title: str
    nuclei: int
    share: float
    portraits: tuple[Portrait, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Kinds of nuclei that are shown together, and what they are."""

    title: str
    why: str
    kinds: tuple[Kind, ...]


def read_counted(run_dir: Path, judged: Judged | None, integrated: str, controls: Mapping[str, str]) -> Counted:
    """The nuclei of a run that count.

    Args:
        run_dir: the run.
        judged: what it says of its nuclei; without it all that do not touch the field's edge count.
        integrated: column of the integrated nuclear stain, for where DNA content is not told.
        controls: control type by well, "" of those that have none.
    """
    refused = judged.calls.refused if judged else frozenset[str]()
    stain = DNA if judged and DNA not in refused else integrated
    called = ["Metadata_Class_Nucleus", "Metadata_Class_DNA"]
    called += [f"Metadata_Gate_{name}" for name in judged.calls.gate_names[:_MOST_GATES]] if judged else []
    counts = "Metadata_Aggregated" if judged else "Metadata_QC_TouchesEdge"
    names = [*_PLACE, counts, AREA, stain, *(name for name in called if judged and name not in refused)]
    table = read_nuclei(run_dir, columns=list(dict.fromkeys(names)))
    table = table[table[counts].astype(bool) == (judged is not None)].drop(columns=counts).reset_index(drop=True)
    kinds = {well: k if k.startswith(("negcon", "poscon")) else OTHERS for well, k in controls.items()}
    order = sorted(set(kinds.values()), key=lambda kind: (kind == OTHERS, kind))
    return Counted(table, stain, table["Metadata_Well"].map(kinds).to_numpy(), tuple(order))


def make_sheets(look: Look, counted: Counted, plate: str) -> tuple[Sheet, ...]:
    """Single nuclei by class, by DNA content, by gate and by control, as far as the run tells them apart.

    Args:
        look: how the plate's nuclei are looked at.
        counted: its nuclei.
        plate: its name, which alone decides what is drawn by lot: equal runs give equal reports. What the store lacks
            is left out.
    """
    lot = random.Random(zlib.crc32(plate.encode()))
    table, size = counted.table, len(counted.table)
    several = table["Metadata_Timepoint"].nunique() > 1
    sheets = []
    with ThreadPoolExecutor(_THREADS) as threads:
        for title, why, groups in _groups(counted):
            kinds = []
            for name, members in groups:
                candidates = np.flatnonzero(members)
                drawn = sorted(lot.sample(range(len(candidates)), min(_PORTRAITS, len(candidates))))
                portraits = threads.map(lambda place: _portrait(look, counted, place, several), candidates[drawn])
                nuclei = len(candidates)
                kinds.append(Kind(name, nuclei, nuclei / max(size, 1), tuple(p for p in portraits if p is not None)))
            if any(kind.portraits for kind in kinds):
                sheets.append(Sheet(title, why, tuple(kinds)))
    return tuple(sheets)


Groups = list[tuple[str, npt.NDArray[np.bool_]]]


def _groups(counted: Counted) -> Iterator[tuple[str, str, Groups]]:
    """For each sheet its title, what it shows, and its kinds with (n,) who belongs to them."""
    table = counted.table
    for column, title, classes, why in (
        ("Metadata_Class_Nucleus", "Classes", NUCLEUS_CLASSES, "What nuclei are called by size, stain and outline"),
        ("Metadata_Class_DNA", "DNA content", DNA_CLASSES, "What nuclei are called by their DNA content"),
    ):
        if column in table:
            named = table[column].fillna("").to_numpy(dtype=object)
            yield title, f"{why}; thresholds are the recipe's.", [(name, named == name) for name in classes]
    gates = [name for name in table if name.startswith("Metadata_Gate_")]
    if gates:
        groups: Groups = []
        for gate in gates:
            known, positive = table[gate].notna().to_numpy(), table[gate].fillna(False).to_numpy(dtype=bool)
            name = gate.removeprefix("Metadata_Gate_")
            groups += [(f"{name} positive", positive), (f"{name} negative", known & ~positive)]
        yield "Gates", "Nuclei on either side of each gate of the recipe.", groups
    of_wells: Groups = [(kind, counted.kind == kind) for kind in counted.kinds]
    if len(of_wells) > 1:
        yield "Controls", "Nuclei of each kind of control, and of all other wells.", of_wells
    else:
        yield "By lot", "Nuclei of all wells.", [("all wells", np.ones(len(table), dtype=bool))]


def _portrait(look: Look, counted: Counted, place: int, several: bool) -> Portrait | None:
    row = counted.table.iloc[place]
    well, field, time, label, y, x = (row[name] for name in _PLACE)
    shot = Shot(str(well), int(field), int(time))
    if not in_store(look.store, shot):
        return None
    area, unit = float(row[AREA]), "px²"
    if look.pixel_size_um is not None:
        area, unit = area * look.pixel_size_um**2, "µm²"
    said = [f"{well}, field {field}", *([f"time point {time}"] if several else []), f"nucleus {label}"]
    lines = [", ".join(said), f"Area: {number(area)} {unit}"]
    if counted.stain == DNA and row[DNA] == row[DNA]:
        lines.append(f"DNA: {float(row[DNA]):.1f} N")
    return Portrait(shot, "\n".join(lines), take_portrait(look, shot, Nucleus(int(label), float(y), float(x))))
