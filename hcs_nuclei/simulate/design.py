"""A number of wells in, an experiment out: which well gets what, and what that does to its cells.

::

        first column   columns between              last column
        DMSO           a dose series, rising →      staurosporine
                       compound-A in the upper half of the rows, compound-B in the lower, replicates over rows
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from hcs_nuclei.errors import SettingsError
from hcs_nuclei.plate import PLATE_FORMATS, smallest_format, well_name
from hcs_nuclei.simulate.cells import Phenotype

ControlType = Literal["negcon", "poscon", "trt"]

#: From this many wells on, one treated well is left without cells, as a dispenser that was blocked leaves it.
EMPTY_FROM = 24
_LOWEST_UM, _HIGHEST_UM = 0.03, 30.0
_POSCON_UM = 1.0
_DEFOCUS = 4.0


@dataclass(frozen=True, slots=True)
class WellDesign:
    """One well: 1-based row and column, its treatment, and the truth about its cells.

    `concentration_um` is 0 for the vehicle. `replicate` counts the wells of one treatment from 1. `density` is the
    share of cells that are there, 1 in an untreated well, 0 in one without cells.
    """

    row: int
    column: int
    compound: str
    concentration_um: float
    control_type: ControlType
    replicate: int
    density: float
    phenotype: Phenotype

    @property
    def name(self) -> str:
        """``B03`` for row 2, column 3."""
        return well_name(self.row, self.column)


@dataclass(frozen=True, slots=True)
class Harm:
    """What goes wrong with a plate: nothing, if nothing is said.

    `edge_loss` is the share of cells that is lost on the outer ring; `defocused_columns` (1-based) were imaged out of
    focus.
    """

    edge_loss: float = 0.0
    defocused_columns: tuple[int, ...] = ()

    def density(self, well: WellDesign, shape: tuple[int, int]) -> float:
        """The share of the well's cells that is left; `shape` is (rows, columns) of the plate format."""
        rim = well.row in (1, shape[0]) or well.column in (1, shape[1])
        return well.density * (1 - self.edge_loss if rim else 1)

    def defocus(self, well: WellDesign) -> float:
        """How many times wider than in focus a point of the well's images is."""
        return _DEFOCUS if well.column in self.defocused_columns else 1.0


@dataclass(frozen=True, slots=True)
class _Compound:
    """A Hill curve, and what full effect does: changes of :class:`Phenotype`, and the share of cells that is lost."""

    name: str
    ic50_um: float
    hill: float
    loss: float
    diameter: float
    mitotic: float
    dying: float
    g2: float

    def effect(self, concentration_um: float) -> float:
        """0 (none) to 1 (full)."""
        return 1 / (1 + math.pow(self.ic50_um / concentration_um, self.hill))

    def phenotype(self, effect: float) -> Phenotype:
        """Cells at an effect of 0 to 1."""
        plain = Phenotype()
        return Phenotype(
            diameter=1 + effect * (self.diameter - 1),
            mitotic=plain.mitotic + effect * (self.mitotic - plain.mitotic),
            dying=plain.dying + effect * (self.dying - plain.dying),
            positive=plain.positive + effect * (0.92 - plain.positive),
            g2=plain.g2 + effect * (self.g2 - plain.g2),
            sociable=plain.sociable * (1 - 0.6 * effect),
        )


#: A arrests cells before mitosis (large nuclei, doubled DNA), B kills them (small nuclei).
_COMPOUNDS = (
    _Compound("compound-A", 1.0, 1.5, loss=0.82, diameter=1.35, mitotic=0.01, dying=0.06, g2=0.7),
    _Compound("compound-B", 5.0, 1.3, loss=0.9, diameter=0.78, mitotic=0.01, dying=0.3, g2=0.15),
)
_POSCON = Phenotype(diameter=0.7, mitotic=0.0, dying=0.5, positive=0.9, g2=0.15, sociable=0.15)
_POSCON_DENSITY = 0.12


def plate_region(wells: int) -> tuple[int, int, int, int, int]:
    """Where `wells` wells lie: (wells of the plate format, first row, first column, rows, columns), 1-based.

    The rectangle is the one nearest to a plate's own 2 : 3 that leaves little room; it keeps off the plate's rim
    where the format has room for that, as people do because wells there dry out.

    Raises:
        SettingsError: no plate has so many wells.
    """
    largest = max(PLATE_FORMATS)
    if not 1 <= wells <= largest:
        raise SettingsError(f"cannot simulate a plate of {wells} wells; expected 1 to {largest}")

    def misfit(rows: int) -> float:
        columns = math.ceil(wells / rows)
        return 3 * (rows * columns - wells) / wells + abs(math.log(columns / rows / 1.5))

    rows = min((r for r in range(1, 33) if r <= math.ceil(wells / r) <= 48), key=misfit)
    columns = math.ceil(wells / rows)
    within = max(96, smallest_format(rows, columns))
    inside = all(n + 2 <= room for n, room in zip((rows, columns), PLATE_FORMATS[within], strict=True))
    return within, 1 + inside, 1 + inside, rows, columns


def design_wells(wells: int) -> tuple[WellDesign, ...]:
    """The design of a plate of `wells` wells, in row-major order.

    Raises:
        SettingsError: no plate has so many wells.
    """
    _, first_row, first_column, rows, columns = plate_region(wells)
    doses = max(columns - 2, 1)
    empty = (rows - 1) * columns + 1 if wells >= EMPTY_FROM else None
    designs: list[WellDesign] = []
    for number in range(wells):
        row, column = divmod(number, columns)
        compound_number = int(rows > 1 and row >= math.ceil(rows / 2))
        position = (first_row + row, first_column + column)
        if column == 0:
            design = WellDesign(*position, "DMSO", 0.0, "negcon", row + 1, 1.0, Phenotype())
        elif column == columns - 1:
            design = WellDesign(*position, "staurosporine", _POSCON_UM, "poscon", row + 1, _POSCON_DENSITY, _POSCON)
        else:
            compound = _COMPOUNDS[compound_number]
            replicate = row + 1 - compound_number * math.ceil(rows / 2)
            dose = _dose(column - 1, doses)
            effect = compound.effect(dose)
            density = 0.0 if number == empty else 1 - compound.loss * effect
            design = WellDesign(*position, compound.name, dose, "trt", replicate, density, compound.phenotype(effect))
        designs.append(design)
    return tuple(designs)


def _dose(number: int, doses: int) -> float:
    """Concentration in µM of dose `number` (0-based) of `doses`, evenly spaced on a logarithmic scale."""
    share = number / (doses - 1) if doses > 1 else 1.0
    return float(f"{_LOWEST_UM * (_HIGHEST_UM / _LOWEST_UM) ** share:.3g}")
