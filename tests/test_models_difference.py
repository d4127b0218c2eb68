"""What two models' cards differ in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hcs_nuclei.cli import main
from hcs_nuclei.models.card import ModelCard, write_card
from hcs_nuclei.models.difference import Difference, card_differences
from hcs_nuclei.models.store import SHIPPED
from hcs_nuclei.segmentation.instances import InstanceSettings

CARD = ModelCard.model_validate_json((SHIPPED / "card.json").read_bytes())


def _other() -> ModelCard:
    evaluation = json.loads(json.dumps(CARD.evaluation))
    split = next(iter(evaluation))
    evaluation[split]["pooled_ap"]["0.50"] = 0.9
    evaluation[split]["confidence"]["bins"][0]["nuclei"] = 5  # the error that is made of them says it
    training = {**CARD.training, "settings": {**CARD.training["settings"], "epochs": 3}, "thresholds_of": "abc"}
    thresholds = InstanceSettings.model_validate(CARD.instances.model_dump() | {"seed": 0.4})
    changes = {"evaluation": evaluation, "training": training, "instances": thresholds, "description": "in words"}
    return CARD.model_copy(update=changes)


def test_cards_differ_where_their_values_do() -> None:
    split = next(iter(CARD.evaluation))
    assert card_differences(CARD, CARD) == []
    assert card_differences(CARD, _other()) == [
        Difference("thresholds", "instances.seed", CARD.instances.seed, 0.4),
        Difference("data and settings", "settings.epochs", CARD.training["settings"]["epochs"], 3),
        Difference("data and settings", "thresholds_of", CARD.training.get("thresholds_of"), "abc"),
        Difference("figures", f"{split}.pooled_ap.0.50", CARD.evaluation[split]["pooled_ap"]["0.50"], 0.9),
    ]


def test_what_is_long_is_left_out_and_figures_of_the_same_name_are_not() -> None:
    figures = json.loads(json.dumps(CARD.evaluation))
    split = next(iter(figures))
    figures[split]["pixels"] |= {"f1": 0.5, "precision": 0.4}
    figures[split]["f1"]["0.50"] = 0.3
    statistics = CARD.field_statistics
    assert statistics is not None
    precision = tuple(tuple(value + 1 for value in row) for row in statistics.precision)
    other = CARD.model_copy(
        update={"evaluation": figures, "field_statistics": statistics.model_copy(update={"precision": precision})}
    )
    assert [one.name for one in card_differences(CARD, other)] == [f"{split}.pixels.precision", f"{split}.pixels.f1"]


def test_the_command_tells_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path / "home"))
    other = tmp_path / "other"
    other.mkdir()
    (other / CARD.weights.file).symlink_to(SHIPPED / CARD.weights.file)
    write_card(other, _other())

    assert main(["models", "diff", "default", str(other)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{CARD.name} ({CARD.identifier}) → {CARD.name} ({_other().identifier})"
    assert lines[1:4] == ["", "thresholds", f"  instances.seed  {CARD.instances.seed} → 0.4  (+0.25)"]
    assert f"  thresholds_of    {CARD.training.get('thresholds_of', '-')} → abc" in lines
    assert main(["models", "diff", "default", "default", "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"models": [{"id": CARD.identifier, "name": CARD.name}] * 2, "differences": []}
    assert main(["models", "diff", "default", CARD.identifier]) == 0
    assert capsys.readouterr().out.endswith("no difference\n")
