"""Passes of the watcher that do not end any more: who says it, how often, and that a service notices one that hangs."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from flow_server import Webhook
from test_flows_serve import serving
from waiting import until

#: A service that waits less than a quarter of an hour.
_MAIN = """import sys
from datetime import timedelta
from flows import silent_passes
from hcs_nuclei.cli import main
silent_passes.PATIENCE, silent_passes._INTERVALS = timedelta(seconds=60), 6
sys.exit(main())
"""


def test_passes_that_do_not_end_are_said_and_told_once_and_anew_after_they_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import silent_passes
    from flows.ledger import LAST_PASS
    from flows.silent_passes import PassWatch, passes_watched

    assert PassWatch(tmp_path, 60.0, "", print).patience == timedelta(minutes=15)
    assert PassWatch(tmp_path, 600.0, "", print).patience == timedelta(minutes=100)
    monkeypatch.setattr(silent_passes, "PATIENCE", timedelta(seconds=1))
    said: list[str] = []
    with Webhook() as webhook:
        (tmp_path / "notify.yaml").write_text(f"to: [{{webhook: '{webhook.url}'}}]\n")
        watch = PassWatch(tmp_path, 0.01, "http://127.0.0.1:1/api", said.append, look_s=0.05)
        webhook.status = 503
        with passes_watched(watch):
            until(lambda: len(said) == 2)
            assert said[0].startswith("Nobody looks for plates. No pass has ended well yet, none for ")
            assert said[1] == "The webhook number 1 of notify.yaml was not reached: status 503"
            webhook.status = 200
            until(lambda: webhook.got)
            (tmp_path / LAST_PASS).touch()
            until(lambda: len(webhook.got) == 2)
            time.sleep(0.5)
        assert [body["kind"] for _, body in webhook.got] == ["no_watcher"] * 2
        assert len(said) == 4
        assert said[2] == "Passes of the watcher end again."
        assert said[3].startswith("Nobody looks for plates. The last pass of watch-plates ended well at ")
        # Started again while the same pass is the last one, the service has told it.
        with passes_watched(watch):
            until(lambda: len(said) == 5)
            time.sleep(0.5)
        assert len(webhook.got) == 2


@pytest.mark.endurance
@pytest.mark.timeout(2400)
def test_service_tells_of_a_pass_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a recipe that is a pipe to which nobody writes: opening it ends never, as listing a drive that is away."""
    state = tmp_path / "service"
    (state / "recipes").mkdir(parents=True)
    monkeypatch.setattr("test_flows_serve._MAIN", _MAIN)
    with Webhook() as webhook:
        (state / "notify.yaml").write_text(f"to: [{{webhook: '{webhook.url}'}}]\n")
        with serving(tmp_path) as served:
            assert served.process.stdout is not None
            lines = iter(served.process.stdout.readline, "")
            assert any(line.startswith("Ctrl-C") for line in lines)
            until((state / "last-pass").exists)
            os.mkfifo(state / "recipes" / "pipe.yaml")
            assert any(line.startswith("Nobody looks for plates. ") for line in lines)
            until(lambda: webhook.got)
        kinds = [body["kind"] for _, body in webhook.got]
    assert kinds == ["no_watcher"]
