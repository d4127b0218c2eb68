"""A training that was interrupted goes on, and one that is another is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_training import SETTINGS, weights_of

from hcs_nuclei.errors import ModelError, RunConflictError
from hcs_nuclei.training import AnnotatedImage, FitSettings, fit
from hcs_nuclei.training import checkpoint as checkpoints
from hcs_nuclei.training.fit import CHECKPOINT, HISTORY_FILE, read_history

# Keras asks TensorFlow's variables for arrays in NumPy 1's way.
pytestmark = [
    pytest.mark.usefixtures("tiny_architectures"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


def test_a_training_may_go_on_in_another_precision(training_images: list[AnnotatedImage], tmp_path: Path) -> None:
    first = SETTINGS.model_copy(update={"epochs": 1, "precision": "mixed_bfloat16"})
    fit(training_images[:3], training_images[3:], first, tmp_path)
    fit(training_images[:3], training_images[3:], SETTINGS.model_copy(update={"epochs": 2}), tmp_path)

    assert [row["epoch"] for row in read_history(tmp_path / HISTORY_FILE)] == [1, 2]


@pytest.mark.parametrize("precisions", [("float32", "mixed_float16"), ("mixed_float16", "float32")])
def test_nothing_leads_to_or_from_a_scaled_loss(
    precisions: tuple[str, str], training_images: list[AnnotatedImage], tmp_path: Path
) -> None:
    """The optimizer around the optimizer has a state of its own."""
    first, second = (SETTINGS.model_copy(update={"epochs": 1, "precision": p}) for p in precisions)
    fit(training_images[:3], training_images[3:], first, tmp_path)
    with pytest.raises(RunConflictError, match="loss_is_scaled"):
        fit(training_images[:3], training_images[3:], second, tmp_path)


def test_epochs_that_no_checkpoint_knows_are_forgotten(
    training_images: list[AnnotatedImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _killed(monkeypatch, training_images, SETTINGS, tmp_path)
    assert len(read_history(tmp_path / HISTORY_FILE)) == 2
    fit(training_images[:3], training_images[3:], SETTINGS.model_copy(update={"epochs": 1}), tmp_path)

    assert [row["epoch"] for row in read_history(tmp_path / HISTORY_FILE)] == [1]


def _killed(
    monkeypatch: pytest.MonkeyPatch, training_images: list[AnnotatedImage], settings: FitSettings, out: Path
) -> None:
    """A training that stops while it stores the checkpoint of its last epoch, before this has its name."""
    save = checkpoints.save

    def interrupted(network: Any, directory: Path, epochs: int) -> None:
        if epochs == settings.epochs:
            (directory / ".tmp-epoch-half.weights.h5").write_bytes(b"half")
            raise KeyboardInterrupt
        save(network, directory, epochs)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(training_images[:3], training_images[3:], settings, out)


def _assert_same_path(whole: Any, parts: Any, whole_out: Path, parts_out: Path) -> None:
    """Histories and final weights are the same."""
    one, other = (read_history(out / HISTORY_FILE) for out in (whole_out, parts_out))
    assert len(one) == len(other)
    for expected, row in zip(one, other, strict=True):
        assert min(row.pop("seconds"), expected.pop("seconds")) > 0
        assert row == pytest.approx(expected, rel=1e-4)
    for weights, resumed in zip(weights_of(whole), weights_of(parts), strict=True):
        np.testing.assert_allclose(resumed, weights, atol=1e-4)


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    training_images: list[AnnotatedImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(training_images[:3], training_images[3:], SETTINGS, tmp_path / "whole")
    _killed(monkeypatch, training_images, SETTINGS, tmp_path / "parts")
    first = read_history(tmp_path / "parts" / HISTORY_FILE)[:1]
    resumed = fit(training_images[:3], training_images[3:], SETTINGS, tmp_path / "parts")

    assert read_history(tmp_path / "parts" / HISTORY_FILE)[:1] == first
    _assert_same_path(whole, resumed, tmp_path / "whole", tmp_path / "parts")
    assert sorted(path.name for path in (tmp_path / "parts" / CHECKPOINT).iterdir()) == [
        "epoch-00002.weights.h5",
        "settings.json",
    ]


@pytest.mark.slow
def test_a_training_can_be_given_more_epochs_before_its_rate_falls(
    training_images: list[AnnotatedImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = SETTINGS.model_copy(update={"epochs": 3})
    whole = fit(training_images[:3], training_images[3:], longer, tmp_path / "whole")
    _killed(monkeypatch, training_images, SETTINGS, tmp_path / "parts")
    resumed = fit(training_images[:3], training_images[3:], longer, tmp_path / "parts")

    _assert_same_path(whole, resumed, tmp_path / "whole", tmp_path / "parts")


def test_a_checkpoint_of_another_training_is_refused_and_kept(
    training_images: list[AnnotatedImage], tmp_path: Path
) -> None:
    fit(training_images[:3], training_images[3:], SETTINGS, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = SETTINGS.model_copy(update={"seed": 1, "batch": 1})

    with pytest.raises(RunConflictError, match="batch 2 there, 1 asked for, seed 0 there, 1 asked for"):
        fit(training_images[:3], training_images[3:], other, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(RunConflictError, match="data_sha256"):
        fit(training_images[:2], training_images[3:], SETTINGS, tmp_path)
    with pytest.raises(RunConflictError, match="2 epochs long already, and 1 are asked for"):
        fit(training_images[:3], training_images[3:], SETTINGS.model_copy(update={"epochs": 1}), tmp_path)


def test_a_checkpoint_that_cannot_be_read_is_said(training_images: list[AnnotatedImage], tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).mkdir()
    (tmp_path / CHECKPOINT / "epoch-00001.weights.h5").write_bytes(b"damaged")

    with pytest.raises(ModelError, match=r"epoch-00001\.weights\.h5 cannot be read.* Remove it"):
        fit(training_images[:3], training_images[3:], SETTINGS, tmp_path)


@pytest.mark.slow
def test_a_finished_training_started_again_trains_no_more(
    training_images: list[AnnotatedImage], tmp_path: Path
) -> None:
    network = fit(training_images[:3], training_images[3:], SETTINGS, tmp_path)
    before = (tmp_path / HISTORY_FILE).read_bytes()
    again = fit(training_images[:3], training_images[3:], SETTINGS, tmp_path)

    assert (tmp_path / HISTORY_FILE).read_bytes() == before
    for one, other in zip(weights_of(network), weights_of(again), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
