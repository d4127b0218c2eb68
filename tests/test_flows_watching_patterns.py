"""Directories of plain files below watched ones: plates where a recipe with a pattern says so; no server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from hcs_nuclei.pipeline import prepare_plate
from hcs_nuclei.simulate import simulate_plate
from hcs_nuclei.sources import check_completeness

PATTERN = r"(?P<well>[A-H]\d{2})_(?P<channel>DAPI|GFP)\.tif$"


def plain(folder: Path, *names: str) -> Path:
    """A directory of plain images of those names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("B02_DAPI.tif", "B02_GFP.tif", "B03_DAPI.tif", "B03_GFP.tif"):
        tifffile.imwrite(folder / name, np.full((32, 32), 100, np.uint16))
    return folder


class Watched:
    """A watched directory and recipes that are read for each look."""

    def __init__(self, folder: Path) -> None:
        self.root, self.recipes = folder / "watched", folder / "recipes"
        self.root.mkdir()
        self.recipes.mkdir()

    def recipe(self, name: str, match: str, pattern: str | None = PATTERN) -> None:
        lines = [f"match: {match}", "channel: DAPI", *([f"pattern: '{pattern}'"] if pattern else [])]
        (self.recipes / f"{name}.yaml").write_text("\n".join(lines) + "\n")

    @property
    def known(self) -> list[Any]:
        from flows.recipes import read_recipes

        known, faults = read_recipes(self.recipes)
        assert not faults
        return known

    def find(self, *begun: Path) -> list[Any]:
        from flows.watching import find_plates

        return find_plates([self.root], recipes=self.known, begun=begun)

    def decide(self) -> dict[Path, tuple[str, str]]:
        """What is to be done about each plate after two looks at those that can be looked at."""
        from flows.recipes import pattern_of
        from flows.watching import decide

        looks = {}
        for plate in self.find():
            if not plate.fault:
                how: Any = {"quiet": 1, "pattern": pattern_of(plate.root, self.known)}
                first = check_completeness(plate.root, now=0.0, **how)
                looks[plate.root] = check_completeness(plate.root, first, now=10.0, **how)
        decisions = decide(self.find(), looks, self.known, {}, quiet=1)
        return {d.found.root: (d.action, d.reason) for d in decisions}


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_directory_of_plain_files_is_a_plate_where_a_recipe_says_so(watched: Watched, tmp_path: Path) -> None:
    first, second = (plain(watched.root / "plain" / name) for name in ("P1", "P2"))
    deeper = plain(watched.root / "2026" / "HT0001" / "images").parent
    simulated = simulate_plate(watched.root, wells=1, size=64, name="SIM").directory
    assert [plate.root for plate in watched.find()] == [simulated]

    watched.recipe("plain", f"{{roots: ['{watched.root}/plain']}}")
    watched.recipe("numbered", r"{barcode: 'HT\d{4}'}")
    watched.recipe("simulated", "{barcode: 'SIM.*'}", pattern=None)
    found = {plate.root: plate for plate in watched.find()}
    assert sorted(found) == sorted([first, second, deeper, simulated])
    assert {root.name: plate.plate for root, plate in found.items() if root != simulated} == {
        "P1": "P1",
        "P2": "P2",
        "HT0001": "HT0001",
    }
    assert sorted(plate.root for plate in watched.find(first, simulated)) == sorted([second, deeper])

    # The run that is begun is the one that was foreseen, and reads the same plate.
    assert {action for action, _ in watched.decide().values()} == {"start"}
    settings = {recipe.name: recipe.settings for recipe in watched.known}["plain"]
    plan, _ = prepare_plate(first, tmp_path / "out", settings)
    assert plan.context.run_dir.name == found[first].run
    assert [well.name for well in plan.plate.wells] == ["B02", "B03"]


def test_plate_of_plain_files_that_its_pattern_cannot_read_is_held_with_the_reason(watched: Watched) -> None:
    watched.recipe("plain", f"{{roots: ['{watched.root}']}}")
    (watched.root / "empty" / "inner").mkdir(parents=True)
    other = plain(watched.root / "other", "image-1.tif")
    twice = plain(watched.root / "twice", "B02_DAPI.tif", "x B02_DAPI.tif")
    nowhere = plain(watched.root / "nowhere", "B99_DAPI.tif")
    decided = watched.decide()
    assert {root: action for root, (action, _) in decided.items()} == dict.fromkeys([other, twice, nowhere], "hold")
    assert "matches the pattern" in decided[other][1]
    assert "are the same plane by the pattern" in decided[twice][1]
    assert "The pattern finds no well in B99_DAPI.tif" in decided[nowhere][1]


def test_plate_of_plain_files_for_which_there_are_two_recipes_is_held(watched: Watched) -> None:
    root = plain(watched.root / "P1")
    watched.recipe("one", f"{{roots: ['{watched.root}']}}")
    watched.recipe("two", "{barcode: P1}")
    assert watched.decide()[root] == ("hold", "2 recipes are for it (one, two); let only one match")
