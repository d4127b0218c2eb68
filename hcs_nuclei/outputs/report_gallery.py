"""A run's fields in, the pictures that its report holds out: as many of each well as a stated budget allows, and which
of them are shown first.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hcs_nuclei.columns import field_flags
from hcs_nuclei.outputs.report_heatmap import flag_words
from hcs_nuclei.outputs.report_pictures import LARGE, SMALL, Look, Picture, Shot, Size, in_store, look_at, take_pictures

if TYPE_CHECKING:
    import pandas as pd

#: Characters that the pictures of all wells take of the report together. Mail servers refuse 25 MB; tables and script
#: take the rest.
PICTURE_BUDGET = 16_000_000
#: Fields that tell what a picture of this plate takes; the whole may miss the budget by a fifth. The worst fields are
#: held beside it: 1 MB at most.
_SAMPLE = 48
_WORST, _WORST_OF_A_FLAG, _CONTROLS, _RANDOM = 24, 6, 8, 12
#: Fewer nuclei than the recipe's fewest is what a toxic well shows, not a fault of its picture.
_FLAGS = tuple(column.name for column in field_flags() if column.name != "Metadata_QC_Empty")
#: Reading and encoding leave the interpreter; more threads than this wait for each other.
_THREADS = 4
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Exposure:
    """The pictures of one field; `large` is None where the budget leaves no room for it."""

    shot: Shot
    small: Picture
    large: Picture | None


@dataclass(frozen=True, slots=True)
class Choice:
    """Pictures that are shown together: their title, why these, and each one's words."""

    title: str
    why: str
    shots: tuple[tuple[Shot, str], ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures by well in order of fields, and the camera counts that all of them show as black and white.

    `fields` and `enlarged` are how many fields of a well have a picture, and a large one, at most.
    """

    exposures: Mapping[str, tuple[Exposure, ...]]
    choices: tuple[Choice, ...]
    black: float
    white: float
    fields: int
    enlarged: int


def make_gallery(
    store: Path,
    fields: pd.DataFrame,
    controls: Mapping[str, str],
    diameter_px: float | None,
    pixel_size_um: float | None,
    budget: int = PICTURE_BUDGET,
) -> Gallery:
    """Pictures of a run's measured fields; a field that the store lacks gets none.

    Args:
        store: the run's plate.
        fields: its field table.
        controls: control type by well, of those that have one.
        diameter_px: the plate's median nucleus, None where it has none.
        pixel_size_um: None where unknown.
        budget: characters that the pictures of all wells may take.
    """
    shots = {well: there for well, of_well in _shots(fields).items() if (there := _there(store, of_well))}
    every = [shot for of_well in shots.values() for shot in of_well]
    look = look_at(store, [of_well[0] for of_well in shots.values()], diameter_px, pixel_size_um)
    plan = _plan(look, shots, budget)
    choices = _choices(fields, shots, controls)
    wanted = {shot: plan[place] for of_well in shots.values() for place, shot in enumerate(of_well) if place in plan}
    wanted |= {shot: (SMALL, LARGE) for shot, _ in choices[0].shots} if choices else {}
    ordered = [shot for shot in every if shot in wanted]
    taken = _taken(look, {shot: wanted[shot] for shot in ordered})
    exposures: dict[str, tuple[Exposure, ...]] = {}
    for shot, (small, *large) in zip(ordered, taken, strict=True):
        exposure = Exposure(shot, small, large[0] if large else None)
        exposures[shot.well] = (*exposures.get(shot.well, ()), exposure)
    black, white = look.contrast
    return Gallery(exposures, choices, black, white, len(plan), sum(LARGE in sizes for sizes in plan.values()))


def spending(small: float, large: float, fields: int, characters: float) -> dict[int, tuple[Size, ...]]:
    """Which pictures each well gets for `characters`: by place of a field among the well's, its sizes.

    The first field is always there. Then come a second field, the first one enlarged, the other fields, and the other
    fields enlarged; what does not fit ends it.

    Args:
        small: characters of a small picture.
        large: characters of a large one.
        fields: of a well, at most.
        characters: what a well may take.
    """
    later = [(place, SMALL) for place in range(1, fields)]
    order = [(0, SMALL), *later[:1], (0, LARGE), *later[1:], *((place, LARGE) for place in range(1, fields))]
    chosen: dict[int, tuple[Size, ...]] = {}
    spent = 0.0
    for place, size in order:
        spent += small if size is SMALL else large
        if spent > characters and chosen:
            break
        chosen[place] = (*chosen.get(place, ()), size)
    return chosen


def _plan(look: Look, shots: Mapping[str, Sequence[Shot]], budget: int) -> dict[int, tuple[Size, ...]]:
    if not shots:
        return {}
    # By lot: layouts have their periods, and evenly spread wells would all be controls.
    sample = random.Random(0).sample([shot for of_well in shots.values() for shot in of_well], min(_SAMPLE, len(shots)))
    taken = _taken(look, {shot: (SMALL, LARGE) for shot in sample})
    small, large = (sum(pictures[i].characters for pictures in taken) / len(taken) for i in (0, 1))
    return spending(small, large, max(map(len, shots.values())), budget / len(shots))


def _taken(look: Look, wanted: Mapping[Shot, Sequence[Size]]) -> list[list[Picture]]:
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(lambda shot: take_pictures(look, shot, wanted[shot]), wanted))


def _shots(fields: pd.DataFrame) -> dict[str, list[Shot]]:
    """For each well its measured fields at its first measured time point, row-major."""
    measured = fields[fields["Metadata_Object_Count"].notna()]
    order = ["Metadata_Row", "Metadata_Column", "Metadata_Timepoint", "Metadata_Field"]
    measured = measured.sort_values(order, kind="stable")
    found: dict[str, list[Shot]] = {}
    columns = (measured[name] for name in ("Metadata_Well", "Metadata_Field", "Metadata_Timepoint"))
    for well, field, timepoint in zip(*columns, strict=True):
        of_well = found.setdefault(str(well), [])
        if not of_well or of_well[0].timepoint == timepoint:
            of_well.append(Shot(str(well), int(field), int(timepoint)))
    return found


def _there(store: Path, shots: Sequence[Shot]) -> list[Shot]:
    return [shot for shot in shots if in_store(store, shot)]


def _choices(
    fields: pd.DataFrame, shots: Mapping[str, Sequence[Shot]], controls: Mapping[str, str]
) -> tuple[Choice, ...]:
    """Worst fields, controls and random wells; nothing where there is no picture."""
    if not shots:
        return ()
    kinds: dict[str, list[str]] = {}
    for well in shots:
        if controls.get(well, "").startswith(("negcon", "poscon")):
            kinds.setdefault(controls[well], []).append(well)
    named = [(shots[w][0], kind) for kind in sorted(kinds) for w in _spread(kinds[kind], _CONTROLS)]
    found = [_worst(fields, {shot for of_well in shots.values() for shot in of_well})]
    if named:
        found.append(Choice("Controls", f"Up to {_CONTROLS} wells of each kind, evenly spread.", tuple(named)))
    # A plate's name alone decides which wells are shown, so that equal runs give equal reports.
    lot = random.Random(zlib.crc32(str(fields["Metadata_Plate"].iloc[0]).encode()))
    drawn = sorted(lot.sample(range(len(shots)), min(_RANDOM, len(shots))))
    wells = list(shots)
    chosen = tuple((shots[wells[i]][0], controls.get(wells[i], "")) for i in drawn)
    return (*found, Choice("Random wells", "Drawn by lot, the same ones whenever the report is made.", chosen))


def _worst(fields: pd.DataFrame, there: set[Shot]) -> Choice:
    """Fields with flags of quality, evenly from each flag; without any, those of the lowest confidence."""
    named = zip(*(fields[f"Metadata_{name}"] for name in ("Well", "Field", "Timepoint")), strict=True)
    rows = [Shot(str(well), int(field), int(timepoint)) for well, field, timepoint in named]
    flagged: dict[Shot, list[str]] = {}
    chosen: dict[Shot, None] = {}
    for flag in _FLAGS:
        truths = fields[flag].fillna(False).astype(bool)
        of_flag = [shot for shot, true in zip(rows, truths, strict=True) if true and shot in there]
        for shot in of_flag:
            flagged.setdefault(shot, []).append(flag_words(flag))
        chosen |= dict.fromkeys(_spread(of_flag, _WORST_OF_A_FLAG))
    if chosen:
        most = sorted(chosen, key=lambda shot: -len(flagged[shot]))[:_WORST]
        why = f"Fields with flags of quality control, up to {_WORST_OF_A_FLAG} of each flag."
        return Choice("Worst by quality control", why, tuple((shot, ", ".join(flagged[shot])) for shot in most))
    confidence = fields["Metadata_QC_MeanConfidence"].astype(float)
    pairs = [(c, i) for i, c in enumerate(confidence) if c == c and rows[i] in there]
    lowest = tuple((rows[i], f"confidence {c:.2f}") for c, i in sorted(pairs)[:_WORST_OF_A_FLAG])
    return Choice("Worst by quality control", "No field is flagged; these have the lowest mean confidence.", lowest)


def _spread(items: Sequence[_T], most: int) -> list[_T]:
    """At most so many of them, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
