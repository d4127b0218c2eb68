"""Automations on a Prefect server that runs as a process of its own, with a webhook that listens on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
from flow_server import Webhook
from topology import has_postgres, started_postgres
from waiting import until

from hcs_nuclei.errors import NotAPlateError, SettingsError
from hcs_nuclei.simulate import simulate_plate

pytestmark = [
    pytest.mark.endurance,
    pytest.mark.timeout(2400),
    pytest.mark.postgres,
    pytest.mark.skipif(not has_postgres(), reason="PostgreSQL is not installed"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server as ``prefect server start`` makes it, with the services that act on events.

    On SQLite a busy machine makes it handle an event twice ("database is locked"), and a shared one has PostgreSQL.
    """
    folder = tmp_path_factory.mktemp("server")
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_HOME,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
        temporary_settings,
    )

    from flows.server import server_process

    with ExitStack() as stack:
        environ = {
            **os.environ,
            "PREFECT_HOME": str(folder),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": stack.enter_context(started_postgres(folder)),
            "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
            "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
            "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
        }
        stack.enter_context(temporary_settings({PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 300}))
        url = stack.enter_context(server_process(environ, folder / "server.log")).url
        stack.enter_context(temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: folder}))
        yield url


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as made:
        yield made


def ends_of(states: dict[str, Any]) -> dict[str, UUID]:
    """Runs of the deployment of plates that ended so, by the plates' names."""
    from prefect.client.orchestration import get_client

    from flows.process_plate import process_plate

    deployment = process_plate.to_deployment("plates", tags=["hcs-nuclei"]).apply()
    runs = {}
    with get_client(sync_client=True) as client:
        for plate, state in states.items():
            given = {"parameters": {"plate": f"/data/{plate}", "out": "/data/runs"}}
            run = client.create_flow_run_from_deployment(deployment, parameters=given, name=f"process-{plate}")
            client.set_flow_run_state(run.id, state, force=True)
            runs[plate] = run.id
    return runs


def test_each_end_is_told_once_to_each_place_whatever_was_set_before(server: str, webhook: Webhook) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Crashed, Failed

    from flows.automations import PREFIX, remove_automations, set_automations
    from flows.endings import QUARANTINED
    from flows.notify_settings import Notify
    from flows.notifying import Message, root_missing
    from flows.plate_events import emit_message

    CustomWebhookNotificationBlock(
        name="own", url=f"{webhook.url}/block", json_data={"subject": "{{subject}}", "body": "{{body}}"}
    ).save("own", overwrite=True)
    places = [{"webhook": f"{webhook.url}/hook"}, {"slack": f"{webhook.url}/slack"}, {"teams": f"{webhook.url}/teams"}]
    said: list[str] = []
    set_automations(Notify.model_validate({"to": places[:1]}), said.append)
    notify = Notify.model_validate({"to": [*places, {"block": "custom-webhook/own"}], "watch_silent_minutes": 0.5})
    for _ in range(2):
        set_automations(notify, said.append)
    assert len(said) == 3 * 9
    with get_client(sync_client=True) as client:
        assert sorted(one.name for one in client.read_automations()) == sorted(set(said))

    reason = "no channel \"Cy5\" <here> & 'there'\nnor \\ elsewhere"
    runs = ends_of(
        {
            "Wrong": Failed(message=reason),
            "Killed": Crashed(message="Process exited with status code: -9"),
            "Faults": Completed(name=QUARANTINED, message="B03"),
            "Well": Completed(message="96 ok"),
        }
    )
    emit_message(Message(key="held:/data/P", kind="held", title="Plate P is held", text="no recipe", plate="P"))
    emit_message(Message(key="none:x", kind="none_finished", title="No plate was finished by 06:00 UTC", text="None"))
    emit_message(root_missing(Path("/data"), "it cannot be listed (Stale file handle)", "2026-11-28T22:00:00+00:00"))

    def got(path: str) -> list[dict[str, Any]]:
        return [body for to, body in webhook.got if to == path]

    paths = ("/hook", "/slack", "/teams", "/block")
    until(lambda: all(len(got(path)) >= 6 for path in paths))
    time.sleep(5)  # what would come twice comes now
    kinds = sorted(body["kind"] for body in got("/hook"))
    assert kinds == ["crashed", "failed", "held", "none_finished", "quarantined", "root_missing"]
    assert {path: len(got(path)) for path in paths} == dict.fromkeys(paths, 6)
    told = {body["kind"]: body for body in got("/hook")}
    assert {name: told["failed"][name] for name in ("title", "text", "plate", "root", "flow_run", "run_dir")} == {
        "title": "process-Wrong failed",
        "text": reason,
        "plate": "Wrong",
        "root": "/data/Wrong",
        "flow_run": str(runs["Wrong"]),
        "run_dir": "",
    }
    assert datetime.fromisoformat(told["failed"]["time"]).tzinfo is not None
    assert told["held"]["title"] == "Plate P is held"
    assert (told["root_missing"]["title"], told["root_missing"]["root"]) == (
        "Watched directory /data is missing",
        "/data",
    )
    assert {"text": f"process-Wrong failed\n{reason}"} in got("/slack")
    cards = [body["attachments"][0]["content"]["body"] for body in got("/teams")]
    assert ["process-Faults is finished, with quarantined wells", "B03"] in [[b["text"] for b in c] for c in cards]
    assert {"subject": "process-Wrong failed", "body": reason} in got("/block")

    remove_automations(said.append)
    with get_client(sync_client=True) as client:
        assert not [one for one in client.read_automations() if one.name.startswith(PREFIX)]
        assert client.read_block_documents_by_type("webhook") == []
        assert len(client.read_block_documents_by_type("custom-webhook")) == 1


def test_run_that_is_lost_is_ended_and_a_watcher_that_is_gone_is_told(
    server: str, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Pending, Running

    from flows.automations import remove_automations, set_automations
    from flows.heartbeats import why_lost
    from flows.notify_settings import Notify
    from flows.watch_plates import watch_plates

    monkeypatch.setattr("flows.automations.STARTS_WITHIN", timedelta(seconds=15))
    monkeypatch.setattr("flows.heartbeats.STARTS_WITHIN", timedelta(0))
    soon = {"stale_minutes": 0.25, "watch_silent_minutes": 0.25}
    set_automations(Notify.model_validate({"to": [{"webhook": webhook.url}], **soon}), lambda _: None)
    runs = ends_of({"Silent": Running(), "Stuck": Pending(), "Finished": Running()})
    given = {"parameters": {"roots": ["/data"], "out": "/data/runs", "state": "/data/service"}}
    watcher = watch_plates.to_deployment("watch", tags=["hcs-nuclei"], parameters=given).apply()
    with get_client(sync_client=True) as client:
        assert "has not started" in (why_lost(client, client.read_flow_run(runs["Stuck"]), timedelta(0)) or "")
        for plate in ("Silent", "Finished"):
            beat = {
                "id": str(uuid4()),
                "event": "prefect.flow-run.heartbeat",
                "occurred": datetime.now(UTC).isoformat(),
                "resource": {"prefect.resource.id": f"prefect.flow-run.{runs[plate]}"},
                "related": [{"prefect.resource.id": "prefect.tag.hcs-nuclei", "prefect.resource.role": "tag"}],
            }
            client.request("POST", "/events", json=[beat])
        client.set_flow_run_state(runs["Finished"], Completed(), force=True)
        look = client.create_flow_run_from_deployment(watcher)
        client.set_flow_run_state(look.id, Completed(), force=True)
        until(lambda: len(webhook.got) >= 3)
        time.sleep(20)  # none is told again, though it is as silent as before
        states = {plate: client.read_flow_run(run).state_type.value for plate, run in runs.items()}
    assert states == {"Silent": "CRASHED", "Stuck": "CRASHED", "Finished": "COMPLETED"}
    told = [(body["kind"], body["plate"]) for _, body in webhook.got]
    assert sorted(told) == [("heartbeat", "Silent"), ("heartbeat", "Stuck"), ("no_watcher", "")]
    remove_automations(lambda _: None)


def test_end_of_a_plate_is_an_event_that_says_which_plate_and_why(server: str, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.events.worker import EventsWorker

    from flows.parameters import ProcessPlateParameters
    from flows.process_plate import process_plate

    given = ProcessPlateParameters(plate=str(tmp_path / "Plate 7"), out=str(tmp_path / "runs"))
    with pytest.raises(NotAPlateError) as reason:
        process_plate(given)
    EventsWorker.drain_all(timeout=60)
    asked = {"filter": {"event": {"prefix": ["hcs-nuclei.plate."]}, "resource": {"id": ["hcs-nuclei.plate.Plate 7"]}}}
    found: list[dict[str, Any]] = []
    with get_client(sync_client=True) as client:
        until(lambda: found.extend(client.request("POST", "/events/filter", json=asked).json()["events"]) or found)
    [event] = found
    assert event["event"] == "hcs-nuclei.plate.failed"
    assert {name: event["payload"][name] for name in ("plate", "root", "out")} == {
        "plate": "Plate 7",
        "root": given.plate,
        "out": given.out,
    }
    assert event["payload"]["text"] == " ".join(str(reason.value).split())
    related = {one["prefect.resource.role"]: one for one in event["related"]}
    assert related["flow"]["prefect.resource.name"] == "process-plate"
    assert related["flow-run"]["prefect.resource.id"].endswith(event["payload"]["flow_run"])


def test_command_sets_and_removes_and_asks_for_a_server(server: str, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client

    (tmp_path / "notify.yaml").write_text("to: [{webhook: 'http://127.0.0.1:9/secret'}]\nfinished_by: '06:00'\n")

    def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        main = "import sys; from hcs_nuclei.cli import main; sys.exit(main())"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environ = {**kept, "PREFECT_HOME": str(tmp_path / "home"), **environ}
        command = [sys.executable, "-c", main, "automations", *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True)

    named = {"PREFECT_API_URL": server}
    with get_client(sync_client=True) as client:
        done = run("--notify", str(tmp_path / "notify.yaml"), **named)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(done.stdout.splitlines()) == sorted(f"set  {one.name}" for one in client.read_automations())
        # Without anybody to tell, runs that are lost are ended all the same.
        assert run(**named).stdout.count("\n") == len(client.read_automations()) == 2
        done = run("--remove", **named)
        assert (done.returncode, done.stdout.count("removed  ")) == (0, 2)
        assert client.read_automations() == []
    assert "secret" not in done.stdout
    done = run()
    assert done.returncode == 2
    assert "Set PREFECT_API_URL" in done.stderr


def test_place_that_is_not_known_is_refused_before_anything_is_set(server: str) -> None:
    from prefect.client.orchestration import get_client

    from flows.automations import set_automations
    from flows.notify_settings import Notify

    for place, message in ({"slack": "$NOT_SET"}, "names a variable"), ({"block": "slack-webhook/no"}, "has no block"):
        with pytest.raises(SettingsError, match=message):
            set_automations(Notify.model_validate({"to": [place]}), print)
    with get_client(sync_client=True) as client:
        assert client.read_automations() == []


def test_machine_that_goes_away_is_told_once_and_does_not_hold_up_the_next_plate(
    server: str, webhook: Webhook, tmp_path: Path
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.types.entrypoint import EntrypointType

    from flows.automations import remove_automations, set_automations
    from flows.notify_settings import Notify
    from flows.process_plate import process_plate

    # As stale_minutes: 1.5 has it, which is three heartbeats of 30 s.
    set_automations(Notify.model_validate({"to": [{"webhook": webhook.url}], "stale_minutes": 1.5}), lambda _: None)
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="plates", type="process"))
    module = {"entrypoint_type": EntrypointType.MODULE_PATH, "work_pool_name": "plates"}
    deployment = process_plate.to_deployment("shared", tags=["hcs-nuclei"], concurrency_limit=1, **module).apply()
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_API_URL": server,
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "HCS_NUCLEI_ALLOWED_ROOTS": str(tmp_path),
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "plates", "--limit", "1"]
    plates = {
        name: simulate_plate(tmp_path, wells=wells, fields=4, size=256, name=name).directory
        for name, wells in (("First", 8), ("Second", 1))
    }

    def begin(name: str) -> UUID:
        given = {"plate": str(plates[name]), "out": str(tmp_path / "runs"), "workers": 1}
        with get_client(sync_client=True) as client:
            return client.create_flow_run_from_deployment(
                deployment, parameters={"parameters": given}, name=f"process-{name}"
            ).id

    def state(run: UUID) -> str:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(run).state_type.value

    def heartbeats(run: UUID) -> list[Any]:
        about = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
        with get_client(sync_client=True) as client:
            return list(client.request("POST", "/events/filter", json={"filter": about}).json()["events"])

    with (tmp_path / "worker.log").open("wb") as log, ExitStack() as stack:
        workers = []
        for _ in range(2):
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=tmp_path)
            stack.callback(process.wait)
            stack.callback(end_family, process)
            workers.append(process)
        first = begin("First")
        until(lambda: state(first) == "RUNNING")
        [holder] = [worker for worker in workers if psutil.Process(worker.pid).children()]
        second = begin("Second")
        until(lambda: heartbeats(first))
        killed = datetime.now(UTC)
        end_family(holder)
        until(lambda: state(first) == "CRASHED")
        ended = datetime.now(UTC)
        until(lambda: state(second) == "COMPLETED")
        print(f"ended {(ended - killed).total_seconds():.0f} s after it was killed")
    told = [(body["kind"], body["title"], body["text"], body["flow_run"]) for _, body in webhook.got]
    assert [(kind, run) for kind, _, _, run in told] == [("heartbeat", str(first))], told
    remove_automations(lambda _: None)


def end_family(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started at once, as when its machine loses power."""
    if process.poll() is not None:
        return
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()
    psutil.wait_procs(family, timeout=60)
