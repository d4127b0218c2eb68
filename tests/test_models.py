"""Models: cards and weights that prove what they are, where models are found, and the shipped one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hcs_nuclei.errors import ModelError
from hcs_nuclei.models import list_models, load_model, load_segmenter, read_card, resolve_model, segment
from hcs_nuclei.models.card import (
    CARD_FILE,
    ModelCard,
    Weights,
    load_network,
    sha256_of,
    write_card,
    write_weights,
)
from hcs_nuclei.models.store import SHIPPED, store_directory
from hcs_nuclei.segmentation import network as networks
from hcs_nuclei.segmentation.instances import InstanceSettings
from hcs_nuclei.simulate import simulate_field

TINY = partial(networks.unet, filters=(4, 8, 8), head_filters=4)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of this test's own, and an architecture `tiny` that is built at once."""
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(networks.ARCHITECTURES, "tiny", TINY)


@pytest.fixture(scope="module")
def tiny_network() -> Any:
    """A tiny network whose weights and statistics are random, as if it had been trained."""
    from hcs_nuclei.segmentation.backend import import_keras

    import_keras().utils.set_random_seed(3)
    network = TINY()
    rng = np.random.default_rng(3)
    for variable in network.variables:
        if variable.path.endswith(("variance", "gamma")):
            variable.assign(rng.uniform(0.5, 2, variable.shape))
        elif len(variable.shape) == 1:
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return network


@pytest.fixture(scope="module")
def original(tiny_network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model directory; only to be copied."""
    directory = tmp_path_factory.mktemp("original")
    write_card(directory, _card(write_weights(tiny_network, directory / "weights.safetensors")))
    return directory


@pytest.fixture
def model(original: Path, tmp_path: Path) -> Path:
    """A model directory of this test's own."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def _card(weights: Weights, **changes: Any) -> ModelCard:
    values: dict[str, Any] = {
        "name": "first",
        "architecture": "tiny",
        "weights": weights,
        "training_diameter_px": 21.5,
        "instances": InstanceSettings(seed=0.4),
        "flops_per_pixel": 1000,
        "parameters": 2000,
        "training": {"images": 3},
        "evaluation": {"val": {"pooled_ap": {"0.50": 0.8}}},
    }
    return ModelCard.model_validate({**values, **changes})


def _edit_card(directory: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((directory / CARD_FILE).read_text())
    edit(content)
    (directory / CARD_FILE).write_text(json.dumps(content))


def test_a_card_is_read_as_it_was_written(model: Path) -> None:
    card = read_card(model)
    weights = model / "weights.safetensors"

    assert card == _card(Weights(file=weights.name, sha256=sha256_of(weights), size_bytes=weights.stat().st_size))
    assert card.weights.sha256 == sha256_of(weights)
    assert card.identifier == card.sha256[:12]


def test_weights_can_be_read_by_every_user_of_a_shared_store(model: Path) -> None:
    assert (model / "weights.safetensors").stat().st_mode & 0o444 == 0o444


def test_weights_that_were_tampered_with_are_refused_with_both_hashes(model: Path) -> None:
    weights = model / "weights.safetensors"
    expected = sha256_of(weights)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    with pytest.raises(ModelError, match=f"sha256 {sha256_of(weights)[:12]}… found, {expected[:12]}… expected"):
        read_card(model)


def test_a_directory_without_a_card_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a model: it has no card\.json"):
        read_card(tmp_path)


def test_missing_weights_are_named(model: Path) -> None:
    (model / "weights.safetensors").unlink()

    with pytest.raises(ModelError, match=r"has no weights: weights\.safetensors is not there"):
        read_card(model)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("architecture", None, "architecture: "),
        ("training_diameter_px", -1, "training_diameter_px: "),
        ("surprise", 1, "surprise: "),
        ("instances", {"seed": 2}, "instances.seed: "),
    ],
)
def test_a_card_that_is_not_valid_is_refused_by_its_fields(model: Path, field: str, value: Any, said: str) -> None:
    _edit_card(model, lambda card: card.update({field: value}))

    with pytest.raises(ModelError, match="is not valid") as caught:
        read_card(model)
    assert said in str(caught.value)


def test_a_card_that_is_no_json_is_refused(model: Path) -> None:
    (model / CARD_FILE).write_text("{")

    with pytest.raises(ModelError, match=r"is not valid: .*JSON"):
        read_card(model)


@pytest.mark.parametrize(
    "file", ["../weights.safetensors", "/etc/weights.safetensors", "a\\b.safetensors", "weights.pkl", "weights.keras"]
)
def test_weights_outside_of_the_model_or_of_another_kind_are_refused(model: Path, file: str) -> None:
    _edit_card(model, lambda card: card["weights"].update(file=file))

    with pytest.raises(ModelError, match=r"weights\.file: "):
        read_card(model)


def test_stored_weights_predict_what_the_network_predicted(model: Path, tiny_network: Any) -> None:
    images = np.random.default_rng(0).normal(0.3, 1, (2, 64, 64, 1)).astype(np.float32)
    expected = np.asarray(tiny_network(images))
    stored = np.asarray(load_network(model, read_card(model))(images))

    assert expected.std() > 0.05  # else any network would do
    assert np.abs(stored - expected).max() < 1e-3


def test_an_architecture_of_a_newer_version_is_refused(model: Path) -> None:
    _edit_card(model, lambda card: card.update(architecture="unet-of-2031"))

    with pytest.raises(ModelError, match=r"architecture 'unet-of-2031'; known are unet, .*newer version"):
        load_network(model, read_card(model))


def test_weights_of_another_architecture_are_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wider = partial(networks.unet, filters=(4, 8, 12), head_filters=4)
    monkeypatch.setitem(networks.ARCHITECTURES, "tiny", wider)

    with pytest.raises(ModelError, match=r"do not fit architecture tiny: \d+ variables differ, among them down2a"):
        load_network(model, read_card(model))


def test_weights_that_are_no_safetensors_are_refused(model: Path) -> None:
    (model / "weights.safetensors").write_bytes(b"pickled")
    _edit_card(model, lambda card: card["weights"].update(sha256=sha256_of(model / "weights.safetensors")))

    with pytest.raises(ModelError, match="The weights of model first cannot be read"):
        load_network(model, read_card(model))


def _store(model: Path, name: str) -> Path:
    """Copy `model` into the store under its card's new `name`."""
    directory = Path(shutil.copytree(model, store_directory() / name))
    _edit_card(directory, lambda card: card.update(name=name))
    return directory


def test_the_store_is_where_the_variables_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert store_directory() == tmp_path / "home" / "models"
    monkeypatch.delenv("HCS_NUCLEI_HOME")
    assert store_directory() == tmp_path / "data" / "hcs-nuclei" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert store_directory() == tmp_path / "user" / ".local" / "share" / "hcs-nuclei" / "models"


def test_the_default_is_the_shipped_model_where_nothing_is_stored() -> None:
    directory, card = resolve_model()

    assert directory == SHIPPED
    assert [(directory, card)] == list(list_models())


@pytest.mark.parametrize("wanted", ["assay-b", "{card.identifier}", "{card.sha256}"])
def test_a_stored_model_is_found_by_name_identifier_and_hash(model: Path, wanted: str) -> None:
    stored = _store(model, "assay-b")
    directory, card = resolve_model(wanted.format(card=read_card(model)))

    assert directory == stored
    assert card.name == "assay-b"


def test_a_name_that_several_models_have_names_none(model: Path) -> None:
    first, second = _store(model, "assay-b"), _store(model, "other")
    _edit_card(second, lambda card: card.update(name="assay-b", instances={"seed": 0.6}))
    identifiers = [read_card(directory).identifier for directory in (first, second)]

    with pytest.raises(ModelError, match=r"Several models are named 'assay-b': .*Give the identifier") as caught:
        resolve_model("assay-b")
    assert all(identifier in str(caught.value) for identifier in identifiers)
    assert [resolve_model(identifier)[0] for identifier in identifiers] == [first, second]


def test_a_model_is_found_by_its_directory(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)

    assert resolve_model(str(model)) == resolve_model("model") == (model, read_card(model))


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a model"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("wanted", ["assay-z", "../assay-b", "/nowhere/at/all", "~nobody-of-that-name/model"])
def test_a_model_that_is_not_there_is_refused_with_those_that_are(model: Path, wanted: str) -> None:
    _store(model, "assay-b")

    with pytest.raises(ModelError, match=r"There is no model .*assay-b \(") as caught:
        resolve_model(wanted)
    assert repr(wanted) in str(caught.value)


def test_stored_models_are_listed_after_the_shipped_one_and_other_files_are_no_models(model: Path) -> None:
    for name in ("b", "a"):
        _store(model, name)
    (store_directory() / "notes").mkdir()
    (store_directory() / "README").write_text("")

    assert [card.name for _, card in list_models()][1:] == ["a", "b"]


def test_a_model_is_loaded_once_and_with_its_cards_thresholds(model: Path) -> None:
    segmenter = load_model(str(model))

    assert segmenter.instances == InstanceSettings(seed=0.4)
    assert segmenter.training_diameter_px == 21.5
    assert load_model(str(model)) is segmenter
    assert load_segmenter(model, read_card(model).sha256) is segmenter


def test_the_same_weights_with_other_thresholds_are_another_model(model: Path) -> None:
    stored = _store(model, "retuned")
    _edit_card(stored, lambda card: card.update(instances={"seed": 0.6}))

    assert load_model(str(model)).instances.seed == 0.4
    assert load_model("retuned").instances.seed == 0.6
    assert read_card(stored).identifier != read_card(model).identifier


def test_a_model_that_is_only_called_otherwise_is_the_same_model(model: Path) -> None:
    stored = _store(model, "renamed")
    _edit_card(stored, lambda card: card.update(description="for the other assay"))

    assert read_card(stored).sha256 == read_card(model).sha256


def test_a_model_that_changed_during_a_run_is_refused(model: Path) -> None:
    with pytest.raises(ModelError, match=r"changed during the run: .* found, 000000000000… expected"):
        load_segmenter(model, "0" * 64)


# What follows holds for any sane model that is shipped, and pins none.


def test_the_shipped_card_is_valid_and_its_weights_fit_in_the_package() -> None:
    card = read_card(SHIPPED)
    size = (SHIPPED / card.weights.file).stat().st_size

    assert card.weights.size_bytes == size <= 25_000_000
    assert card.architecture in networks.ARCHITECTURES
    assert card.flops_per_pixel <= 110_000
    assert 5 < card.training_diameter_px < 100


def test_the_shipped_model_finds_the_nuclei_of_an_easy_field() -> None:
    field = simulate_field(np.random.default_rng(8), size=360, nuclei=20, diameter_px=24, debris_per_megapixel=0)
    labels = segment(field.images["DAPI"], diameter_px=24)

    assert labels.shape == (360, 360)
    assert labels.dtype == np.uint32
    assert abs(int(labels.max()) - 20) <= 3
    both = (labels > 0) & (field.labels > 0)
    assert both.sum() / ((labels > 0) | (field.labels > 0)).sum() > 0.75


def test_the_shipped_model_takes_colour_and_estimates_the_diameter() -> None:
    field = simulate_field(np.random.default_rng(9), size=256, nuclei=10, diameter_px=24, debris_per_megapixel=0)
    grey = (field.images["DAPI"] // 16).astype(np.uint8)

    np.testing.assert_array_equal(segment(np.dstack([grey] * 3)), segment(grey))
    assert segment(grey).max() >= 7


def test_the_shipped_model_finds_nothing_in_a_blank_field_and_in_noise() -> None:
    noise = np.random.default_rng(10).normal(400, 12, (256, 256)).astype(np.uint16)

    assert not segment(np.zeros((256, 256), np.uint16)).any()
    assert segment(noise).max() <= 1


def test_an_image_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        segment(np.zeros((3, 10, 10, 10), np.uint16))
