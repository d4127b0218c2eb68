"""Which plates below watched directories are begun, which wait, and which are held and why; no server, no pixels."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from hcs_nuclei.errors import SettingsError
from hcs_nuclei.sources import check_completeness
from hcs_nuclei.sources.completeness import Completeness, Look


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MetaXpress plate of two wells."""
    from hcs_nuclei.simulate import simulate_plate

    return simulate_plate(tmp_path_factory.mktemp("made"), wells=2, size=64, name="HT0001").directory


def copied(plate: Path, to: Path) -> Path:
    return Path(shutil.copytree(plate, to))


def look(root: Path, state: str = "complete", since: float = 60.0, at: float = 0.0) -> Completeness:
    seen = Look(root, at, at, "", 1, ())
    return Completeness(state, f"said so of {root.name}", root.name, 1, 1, 0, 0, "metadata", "", since, seen)  # type: ignore[arg-type]


def decided(
    roots: Iterable[str], looks: dict[str, Completeness], entries: Iterable[Any] = (), **options: Any
) -> dict[str, tuple[str, str]]:
    """Action and reason by the plate's directory; each is called after its directory's first word."""
    from flows.recipes import read_recipes
    from flows.watching import Found, decide

    found = [Found(Path(root), Path(root).name, Path(root).name.split()[0]) for root in roots]
    recipes = options.pop("recipes", read_recipes(None)[0])
    known = {entry.root: entry for entry in entries}
    decisions = decide(found, {Path(r): seen for r, seen in looks.items()}, recipes, known, **options)
    return {str(d.found.root): (d.action, d.reason) for d in decisions}


def test_complete_plates_are_started_the_oldest_first_and_others_wait() -> None:
    looks = {
        "/w/new": look(Path("/w/new"), at=20.0),
        "/w/old": look(Path("/w/old"), at=10.0),
        "/w/copied": look(Path("/w/copied"), "writing", at=30.0),
        "/w/paused": look(Path("/w/paused"), "incomplete", since=299.0, at=40.0),
        "/w/stalled": look(Path("/w/stalled"), "incomplete", since=300.0, at=50.0),
    }
    found = decided([*looks, "/w/unseen"], looks)
    assert {root: action for root, (action, _) in found.items()} == {
        "/w/old": "start",
        "/w/new": "start",
        "/w/copied": "wait",
        "/w/paused": "wait",
        "/w/stalled": "hold",
        "/w/unseen": "wait",
    }
    assert [root for root, (action, _) in found.items() if action == "start"] == ["/w/old", "/w/new"]
    assert found["/w/stalled"][1] == "said so of stalled"


def test_one_of_two_directories_of_the_same_plate_is_begun_and_the_other_held() -> None:
    from flows.ledger import Entry

    looks = {root: look(Path(root), at=at) for at, root in enumerate(["/w/P1 first", "/w/P1 second"])}
    found = decided(looks, looks)
    assert found["/w/P1 first"][0] == "start"
    assert found["/w/P1 second"] == (
        "hold",
        "it is plate P1, as /w/P1 first is; one of them has to go, or get another name",
    )
    done = Entry(root="/w/P1 before", plate="P1", run="P1", state="failed")
    assert {action for action, _ in decided(looks, looks, [done]).values()} == {"hold"}
    waiting = done.model_copy(update={"state": "writing"})
    assert decided(looks, looks, [waiting])["/w/P1 first"][0] == "start"


RECIPES = {
    "hoechst.yaml": "channel: Hoechst\nmatch: {roots: [ROOT/hoechst]}\n",
    "numbered.yaml": "channel: DAPI\nmodel: pinned\nmatch: {barcode: 'HT\\d{4}'}\n",
    "silent.yml": "channel: DAPI\n",
    "odd.yaml": "channel: DAPI\nmatch: {barcode: 'HT['}\n",
    "wrong.yaml": "chanel: DAPI\nmatch: {barcode: '.*'}\n",
    "empty.yaml": "match: {}\n",
    "notes.txt": "no recipe",
}


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    for name, text in RECIPES.items():
        (folder / name).write_text(text.replace("ROOT", str(tmp_path)))
    return folder


def test_plate_gets_the_one_recipe_that_is_for_it(recipes: Path, tmp_path: Path) -> None:
    from flows.recipes import Recipe, read_recipes, recipe_for

    known, faults = read_recipes(recipes)
    assert [recipe.name for recipe in known] == ["hoechst", "numbered"]
    # Neither stops the others.
    assert [fault.split(":")[0] for fault in faults] == [
        f"What the recipe {recipes}/empty.yaml says under match",
        f"What the recipe {recipes}/odd.yaml says under match",
        f"The recipe {recipes}/silent.yml does not say which plates it is for. Give it match",
        f"The settings are not valid (recipe {recipes}/wrong.yaml)",
    ]

    def given(root: str, plate: str) -> Recipe | str:
        return recipe_for(tmp_path / root, plate, known, faults)

    for root, plate, name, channel in [
        ("hoechst/P1", "P1", "hoechst", "Hoechst"),
        ("other/P1", "HT0042", "numbered", "DAPI"),
    ]:
        recipe = given(root, plate)
        assert isinstance(recipe, Recipe)
        assert (recipe.name, recipe.settings.channel) == (name, channel)
    assert given("hoechst/P1", "HT0042") == "2 recipes are for it (hoechst, numbered); let only one match"
    none = given("hoechst-old/P1", "HT00421")
    assert str(none).startswith(f"no recipe is for plate HT00421 in {tmp_path}/hoechst-old/P1 (there is hoechst, numb")
    assert "empty.yaml" in str(none)


def test_plates_without_recipe_are_held_and_named(recipes: Path) -> None:
    from flows.recipes import read_recipes

    known, faults = read_recipes(recipes)
    looks = {root: look(Path(root)) for root in ("/w/HT0001", "/w/P1")}
    found = decided(looks, looks, recipes=known, faults=faults)
    assert found["/w/HT0001"][0] == "start"
    assert found["/w/P1"][0] == "hold"
    assert "no recipe is for plate P1 in /w/P1" in found["/w/P1"][1]


def test_recipe_of_the_service_is_an_assay_for_process_too(recipes: Path) -> None:
    from flows.recipes import read_recipes
    from hcs_nuclei.settings import load_settings

    assert load_settings(recipes / "hoechst.yaml").channel == "Hoechst"
    [everything], _ = read_recipes(None)
    assert everything.settings == load_settings()
    with pytest.raises(SettingsError, match="There is no directory of recipes"):
        read_recipes(recipes / "elsewhere")


def test_plates_are_found_at_any_depth_and_runs_are_none(plate: Path, tmp_path: Path) -> None:
    from flows.watching import find_plates

    watched = tmp_path / "watched"
    first = copied(plate, watched / "first")
    project = watched / "2026" / "project"
    second, third = (copied(plate, project / name) for name in ("second", "third"))
    copied(plate, watched / ".hidden")
    copied(plate, watched / "runs" / "HT0001")
    copied(plate, watched / "older" / "HT0001" / "plate")
    (watched / "older" / "HT0001" / "run.json").touch()
    (watched / "link").symlink_to(watched / "2026")
    (watched / "notes").mkdir()
    (watched / "notes" / "read me.txt").touch()

    def roots(*begun: Path) -> list[Path]:
        return [found.root for found in find_plates([watched], begun=begun, leave_out=[watched / "runs"])]

    assert roots() == sorted([first, second, third])
    assert roots(first, third) == [second]
    # A directory that holds one plate opens as that plate: it must not be found twice, nor hide a second one.
    shutil.rmtree(third)
    assert roots() == sorted([first, second])
    assert roots(first, second) == []
    copied(plate, project / "fourth")
    assert roots(first, second) == [project / "fourth"]
    [found] = find_plates([project], begun=[second])
    assert (found.root, found.plate) == (project / "fourth", "HT0001")
    assert find_plates([tmp_path / "not mounted"]) == []


def test_looks_of_two_passes_are_one_wait(plate: Path, tmp_path: Path) -> None:
    """What a look saw goes through the ledger to the next pass, which is another process."""
    from flows.ledger import Entry, look_from_plain, look_to_plain, open_ledger

    root = copied(plate, tmp_path / "plate")
    first = check_completeness(root, quiet=60, now=1000.0)
    assert first.state == "writing"
    with open_ledger(tmp_path / "state") as ledger:
        assert ledger is not None
        ledger.write(Entry(root=str(root), plate="HT0001", run="HT0001", state="writing", look=look_to_plain(first)))
    with open_ledger(tmp_path / "state") as ledger:
        assert ledger is not None
        kept = look_from_plain(ledger.entries[str(root)].look)
    assert kept == first
    assert check_completeness(root, kept, quiet=60, now=1059.0).state == "writing"
    assert check_completeness(root, kept, quiet=60, now=1060.0).state == "complete"
    assert look_from_plain({"written": "by another version"}) is None
    assert look_from_plain(None) is None


def test_ledger_has_one_owner_and_survives_what_it_cannot_read(tmp_path: Path) -> None:
    from flows.ledger import Entry, entry_name, open_ledger

    entry = Entry(root="/w/a plate/with: a name", plate="P1", run="P1", state="starting", attempt=2)
    with open_ledger(tmp_path) as ledger:
        assert ledger is not None
        ledger.write(entry)
        ledger.write(entry.model_copy(update={"root": "/w/other/with: a name"}))
        with open_ledger(tmp_path) as second:
            assert second is None
    folder = tmp_path / "ledger"
    names = [path.name for path in folder.glob("*.json")]
    assert len(names) == 2
    assert json.loads((folder / f"{entry_name(entry.root)}.json").read_text())["plate"] == "P1"
    (folder / "torn.json").write_text('{"root": "/w/b", "pla')
    (folder / f".tmp-{os.getpid()}.json").write_text("left by a killed watcher")
    with open_ledger(tmp_path) as ledger:
        assert ledger is not None
        assert sorted(ledger.entries) == ["/w/a plate/with: a name", "/w/other/with: a name"]
        ledger.drop(entry.root)
    assert not list(folder.glob(".tmp*"))
    with open_ledger(tmp_path) as ledger:
        assert ledger is not None
        assert list(ledger.entries) == ["/w/other/with: a name"]


def test_place_whose_plates_cannot_be_seen_is_named_and_one_that_is_empty_from_the_start_is_not(tmp_path: Path) -> None:
    from flows.watching import places_away

    watched, new, gone, odd = (tmp_path / name for name in ("watched", "new", "gone", "odd"))
    for folder in (watched, new):
        folder.mkdir()
    odd.write_text("a file where the drive should be")
    (watched / ".snapshot").mkdir()
    known = [watched / "2026" / "P1", watched / "2026" / "P2"]
    roots = [watched, new, gone, odd]
    assert places_away(roots, known) == {
        watched: "it is empty, and 2 plates were found in it before",
        gone: "it cannot be listed (No such file or directory)",
        odd: "it cannot be listed (Not a directory)",
    }
    known[0].mkdir(parents=True)
    assert places_away([watched, new], known) == {}
    # One that came back while plates were looked for had not been seen; what nobody knows plates in is passed over.
    unlisted = {watched: "stale", watched / "lost+found": "denied", known[1]: "denied"}
    assert places_away([watched], known, unlisted) == {watched: "stale", known[1]: "denied"}


def test_directory_that_may_not_be_read_is_no_directory_without_plates(plate: Path, tmp_path: Path) -> None:
    from flows.watching import find_plates

    watched = tmp_path / "watched"
    shut, seen = copied(plate, watched / "shut" / "P1").parent, copied(plate, watched / "open" / "P2")
    shut.chmod(0)
    try:
        if os.access(shut, os.R_OK):
            pytest.skip("this user may read everything")
        unlisted: dict[Path, str] = {}
        assert [found.root for found in find_plates([watched], unlisted=unlisted)] == [seen]
        assert unlisted == {shut: "it cannot be listed (Permission denied)"}
    finally:
        shut.chmod(0o755)


def test_directory_whose_name_is_no_text_is_held_by_a_name_that_can_be_told(plate: Path, tmp_path: Path) -> None:
    from flows.ledger import Entry, open_ledger
    from flows.recipes import read_recipes
    from flows.watching import decide, find_plates

    named = os.fsencode(tmp_path) + b"/watched/Platte_f\xfcr"
    shutil.copytree(os.fsencode(plate), named)
    copied(plate, tmp_path / "watched" / "good")
    bad, good = find_plates([tmp_path / "watched"])
    assert (bad.root.name, good.root.name) == (r"Platte_f\xfcr", "good")
    shutil.copytree(named, named + b"_2/a")  # two plates below a name that is none
    shutil.copytree(named, named + b"_2/b")
    assert [found.root.name for found in find_plates([tmp_path / "watched"])] == [
        bad.root.name,
        f"{bad.root.name}_2",
        "good",
    ]
    [held, _] = decide([bad, good], {}, read_recipes(None)[0], {})
    assert (held.action, held.reason) == ("hold", "its directory's name is not UTF-8; give it another name")
    with open_ledger(tmp_path) as ledger:
        assert ledger is not None
        ledger.write(Entry(root=str(bad.root), plate=bad.plate, run=bad.run, state="held", reason=held.reason))


def test_plate_that_is_found_anew_is_another_for_the_server() -> None:
    from flows.ledger import Entry, is_key

    first = Entry(root="/w/P1", plate="P1", run="P1", state="queued", found="2026-01-01T00:00:00+00:00", attempt=1)
    again = first.model_copy(update={"found": "2026-01-02T00:00:00+00:00"})
    elsewhere = first.model_copy(update={"run_dir": "/other/P1"})
    keys = {entry.key for entry in (first, again, elsewhere, first.model_copy(update={"attempt": 2}))}
    assert len(keys) == 4
    assert all(map(is_key, keys))
    assert first.key == first.model_copy(update={"state": "starting", "reason": "anything"}).key


def test_stops_of_the_service_use_up_no_attempt_of_a_plate() -> None:
    from flows.ledger import Entry
    from flows.service_runs import ATTEMPTS, STOPPED, again

    entry: Entry | None = Entry(root="/w/P1", plate="P1", run="P1", state="crashed", reason=STOPPED, attempt=1)
    for attempt in range(2, 9):
        assert entry is not None
        entry = again(entry)
        assert entry is not None
        assert (entry.state, entry.attempt, entry.stopped) == ("queued", attempt, attempt - 1)
        entry = entry.model_copy(update={"state": "crashed", "reason": STOPPED})
    crashes = 0
    entry = entry.model_copy(update={"reason": "killed"})
    while (entry := again(entry)) is not None:
        crashes += 1
        entry = entry.model_copy(update={"state": "crashed", "reason": "killed"})
    assert crashes == ATTEMPTS - 1


def test_directory_that_cannot_be_locked_is_no_directory_that_somebody_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from flows import ledger

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("flows.ledger.fcntl.flock", unknown)
    with ledger.open_ledger(tmp_path) as opened:
        assert opened is not None
    assert "cannot be locked (No locks available)" in caplog.text
