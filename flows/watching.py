"""Watched directories in, what to do about each plate below them out: start, wait, or hold and say why. No Prefect."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from flows.ledger import NOT_BEGUN, Entry
from flows.recipes import Recipe, pattern_of, recipe_for
from hcs_nuclei.errors import NotAPlateError, SettingsError
from hcs_nuclei.outputs.provenance import RUN_FILE
from hcs_nuclei.pipeline.prepare import run_name
from hcs_nuclei.plate import is_text, safe_name, shown_name
from hcs_nuclei.sources import open_plate
from hcs_nuclei.sources.completeness import PATIENCE, Completeness
from hcs_nuclei.sources.listing import IMAGE_SUFFIXES

#: How deep below a watched directory plates are looked for.
_DEPTH = 5


@dataclass(frozen=True, slots=True)
class Found:
    """A plate below a watched directory; `run` is the name of the run directory that it would get.

    `fault` says why its files cannot be read by the pattern of its recipe, where they cannot.
    """

    root: Path
    plate: str
    run: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a plate: ``start`` it with `recipe`, ``wait``, or ``hold`` it for a person."""

    found: Found
    action: Literal["start", "wait", "hold"]
    reason: str
    recipe: Recipe | None = None


def find_plates(
    watched: Iterable[Path],
    *,
    recipes: Sequence[Recipe] = (),
    begun: Collection[Path] = (),
    leave_out: Collection[Path] = (),
    unlisted: dict[Path, str] | None = None,
) -> list[Found]:
    """The plates below the `watched` directories that were not begun, in order of their directories; no pixels.

    Args:
        recipes: of those with a pattern the directories are plates that they say are; the others are vendors'.
        begun: plates' directories; not looked into again.
        leave_out: directories of runs; neither they nor what lies below are plates. Nor is any run directory.
        unlisted: gets each directory that is there and cannot be listed, and why; what lies below it is not known.
    """
    missed = {} if unlisted is None else unlisted
    outside = {path.resolve() for path in leave_out} | set(begun)
    above = {folder for root in begun for folder in root.parents}
    look = partial(_opened, recipes=recipes)
    walks = (_below(root.resolve(), look, above, outside, missed, _DEPTH) for root in watched)
    found = {plate.root: plate for walk in walks for plate in walk}
    return [found[root] for root in sorted(found)]


def places_away(
    watched: Iterable[Path], known: Collection[Path], unlisted: Mapping[Path, str] | None = None
) -> dict[Path, str]:
    """The places whose plates cannot be seen for now, and why: what is not found below them is not gone.

    They are watched directories that cannot be listed, or are empty as the place of a drive is that is not mounted; and
    directories below them that could not be listed and have plates in them.

    Args:
        known: directories of plates that were found before.
        unlisted: what could not be listed when plates were looked for.
    """
    roots = [root.resolve() for root in watched]
    missed = dict(unlisted or {})
    away = {place: missed[place] for place in missed if place in roots or _plates_in(place, known)}
    for root in roots:
        try:
            with os.scandir(root) as entries:
                empty = all(entry.name.startswith(".") for entry in entries)
        except OSError as error:
            away[root] = _unlisted(error)
            continue
        if empty and (plates := _plates_in(root, known)):
            away[root] = f"it is empty, and {plates} plates were found in it before"
    return away


def _plates_in(place: Path, known: Collection[Path]) -> int:
    return sum(plate.is_relative_to(place) for plate in known)


def _unlisted(error: OSError) -> str:
    return f"it cannot be listed ({error.strerror})"


def _below(
    folder: Path,
    look: Callable[[Path], Found | None],
    above: set[Path],
    outside: set[Path],
    missed: dict[Path, str],
    depth: int,
) -> Iterator[Found]:
    for inner in _folders(folder, missed):
        # That of os.path is no error where the directory cannot be read.
        if inner in outside or os.path.exists(inner / RUN_FILE):
            continue
        if not is_text(str(inner)):
            if look(inner) is not None or _has_images(inner):
                yield _unnamable(inner)
            continue
        plate = None if inner in above else look(inner)
        # A directory that holds one plate opens as that plate, which is met further down, or is not to be met.
        if plate is not None and inner.is_relative_to(plate.root):
            yield plate
        elif depth > 1:
            yield from _below(inner, look, above, outside, missed, depth - 1)


def _opened(folder: Path, recipes: Sequence[Recipe]) -> Found | None:
    pattern = pattern_of(folder, recipes)
    try:
        plate = open_plate(folder, pattern=pattern)
    except (NotAPlateError, SettingsError) as error:
        # What a recipe says is a plate is not passed over, as soon as there is anything of it.
        named = pattern is not None and _has_images(folder)
        return Found(folder, folder.name, safe_name(folder.name), str(error)) if named else None
    return Found(plate.root, plate.name, run_name(plate))


def _unnamable(folder: Path) -> Found:
    """A plate whose directory has a name that no table, page or request can hold, by a name that can be read."""
    shown = Path(shown_name(folder))
    return Found(shown, shown.name, safe_name(shown.name), "its directory's name is not UTF-8; give it another name")


def _has_images(folder: Path) -> bool:
    return any(name.lower().endswith(IMAGE_SUFFIXES) for _, _, names in os.walk(folder) for name in names)


def _folders(folder: Path, missed: dict[Path, str]) -> list[Path]:
    """The visible directories in `folder`, no links: what they lead to is watched by its own name or not at all."""
    try:
        with os.scandir(folder) as entries:
            inside = [e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        missed[folder] = _unlisted(error)
        return []
    return [folder / name for name in sorted(inside)]


def decide(
    found: Sequence[Found],
    looks: Mapping[Path, Completeness],
    recipes: Sequence[Recipe],
    entries: Mapping[str, Entry],
    *,
    faults: Sequence[str] = (),
    quiet: float = 60.0,
) -> list[Decision]:
    """What to do about each plate that was found and not begun, in the order in which they are to be started.

    Args:
        looks: how complete each is; a plate without a recipe need not be looked at.
        entries: the ledger, by the plate's directory.
        faults: what is wrong with recipes that could not be read.
        quiet: seconds without a change that the looks asked for.
    """
    claimed: dict[str, list[str]] = defaultdict(list)
    for entry in entries.values():
        if entry.state not in NOT_BEGUN:
            claimed[entry.run].append(entry.root)
    decisions = []
    # The one that has been quiet for longest came first.
    for plate in sorted(found, key=lambda plate: looks[plate.root].look.changed_at if plate.root in looks else 0.0):
        recipe = recipe_for(plate.root, plate.plate, recipes, faults)
        if isinstance(recipe, str):
            decisions.append(Decision(plate, "hold", recipe))
        elif plate.fault:
            decisions.append(Decision(plate, "hold", plate.fault, recipe))
        elif claimed[plate.run]:
            same = f"it is plate {plate.run}, as {claimed[plate.run][0]} is; one of them has to go, or get another name"
            decisions.append(Decision(plate, "hold", same, recipe))
        else:
            decision = _by_look(plate, looks.get(plate.root), recipe, quiet)
            if decision.action == "start":
                claimed[plate.run].append(str(plate.root))
            decisions.append(decision)
    return decisions


def _by_look(plate: Found, look: Completeness | None, recipe: Recipe, quiet: float) -> Decision:
    if look is None:
        return Decision(plate, "wait", "it was not looked at yet", recipe)
    if look.state == "complete":
        return Decision(plate, "start", look.reason, recipe)
    if look.state == "incomplete" and look.seconds_since_change >= PATIENCE * quiet:
        return Decision(plate, "hold", look.reason, recipe)
    return Decision(plate, "wait", look.reason, recipe)
