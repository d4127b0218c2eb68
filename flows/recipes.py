"""A directory of assay recipes in, the one for a plate out, or the reason why there is none.

A recipe of the service is an ordinary one (``--assay``) that also says which plates it is for::

    match:
      roots: [/data/screens/hoechst]    # the plate lies in or below one of these, and
      barcode: HT\\d{4}                  # this regular expression fits its whole name

With a ``pattern`` for files of no known vendor it has to say which directories are plates as well: those whose names
the barcode fits; without one, those that lie directly in one of the roots.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from hcs_nuclei.errors import SettingsError, listed
from hcs_nuclei.settings import Settings, load_settings, read_yaml


class Match(BaseModel):
    """Which plates a recipe is for: all that is given has to fit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roots: tuple[Path, ...] = ()
    barcode: str | None = None

    @field_validator("barcode")
    @classmethod
    def _is_pattern(cls, barcode: str | None) -> str | None:
        try:
            re.compile(barcode or "")
        except re.error as error:
            raise ValueError(f"no regular expression ({error})") from None
        return barcode

    @model_validator(mode="after")
    def _says_something(self) -> Match:
        if not self.roots and self.barcode is None:
            raise ValueError("give roots, a barcode, or both; the barcode .* fits every plate")
        return self

    def fits(self, root: Path, plate: str) -> bool:
        """Whether the plate called `plate` in the directory `root` (links resolved) is meant."""
        below = not self.roots or any(root.is_relative_to(place.resolve()) for place in self.roots)
        return below and (self.barcode is None or re.fullmatch(self.barcode, plate) is not None)

    def is_plate(self, folder: Path) -> bool:
        """Whether the directory `folder` (links resolved) is itself said to be a plate, whatever is in it."""
        if self.barcode is not None:
            return self.fits(folder, folder.name)
        return folder.parent in {place.resolve() for place in self.roots}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One assay: its name (the file's), which plates it is for (None: all), and its settings."""

    name: str
    match: Match | None
    settings: Settings

    def fits(self, root: Path, plate: str) -> bool:
        """Whether it is for the plate called `plate` in the directory `root`."""
        return self.match is None or self.match.fits(root, plate)


def read_recipes(directory: Path | None) -> tuple[list[Recipe], list[str]]:
    """The recipes in `directory` (``*.yaml``, ``*.yml``) in order of their names, and what is wrong with the others.

    Without a directory there is one recipe, the default settings, for every plate.

    Raises:
        SettingsError: there is no such directory.
    """
    if directory is None:
        return [Recipe("defaults", None, load_settings())], []
    if not directory.is_dir():
        raise SettingsError(f"There is no directory of recipes {directory}. Make it, or name another.")
    recipes: list[Recipe] = []
    faults: list[str] = []
    for path in sorted(path for path in directory.iterdir() if path.suffix in {".yaml", ".yml"}):
        try:
            recipes.append(_read(path))
        except SettingsError as error:
            faults.append(" ".join(str(error).split()))
    return recipes, faults


def recipe_for(root: Path, plate: str, recipes: Sequence[Recipe], faults: Sequence[str] = ()) -> Recipe | str:
    """The one recipe for the plate called `plate` in `root`; else why it has to be held, in words."""
    fitting = [recipe for recipe in recipes if recipe.fits(root, plate)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        return f"{len(fitting)} recipes are for it ({listed(r.name for r in fitting)}); let only one match"
    known = listed(recipe.name for recipe in recipes) or "none that can be read"
    unread = f"; {faults[0]}" if faults else ""
    return f"no recipe is for plate {plate} in {root} (there is {known}); add one whose match fits{unread}"


def pattern_of(folder: Path, recipes: Sequence[Recipe]) -> str | None:
    """The pattern by which a directory is a plate, of the first recipe that says so; None where none does."""
    patterns = (r.settings.pattern for r in recipes if r.match is not None and r.match.is_plate(folder))
    return next((pattern for pattern in patterns if pattern), None)


def _read(path: Path) -> Recipe:
    settings = load_settings(path)
    try:
        return Recipe(path.stem, Match.model_validate(read_yaml(path.read_text(encoding="utf-8"))["match"]), settings)
    except (KeyError, TypeError):
        raise SettingsError(
            f"The recipe {path} does not say which plates it is for. Give it match: with roots, a barcode, or both."
        ) from None
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, fault['loc']))} {fault['msg']}".strip() for fault in error.errors())
        raise SettingsError(f"What the recipe {path} says under match: is not valid: {reasons}.") from None
