"""A screen on a real Prefect server that runs nothing: which runs it asks for, what it makes of their ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from flow_server import server

from hcs_nuclei.errors import ClusterError

__all__ = ["server"]
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("server")]


@pytest.fixture
def deployment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of plates, two at a time."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig

    from flows.process_plate import process_plate

    monkeypatch.setattr("flows.side_by_side._ASK_AGAIN_S", 0.1)
    name = request.node.name.replace("_", "-")[:60]
    process_plate.to_deployment(name, concurrency_limit=ConcurrencyLimitConfig(limit=2)).apply()
    return f"process-plate/{name}"


class Worker:
    """What a worker does to the runs of a deployment, as far as the server sees it: `play` gives each its states."""

    def __init__(self, deployment: str, play: Callable[[str, list[str]], Any]) -> None:
        self._name, self._play = deployment.partition("/")[2], play
        #: Names of the runs that were under way, at each look.
        self.seen: list[list[str]] = []
        self.begun: list[str] = []

    def look(self) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import DeploymentFilter

        with get_client(sync_client=True) as client:
            this = DeploymentFilter.model_validate({"name": {"any_": [self._name]}})
            runs = sorted(client.read_flow_runs(deployment_filter=this), key=lambda run: run.created)
            self.begun = [run.name for run in runs]
            alive = [run for run in runs if not run.state.is_final()]
            self.seen.append([run.name for run in alive])
            for run in alive:
                for state in self._play(run.name, self.seen[-1]) or ():
                    client.set_flow_run_state(run.id, state, force=True)

    @contextmanager
    def working(self) -> Iterator[None]:
        over = Event()

        def work() -> None:
            while not over.wait(0.3):
                self.look()

        thread = Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def screen(deployment: str, *plates: str, **others: Any) -> Any:
    """The state in which a screen of these plates ends."""
    from flows.parameters import ProcessScreenParameters
    from flows.process_screen import process_screen

    given = {"plates": [f"/data/{plate}" for plate in plates], "out": "/data/runs", "deployment": deployment, **others}
    return process_screen(ProcessScreenParameters.model_validate(given), return_state=True)


def test_plates_are_begun_in_order_as_there_is_room_and_no_end_stops_the_others(deployment: str) -> None:
    from prefect.states import Completed, Crashed, Failed, Running

    from flows.endings import QUARANTINED

    ends = {
        "process-A": Failed(message="no channel"),
        "process-B": Completed(name=QUARANTINED, message="B03"),
        "process-C": Crashed(message="killed"),
        "process-D": Completed(message="96 ok"),
    }
    running: set[str] = set()

    def play(run: str, alive: list[str]) -> Any:
        if run not in running and alive.index(run) < 2:
            running.add(run)
            return [Running()]
        # Two at a time, and a third one that waits for its place, until there are none left.
        if run in running and alive[0] == run and (len(alive) == 3 or len(worker.begun) == 4):
            return [ends[run]]
        return []

    worker = Worker(deployment, play)
    with worker.working():
        state = screen(deployment, "A", "B", "C", "D")
    assert worker.begun == ["process-A", "process-B", "process-C", "process-D"]
    assert max(map(len, worker.seen)) == 3
    assert (state.type.value, state.name) == ("FAILED", "Failed")
    assert state.message.startswith("1 Failed, 1 CompletedWithQuarantinedWells, 1 Crashed, 1 Completed. ")
    assert "/data/A: no channel" in state.message
    assert "/data/C: killed" in state.message


def test_no_more_plates_at_a_time_than_asked_for_and_a_lost_one_is_ended(deployment: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.states import Completed, Running

    lost = [Running()]  # once: a run that is begun again has another heartbeat to come

    def play(run: str, _: list[str]) -> Any:
        if run == "process-Lost":
            beat_long_ago(run)
            return [lost.pop()] if lost else []
        return [Running(), Completed(message="ok")]

    def beat_long_ago(name: str) -> None:
        with get_client(sync_client=True) as client:
            [run] = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({"name": {"any_": [name]}}))
            beat = {
                "id": str(uuid4()),
                "event": "prefect.flow-run.heartbeat",
                "occurred": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time.time() - 1200))}Z",
                "resource": {"prefect.resource.id": f"prefect.flow-run.{run.id}"},
            }
            client.request("POST", "/events", json=[beat])

    worker = Worker(deployment, play)
    with worker.working():
        state = screen(deployment, "Lost", "E", "F", at_once=1)
    assert worker.begun == ["process-Lost", "process-E", "process-F"]
    assert max(map(len, worker.seen)) == 1
    assert state.message.startswith("1 Crashed, 2 Completed. /data/Lost: The run's heartbeat stopped at ")


def test_screen_that_is_stopped_stops_its_plates(deployment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.side_by_side.time", SimpleNamespace(sleep=stop))
    assert screen(deployment, "A", "B", "C").name == "Cancelled"
    with get_client(sync_client=True) as client:
        this = DeploymentFilter.model_validate({"name": {"any_": [deployment.partition("/")[2]]}})
        runs = client.read_flow_runs(deployment_filter=this)
    # No process had begun, so there is none that has to be waited for.
    assert {run.name: run.state.type.value for run in runs} == {f"process-{name}": "CANCELLED" for name in "AB"}


def test_deployment_that_is_not_there_is_named() -> None:
    with pytest.raises(ClusterError, match=r"no deployment process-plate/none\. Start hcs-nuclei serve"):
        screen("process-plate/none", "A").result()
    with pytest.raises(ValueError, match="Name that, or leave out both"):
        screen("", "A", at_once=2)


def test_plates_and_trainings_take_turns_under_the_limit_that_somebody_made() -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

    from flows.sharing import SHARED_LIMIT, place_on_machine

    @flow
    def work() -> int:
        with place_on_machine(), get_client(sync_client=True) as client:
            try:
                return int(client.read_global_concurrency_limit_by_name(SHARED_LIMIT).active_slots)
            except Exception:
                return -1

    assert work() == -1
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=SHARED_LIMIT, limit=1))
        assert work() == 1
        limit = client.read_global_concurrency_limit_by_name(SHARED_LIMIT)
        assert limit.active_slots == 0
        client.delete_global_concurrency_limit_by_name(SHARED_LIMIT)


def test_screen_that_is_run_again_goes_on_with_what_is_well_and_begins_the_rest_anew(deployment: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Failed

    from flows.parameters import ProcessPlateParameters
    from flows.side_by_side import _run_of

    keys = [f"screen-{(whole := uuid4())}", f"screen2-{whole}", f"screen3-{whole}"]
    given = ProcessPlateParameters(plate="/data/A", out="/data/runs")

    with get_client(sync_client=True) as client:

        def ask(times: int, number: int = 0) -> Any:
            return _run_of(client, given, deployment, [f"{key}-{number}" for key in keys[:times]])

        first = ask(1)
        assert ask(1) == ask(2) == first, "it is under way"
        client.set_flow_run_state(first, Failed(message="no channel"), force=True)
        assert ask(1) == first
        second = ask(2)
        assert second != first
        assert ask(3) == second, "it is under way"
        client.set_flow_run_state(second, Completed(), force=True)
        assert ask(3) == second
        assert ask(3, number=1) not in {first, second}


def test_server_that_is_away_for_a_while_costs_a_screen_nothing(
    deployment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.states import Completed

    away, read = [0], SyncPrefectClient.read_flow_run

    def sometimes(self: Any, flow_run_id: Any) -> Any:
        away[0] += 1
        if 3 <= away[0] < 9:
            raise httpx.ConnectError("All connection attempts failed")
        return read(self, flow_run_id)

    worker = Worker(deployment, lambda name, alive: [Completed()] if away[0] > 12 else [])
    monkeypatch.setattr("flows.side_by_side.SyncPrefectClient.read_flow_run", sometimes)
    with worker.working():
        state = screen(deployment, "A", "B")
    assert state.name == "Completed"
    assert worker.begun == ["process-A", "process-B"]
