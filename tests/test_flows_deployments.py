"""``prefect.yaml`` deployed by Prefect's own command to a real server: limits, schedule, parameters read back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from flow_server import server

__all__ = ["server"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[1]


def _fields(schema: Mapping[str, Any]) -> set[str]:
    """What the form of a deployment asks for: the fields of the one model that its flow takes."""
    name = schema["properties"]["parameters"]["$ref"].rpartition("/")[2]
    return set(schema["definitions"][name]["properties"])


def test_prefect_yaml_deploys_flows_with_limits_and_a_schedule(server: str, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    with get_client(sync_client=True) as client:
        template = json.loads((ROOT / "deploy" / "prefect" / "work-pool.json").read_text())
        client.create_work_pool(WorkPoolCreate(name="plates", type="process", base_job_template=template))
        deployed = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
            cwd=tmp_path,
            env={**os.environ, "PREFECT_API_URL": server, "DO_NOT_TRACK": "1"},
            capture_output=True,
            text=True,
        )
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        found = {deployment.name: deployment for deployment in client.read_deployments()}
    assert set(found) == {"plates", "screen", "train", "watch", "digest"}
    limits = {
        name: (d.global_concurrency_limit.limit, d.concurrency_options.collision_strategy.value)
        for name, d in found.items()
    }
    enqueued = dict.fromkeys(["plates", "screen", "train", "digest"], (1, "ENQUEUE"))
    assert limits == {**enqueued, "watch": (1, "CANCEL_NEW")}
    assert {d.work_pool_name for d in found.values()} == {"plates"}
    assert [s.schedule.interval.total_seconds() for s in found["watch"].schedules] == [60]
    assert found["plates"].schedules == found["screen"].schedules == []
    [nightly] = found["digest"].schedules
    assert (nightly.schedule.cron, nightly.active) == ("0 7 * * *", False)
    from flows.mail_digest import MailDigestParameters

    MailDigestParameters.model_validate(found["digest"].parameters["parameters"])
    form = found["watch"].parameter_openapi_schema["definitions"]["WatchPlatesParameters"]
    assert form["required"] == ["roots", "out", "state"]
    assert set(found["watch"].parameters["parameters"]) <= set(form["properties"])
    from flows.parameters import WatchPlatesParameters

    WatchPlatesParameters.model_validate(found["watch"].parameters["parameters"])
    assert found["screen"].parameter_openapi_schema["definitions"]["ProcessScreenParameters"]["required"] == [
        "plates",
        "out",
    ]
    plate = {"out": "/data/runs", "cluster": "local"}
    assert found["plates"].parameters == {"parameters": plate}
    assert found["screen"].parameters == {"parameters": {**plate, "deployment": "process-plate/plates"}}
    # What compose and Kubernetes put their scheduler into: a run of any form would else work where the flow runs.
    for name, deployment in found.items():
        fields = _fields(deployment.parameter_openapi_schema)
        given = deployment.parameters["parameters"].get("cluster")
        assert given == ("local" if "cluster" in fields else None), name
    assert found["train"].parameters == {"parameters": {"cluster": "local"}}
    training = found["train"].parameter_openapi_schema["definitions"]["TrainModelParameters"]
    assert training["required"] == ["annotations", "frozen", "out"]
    # Flows come with the package, and what they may read and write is said to the worker, by nobody else.
    assert all(deployment.pull_steps == [] for deployment in found.values())
    assert all(deployment.job_variables == {} for deployment in found.values())


def test_worker_of_the_service_ends_when_its_parent_does_so_before_it_is_up(server: str, tmp_path: Path) -> None:
    places = {name: str(tmp_path / name) for name in ("out", "state")}
    reading, writing = os.pipe()
    with (
        subprocess.Popen(
            [sys.executable, "-m", "flows.service_worker"],
            stdin=subprocess.PIPE,
            env={**os.environ, "PREFECT_API_URL": server},
            pass_fds=[writing],
            start_new_session=True,
        ) as worker,
        os.fdopen(reading) as ready,
    ):
        os.close(writing)
        assert worker.stdin is not None
        watch = {"roots": [str(tmp_path)], **places}
        asked = {"watch": watch, "every": 60, "plates": 1, "own_server": False, "ready": writing, "ends_within": 60}
        worker.stdin.write(f"{json.dumps(asked)}\n".encode())
        worker.stdin.flush()
        assert ready.readline() == "ready\n"
        worker.stdin.close()
        assert worker.wait(120) == 0  # not -9: it was not killed, it stopped
