"""What a training refuses before it begins: data with faults, a place that is none, a place that another has."""

from __future__ import annotations

from pathlib import Path

import pytest
from annotated_folders import annotated_folder

from hcs_nuclei.errors import DatasetError, OutputError, RunConflictError
from hcs_nuclei.training import FitSettings, place, train_model


def test_the_faults_of_every_split_of_every_data_set_are_named_at_once(tmp_path: Path) -> None:
    sets = [annotated_folder(tmp_path / name, ["train", "val"], size=64, nuclei=3) for name in ("one", "two")]
    for name in ("f0", "f1"):
        (sets[0] / "labels" / f"{name}.tif").unlink()
    (sets[1] / "images" / "f1.tif").write_bytes(b"")

    with pytest.raises(DatasetError) as caught:
        train_model(sets, tmp_path / "model", FitSettings())
    said = str(caught.value)
    for fault in ("  f0: no label image", "  f1: no label image", "  f1: images/f1.tif is empty"):
        assert fault in said
    with pytest.raises(DatasetError, match="nowhere does not exist") as caught:
        train_model([tmp_path / "nowhere"], tmp_path / "model", FitSettings())
    assert str(caught.value).count("does not exist") == 1
    assert not (tmp_path / "model").exists()


def test_a_directory_that_cannot_be_made_is_said_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for out in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(OutputError, match=r"file is a file; a directory is expected to write the model into"):
            train_model([tmp_path / "nowhere"], out, FitSettings())


def test_two_trainings_do_not_write_into_one_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = annotated_folder(tmp_path / "data", ["train", "val"], size=64, nuclei=3)
    monkeypatch.setattr(place, "PATIENCE_S", 0.2)
    with place.alone_in(tmp_path / "model"), pytest.raises(RunConflictError, match="Another training writes into"):
        train_model([data], tmp_path / "model", FitSettings())
    assert [path.name for path in (tmp_path / "model").iterdir()] == [place.LOCK_FILE]
