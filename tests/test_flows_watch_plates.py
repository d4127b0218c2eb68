"""The watcher on a real Prefect server that runs nothing: which runs are asked for, and what is made of their ends."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
import tifffile
from flow_server import Webhook, server

from hcs_nuclei.audit import read_audit
from hcs_nuclei.errors import ClusterError, SettingsError
from hcs_nuclei.simulate import simulate_plate

__all__ = ["server"]
#: A server that starts: seconds on an idle machine, minutes on a busy one.
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("server")]


class Service:
    """Watched directories, their service directory, and the runs that the server has of the deployment."""

    def __init__(self, folder: Path, deployment: str) -> None:
        self.watched, self.out, self.state = (folder / name for name in ("watched", "runs", "state"))
        for place in (self.watched, self.out, self.state):
            place.mkdir()
        self.deployment = deployment

    def plate(self, name: str, **shape: int) -> Path:
        return simulate_plate(self.watched, **{"wells": 2, "size": 64, **shape}, name=name).directory

    def look(self, **others: Any) -> str:
        from flows.parameters import WatchPlatesParameters
        from flows.watch_plates import watch_plates

        places = {"roots": [self.watched], "out": self.out, "state": self.state}
        given = {**{k: list(map(str, v)) if isinstance(v, list) else str(v) for k, v in places.items()}, **others}
        given = {"quiet": 0, "deployment": f"process-plate/{self.deployment}", **given}
        return watch_plates(WatchPlatesParameters.model_validate(given))

    @property
    def entries(self) -> dict[str, Any]:
        from flows.ledger import open_ledger

        with open_ledger(self.state) as ledger:
            assert ledger is not None
            return {entry.plate: entry for entry in ledger.entries.values()}

    @property
    def runs(self) -> list[Any]:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import DeploymentFilter

        with get_client(sync_client=True) as client:
            this = DeploymentFilter.model_validate({"name": {"any_": [self.deployment]}})
            return sorted(client.read_flow_runs(deployment_filter=this), key=lambda run: run.created)

    def end(self, entry: Any, state: Any) -> None:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(entry.flow_run), state, force=True)


@pytest.fixture
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Service:
    from flows.process_plate import process_plate

    name = request.node.name.replace("_", "-")
    process_plate.to_deployment(name).apply()
    return Service(tmp_path, name)


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


def test_ends_of_runs_are_kept_and_what_was_ended_from_outside_is_begun_again(service: Service) -> None:
    from prefect.states import Cancelled, Completed, Crashed, Failed, Running

    from flows.endings import QUARANTINED

    for name in ("Done", "Faults", "Wrong", "Ended", "Stopped", "Killed"):
        service.plate(name, wells=1)
    service.look()
    entries = service.entries
    service.end(entries["Done"], Completed(message="all well"))
    service.end(entries["Faults"], Completed(name=QUARANTINED, message="B03"))
    service.end(entries["Wrong"], Failed(message="no channel Cy5"))
    service.end(entries["Ended"], Cancelled(message="by somebody"))
    service.end(entries["Stopped"], Cancelled(message="Runner is shutting down."))
    service.end(entries["Killed"], Crashed(message="killed"))
    assert service.look() == "2 begun, 1 completed, 1 quarantined, 1 failed, 1 cancelled"
    found = {name: (entry.state, entry.reason) for name, entry in service.entries.items()}
    assert found["Faults"] == ("quarantined", "B03")
    assert found["Wrong"] == ("failed", "no channel Cy5")
    assert found["Ended"] == ("cancelled", "by somebody")
    assert len(service.runs) == 8
    for name in ("Stopped", "Killed"):
        assert service.entries[name].attempt == 2
        assert service.entries[name].parameters == entries[name].parameters

    # Somebody runs the cancelled one again; the killed one dies whenever it is run.
    service.end(entries["Ended"], Running())
    for _ in range(3):
        service.end(service.entries["Killed"], Crashed(message="killed again"))
        said = service.look()
    assert said == "2 begun, 1 completed, 1 quarantined, 1 failed, 1 crashed"
    assert service.entries["Killed"].attempt == 3
    assert len(service.runs) == 9


def test_failed_and_silent_runs_are_told_once_and_a_silent_one_gives_its_place_free(service: Service) -> None:
    from prefect.states import Failed, Running

    with Webhook() as webhook:
        (service.state / "notify.yaml").write_text(f"to: [{{webhook: '{webhook.url}'}}]\nstale_minutes: 10\n")
        for name in ("Wrong", "Silent", "Alive"):
            service.plate(name, wells=1)
        service.look()
        entries = service.entries
        service.end(entries["Wrong"], Failed(message="no channel Cy5"))
        for name, minutes in (("Silent", 20), ("Alive", 5)):
            service.end(entries[name], Running())
            _beat(entries[name], minutes=minutes)
        end = time.monotonic() + 60  # the server keeps events some seconds before they can be asked for
        while service.entries["Silent"].attempt == 1 and time.monotonic() < end:
            service.look()
        service.look()
        assert service.entries["Silent"].attempt == 2
        assert service.entries["Alive"].attempt == 1
        states = {str(run.id): run.state.type.value for run in service.runs}
        assert states[entries["Silent"].flow_run] == "CRASHED"
        assert states[entries["Alive"].flow_run] == "RUNNING"
    told = sorted((body["kind"], body["plate"]) for _, body in webhook.got)
    assert told == [("failed", "Wrong"), ("heartbeat", "Silent")]
    page = (service.state / "status.html").read_text()
    assert "no channel Cy5" in page


def test_cancelled_run_whose_process_is_gone_ends_as_cancelled_and_is_not_begun_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.states import Cancelled, Cancelling, Crashed, Running

    from flows import heartbeats
    from flows.service_worker import end_orphans

    for name in ("Silent", "Beating", "Never", "Automation", "Stopped", "Left", "Again"):
        service.plate(name, wells=1)
    service.look()
    entries = service.entries
    for name in entries:
        service.end(entries[name], Running())
        service.end(entries[name], Cancelling())
    (service.state / "notify.yaml").write_text("stale_minutes: 10\n")
    _beat(entries["Silent"], minutes=20)
    _beat(entries["Beating"], minutes=5)
    # Ended by who does not ask what it was.
    service.end(entries["Automation"], Crashed(message="The run's heartbeat stopped"))
    service.end(entries["Stopped"], Cancelled(message="Runner is shutting down."))
    service.end(entries["Again"], Running())
    service.end(entries["Again"], Crashed(message="killed"))
    end = time.monotonic() + 60  # the server keeps events some seconds before they can be asked for
    while service.entries["Silent"].state == "begun" and time.monotonic() < end:
        service.look()
    found = service.entries
    assert {name for name in found if found[name].state == "cancelled"} == {"Silent", "Automation", "Stopped"}
    assert found["Silent"].reason.startswith("The run's heartbeat stopped at ")
    assert [(found[name].state, found[name].reason) for name in ("Beating", "Never", "Left")] == [
        ("begun", "cancelling")
    ] * 3
    assert found["Again"].attempt == 2  # it was run again after it had been cancelled

    # One without any heartbeat had ten minutes for its end.
    monkeypatch.setattr(heartbeats, "STARTS_WITHIN", timedelta())
    (service.state / "notify.yaml").write_text("stale_minutes: 0.001\n")
    service.end(entries["Left"], Running())
    service.look()
    assert service.entries["Never"].state == "cancelled"
    assert service.entries["Left"].state == "begun"

    service.end(entries["Left"], Cancelling())
    service.end(found["Again"], Running())
    end_orphans()
    service.look()
    assert service.entries["Left"].state == "cancelled"
    assert service.entries["Again"].attempt == 3
    states = {str(run.id): run.state.type.value for run in service.runs}
    cancelled = {"Silent", "Never", "Left", "Stopped"}
    assert {states[entries[name].flow_run] for name in cancelled} == {"CANCELLED"}
    assert len(service.runs) == 7 + 2


def _beat(entry: Any, *, minutes: float) -> None:
    """The server gets a heartbeat of the plate's run of so many minutes ago."""
    from prefect.client.orchestration import get_client

    beat = {
        "id": str(uuid4()),
        "event": "prefect.flow-run.heartbeat",
        "occurred": (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(),
        "resource": {"prefect.resource.id": f"prefect.flow-run.{entry.flow_run}"},
    }
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[beat])


def test_runs_that_no_watcher_began_are_told_once_when_they_fail(service: Service) -> None:
    from prefect.client.orchestration import get_client
    from prefect.deployments import run_deployment
    from prefect.states import Cancelled, Completed, Crashed, Failed, Running

    from flows.process_plate import process_plate
    from flows.process_screen import process_screen
    from flows.train_model import train_model

    tags = ["hcs-nuclei"]
    process_plate.to_deployment(service.deployment, tags=tags).apply()
    for made in (process_screen, train_model):
        made.to_deployment(service.deployment, tags=tags).apply()
    train_model.to_deployment("other").apply()

    def begin(flow: str, name: str, deployment: str = service.deployment, **given: Any) -> Any:
        return run_deployment(
            f"{flow}/{deployment}", parameters={"parameters": given}, flow_run_name=name, timeout=0, as_subflow=False
        )

    def end(run: Any, state: Any) -> None:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run.id, Running(), force=True)
            client.set_flow_run_state(run.id, state, force=True)

    with Webhook() as webhook:
        (service.state / "notify.yaml").write_text(f"to: [{{webhook: '{webhook.url}'}}]\n")
        before = begin("train-model", "before", out="/o", annotations=["/d"], frozen=["/f"])
        end(before, Failed(message="long ago"))
        time.sleep(0.1)
        service.plate("P1", wells=1)
        service.look()  # since when it is told
        training = begin("train-model", "train-m", out="/o", annotations=["/d"], frozen=["/f"])
        end(training, Failed(message="no images"))
        end(begin("process-screen", "screen-HT1", out="/o", plates=["/w/HT1"]), Crashed(message="killed"))
        end(begin("process-plate", "process-HT2", out="/o", plate="/w/HT2"), Failed(message="no channel Cy5"))
        end(begin("process-plate", "process-HT3", out="/o", plate="/w/HT3"), Cancelled(message="by somebody"))
        end(begin("process-plate", "process-HT4", out="/o", plate="/w/HT4"), Completed())
        end(
            begin("train-model", "no tag", "other", out="/o", annotations=["/d"], frozen=["/f"]),
            Failed(message="somebody else's"),
        )
        for _ in range(3):  # each attempt of a watched plate is told of as such
            service.end(service.entries["P1"], Crashed(message="killed"))
            service.look()
        told = sorted((body["title"], body["kind"], body["root"], body["text"]) for _, body in webhook.got)
        plate = service.entries["P1"].root
        assert told == [
            *[("Plate P1 was ended from outside", "crashed", plate, "killed")] * 3,
            ("process-HT2 failed", "failed", "/w/HT2", "no channel Cy5"),
            ("screen-HT1 was ended from outside", "crashed", "", "killed"),
            ("train-m failed", "failed", "", "no images"),
        ]
        # Run again in the web page, it is another failure.
        end(training, Failed(message="no images again"))
        service.look()
        assert [body["text"] for _, body in webhook.got][6:] == ["no images again"]


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


def test_plate_that_the_server_refuses_is_held_and_holds_up_no_other(service: Service) -> None:
    from flows.ledger import open_ledger

    bad, good = service.plate("Bad"), service.plate("Good")
    assert service.look(quiet=600) == "2 writing"
    with open_ledger(service.state) as ledger:
        assert ledger is not None
        # As another version of the program would have asked for it.
        asked = {"state": "starting", "attempt": 1, "parameters": {"plate": str(bad), "cores": 7}}
        ledger.write(ledger.entries[str(bad)].model_copy(update=asked))
    said = service.look()
    assert said.startswith(f"1 held, 1 begun. Held: {bad}: Prefect's server made no run of {bad} (4")
    assert service.entries["Good"].state == "begun"
    assert (service.state / "last-pass").exists()
    # It is looked at anew, and gets what this version asks for.
    assert service.look() == "2 begun"
    assert [run.name for run in service.runs] == [f"process-{good.name}", f"process-{bad.name}"]


def test_plate_that_is_taken_from_the_ledger_is_new(service: Service) -> None:
    from prefect.states import Failed

    service.plate("P1")
    service.look()
    service.end(service.entries["P1"], Failed(message="no channel"))
    service.look()
    [file] = (service.state / "ledger").glob("[!.]*.json")
    file.unlink()
    time.sleep(1.1)  # when a plate was found is kept to the second
    service.look()
    assert service.look() == "1 begun"
    assert len(service.runs) == 2


def test_run_that_was_begun_again_is_not_ended_by_its_former_heartbeat() -> None:
    from prefect.client.schemas.objects import FlowRun
    from prefect.states import Running

    from flows.heartbeats import why_lost

    class Server:
        """What the server knows: a heartbeat of two hours ago."""

        def request(self, *_: object, **__: object) -> Any:
            occurred = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
            return type("Answer", (), {"json": lambda _: {"events": [{"occurred": occurred}]}})()

    silent = timedelta(minutes=3)
    run = FlowRun(flow_id=uuid4(), state=Running(timestamp=datetime.now(UTC)))
    assert why_lost(Server(), run, silent) is None  # type: ignore[arg-type]
    run.state = Running(timestamp=datetime.now(UTC) - timedelta(hours=3))
    assert "heartbeat stopped" in str(why_lost(Server(), run, silent))  # type: ignore[arg-type]
