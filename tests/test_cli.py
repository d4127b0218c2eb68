"""The commands as a shell sees them: exit status, what goes to stdout and stderr, what is written and what is not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from command_line import PROGRAM, Run, in_shell
from pipeline_runs import FinishedRun, changed, copied, files_of, hidden_in, other_model, results_of, snapshot
from test_public import HEAVY

from hcs_nuclei.models.card import read_card
from hcs_nuclei.models.store import SHIPPED
from hcs_nuclei.simulate import simulate_plate

pytestmark = pytest.mark.usefixtures("plain_surroundings")


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import resource, sys; from hcs_nuclei.cli import main; status = main(['--help']);"
        "used = resource.getrusage(resource.RUSAGE_SELF);"
        "print(status, used.ru_utime + used.ru_stime, *{name.partition('.')[0] for name in sys.modules},"
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, seconds, *modules = done.stderr.split()
    assert status == "0"
    assert set(modules) & HEAVY == set()
    assert float(seconds) < 2, "on a machine that does nothing else it is a quarter of that"
    for name in ("demo", "simulate", "inspect", "process", "report", "segment", "evaluate", "train", "models"):
        assert re.search(rf"│ {name} ", done.stdout), name


COMMANDS = ["demo", "simulate", "inspect", "process", "report", "segment", "evaluate", "train", "models", "benchmark"]


@pytest.mark.parametrize("command", [*COMMANDS, "models list", "models show"])
def test_every_command_explains_itself(command: str, run: Run) -> None:
    said = run(*command.split(), "--help")
    assert (said.status, said.err) == (0, "")
    assert f"Usage: hcs-nuclei {command}" in said.out


def test_no_command_is_the_help(run: Run) -> None:
    said = run()
    assert said.status == 2
    assert "process" in said.out + said.err


def test_a_finished_run_with_other_settings_is_said_and_left_alone(
    finished: FinishedRun, tmp_path: Path, run: Run
) -> None:
    out, _ = copied(finished, tmp_path)
    before = files_of(out)
    said = run("process", finished.plate, "--out", out, "--channel", "FITC", "--no-prefect")
    assert (said.status, said.out) == (2, "")
    differs = r"was made differently: settings differ \(channel: None before, 'FITC' now\).*--overwrite"
    assert re.search(differs, said.err)
    assert changed(before, files_of(out)) == set()


def test_a_second_start_says_so_and_its_directory(
    finished: FinishedRun, tmp_path: Path, opened: list[str], run: Run
) -> None:
    out, directory = copied(finished, tmp_path)
    before = files_of(out)
    said = run("process", finished.plate, "--out", out, "--no-prefect")
    assert (said.status, said.out) == (0, f"{directory}\n")
    assert "SIM-0001: all 4 wells are done" in said.err
    assert f"{finished.result.nuclei:,} nuclei in 4 wells (4 ok), 4 of them from before; 8 fields (8 ok)" in said.err
    assert f"report: {directory / 'report.html'}" in said.err
    assert changed(before, files_of(out)) == set()
    assert opened == []


def test_json_for_programs(finished: FinishedRun, tmp_path: Path, run: Run) -> None:
    out, directory = copied(finished, tmp_path)
    said = run("process", finished.plate, "--out", out, "--json", "-", "--no-prefect")
    (result,) = json.loads(said.out)
    assert result["run_dir"] == str(directory)
    assert (result["exit_status"], result["kept"], result["made"]) == (0, 4, 0)
    assert (result["nuclei"], result["fields_by_status"]) == (finished.result.nuclei, {"ok": 8})
    said = run("process", finished.plate, "--out", out, "--json", tmp_path / "result.json", "--no-prefect")
    assert said.out == f"{directory}\n"
    assert json.loads((tmp_path / "result.json").read_text())[0]["run_dir"] == str(directory)


def test_of_several_plates_the_worst_counts(finished: FinishedRun, tmp_path: Path, opened: list[str], run: Run) -> None:
    out, directory = copied(finished, tmp_path)
    other = simulate_plate(tmp_path, wells=1, size=64, name="SIM-0002").directory
    next(other.rglob("*_w1.TIF")).write_bytes(b"")
    said = run("process", other, finished.plate, "--out", out, "--no-prefect")
    assert said.status == 3
    assert said.out.splitlines() == [str(out / "SIM-0002__1001"), str(directory)]
    assert re.search(r"^  B02 field 1: unreadable - .*_B02_w1\.TIF is empty \(0 bytes\)", said.err, re.MULTILINE)
    assert opened == ["local"]


def test_inspect_describes_a_plate_and_writes_nothing(finished: FinishedRun, tmp_path: Path, run: Run) -> None:
    said = run("inspect", finished.plate)
    assert (said.status, said.err) == (0, "")
    for line in (
        "Plate        SIM-0001, acquisition 1001",
        "Channels     DAPI (w1); FITC (w2)",
        "Pixel size   0.65 µm",
        "Planes       16 of 16 expected from the instrument's metadata",
        " B  ·  ●  ●  ·",
    ):
        assert line in said.out
    said = run("inspect", finished.plate, "--json", "-")
    found = json.loads(said.out)
    assert (found["wells"], found["missing"], found["vendor"]) == (["B02", "B03", "C02", "C03"], [], "imagexpress")
    said = run("inspect", finished.plate, "--json", tmp_path / "plate.json")
    assert json.loads((tmp_path / "plate.json").read_text(encoding="utf-8")) == found
    assert "Plate        SIM-0001" in said.out
    assert snapshot(finished.plate) == finished.source_before


def test_inspect_says_which_treatments_and_barcode_a_run_would_have(tmp_path: Path, run: Run) -> None:
    made = simulate_plate(tmp_path, format="operetta", wells=2, size=64)
    said = run("inspect", made.directory)
    assert "Treatments   Assaylayout/SIM-0001.xml, in the plate's directory: Compound, Concentration of 2" in said.out
    (tmp_path / "screen.txt").write_text("SIM-0001\nSIM-0002\n")
    said = run("inspect", made.directory, "--layout", made.layout, "--barcodes", tmp_path / "screen.txt", "--json", "-")
    found = json.loads(said.out)
    assert (found["layout"]["source"], found["layout"]["origin"], found["layout"]["wells"]) == (
        str(made.layout),
        "file",
        2,
    )
    assert "Metadata_control_type" in found["layout"]["columns"]
    assert found["barcodes"] == {"list": str(tmp_path / "screen.txt"), "barcodes": 2, "known": True}
    (tmp_path / "screen.txt").write_text("SIM-0002\n")
    said = run("inspect", made.directory, "--layout", "none", "--barcodes", tmp_path / "screen.txt")
    assert said.status == 0
    assert "SIM-0001 is not on the list" in said.out
    for wrong in (("--layout", tmp_path / "no.csv"), ("--barcodes", tmp_path / "no.txt")):
        said = run("inspect", made.directory, *wrong)
        assert said.status == 2
        assert str(wrong[1]) in said.err


def test_inspect_refuses_what_is_no_plate(tmp_path: Path, run: Run) -> None:
    said = run("inspect", tmp_path)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("hcs-nuclei: ")


def test_inspect_stops_quietly_when_nobody_reads_on(finished: FinishedRun) -> None:
    command = f"set -o pipefail; {PROGRAM} inspect {finished.plate} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("Plate        SIM-0001, acquisition 1001", "")


def test_inspect_loads_nothing_heavy(finished: FinishedRun) -> None:
    code = (
        f"import sys; from hcs_nuclei.cli import main; main(['inspect', {str(finished.plate)!r}]);"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stderr.split()) & HEAVY == set()


def test_simulate_ends_with_the_plates_directory(tmp_path: Path, run: Run) -> None:
    said = run("simulate", "--out", tmp_path, "--format", "operetta", "--wells", 1, "--size", 64, "--name", "P7")
    assert said.status == 0
    plate = Path(said.out.splitlines()[-1])
    assert plate.parent == tmp_path
    assert "P7-truth" in said.err
    assert run("inspect", plate).status == 0
    again = run("simulate", "--out", tmp_path, "--format", "operetta", "--wells", 1, "--size", 64, "--name", "P7")
    assert again.status == 2
    assert "there already" in again.err
    assert run("simulate", "--out", tmp_path, "--format", "incucyte").status == 2


def test_report_makes_the_same_report_again(finished: FinishedRun, tmp_path: Path, run: Run) -> None:
    out, directory = copied(finished, tmp_path)
    (directory / "report.html").unlink()
    before = files_of(directory)
    said = run("report", out)
    assert (said.status, said.out) == (0, f"{directory / 'report.html'}\n")
    assert changed(before, files_of(directory)) == {"report.html"}
    assert (directory / "report.html").read_bytes() == (finished.run / "report.html").read_bytes()
    said = run("report", finished.plate)
    assert said.status == 2
    assert "holds no run" in said.err


def test_models_are_listed_and_shown(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path))
    other, shipped = read_card(other_model(tmp_path / "models" / "mine")), read_card(SHIPPED)
    said = run("models", "list")
    assert said.out.splitlines() == [
        f"{shipped.identifier}  {shipped.name}  (default)",
        f"{other.identifier}  other",
    ]
    listed = json.loads(run("models", "list", "--json", "-").out)
    assert [(row["id"], row["default"]) for row in listed] == [(shipped.identifier, True), (other.identifier, False)]
    assert json.loads(run("models", "show").out)["weights"] == shipped.weights.model_dump()
    assert json.loads(run("models", "show", "other").out)["weights"] == other.weights.model_dump()
    said = run("models", "show", "absent")
    assert said.status == 2
    assert "There is no model 'absent'" in said.err


def test_ctrl_c_keeps_what_is_finished_and_the_next_start_finishes_it(finished: FinishedRun, tmp_path: Path) -> None:
    out = tmp_path / "out"
    nuclei = out / finished.run.name / "nuclei"
    arguments = ("process", finished.plate, "--out", out, "--workers", 1, "--no-prefect")
    started = subprocess.Popen(
        [str(PROGRAM), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        while not list(nuclei.glob("[!.]*.parquet")):
            assert started.poll() is None, started.communicate()
            time.sleep(0.01)
        children = psutil.Process(started.pid).children(recursive=True)
        os.killpg(started.pid, signal.SIGINT)  # a terminal signals the whole group, workers too
        stdout, stderr = started.communicate(timeout=120)
    finally:
        started.kill()
    assert (started.returncode, stdout) == (130, ""), stderr
    assert stderr.splitlines()[-1].startswith("hcs-nuclei: stopped. What is finished is kept")
    assert "Traceback" not in stderr
    psutil.wait_procs(children, timeout=20)
    assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    done = len(list(nuclei.glob("[!.]*.parquet")))
    assert 1 <= done < 4

    said = in_shell(*arguments)
    assert (said.status, said.out) == (0, f"{out / finished.run.name}\n"), said.err
    assert f"SIM-0001: 4 wells, {done} of them done before; starting workers" in said.err
    # A clean run says these lines and nothing else: no warning, no chatter of a library.
    assert [
        re.sub(r"[\d,]+", "N", line) for line in said.err.splitlines() if not re.search(r"of \d+ wells, ", line)
    ] == [
        "SIM-N: N wellsN N of them done before; starting workers",
        "SIM-N: calibrated on a sample of its fields; processing wells",
        "SIM-N: checking tables and report",
        "SIM-N: N nuclei in N wells (N ok)N N of them from before; N fields (N ok)",
        re.sub(r"[\d,]+", "N", f"  report: {out / finished.run.name / 'report.html'}"),
    ]
    assert results_of(out / finished.run.name) == results_of(finished.run)
    assert hidden_in(out / finished.run.name) == []


def test_the_benchmark_says_how_long_each_stage_took(opened: list[str], run: Run, tmp_path: Path) -> None:
    said = run("benchmark", "--fields", 3, "--size", 128, "--json", tmp_path / "found.json")
    assert (said.status, opened) == (0, ["local"])
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["fields"], found["size_px"]) == (3, 128)
    assert all(found["seconds_a_field_in_workers"][stage] > 0 for stage in ("read", "network", "measure", "write"))
    assert sum(found["seconds"][stage] for stage in ("prepare", "cluster", "calibrate", "wells", "finish")) == (
        pytest.approx(found["seconds"]["all"], rel=0.3, abs=0.5)
    )
    assert said.out.startswith(f"3 fields of 128 px, {found['nuclei']:,} nuclei, ")
    assert run("benchmark", "--json", tmp_path).status == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_says_where_its_report_is_and_can_be_started_again(tmp_path: Path) -> None:
    said = in_shell("demo", "--out", tmp_path / "demo", timeout=500)
    assert said.status == 0, said.err
    report = re.search(r"The report, to open in a browser: +(.*)", said.err)
    assert report is not None
    assert Path(report[1]).is_file()
    before = files_of(tmp_path / "demo")
    assert in_shell("demo", "--out", tmp_path / "demo").status == 0
    assert changed(before, files_of(tmp_path / "demo")) == set()
