"""The training flow: its form and what it shows, and a whole run on a real server and cluster up to the promotion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from annotated_folders import annotated_folder
from flow_server import server
from pydantic import ValidationError

from hcs_nuclei.audit import read_audit
from hcs_nuclei.errors import SettingsError, UserError
from hcs_nuclei.models import read_card, resolve_model
from hcs_nuclei.models.store import SHIPPED
from hcs_nuclei.training.comparison import SetSource
from hcs_nuclei.training.retraining import epoch_in_words

__all__ = ["server"]
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path / "home"))


def _parameters(folder: Path, **changes: Any) -> Any:
    from flows.training_parameters import TrainModelParameters

    places = {"annotations": (str(folder / "mine"),), "frozen": (str(folder / "frozen"),), "out": str(folder / "out")}
    return TrainModelParameters.model_validate({**places, **changes})


def test_the_form_says_what_is_trained_on_and_judged_by(tmp_path: Path) -> None:
    parameters = _parameters(tmp_path, earlier=(str(tmp_path / "earlier"),), frozen_split="all")

    assert parameters.datasets == (tmp_path / "mine", tmp_path / "earlier")
    assert parameters.sources == (
        SetSource(tmp_path / "frozen", "frozen", None),
        SetSource(tmp_path / "mine", "new", "test"),
        SetSource(None, "empty"),
    )
    assert (parameters.title, _parameters(tmp_path, name="n5").title) == ("out", "n5")


def test_a_training_on_this_machine_has_all_of_it(tmp_path: Path) -> None:
    asked = [{}, {"workers": 2}, {"cluster": "local-gpu"}, {"cluster": "tls://scheduler:8786"}]
    assert [_parameters(tmp_path, **changes).workers_to_train for changes in asked] == [1, 2, 1, None]


@pytest.mark.parametrize("place", ["annotations", "earlier", "frozen", "out", "model", "cluster"])
def test_every_place_must_lie_in_an_allowed_root(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCS_NUCLEI_ALLOWED_ROOTS", str(tmp_path / "in"))
    inside = {"annotations": ("mine",), "earlier": ("mine",), "frozen": ("frozen",), "out": "out", "model": "m/x"}
    inside = {
        name: tuple(str(tmp_path / "in" / part) for part in value) if isinstance(value, tuple) else
        str(tmp_path / "in" / value)
        for name, value in inside.items()
    }  # fmt: skip
    inside["cluster"] = f"file:{tmp_path / 'in' / 'scheduler.json'}"
    _parameters(tmp_path, **inside).check_places()
    outside = "file:/etc/scheduler.json" if place == "cluster" else "/etc/x"
    wrong = {**inside, place: (outside,) if isinstance(inside[place], tuple) else outside}
    with pytest.raises(SettingsError, match=r"/etc/.* lies outside the allowed roots"):
        _parameters(tmp_path, **wrong).check_places()


def test_a_candidate_starts_from_the_current_model_or_from_nothing(tmp_path: Path) -> None:
    from flows.train_model import training_job

    current = resolve_model()
    tuned = training_job(_parameters(tmp_path, epochs=8), current)
    assert (tuned.settings.parent, tuned.parent_directory) == (current[1].identifier, SHIPPED)
    assert (tuned.settings.epochs, tuned.settings.decay_epochs) == (8, 2)
    fresh = training_job(_parameters(tmp_path, from_scratch=True), current)
    assert (fresh.settings.parent, fresh.parent_directory) == ("", None)
    few = training_job(_parameters(tmp_path, few_images=True), current)
    assert (few.settings.keep_normalisation, few.thresholds_of) == (True, str(SHIPPED))
    assert (tuned.settings.keep_normalisation, tuned.thresholds_of) == (False, None)
    with pytest.raises(ValidationError, match="few images are learned from by fine-tuning"):
        _parameters(tmp_path, few_images=True, from_scratch=True)
    assert type(few).model_validate_json(few.model_dump_json()) == few  # as a child process gets it


def test_curves_are_lines_and_a_table() -> None:
    from flows.training_display import curves

    rows = [
        {"epoch": 1, "loss": 0.9, "val_loss": 0.8, "seconds": 12.0},
        {"epoch": 2, "loss": 0.1, "val_loss": 0.8, "seconds": 11.0},
    ]
    assert epoch_in_words(rows[1], 20) == "Epoch 2 of 20: loss 0.1, validation 0.8; 11 s"
    lines = curves(rows).splitlines()
    assert lines[:2] == ["`█▁` loss  ", "`▁▁` val loss  "]
    assert lines[-1] == "| 2 | 0.1 | 0.8 | 11 |"


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_a_better_model_is_trained_judged_shown_and_promoted(tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter
    from prefect.events.worker import EventsWorker

    from flows.train_model import train_model

    annotated_folder(tmp_path / "mine", ["train", "train", "val", "test"])
    annotated_folder(tmp_path / "frozen", ["test", "test"], first=10)
    tiny = {"epochs": 2, "batches_per_epoch": 2, "batch": 1, "crop_px": 64, "learning_rate": 1e-7}
    lenient = {"fewest_nuclei": 5, "ap_loss": 1, "ap_gain": -1, "count_error_rise": 5}
    parameters = _parameters(tmp_path, name="Mine 1", promote=True, reason="a test", gate=lenient, **tiny)

    state = train_model(parameters, return_state=True)
    comparison = state.result()
    assert (state.name, comparison.verdict.passed) == ("CompletedAndPromoted", True), state.message
    assert resolve_model()[1].sha256 == comparison.candidate.sha256 == read_card(tmp_path / "out").sha256
    begin, promotion, end = read_audit()
    assert [entry.what for entry in (begin, promotion, end)] == ["training.begin", "model.promote", "training.end"]
    assert (begin.subject, begin.new["epochs"], begin.new["flow_run"]) == (
        "out",
        2,
        str(state.state_details.flow_run_id),
    )
    assert (end.subject, end.new["state"], promotion.reason) == ("out", "promoted", "a test")
    assert comparison.candidate.identifier in end.new["model"]
    assert [one.name for one in comparison.sets] == ["frozen test", "mine test", "fields without nuclei"]
    assert "may take the current model" in (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    EventsWorker.drain_all()
    with get_client(sync_client=True) as client:
        only = ArtifactFilter.model_validate({"flow_run_id": {"any_": [state.state_details.flow_run_id]}})
        artifacts = {one.key: one.data for one in client.read_artifacts(artifact_filter=only)}
    assert set(artifacts) == {"mine-1-training-progress", "mine-1-training-curves", "mine-1-comparison"}
    assert artifacts["mine-1-training-progress"] == 100
    assert (tmp_path / "out" / "comparison.html").as_uri() in artifacts["mine-1-comparison"]

    # The default has moved, so the same run is another training now, and is not mixed with the one that is there.
    state = train_model(parameters, return_state=True)
    assert (state.type.value, "holds the checkpoint of a training with other settings" in state.message) == (
        "FAILED",
        True,
    )
    with pytest.raises(UserError):
        state.result()
    *_, end = read_audit()
    assert (end.what, end.new["state"], "other settings" in end.reason) == ("training.end", "failed", True)
