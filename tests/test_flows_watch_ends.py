"""What the watcher makes of the ends of its runs, on a real Prefect server: they are told, kept, or begun again."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flow_server import Webhook, server
from watched_service import Service, make_service

__all__ = ["server"]
#: A server that starts: seconds on an idle machine, minutes on a busy one.
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("server")]


@pytest.fixture
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Service:
    return make_service(tmp_path, request.node.name)


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
    run = FlowRun(flow_id=uuid4(), run_count=2, state=Running(timestamp=datetime.now(UTC)))
    assert why_lost(Server(), run, silent) is None  # type: ignore[arg-type]
    run.state = Running(timestamp=datetime.now(UTC) - timedelta(hours=3))
    assert "heartbeat stopped" in str(why_lost(Server(), run, silent))  # type: ignore[arg-type]


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
