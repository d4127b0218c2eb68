"""The process of the service that runs flows: a line of JSON on standard input in, deployments that are served out.

``python -m`` runs this, as the leader of a process group. It ends in order when its standard input is closed, so it
does not outlive whoever started it, and so do the runs that it began; what does not end in time is killed, this process
included.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from threading import Thread, Timer
from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from flows.heartbeats import end_lost
from flows.mail_digest import mail_digest
from flows.notify_settings import Mail, Notify, read_notify
from flows.outages import outlast_outages
from flows.parameters import WatchPlatesParameters
from flows.process_plate import process_plate
from flows.process_screen import process_screen
from flows.train_model import train_model
from flows.watch_plates import watch_plates
from hcs_nuclei.errors import SettingsError

#: Where the configuration is passed on; here, since both ends have to agree.
Configuration = dict[str, Any]
_POLL_S = 5.0
_UP_YET_S = 0.1
_ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)


def deployments(watch: WatchPlatesParameters, every: timedelta, plates: int) -> list[RunnerDeployment]:
    """What is served: plates, at most so many at once; screens, trainings and the watcher, one of each at a time.

    And the mail of each night, where ``notify.yaml`` asks for it. The forms begin with what the watcher's own runs are
    given: output directory and cluster. The plates of a screen are runs of the deployment of plates, so all that are
    processed at once count against one limit.
    """
    passes: dict[str, Any] = {"parameters": watch.model_dump(mode="json")}
    notify = _notify(Path(watch.state))
    cluster = watch.model_dump(mode="json", include={"cluster", "workers"})
    plate = {"out": str(Path(watch.out).absolute()), **cluster}
    screen = {**plate, "deployment": watch.deployment}
    one = ConcurrencyLimitConfig(limit=1)
    return [
        _deployment(
            process_plate,
            "plates",
            parameters={"parameters": plate},
            concurrency_limit=ConcurrencyLimitConfig(limit=plates),
        ),
        _deployment(process_screen, "screen", parameters={"parameters": screen}, concurrency_limit=one),
        _deployment(train_model, "train", parameters={"parameters": cluster}, concurrency_limit=one),
        _deployment(
            watch_plates, "watch", parameters=passes, interval=every, concurrency_limit=_ONE_AT_A_TIME, paused=False
        ),
        *([_digest(watch.state, notify, notify.mail)] if notify.mail else []),
    ]


def _notify(state: Path) -> Notify:
    """Who is told; a mistake in that is said by each pass, and stops nothing."""
    try:
        return read_notify(state)
    except SettingsError:
        return Notify()


def _digest(state: str, notify: Notify, mail: Mail) -> RunnerDeployment:
    hour, minute = mail.at.split(":")
    schedule = Cron(f"{int(minute)} {int(hour)} * * *", timezone=notify.zone_name)
    given = {"parameters": {"state": state}}
    return _deployment(mail_digest, "digest", parameters=given, schedule=schedule, paused=False)


def _deployment(flow: Flow[Any, Any], name: str, **others: Any) -> RunnerDeployment:
    made = flow.to_deployment(name, entrypoint_type=EntrypointType.MODULE_PATH, tags=["hcs-nuclei"], **others)
    assert isinstance(made, RunnerDeployment)
    return made


def end_orphans() -> None:
    """End the runs that a former worker of this server left running: it was the only one, and it is gone.

    What somebody had cancelled is cancelled, and not begun again.
    """
    with get_client(sync_client=True) as client:
        alive = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}})
        for run in client.read_flow_runs(flow_run_filter=alive):
            if run.deployment_id is None and run.parent_task_run_id is None:
                continue  # somebody's own, at a shell
            end_lost(client, run, "The service was ended from outside while this ran.")


def main() -> None:
    """Serve until standard input is closed, or this process is told to end."""
    configuration: Configuration = json.loads(sys.stdin.readline())
    if configuration["own_server"]:
        end_orphans()
    watch = WatchPlatesParameters.model_validate(configuration["watch"])
    # At each poll it says again which runs wait their turn.
    logging.getLogger("prefect.runner.state_proposer").setLevel(logging.WARNING)
    outlast_outages()
    # Without a limit of its own, which is five: the deployments have theirs, and passes must not wait for plates.
    runner = Runner(name="hcs-nuclei", query_seconds=_POLL_S, pause_on_shutdown=True, limit=None)
    for deployment in deployments(watch, timedelta(seconds=configuration["every"]), configuration["plates"]):
        runner.add_deployment(deployment)
    with os.fdopen(configuration["ready"], "w") as ready:
        ready.write("ready\n")
    asyncio.run(_serve(runner, configuration["ends_within"]))


async def _serve(runner: Runner, ends_within: float) -> None:
    loop = asyncio.get_running_loop()

    def end_with_parent() -> None:
        sys.stdin.read()
        # Where the server went with the parent, the runner asks it for minutes to pause the schedules.
        deadline = Timer(ends_within, os.killpg, [os.getpgrp(), signal.SIGKILL])
        deadline.daemon = True
        deadline.start()
        while not runner.started:  # a runner that is not up yet refuses to stop, and would run for ever
            time.sleep(_UP_YET_S)
        # Not by SIGTERM, whose handler in Prefect 3.8 forgets to wait for the runs that it stops.
        asyncio.run_coroutine_threadsafe(runner.astop(), loop)

    Thread(target=end_with_parent, daemon=True).start()
    await runner.start()


if __name__ == "__main__":
    main()
