"""What is kept of runs beside their results: who began, ended, overwrote or judged them anew, with what, and why."""

from __future__ import annotations

import getpass
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pipeline_runs import FinishedRun, copied, results_of

from hcs_nuclei.audit import Entry, audit_path, read_audit
from hcs_nuclei.cli import main
from hcs_nuclei.errors import ChannelError, RunFailedError
from hcs_nuclei.metrics import METRICS_FILE, MetricsFile
from hcs_nuclei.pipeline import Progress, process_plate
from hcs_nuclei.settings import Settings, load_settings

_MAIN = "import sys; from hcs_nuclei.cli import main; sys.exit(main())"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(METRICS_FILE, str(tmp_path / "m.prom"))


def entries(what: str = "") -> list[Entry]:
    return [entry for entry in read_audit() if entry.what.startswith(what)]


def runs_counted(folder: Path) -> dict[str, float]:
    values = MetricsFile(folder / "m.prom").read()
    return {labels[0]: number for (name, labels), number in values.items() if name == "runs" and number}


def test_a_run_begins_and_ends(finished: FinishedRun, tmp_path: Path) -> None:
    out, run = copied(finished, tmp_path)
    process_plate(finished.plate, out, recipe="hoechst", reason="a look")

    begin, end = entries()
    assert (begin.what, end.what) == ("run.begin", "run.end")
    assert begin.subject == end.subject == run.name
    assert begin.who == end.who == getpass.getuser()
    record = json.loads((run / "run.json").read_text())
    model = f"{record['model']['name']} ({record['model']['identifier']})"
    assert begin.reason == "a look"
    assert begin.new == {
        "plate": "SIM-0001",
        "model": model,
        "recipe": "hoechst",
        "settings": record["settings_fingerprint"][:12],
        "wells": 0,
        "kept": 4,
        "run": str(run),
        "source": str(finished.plate),
    }
    assert end.reason == ""
    assert end.new.pop("seconds") >= 0
    assert end.new == {
        "state": "completed",
        "model": model,
        "made": 0,
        "wells": {"ok": 4},
        "fields": {"ok": 8},
        "nuclei": finished.result.nuclei,
    }
    assert runs_counted(tmp_path) == {"completed": 1}


def test_an_overwrite_says_what_was_there_and_a_second_attempt_which_wells(
    finished: FinishedRun, tmp_path: Path, opened: list[str]
) -> None:
    out, run = copied(finished, tmp_path)
    settings = load_settings(options={"segmentation": {"diameter_px": 22}}, environ={})
    process_plate(finished.plate, out, settings, overwrite=True, reason="22 px is right")

    (overwrite,) = entries("run.overwrite")
    before = json.loads((run / ".previous" / "run.json").read_text())
    now = json.loads((run / "run.json").read_text())
    model = f"{before['model']['name']} ({before['model']['identifier']})"
    assert overwrite.subject == run.name
    assert overwrite.reason == "22 px is right"
    assert overwrite.old == {
        "model": model,
        "settings": before["settings_fingerprint"][:12],
        "finished": before["finished"],
        "wells": {"ok": 4},
        "nuclei": finished.result.nuclei,
    }
    assert overwrite.new == {"model": model, "settings": now["settings_fingerprint"][:12]}

    process_plate(finished.plate, out, settings, retry_failed=True)
    assert entries("run.retry") == []  # no well had faults
    assert [entry.what for entry in entries("run.end")] == ["run.end"] * 2
    assert opened == ["local"]


def test_how_a_run_came_to_no_end_of_its_own(finished: FinishedRun, tmp_path: Path) -> None:
    out, run = copied(finished, tmp_path)

    def interrupt(progress: Progress) -> None:
        if progress.stage == "finish":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process_plate(finished.plate, out, on_progress=interrupt)
    (run / "fields.parquet").unlink()
    (run / "fields.parquet").mkdir()
    with pytest.raises(RunFailedError) as failed:
        process_plate(finished.plate, out)
    with pytest.raises(ChannelError):  # refused: nothing happened, so there is nothing to write down
        process_plate(finished.plate, out, Settings(channel="Cy5"))

    ends = entries("run.end")
    assert [(end.new["state"], end.reason) for end in ends] == [
        ("cancelled", ""),
        ("failed", " ".join(str(failed.value).split())),
    ]
    assert len(entries("run.begin")) == 2
    assert runs_counted(tmp_path) == {"cancelled": 1, "failed": 1, "refused": 1}


def test_exclusions_that_a_run_or_a_report_applies_changes_and_takes_back(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = copied(finished, tmp_path)
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("well,field,reason,who,when\nB02,,tip was blocked,A. Ruiz,2026-03-02\n")
    second.write_text("well,field,reason\nB02,1,bubble\n")
    process_plate(finished.plate, out, Settings(exclusions=str(first)))
    process_plate(finished.plate, out)  # they stay: no news
    assert main(["report", str(run), "--exclusions", str(second), "--reason", "only one field"]) == 0
    assert main(["report", str(run)]) == 0
    assert main(["report", str(run), "--exclusions", "none"]) == 0
    capsys.readouterr()

    applied, changed, back = entries("exclusions.change")
    assert applied.subject == changed.subject == back.subject == run.name
    assert applied.old is None
    assert applied.new["excluded"] == ["B02: tip was blocked (A. Ruiz, 2026-03-02)"]
    assert applied.new["file"] == str(first)
    assert changed.old == applied.new
    assert changed.new["excluded"] == ["B02 field 1: bubble"]
    assert changed.reason == "only one field"
    assert (back.old, back.new) == (changed.new, None)
    assert entries("run.remake") == []


def test_a_recipe_that_is_used_and_then_says_something_else(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = copied(finished, tmp_path)
    recipe = tmp_path / "hoechst.yaml"
    recipe.write_text("aggregation: {minimum_fields: 1}\n")
    command = ["process", str(finished.plate), "--out", str(out), "--assay", str(recipe), "--no-prefect"]
    assert main(command) == 0
    assert main([*command, "--qc", "none"]) == 0  # what comes on top is not the recipe's
    recipe.write_text("# both of them\naggregation:\n  minimum_fields: 1\n")
    assert main(command) == 0  # it says the same
    recipe.write_text("calls: {optics: widefield}\n")
    assert main(["report", str(run), "--assay", str(recipe)]) == 0
    capsys.readouterr()

    used, changed = entries("recipe.")
    assert (used.what, used.subject, used.old) == ("recipe.use", "hoechst", None)
    assert used.new == {"aggregation": {"minimum_fields": 1.0}}
    assert (changed.what, changed.subject, changed.old) == ("recipe.change", "hoechst", used.new)
    assert changed.new == {"calls": {"optics": "widefield"}}
    assert [entry.new["recipe"] for entry in entries("run.begin")] == ["hoechst"] * 3
    (remade,) = entries("run.remake")
    assert remade.old.keys() == remade.new.keys() == {"aggregation", "calls"}
    assert (remade.old["calls"]["optics"], remade.new["calls"]["optics"]) == ("auto", "widefield")


def test_a_log_and_metrics_that_cannot_be_written_cost_a_run_nothing_but_a_line(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out, run = copied(finished, tmp_path)
    before = results_of(run)
    audit_path().mkdir(parents=True)
    monkeypatch.setenv(METRICS_FILE, str(audit_path().parent))
    process_plate(finished.plate, out)

    assert results_of(run) == before
    told = [record.getMessage() for record in caplog.records if record.name == "hcs_nuclei.run"]
    assert told == [
        f"The audit log {audit_path()} cannot be written: Is a directory.",
        f"The metrics {audit_path().parent} cannot be written: Is a directory.",
    ]


def test_the_log_is_read_by_kind_run_user_and_time(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = copied(finished, tmp_path)
    process_plate(finished.plate, out, reason="first")
    process_plate(finished.plate, out, reason="second")

    def shown(*arguments: str) -> list[str]:
        assert main(["audit", *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    lines = shown()
    assert [line.split("  ")[2] for line in lines] == ["run.begin", "run.end"] * 2
    assert lines[0].startswith(f"{entries()[0].when}  {getpass.getuser()}@")
    assert lines[0].endswith('"first"')
    assert f"  {run.name}  state completed, " in lines[1]
    assert shown("--what", "run") == lines
    assert shown("--what", "run.end") == [lines[1], lines[3]]
    assert shown("--what", "ru") == shown("--who", "nobody-else") == shown("--about", "P2") == []
    assert shown("--about", run.name.lower()) == lines
    assert shown("--last", "1") == lines[-1:]
    assert shown("--since", "1h") == shown("--since", "2020-01-01") == lines
    assert shown("--since", "2100-01-01T00:00") == []
    assert json.loads("\n".join(shown("--last", "0", "--json", "-"))) == [entry.model_dump() for entry in entries()]
    assert main(["audit", "--since", "yesterday"]) == 2
    assert "'yesterday' is no time" in capsys.readouterr().err


def process_in_json(plate: Path, folder: Path, *options: str, **environ: str) -> subprocess.Popen[str]:
    """``process`` in a process of its own, as a service would start it; logs as JSON on stderr."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "HCS_NUCLEI_"))}
    command = ["process", str(plate), "--out", str(folder / "out"), "--workers", "1", "--no-prefect", *options]
    return subprocess.Popen(
        [sys.executable, "-c", _MAIN, *command, "--log-format", "json"],
        env={**kept, "HCS_NUCLEI_HOME": str(folder / "home"), METRICS_FILE: str(folder / "m.prom"), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_run_keeps_what_it_did_and_the_next_one_goes_on(finished: FinishedRun, tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "m.prom")
    secret = "planted-5up3r-s3cret"
    reason = f"as https://mia:{secret}@wiki says"
    with process_in_json(finished.plate, tmp_path, "--reason", reason, LIMS_TOKEN=secret) as killed:
        while not metrics.read().get(("wells", ())):
            assert killed.poll() is None
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        first = killed.stderr.read() if killed.stderr else ""
    done = int(metrics.read()["wells", ()])
    assert 1 <= done <= 4
    run = tmp_path / "out" / finished.run.name
    with process_in_json(finished.plate, tmp_path, LIMS_TOKEN=secret) as second:
        output, log = second.communicate(timeout=1000)

    assert second.returncode == 0
    assert output.splitlines() == [str(run)]
    assert results_of(run) == results_of(finished.run)
    begun, again = entries("run.begin")
    (end,) = entries("run.end")
    assert (begun.new["wells"], begun.new["kept"]) == (4, 0)
    assert again.new["kept"] == 4 - again.new["wells"] >= done
    assert end.new["made"] == again.new["wells"]
    values = metrics.read()
    assert (values["runs_started", ()], values["runs", ("completed",)]) == (2, 1)
    # A well that was finished while its run was killed may have been counted by nobody.
    assert done + end.new["made"] == values["wells", ()] <= 4

    told: list[dict[str, Any]] = [json.loads(line) for line in log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in told)
    # Python's own helper has a word to say when its parent is killed.
    assert {line["plate"] for line in map(json.loads, re.findall(r"^{.*}$", first, re.MULTILINE))} == {"SIM-0001"}
    wells = {line["well"]: line for line in told if line["logger"] == "hcs_nuclei.well"}
    assert len(wells) == end.new["made"]
    assert all((line["plate"], line["run"]) == ("SIM-0001", run.name) for line in told)
    everything = [first, log, audit_path().read_text(), (run / "run.json").read_text(), metrics.path.read_text()]
    assert not any(secret in text for text in everything)
