"""A training and its judgement on a cluster: what is refused before, what a killed worker costs, what comes back."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from annotated_folders import annotated_folder
from pipeline_runs import other_model

from hcs_nuclei.audit import read_audit
from hcs_nuclei.cli import main
from hcs_nuclei.cluster import open_cluster
from hcs_nuclei.errors import DatasetError, RunFailedError, UserError
from hcs_nuclei.models import read_card, resolve_model
from hcs_nuclei.training.child import TrainingJob
from hcs_nuclei.training.comparison import SetSource, compare_models, read_part, read_set
from hcs_nuclei.training.fit import CHECKPOINT, HISTORY_FILE, FitSettings, read_history, start_from
from hcs_nuclei.training.gate import GateSettings
from hcs_nuclei.training.retraining import LOG_FILE, check_annotations, compare_on, evaluation_shards, train_on

#: A real network, since a child process knows no other, on as little as it can be trained on.
TINY: dict[str, Any] = {
    "batches_per_epoch": 2,
    "batch": 1,
    "crop_px": 64,
    "warmup_batches": 1,
    "decay_epochs": 1,
    "precision": "float32",
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path / "home"))


def test_all_faults_of_all_sets_are_told_before_anything_is_begun(tmp_path: Path) -> None:
    mine = annotated_folder(tmp_path / "mine", ["train", "val", "test"])
    theirs = annotated_folder(tmp_path / "theirs", ["train", "val"], first=10)
    for folder, name in ((mine, "f1"), (theirs, "f0")):
        tifffile.imwrite(folder / "labels" / f"{name}.tif", np.zeros((5, 5), np.uint16))

    with pytest.raises(DatasetError, match="The annotations have 2 faults") as caught:
        check_annotations([mine, theirs], [])
    assert f"{mine}: f1: labels/f1.tif is (5, 5), the image is (96, 96)" in str(caught.value)
    assert f"{theirs}: f0: " in str(caught.value)


def test_an_image_to_judge_by_is_never_trained_on(tmp_path: Path) -> None:
    mine = annotated_folder(tmp_path / "mine", ["train", "val", "test"])
    frozen = annotated_folder(
        tmp_path / "frozen", ["test", "train"], first=1
    )  # its f0 is f1 of mine, under another name
    sources = [SetSource(frozen, "frozen", "test"), SetSource(mine, "new", "test")]

    with pytest.raises(DatasetError, match=r"1 images that .* would be trained on \(frozen test: f0\)"):
        check_annotations([mine], sources)
    sets, remarks = check_annotations([mine], sources[1:])
    assert ([one.name for one in sets], remarks) == (["mine test"], [])
    assert [pair.name for pair in sets[0].images] == ["f2"]
    with pytest.raises(DatasetError, match="of split test"):
        check_annotations([mine], [SetSource(annotated_folder(tmp_path / "other", ["train"]), "new", "test")])


def test_a_cluster_compares_as_one_process_does(worker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hcs_nuclei.training.retraining.IMAGES_A_SHARD", 2)
    data = annotated_folder(tmp_path / "data", ["test", "test", "train", "test"], size=128, nuclei=12)
    sources = [SetSource(data, "frozen", "test"), SetSource(None, "empty")]
    candidate = other_model(tmp_path / "candidate", by=0.05)
    models = resolve_model(), (candidate, read_card(candidate))
    sets = [read_set(source) for source in sources]

    shards = evaluation_shards(*models, sources, sets)
    parts = [("empty0", "empty1"), ("empty2", "empty3"), ("f0", "f1"), ("f3",)]
    assert [(shard.names, shard.role) for shard in shards] == [(part, role) for part in parts for role in (0, 1)]
    told: list[int] = []
    there = compare_on(worker, *models, sources, sets, gate=GateSettings(fewest_nuclei=5), done=told.append)
    assert (len(told), told[-1]) == (8, 14)
    here = compare_models(*models, sets, gate=GateSettings(fewest_nuclei=5))
    assert there.as_json() == here.as_json()


def test_images_that_changed_since_they_were_checked_are_not_compared(tmp_path: Path) -> None:
    data = annotated_folder(tmp_path / "data", ["test", "test"])
    source = SetSource(data, "frozen", "test")
    assert [pair.name for pair in read_part(source, ["f1"])] == ["f1"]
    (data / "labels" / "f1.tif").unlink()
    with pytest.raises(DatasetError, match=r"1 images of .*data cannot be read here \(f1\)"):
        read_part(source, ["f0", "f1"])


def _kill_a_worker_once(job: TrainingJob, killed: list[int]) -> None:
    """Kill the worker that trains, as soon as its second epoch is done."""
    while len(read_history(job.out / HISTORY_FILE)) < 2:
        time.sleep(0.05)
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] and "hcs_nuclei.training.child" in process.info["cmdline"]:
            parents = [parent.pid for parent in process.parents()]
            if psutil.Process().pid in parents:
                killed += [process.pid, parents[0]]
                psutil.Process(parents[0]).kill()
                return


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_worker_costs_an_epoch_and_no_more(tmp_path: Path) -> None:
    data = annotated_folder(tmp_path / "data", ["train", "train", "val"])
    settings = start_from("default", epochs=4, **TINY)
    job = TrainingJob(
        datasets=(data,),
        out=tmp_path / "out",
        settings=settings,
        parent_directory=settings.parent_directory,
        name="new",
    )
    told: list[int] = []
    killed: list[int] = []
    with open_cluster("local", workers=2) as client:
        killer = threading.Thread(target=_kill_a_worker_once, args=(job, killed))
        killer.start()
        directory, card = train_on(client, job, lambda row: told.append(int(row["epoch"])))
        killer.join(timeout=1)

    assert len(killed) == 2
    assert not any(psutil.pid_exists(pid) for pid in killed)  # the child went with its worker
    assert told == [1, 2, 3, 4]
    assert [row["epoch"] for row in read_history(job.out / HISTORY_FILE)] == told
    begun = [line for line in (job.out / LOG_FILE).read_text().splitlines() if line.startswith("Epoch ")]
    # On from the checkpoint of the first or second epoch, whichever was on the disk when the worker was killed.
    assert begun.count("Epoch 1/4") == 1
    assert len(begun) <= 5
    assert [path.name for path in (job.out / CHECKPOINT).glob("*.h5")] == ["epoch-00004.weights.h5"]
    assert (directory, card.name, card.training["settings"]["parent"]) == (job.out, "new", settings.parent)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_command_trains_on_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = annotated_folder(tmp_path / "data", ["train", "val"]), tmp_path / "out"
    (data / "labels" / "f9.tif").write_bytes(b"no image")
    asked = ["--data", str(data), "--out", str(out), "--from", "default", "--epochs", "1", "--batches", "1"]
    command = ["train", *asked, "--learning-rate", "1e-7", "--cluster", "local"]
    (data / "index.csv").write_text("name,split\nf0,train\nf1,val\nf9,train\n")
    assert main(command) == 2
    assert "f9: no image" in capsys.readouterr().err

    assert main([*command, "--skip-faulty"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{out}\n"
    assert f"What the training says: {out / LOG_FILE}\nEpoch 1 of 1: loss " in told.err
    assert "val:\n1 images, " in told.err
    settings = read_card(out).training["settings"]
    assert (settings["warmup_batches"], settings["learning_rate"]) == (1, 1e-7)
    assert settings["parent"] == resolve_model()[1].identifier
    failed, trained = (entry for entry in read_audit() if entry.what == "training.end")
    assert (failed.new["state"], "f9: no image" in failed.reason) == ("failed", True)
    assert (trained.subject, trained.new["state"], trained.reason) == ("out", "trained", "")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_that_cannot_be_says_why(worker: Any, tmp_path: Path) -> None:
    data = annotated_folder(tmp_path / "data", ["train"])
    job = TrainingJob(datasets=(data,), out=tmp_path / "out", settings=FitSettings(epochs=1, **TINY))
    with pytest.raises(UserError, match="holds no annotated images of split val"):
        train_on(worker, job)

    (tmp_path / "out" / HISTORY_FILE).mkdir()
    broken = job.model_copy(update={"datasets": (annotated_folder(tmp_path / "more", ["train", "val"]),)})
    with pytest.raises(RunFailedError, match="was given up"):
        train_on(worker, broken)
