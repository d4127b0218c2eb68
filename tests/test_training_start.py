"""Where a training starts: another model's weights, a frozen encoder, and calls that do not fit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from hcs_nuclei.cli import main
from hcs_nuclei.errors import ModelError
from hcs_nuclei.models import ModelCard
from hcs_nuclei.models.card import write_card, write_weights
from hcs_nuclei.segmentation import network as networks
from hcs_nuclei.segmentation.instances import InstanceSettings
from hcs_nuclei.segmentation.mobilenet import encoder_layers
from hcs_nuclei.training import AnnotatedImage, FitSettings, fit
from hcs_nuclei.training.fit import WEIGHTS_FILE, start_from

# Keras asks TensorFlow's variables for arrays in NumPy 1's way.
pytestmark = [
    pytest.mark.usefixtures("tiny_architectures"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
#: The module: its name in the package is that of the function.
fit_module = sys.modules["hcs_nuclei.training.fit"]


def _parent(directory: Path, architecture: str = "tiny") -> ModelCard:
    """A model on disk whose weights no seed of ours gives."""
    import keras

    keras.utils.set_random_seed(77)
    directory.mkdir()
    card = ModelCard(
        name="parent",
        architecture=architecture,
        weights=write_weights(networks.build_network(architecture), directory / WEIGHTS_FILE),
        training_diameter_px=20,
        instances=InstanceSettings(),
        flops_per_pixel=1,
        parameters=1,
    )
    write_card(directory, card)
    return card


STANDING = {"epochs": 1, "batches_per_epoch": 1, "learning_rate": 1e-12, "precision": "float32"}


def test_a_training_starts_from_the_weights_of_another_model(
    training_images: list[AnnotatedImage], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    card = _parent(tmp_path / "parent")
    settings = start_from(str(tmp_path / "parent"), **STANDING, batch=1, crop_px=64)
    network = fit(training_images[:1], training_images[3:], settings, tmp_path / "child")
    stored = load_file(tmp_path / "parent" / WEIGHTS_FILE)

    assert (settings.architecture, settings.parent) == ("tiny", card.identifier)
    assert settings.model_dump(mode="json")["parent"] == card.identifier
    assert str(tmp_path) not in settings.model_dump_json()
    for variable in network.trainable_variables:
        np.testing.assert_allclose(variable.value, stored[variable.path].astype(np.float32), atol=1e-6)


def test_a_parent_of_another_architecture_or_changed_since_is_said(
    training_images: list[AnnotatedImage], tmp_path: Path
) -> None:
    card = _parent(tmp_path / "parent")

    with pytest.raises(ModelError, match=r"parent \(.{12}\) has architecture 'tiny', and 'unet' is asked for"):
        start_from(str(tmp_path / "parent"), architecture="unet")
    changed = FitSettings(architecture="tiny", parent="0123456789ab", parent_directory=tmp_path / "parent")
    with pytest.raises(ModelError, match=f"is {card.identifier}; the training is to start from 0123456789ab"):
        fit(training_images[:1], training_images[3:], changed, tmp_path / "child")
    assert not (tmp_path / "child").exists()


def test_a_frozen_encoder_stays_as_it_began(training_images: list[AnnotatedImage], tmp_path: Path) -> None:
    _parent(tmp_path / "parent", "mobilenetv2-unet")
    settings = start_from(
        str(tmp_path / "parent"), **STANDING | {"learning_rate": 1e-2}, batch=2, crop_px=64, freeze_encoder=True
    )
    network = fit(training_images[:3], training_images[3:], settings, tmp_path / "child")
    began = fit_module._starting_network(settings)
    changed = {
        one.path.split("/")[0]
        for one, other in zip(network.variables, began.variables, strict=True)
        if not np.allclose(one.value, other.value, atol=1e-6)
    }

    encoder = {layer.name for layer in encoder_layers(network)}
    assert len(encoder) > 90
    assert not changed & encoder
    assert {"up0_conv", "up0_BN", "targets"} <= changed


def test_normalisations_may_stay_those_of_the_parent(training_images: list[AnnotatedImage], tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    _parent(tmp_path / "parent")
    few = STANDING | {"learning_rate": 1e-2, "batches_per_epoch": 3, "warmup_batches": 1}
    settings = start_from(str(tmp_path / "parent"), **few, batch=2, crop_px=64, keep_normalisation=True)
    network = fit(training_images[:3], training_images[3:], settings, tmp_path / "child")
    stored = load_file(tmp_path / "parent" / WEIGHTS_FILE)
    moved = {
        variable.path
        for variable in network.variables
        if "seed" not in variable.path
        and not np.allclose(variable.value, stored[variable.path].astype(np.float32), atol=1e-6)
    }
    assert any("_conv/kernel" in path for path in moved)
    assert [path for path in moved if "_norm/" in path] == []
    with pytest.raises(ValidationError, match="has no normalisations to keep"):
        FitSettings(keep_normalisation=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--encoder-weights", "imagenet"], "are for mobilenetv2-unet; architecture 'unet' has no such encoder"),
        (["--freeze-encoder"], "are for mobilenetv2-unet; architecture 'unet' has no such encoder"),
        (["--architecture", "resnet"], "known are unet, mobilenetv2-unet"),
        (["--from", "PARENT", "--architecture", "unet"], "has architecture 'mobilenetv2-unet', and 'unet' is asked"),
        (["--from", "PARENT", "--encoder-weights", "imagenet"], "has that model's encoder. Leave out either"),
        (["--from", "nobody"], "There is no model 'nobody'"),
        (["--architecture", "mobilenetv2-unet", "--freeze-encoder"], "begins at random and is frozen learns nothing"),
        (["--learning-rate", "-1"], "--learning-rate -1.0: input should be greater than 0"),
        (["--precision", "double"], "--precision double: input should be 'auto', 'float32', "),
    ],
)
def test_calls_that_do_not_fit_are_refused_before_anything_is_read(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _parent(tmp_path / "PARENT", "mobilenetv2-unet")
    given = [str(tmp_path / option) if option == "PARENT" else option for option in options]
    status = main(["train", "--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), *given])

    assert status == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "out").exists()
