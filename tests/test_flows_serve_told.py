"""Who is told what by a service as its users start it: real processes on loopback, and a webhook that listens."""

from __future__ import annotations

import shutil
import signal
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from flow_server import Webhook
from test_flows_serve import serving
from waiting import until

from hcs_nuclei.simulate import simulate_plate

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(2400)]
#: Of the plate whose worker is killed: what is left then takes a while.
_WELLS = 36


def test_failure_quarantine_killed_worker_and_night_without_plates_are_each_told_once(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = tmp_path_factory.mktemp("made")
    plates = {
        name: simulate_plate(made, wells=wells, fields=2, size=192, name=name, format=vendor).directory
        for name, wells, vendor in (
            ("Wrong", 1, "imagexpress"),
            ("Faulty", 2, "operetta"),
            ("Killed", _WELLS, "imagexpress"),
            ("Next", 1, "imagexpress"),
            ("Also", 1, "imagexpress"),
        )
    }
    image = sorted(plates["Faulty"].rglob("*.tiff"))[0]
    content = bytearray(image.read_bytes())
    content[2000:4000] = b"\xff" * 2000  # of the same size, with the same tags
    image.write_bytes(content)
    state = tmp_path / "service"
    (state / "recipes").mkdir(parents=True)
    (state / "recipes" / "wrong.yaml").write_text("channel: Cy9\nmatch: {barcode: Wrong}\n")
    (state / "recipes" / "others.yaml").write_text("match: {barcode: Faulty|Killed|Next|Also}\n")
    # The last deadline was an hour ago, and the service is older.
    (state / "told").mkdir()
    (state / "told" / "since").write_text((datetime.now(UTC) - timedelta(days=3)).isoformat())
    deadline = f"{datetime.now(UTC) - timedelta(hours=1):%H:%M}"
    with Webhook() as webhook:
        to = f"to: [{{webhook: '{webhook.url}'}}]"
        (state / "notify.yaml").write_text(f"{to}\ntime_zone: UTC\nfinished_by: '{deadline}'\n")
        with serving(tmp_path) as served:
            for name in plates:
                shutil.copytree(plates[name], served.watched / plates[name].name)
                until(lambda name=name: name in served.ledger())  # type: ignore[misc]
            until(lambda: len(served.wells("Killed")) >= 1, seconds=1200)
            [worker] = [p for p in served.family if "flows.service_worker" in p.cmdline()]
            done = served.wells("Killed")
            worker.kill()
            killed = datetime.now(UTC)
            until(lambda: served.runs_of(plates["Killed"])[0]["state_type"] == "CRASHED")
            ended = datetime.now(UTC)
            until(lambda: set(served.ledger().values()) == {"failed", "quarantined", "completed"}, seconds=1200)
            [_, again] = served.runs_of(plates["Killed"])
            # The next plates were not held up, and came in their order; what was killed went on where it was.
            turns = [served.run_of(plates["Next"]), served.run_of(plates["Also"]), again]
            assert all(one["end_time"] <= next_one["start_time"] for one, next_one in pairwise(turns))
            finished = served.wells("Killed")
            assert len(finished) == _WELLS
            assert {name: finished[name] for name in done} == done
            until(lambda: len(webhook.got) >= 4)
            served.process.send_signal(signal.SIGINT)
            served.process.communicate(timeout=120)
    print(f"ended {(ended - killed).total_seconds():.0f} s after its worker was killed")
    told = sorted((body["kind"], body["plate"]) for _, body in webhook.got)
    assert told == [("crashed", "Killed"), ("failed", "Wrong"), ("none_finished", ""), ("quarantined", "Faulty")]
