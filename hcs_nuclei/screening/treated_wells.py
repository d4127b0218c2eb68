"""A plate's wells at one time point with their treatments: which are controls, which alike, which are dose series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Key = tuple[str, str | None, float | None, str | None]


@dataclass(frozen=True)
class Treatment:
    """What wells of one kind have in common; None where the layout does not say."""

    control_type: str | None
    compound: str | None
    concentration: float | None
    unit: str | None


#: Columns of a layout that say what a well got; the first that says anything of a well is what is told apart. With the
#: compound alone, all siRNAs of a plate, or all samples of a library at one dose, would be one treatment.
REAGENTS = ("Compound", "broad_sample", "siRNA", "sgRNA", "gene", "gene_symbol", "Gene")


@dataclass(frozen=True)
class DoseSeries:
    """The wells of one compound at doses above 0: their indices (n,), and the units that the layout gives them."""

    compound: str | None
    units: tuple[str, ...]
    wells: npt.NDArray[np.intp]


@dataclass(frozen=True)
class TreatedWells:
    """n wells of a plate at one time point.

    `rows` and `columns` (n,) are 1-based; `control_types`, `compounds`, `units` and `replicates` have n entries, None
    where the layout is silent; `doses` (n,) are in those units, NaN where it is silent.
    """

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    control_types: tuple[str | None, ...]
    compounds: tuple[str | None, ...]
    doses: npt.NDArray[np.float64]
    units: tuple[str | None, ...]
    replicates: tuple[Any, ...]

    @classmethod
    def of(cls, table: Mapping[str, Sequence[Any]]) -> TreatedWells:
        """From columns of the well table by name; those of a treatment may be absent, and then are not known."""
        count = len(table["Metadata_Row"])

        def texts(name: str) -> tuple[str | None, ...]:
            values = table.get(f"Metadata_{name}", [None] * count)
            return tuple(None if value is None else str(value) for value in values)

        doses = table.get("Metadata_Concentration", [None] * count)
        numbers = [float(dose) if isinstance(dose, int | float) else np.nan for dose in doses]
        return cls(
            np.asarray(table["Metadata_Row"], dtype=np.intp),
            np.asarray(table["Metadata_Column"], dtype=np.intp),
            texts("control_type"),
            tuple(_first(names) for names in zip(*map(texts, REAGENTS), strict=True)),
            np.asarray(numbers, dtype=np.float64),
            texts("Concentration_unit"),
            tuple(table.get("Metadata_Replicate", [None] * count)),
        )

    @cached_property
    def negative(self) -> Mask:
        """(n,) the negative controls: ``negcon``, or any of several (``negcon_…``)."""
        return np.array([_is(kind, "negcon") for kind in self.control_types], dtype=bool)

    @cached_property
    def positives(self) -> dict[str, Mask]:
        """(n,) each kind of positive control by name (``poscon``, ``poscon_…``), in order of names."""
        kinds = sorted({kind for kind in self.control_types if kind and _is(kind, "poscon")})
        return {kind: np.array([k == kind for k in self.control_types], dtype=bool) for kind in kinds}

    @cached_property
    def samples(self) -> Mask:
        """(n,) wells that are neither controls nor empty."""
        controls = ("negcon", "poscon", "empty")
        return np.array([not any(_is(kind, c) for c in controls) for kind in self.control_types], dtype=bool)

    @cached_property
    def treatments(self) -> tuple[npt.NDArray[np.intp], tuple[Treatment, ...]]:
        """(n,) number of each well's treatment, -1 where it is not known, and the treatments by number, sorted."""
        keys = [self._key(i) for i in range(len(self.rows))]
        known = sorted({key for key in keys if key is not None}, key=_order)
        numbers = {key: number for number, key in enumerate(known)}
        return (
            np.array([-1 if key is None else numbers[key] for key in keys], dtype=np.intp),
            tuple(Treatment(key[0] or None, *key[1:]) for key in known),
        )

    @cached_property
    def series(self) -> tuple[DoseSeries, ...]:
        """The compounds that are there at two doses or more above 0, in order of names; negative controls are none."""
        dosed = (
            (self.doses > 0) & ~self.negative & np.array([kind != "empty" for kind in self.control_types], dtype=bool)
        )
        found = []
        for compound in sorted({self.compounds[i] for i in np.flatnonzero(dosed)}, key=str):
            wells = np.array([i for i in np.flatnonzero(dosed) if self.compounds[i] == compound], dtype=np.intp)
            if len(np.unique(self.doses[wells])) > 1:
                units = dict.fromkeys(unit for i in wells if (unit := self.units[i]) is not None)
                found.append(DoseSeries(compound, tuple(sorted(units)), wells))
        return tuple(found)

    @property
    def any_known(self) -> bool:
        """Whether a layout says of any well what it got."""
        return bool((self.treatments[0] >= 0).any())

    def _key(self, well: int) -> Key | None:
        kind, compound, dose = self.control_types[well], self.compounds[well], float(self.doses[well])
        control = _is(kind, "negcon") or _is(kind, "poscon")
        if kind == "empty" or not (control or compound is not None or np.isfinite(dose)):
            return None
        return kind or "", compound, dose if np.isfinite(dose) else None, self.units[well]


def _first(names: Iterable[str | None]) -> str | None:
    return next((name for name in names if name is not None), None)


def _is(kind: str | None, which: str) -> bool:
    return kind is not None and (kind == which or kind.startswith(f"{which}_"))


def _order(key: Key) -> tuple[Any, ...]:
    """Controls first, then compounds by name and dose; what is not said comes first."""
    kind, compound, dose, unit = key
    rank = next((n for n, which in enumerate(("negcon", "poscon")) if _is(kind, which)), 2)
    return rank, kind, compound or "", unit or "", -1.0 if dose is None else dose
