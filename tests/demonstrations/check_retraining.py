"""A model is retrained on the cluster that processes plates, promoted, defended and gone back on; real processes.

A small part of what ``retraining.py`` does, on the same real images; asked for by its name, since it takes long:

    python -m pytest tests/demonstrations/check_retraining.py
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from retraining_story import Sizes, Story, Teller
from topology import has_postgres, started_topology

pytestmark = [
    pytest.mark.endurance,
    pytest.mark.postgres,
    pytest.mark.skipif(not has_postgres(), reason="PostgreSQL is not installed"),
    pytest.mark.timeout(3000),
]
#: So few and small steps that the first candidate is the current model almost, and of the second so large ones that the
#: gate has something to see.
SIZES = Sizes(
    epochs=40,
    batches_per_epoch=3,
    batch=1,
    crop_px=96,
    learning_rate=1e-6,
    wells=12,
    field_px=192,
    every=40,
    gate={"ap_gain": -0.02, "fewest_nuclei": 40},
    shifted={"learning_rate": 5e-3},
    images=5,
)


@pytest.fixture(scope="module")
def story(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    with started_topology(tmp_path_factory.mktemp("topology"), every=3600) as topology:
        return Teller(topology, shared_data, SIZES, partial(print, flush=True)).tell()


def test_another_worker_goes_on_from_the_checkpoint_of_one_that_was_killed(story: Story) -> None:
    assert 2 <= story.killed_after < SIZES.epochs
    assert story.begun.count("Epoch 1/40") == 1
    # It goes on after the last epoch whose checkpoint was on the disk: at most one is done twice.
    assert len(set(story.begun)) >= len(story.begun) - 1
    assert story.artifacts["reserve-training-progress"] == 100
    assert "| 40 |" in story.artifacts["reserve-training-curves"]


def test_a_plate_is_processed_while_the_training_goes_on(story: Story) -> None:
    assert len(story.wells_during) >= 2
    assert story.models["during training"] == story.models["shipped"]


def test_the_candidate_is_compared_promoted_and_used_by_the_next_plate(story: Story) -> None:
    assert story.ended["reserve"][0] == "CompletedWithBetterModel"
    for words in ("frozen val", "reserve test", "fields without nuclei", "comparison.html"):
        assert words in story.artifacts["reserve-comparison"]
    assert story.models["candidate"] != story.models["shipped"]
    assert f"now it is reserve ({story.models['candidate']})" in story.said["promote"]
    assert story.models["after training"] == story.models["shipped"]
    [promoted] = [one["when"] for one in map(json.loads, story.audit) if one["what"] == "model.promote"]
    ended = datetime.fromisoformat(story.plates_ended["after training"])
    assert datetime.fromisoformat(promoted) < ended, "it was to be under way"
    assert story.models["after promotion"] == story.models["candidate"]


def test_masks_that_are_shifted_are_refused_with_the_reason(story: Story) -> None:
    name, message = story.ended["shifted"]
    assert name == "CompletedWithRefusedModel"
    assert "is refused: frozen val: mean pooled AP" in message
    assert f"{story.models['candidate']}  reserve  (default)" in story.said["list"]


def test_a_step_back_brings_the_former_model_back(story: Story) -> None:
    assert story.said["rollback"].endswith(f"({story.models['shipped']}), shipped.\n")
    assert story.models["after rollback"] == story.models["shipped"]
    told = [json.loads(line) for line in story.audit]
    moved = [(one["what"], one["reason"]) for one in told if one["what"].startswith("model.")]
    assert moved == [("model.promote", "the demonstration"), ("model.rollback", "the demonstration is over")]
