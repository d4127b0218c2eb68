"""The commands as a shell sees them: exit status, what goes to stdout and stderr, what is written and what is not."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import psutil
import pytest
import tifffile
from pipeline_runs import FinishedRun, changed, copied, files_of, hidden_in, other_model, results_of, snapshot
from test_public import HEAVY

from hcs_nuclei.cli import main
from hcs_nuclei.models.card import read_card
from hcs_nuclei.models.store import SHIPPED
from hcs_nuclei.simulate import simulate_plate

PROGRAM = Path(sys.executable).with_name("hcs-nuclei")


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting, model store or Prefect server of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(("HCS_NUCLEI_", "PREFECT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path_factory.getbasetemp() / "no-models"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path_factory.getbasetemp() / "no-prefect"))


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process."""

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Said(status, *capsys.readouterr())

    return call


def in_shell(*arguments: object, timeout: float = 280, **environ: str) -> Said:
    """Run a command as its own process, as a shell does."""
    command = [str(PROGRAM), *(str(argument) for argument in arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environ}, timeout=timeout, check=False
    )
    return Said(done.returncode, done.stdout, done.stderr)


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


@dataclass(frozen=True)
class Scene:
    """What the wrong calls are made with: a finished run's plate, and a directory that must stay as it is."""

    plate: Path
    folder: Path
    out: Path


def no_plate(scene: Scene) -> Sequence[object]:
    (scene.folder / "notes").mkdir()
    (scene.folder / "notes" / "readme.txt").write_text("no images here")
    return "process", scene.folder / "notes", "--out", scene.out


def empty_directory(scene: Scene) -> Sequence[object]:
    (scene.folder / "empty").mkdir()
    return "process", scene.folder / "empty", "--out", scene.out


def absent_directory(scene: Scene) -> Sequence[object]:
    return "process", scene.folder / "absent", "--out", scene.out


def a_file(scene: Scene) -> Sequence[object]:
    return "process", next(scene.plate.rglob("*.TIF")), "--out", scene.out


def no_such_channel(scene: Scene) -> Sequence[object]:
    return "process", scene.plate, "--out", scene.out, "--channel", "Cy5"


def ambiguous_channel(scene: Scene) -> Sequence[object]:
    plate = simulate_plate(scene.folder, format="cellomics", wells=1, size=64).directory
    return "process", plate, "--out", scene.out


def output_is_a_file(scene: Scene) -> Sequence[object]:
    scene.out.write_text("mine")
    return "process", scene.plate, "--out", scene.out


def output_in_the_plate(scene: Scene) -> Sequence[object]:
    plate = shutil.copytree(scene.plate, scene.folder / scene.plate.name)
    return "process", plate, "--out", plate / "TimePoint_1" / "out"


def recipe_is_not_there(scene: Scene) -> Sequence[object]:
    return "process", scene.plate, "--out", scene.out, "--assay", scene.folder / "absent.yaml"


def recipe_is_not_yaml(scene: Scene) -> Sequence[object]:
    (scene.folder / "recipe.yaml").write_text("channel: [DAPI\n")
    return "process", scene.plate, "--out", scene.out, "--assay", scene.folder / "recipe.yaml"


def recipe_with_an_unknown_setting(scene: Scene) -> Sequence[object]:
    (scene.folder / "recipe.yaml").write_text("segmentation: {diametre_px: 20}\n")
    return "process", scene.plate, "--out", scene.out, "--assay", scene.folder / "recipe.yaml"


def recipe_with_a_wrong_value(scene: Scene) -> Sequence[object]:
    (scene.folder / "recipe.yaml").write_text("segmentation: {diameter_px: large}\n")
    return "process", scene.plate, "--out", scene.out, "--assay", scene.folder / "recipe.yaml"


def no_such_model(scene: Scene) -> Sequence[object]:
    return "process", scene.plate, "--out", scene.out, "--model", "better"


def directory_without_model(scene: Scene) -> Sequence[object]:
    return "process", scene.plate, "--out", scene.out, "--model", scene.plate


def tampered_model(scene: Scene) -> Sequence[object]:
    model = other_model(scene.folder / "model")
    weights = model / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    return "process", scene.plate, "--out", scene.out, "--model", model


def two_plates_of_one_name(scene: Scene) -> Sequence[object]:
    twin = shutil.copytree(scene.plate, scene.folder / "twin" / scene.plate.name)
    return "process", scene.plate, twin, "--out", scene.out


def one_of_several_is_none(scene: Scene) -> Sequence[object]:
    return "process", scene.plate, scene.folder / "absent", "--out", scene.out


def one_name_for_several(scene: Scene) -> Sequence[object]:
    return "process", scene.plate, scene.plate, "--out", scene.out, "--plate-name", "P1"


def no_such_cluster(scene: Scene) -> Sequence[object]:
    return "process", scene.plate, "--out", scene.out, "--cluster", "kubernetes"


def json_goes_nowhere(scene: Scene) -> Sequence[object]:
    return "process", scene.plate, "--out", scene.out, "--json", scene.folder / "absent" / "result.json"


def bad_pattern(scene: Scene) -> Sequence[object]:
    return "process", scene.plate, "--out", scene.out, "--pattern", "(?P<site>[0-9]+)"


REFUSED = {
    no_plate: r"notes is not recognised as a plate\..*readme\.txt.*Tried:.*ImageXpress",
    empty_directory: r"empty is empty: no file lies in it",
    absent_directory: r"There is no directory .*absent",
    a_file: r"is a file; a plate is a directory",
    no_such_channel: r"Plate SIM-0001 has no channel 'Cy5'; found DAPI \(w1\), FITC \(w2\)\. .*--channel",
    ambiguous_channel: r"has the channels d0, d1; none is named like a nuclear stain.*--channel",
    output_is_a_file: r"out is a file; expected a directory",
    output_in_the_plate: r"lies inside the plate .* only ever read",
    recipe_is_not_there: r"absent\.yaml cannot be read: No such file",
    recipe_is_not_yaml: r"recipe\.yaml is not YAML",
    recipe_with_an_unknown_setting: r"segmentation\.diametre_px: no such setting",
    recipe_with_a_wrong_value: r"segmentation\.diameter_px: .*number.*\(found 'large'\)",
    no_such_model: r"There is no model 'better'.*hcs-nuclei models list",
    directory_without_model: r"is not a model: it has no card\.json",
    tampered_model: r"do not match their card: sha256 .* found, .* expected",
    two_plates_of_one_name: r"Nothing was begun.*are both plate SIM-0001: they would share",
    one_of_several_is_none: r"Nothing was begun.*There is no directory",
    one_name_for_several: r"--plate-name names one plate; several were given",
    no_such_cluster: r"No such cluster: 'kubernetes'\. Expected one of",
    json_goes_nowhere: r"result\.json cannot be written",
    bad_pattern: r"The pattern has the group site; known are",
}


@pytest.mark.parametrize("wrong", REFUSED, ids=lambda wrong: wrong.__name__)
def test_a_wrong_call_is_refused_before_anything_is_written(
    wrong: Callable[[Scene], Sequence[object]], finished: FinishedRun, tmp_path: Path, run: Run
) -> None:
    arguments = wrong(Scene(finished.plate, tmp_path, tmp_path / "out"))
    before = files_of(tmp_path)
    said = run(*arguments, "--no-prefect")
    assert said.status == 2
    assert re.search(REFUSED[wrong], said.err, re.DOTALL), said.err
    # Unless a plate had to be opened first to know it.
    lines = [line for line in said.err.splitlines() if line != "SIM-0001: 4 wells; starting workers"]
    assert lines[0].startswith("hcs-nuclei: ")
    assert "Traceback" not in said.err
    assert said.out == ""
    assert changed(before, files_of(tmp_path)) == set()
    assert not (tmp_path / "out").exists() or (tmp_path / "out").is_file()


USAGE = {
    "unknown command": (["segmentate"], "No such command 'segmentate'"),
    "unknown option": (["process", "P1", "--out", "out", "--chanel", "DAPI"], "No such option: --chanel"),
    "no plate": (["process", "--out", "out"], "Missing argument 'PLATE'"),
    "no output": (["process", "P1"], "Missing option '--out'"),
    "no workers": (["process", "P1", "--out", "out", "--workers", "0"], "--workers"),
    "no number": (
        ["process", "P1", "--out", "out", "--workers", "many"],
        "Invalid value for '--workers': Input should be a valid integer",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), USAGE.values(), ids=USAGE.keys())
def test_a_call_that_cannot_be_read_is_a_usage_error(arguments: list[str], message: str, run: Run) -> None:
    said = run(*arguments)
    assert (said.status, said.out) == (2, "")
    assert message in " ".join(said.err.replace("│", " ").split())
    assert "Usage: hcs-nuclei" in said.err
    assert "Traceback" not in said.err


def test_an_unknown_variable_is_refused_and_a_known_one_used(
    finished: FinishedRun, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HCS_NUCLEI_CHANEL", "DAPI")
    said = run("process", finished.plate, "--out", tmp_path / "out")
    assert said.status == 2
    assert re.search(r"HCS_NUCLEI_CHANEL names no setting; expected HCS_NUCLEI_ and one of CHANNEL, ", said.err)
    monkeypatch.delenv("HCS_NUCLEI_CHANEL")
    monkeypatch.setenv("HCS_NUCLEI_CHANNEL", "Cy3")
    assert "has no channel 'Cy3'" in run("process", finished.plate, "--out", tmp_path / "out").err
    # An option counts more than a variable.
    assert "has no channel 'Cy5'" in run("process", finished.plate, "--out", tmp_path / "out", "--channel", "Cy5").err
    monkeypatch.delenv("HCS_NUCLEI_CHANNEL")
    monkeypatch.setenv("HCS_NUCLEI_CLUSTER", "cloud")
    assert "No such cluster: 'cloud'" in run("process", finished.plate, "--out", tmp_path / "out", "--no-prefect").err
    assert not (tmp_path / "out").exists()


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


def test_segment_never_writes_over_an_image_or_a_label_image_of_another(
    finished: FinishedRun, tmp_path: Path, run: Run
) -> None:
    image = shutil.copy2(next(finished.plate.rglob("*_w1.TIF")), tmp_path / "a.tif")
    twin = shutil.copy2(image, tmp_path / "a.TIF")
    before = snapshot(tmp_path)
    said = run("segment", image, "--out", tmp_path)
    assert (said.status, said.out) == (2, "")
    assert "would take its place" in said.err
    said = run("segment", image, twin, "--out", tmp_path / "labels")
    assert (said.status, said.out) == (2, "")
    assert "Several images are named a" in said.err
    assert snapshot(tmp_path) == before


def test_segment_writes_again_what_it_wrote_and_nothing_else(finished: FinishedRun, tmp_path: Path, run: Run) -> None:
    field = finished.plate / "TimePoint_1" / "SIM-0001_B02_s1_w1.TIF"
    (tmp_path / "out").mkdir()
    raw = Path(shutil.copy2(field, tmp_path / "out" / "a.tif"))
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(tifffile.imread(field)))
    before = raw.read_bytes()
    said = run("segment", tmp_path / "a.png", "--out", tmp_path / "out")
    assert (said.status, said.out) == (2, "")
    assert "a.tif: there already, and not written by hcs-nuclei segment. Choose another --out" in said.err
    assert raw.read_bytes() == before

    raw.unlink()
    for _ in range(2):
        assert run("segment", tmp_path / "a.png", "--out", tmp_path / "out").status == 0
    assert tifffile.imread(raw).max() > 0


def test_segment_of_a_file_with_several_pages_asks_which(finished: FinishedRun, tmp_path: Path, run: Run) -> None:
    field = tifffile.imread(finished.plate / "TimePoint_1" / "SIM-0001_B02_s1_w1.TIF")
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([field * 0, field]), photometric="minisblack")
    said = run("segment", tmp_path / "stack.tif", tmp_path, "--out", tmp_path / "out")
    assert said.status == 3
    assert (
        "stack.tif has 2 pages (channels, planes or time points); expected one image. Say which with --page" in said.err
    )
    assert "is a directory; expected a TIFF or PNG image" in said.err
    counts = []
    for page in (1, 2):
        said = run("segment", tmp_path / "stack.tif", "--out", tmp_path / "out", "--page", page)
        counts.append(int(next(csv.DictReader(io.StringIO(said.out)))["nuclei"]))
    assert counts[0] == 0 < counts[1]


def test_segment_takes_grey_and_colour_and_names_what_is_damaged(finished: FinishedRun, tmp_path: Path) -> None:
    source = finished.plate / "TimePoint_1" / "SIM-0001_B02_s1_w1.TIF"
    pixels: Any = tifffile.imread(source)
    small = (pixels.astype(float) * 255 / pixels.max()).astype(np.uint8)
    images = tmp_path / "images"
    images.mkdir()
    colour = np.stack([small, small // 2, small], axis=2)
    (images / "grey.png").write_bytes(imagecodecs.png_encode(small))
    (images / "rgb.png").write_bytes(imagecodecs.png_encode(colour))
    tifffile.imwrite(images / "colour.tif", colour, photometric="rgb")
    shutil.copy2(source, images / "field.TIF")
    (images / "damaged.tif").write_bytes(source.read_bytes()[:3000])
    tifffile.imwrite(images / "blank.tif", np.zeros((100, 120), np.uint16))
    names = ["grey.png", "rgb.png", "colour.tif", "field.TIF", "damaged.tif", "absent.tif", "blank.tif"]

    said = in_shell("segment", *(images / name for name in names), "--out", tmp_path / "labels")

    assert said.status == 3
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [Path(row["image"]).name for row in rows] == names
    for row in rows:
        label_file = tmp_path / "labels" / f"{Path(row['image']).stem}.tif"
        if Path(row["image"]).stem in {"damaged", "absent"}:
            assert row["error"]
            assert not label_file.exists()
            continue
        labels: Any = tifffile.imread(label_file)
        assert labels.dtype == np.uint32
        assert labels.shape == (int(row["height"]), int(row["width"]))
        assert np.unique(labels[labels > 0]).size == int(row["nuclei"]) == labels.max()
        assert (row["error"], int(row["nuclei"]) > 0) == ("", Path(row["image"]).stem != "blank")
    lines = said.err.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["hcs-nuclei", "hcs-nuclei"], said.err
    assert "damaged.tif" in lines[0]
    assert "absent.tif" in lines[1]


def test_evaluate_a_folder_of_images_and_labels(finished: FinishedRun, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "labels").mkdir()
    rows = ["name,split"]
    for well, split in (("B02", "test"), ("C02", "test"), ("C03", "train")):
        shutil.copy2(finished.plate / "TimePoint_1" / f"SIM-0001_{well}_s1_w1.TIF", data / "images" / f"{well}.tif")
        shutil.copy2(finished.truth / "labels" / f"{well}_f1.tif", data / "labels" / f"{well}.tif")
        rows.append(f"{well},{split}")
    (data / "index.csv").write_text("\n".join(rows) + "\n")
    said = in_shell("evaluate", "--data", data, "--json", "-")
    assert (said.status, said.err) == (0, "")
    figures = json.loads(said.out)
    truth = [tifffile.imread(data / "labels" / f"{well}.tif") for well in ("B02", "C02")]
    assert (figures["images"], figures["nuclei"]) == (2, sum(np.unique(labels[labels > 0]).size for labels in truth))
    assert figures["pooled_ap"]["0.50"] > 0.5


def test_evaluate_names_what_it_cannot_use(tmp_path: Path, run: Run) -> None:
    said = run("evaluate", "--data", tmp_path / "absent")
    assert said.status == 2
    assert "does not exist" in said.err
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "labels").mkdir()
    tifffile.imwrite(tmp_path / "data" / "images" / "a.tif", np.zeros((9, 9), np.uint8))
    (tmp_path / "data" / "index.csv").write_text("name,split\na,test\n")
    said = run("evaluate", "--data", tmp_path / "data")
    assert said.status == 2
    assert "a: no label image" in said.err


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
