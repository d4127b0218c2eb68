"""The watcher on a real Prefect server that runs nothing: which runs are asked for, and what is made of their ends."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from flow_server import Webhook, server
from watched_service import Service, make_service

from hcs_nuclei.audit import read_audit
from hcs_nuclei.errors import ClusterError, SettingsError

__all__ = ["server"]
#: A server that starts: seconds on an idle machine, minutes on a busy one.
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("server")]


@pytest.fixture
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Service:
    return make_service(tmp_path, request.node.name)


def test_new_complete_plate_is_begun_once_with_its_recipe(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path / "home"))
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "assay.yaml").write_text("channel: DAPI\nmodel: pinned\nmatch: {barcode: 'HT.*'}\n")
    assert service.look(recipes=str(recipes)) == "no plate yet"
    plate, other = service.plate("HT1"), service.plate("P1")

    said = service.look(recipes=str(recipes), workers=1)
    assert said.startswith("1 held, 1 begun. Held: ")
    assert f"{other}: no recipe is for plate P1" in said
    [run] = service.runs
    assert run.name == f"process-{plate.name}"
    given = run.parameters["parameters"]
    assert (given["plate"], given["out"], given["workers"]) == (str(plate), str(service.out), 1)
    assert (given["settings"]["channel"], given["settings"]["model"]) == ("DAPI", "pinned")
    assert given["recipe"] == "assay"
    [used] = read_audit()
    assert (used.what, used.subject, used.new) == ("recipe.use", "assay", {"channel": "DAPI", "model": "pinned"})
    assert service.entries["HT1"].run_dir == str(service.out / service.entries["HT1"].run)

    # A recipe that changes does not begin it again, and one that comes begins the other.
    (recipes / "assay.yaml").write_text("channel: FITC\nmatch: {barcode: 'HT.*'}\n")
    (recipes / "new.yaml").write_text(f"match: {{roots: ['{service.watched}'], barcode: P1}}\n")
    assert service.look(recipes=str(recipes)) == "2 begun"
    assert service.look(recipes=str(recipes)) == "2 begun"
    assert len(service.runs) == 2


def test_plate_of_plain_files_is_begun_with_the_pattern_of_its_recipe(service: Service, tmp_path: Path) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    pattern = r"(?P<well>[A-H]\d{2})_(?P<channel>\w+)\.tif$"
    (recipes / "plain.yaml").write_text(f"pattern: '{pattern}'\nmatch: {{roots: ['{service.watched}']}}\n")
    plate = service.watched / "P1"
    plate.mkdir()
    for well in ("B02", "B03"):
        tifffile.imwrite(plate / f"{well}_DAPI.tif", np.full((32, 32), 100, np.uint16))
    assert service.look(recipes=str(recipes)) == "1 begun"
    [run] = service.runs
    given = run.parameters["parameters"]
    assert (given["plate"], given["settings"]["pattern"]) == (str(plate), pattern)
    assert service.entries["P1"].run == "P1"


def test_plate_that_is_copied_waits_and_one_that_stays_incomplete_is_held(service: Service) -> None:
    plate = service.plate("P1")
    [image] = plate.rglob("*_B03_w2*.[tT][iI][fF]")
    kept = image.rename(service.state / image.name)
    assert service.look(quiet=0.2) == "1 writing"
    time.sleep(1.2)
    said = service.look(quiet=0.2)
    assert said.startswith(f"1 held. Held: {plate}: nothing changes any more")
    assert "1 planes are missing" in said
    kept.rename(image)
    assert service.look(quiet=0.2) == "1 writing"
    time.sleep(0.3)
    assert service.look(quiet=0.2) == "1 begun"

    # A plate that goes away before it was begun is forgotten.
    shutil.copytree(plate, service.watched / "copy" / plate.name)
    assert service.look(quiet=0.2).startswith("1 held, 1 begun. Held: ")
    shutil.rmtree(service.watched / "copy")
    assert service.look(quiet=0.2) == "1 begun"


def test_oldest_complete_plate_is_begun_first_and_one_waits_at_most(service: Service) -> None:
    from prefect.states import Completed, Crashed, Pending, Running, Scheduled

    from flows.process_plate import process_plate

    process_plate.to_deployment(service.deployment, concurrency_limit=2).apply()
    # In another order than their names have.
    names = ["D", "B", "E", "A", "C"]
    for name in names:
        service.plate(name, wells=1)
        service.look(quiet=0.05)
        time.sleep(0.1)

    def begun() -> list[str]:
        return [run.name.removeprefix("process-")[:1] for run in service.runs]

    until_quiet = time.monotonic() + 60
    while (said := service.look(quiet=0.05)) != "3 queued, 2 begun" and time.monotonic() < until_quiet:
        time.sleep(0.1)
    assert said == "3 queued, 2 begun"  # both places are free
    assert sorted(begun()) == ["B", "D"]
    assert service.look() == "3 queued, 2 begun"
    service.end(service.entries["D"], Running())
    assert service.look() == "3 queued, 2 begun"  # the other place is free, and somebody waits for it
    service.end(service.entries["B"], Pending())
    assert service.look() == "2 queued, 3 begun"
    service.end(service.entries["E"], Scheduled(name="AwaitingConcurrencySlot"))
    assert service.look() == "2 queued, 3 begun"
    assert begun()[2:] == ["E"]
    service.end(service.entries["D"], Completed())
    assert service.look() == "2 queued, 2 begun, 1 completed"  # one waits for the free place already
    service.end(service.entries["E"], Running())
    # One that takes its worker with it does not hold up the others.
    service.end(service.entries["B"], Crashed(message="killed"))
    assert service.look() == "2 queued, 2 begun, 1 completed"
    assert begun()[3:] == ["A"]
    page = (service.state / "status.html").read_text()
    assert "number 2 in the queue; is begun again: killed" in page
    # What goes while it is queued is forgotten when its turn comes.
    service.end(service.entries["A"], Completed())
    shutil.rmtree(service.entries["C"].root)
    assert service.look() == "2 begun, 2 completed"
    assert begun()[4:] == ["B"]


def test_plate_and_recipe_may_change_while_it_is_queued(service: Service, tmp_path: Path) -> None:
    from prefect.states import Completed, Running

    from flows.process_plate import process_plate

    process_plate.to_deployment(service.deployment, concurrency_limit=1).apply()
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "all.yaml").write_text("channel: DAPI\nmatch: {barcode: '.*'}\n")
    for name in ("P1", "P2", "P3", "P4"):
        service.plate(name, wells=1)
        service.look(recipes=str(recipes))
    assert service.look(recipes=str(recipes)) == "3 queued, 1 begun"
    service.end(service.entries["P1"], Running())
    (recipes / "all.yaml").write_text("channel: FITC\nmatch: {barcode: 'P[123]'}\n")
    next(Path(service.entries["P2"].root).rglob("*_w1*.[tT][iI][fF]")).unlink()
    assert service.look(recipes=str(recipes)) == "1 writing, 1 queued, 2 begun"
    found = service.entries
    assert found["P2"].state != "begun"
    assert found["P3"].parameters["settings"]["channel"] == "FITC"
    service.end(found["P1"], Completed())
    service.end(found["P3"], Completed())
    service.look(recipes=str(recipes))
    assert service.entries["P4"].state == "held"
    assert "no recipe is for plate P4" in service.entries["P4"].reason


def test_watcher_that_dies_between_ledger_and_server_makes_no_second_run(service: Service) -> None:
    from flows.ledger import open_ledger

    service.plate("P1")
    service.look()
    begun = service.entries["P1"]
    with open_ledger(service.state) as ledger:
        assert ledger is not None
        assert service.look() == "Another pass has not ended yet."
        ledger.write(begun.model_copy(update={"state": "starting", "flow_run": ""}))
    assert service.look() == "1 begun"
    assert service.entries["P1"].flow_run == begun.flow_run
    assert len(service.runs) == 1


def test_watched_directory_that_goes_away_is_told_once_each_time_and_its_plates_are_kept(service: Service) -> None:
    from prefect.states import Running

    from flows.process_plate import process_plate

    process_plate.to_deployment(service.deployment, concurrency_limit=1).apply()
    drive = service.watched.with_name("drive")
    with Webhook() as webhook:
        (service.state / "notify.yaml").write_text(f"to: [{{webhook: '{webhook.url}'}}]\n")
        for name in ("A", "B"):
            service.plate(name, wells=1)
            service.look()
        service.plate("C", wells=1)
        service.end(service.entries["A"], Running())
        service.look()
        part = service.plate("Part")
        next(part.rglob("*_B03_w2*.[tT][iI][fF]")).unlink()
        assert service.look(quiet=0.2) == "1 writing, 1 queued, 2 begun"
        before = service.entries
        assert "missing" not in (service.state / "status.html").read_text()

        # The drive is not mounted: its place is gone, or is there without a file in it.
        service.watched.rename(drive)
        why = "it cannot be listed (No such file or directory)"
        for _ in range(2):
            said = service.look(quiet=0.2)
            assert said == f"1 writing, 1 queued, 2 begun. Missing: {service.watched}: {why}"
        assert service.entries == before
        assert f"Watched directory {service.watched} is missing: {why}." in (service.state / "status.html").read_text()
        service.watched.mkdir()
        assert "it is empty, and 4 plates were found in it before" in service.look(quiet=0.2)
        # When there is room, too, none is begun that is not there.
        process_plate.to_deployment(service.deployment, concurrency_limit=4).apply()
        service.look(quiet=0.2)
        assert service.entries == before
        service.watched.rmdir()
        drive.rename(service.watched)
        time.sleep(0.3)
        assert service.look(quiet=0.2).startswith("1 held, 3 begun")
        assert "missing: " not in (service.state / "status.html").read_text()
        told = [(body["kind"], body["root"]) for _, body in webhook.got if body["kind"] != "held"]
        assert told == [("root_missing", str(service.watched))]
        assert webhook.got[0][1]["title"] == f"Watched directory {service.watched} is missing"

        service.watched.rename(drive)
        service.look()
        service.look()
        assert [body["kind"] for _, body in webhook.got if body["kind"] != "held"] == ["root_missing"] * 2


def test_server_without_the_deployment_is_said(service: Service) -> None:
    service.plate("P1", wells=1)
    with pytest.raises(ClusterError, match="no deployment process-plate/other"):
        service.look(deployment="process-plate/other")
    assert service.entries["P1"].state == "queued"
    assert service.look() == "1 begun"


def test_watcher_stays_within_the_allowed_roots(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCS_NUCLEI_ALLOWED_ROOTS", f"{service.watched}:{service.out}")
    with pytest.raises(SettingsError, match=r"Service directory .* lies outside"):
        service.look()


def test_plate_that_the_server_refuses_is_held_and_holds_up_no_other(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import watch_plates as watching
    from flows.process_plate import process_plate

    # One place, which a plate that is refused must not take; and one that is asked for as by another version.
    process_plate.to_deployment(service.deployment, concurrency_limit=1).apply()
    starting = watching._starting

    def spoilt(this: Any, entry: Any) -> Any:
        made = starting(this, entry)
        wrong = made is not None and made.plate == "Bad"
        return made.model_copy(update={"parameters": {**made.parameters, "cores": 7}}) if wrong else made

    bad = service.plate("Bad")
    assert service.look(quiet=0.2) == "1 writing"
    good = service.plate("Good")
    time.sleep(0.3)
    with monkeypatch.context() as patch:
        patch.setattr(watching, "_starting", spoilt)
        assert service.look(quiet=0.2).startswith("1 writing, 1 held. ")
        time.sleep(0.3)
        said = service.look(quiet=0.2)
        assert said.startswith(f"1 held, 1 begun. Held: {bad}: Prefect's server made no run of {bad} (4"), said
    assert (service.state / "last-pass").exists()
    # It is looked at anew, and gets what this version asks for.
    service.end(service.entries["Good"], _completed())
    assert service.look(quiet=0.2) == "1 begun, 1 completed"
    assert [run.name for run in service.runs] == [f"process-{good.name}", f"process-{bad.name}"]


def _completed() -> Any:
    from prefect.states import Completed

    return Completed(message="all well")
