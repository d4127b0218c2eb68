"""Wrong calls: each is refused with what was found and what to do, before anything is written."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import Run
from pipeline_runs import FinishedRun, changed, files_of, other_model

from hcs_nuclei.simulate import simulate_plate

pytestmark = pytest.mark.usefixtures("plain_surroundings")


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


@pytest.mark.parametrize(
    "arguments",
    [
        ["process", "PLATE", "--out", "LONG"],
        ["segment", "IMAGE", "--out", "LONG"],
        ["models", "show", "LONG"],
        ["simulate", "--out", "LONG"],
        ["report", "LONG"],
        ["evaluate", "--data", "LONG"],
        ["process", "PLATE", "--out", "out", "--layout", "LONG"],
        ["inspect", "PLATE", "--json", "LONG"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_name_that_no_file_can_have_is_a_line_and_no_traceback(
    arguments: list[str], finished: FinishedRun, tmp_path: Path, run: Run
) -> None:
    given = {
        "PLATE": finished.plate,
        "IMAGE": next(finished.plate.rglob("*_w1.TIF")),
        "LONG": tmp_path / ("x" * 300),
        "out": tmp_path / "out",
    }
    said = run(*(given.get(argument, argument) for argument in arguments))
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("hcs-nuclei: ")
    assert "Traceback" not in said.err
    assert not list(tmp_path.iterdir())


def test_a_variable_names_the_model_of_every_command_that_takes_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HCS_NUCLEI_MODEL", "absent")
    said = run("segment", tmp_path / "a.tif", "--out", tmp_path / "out")
    assert said.status == 2
    assert "There is no model 'absent'" in said.err
