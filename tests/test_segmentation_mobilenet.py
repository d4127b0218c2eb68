"""MobileNetV2 as an encoder: its outputs and skips, weights from elsewhere, and a model of it on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hcs_nuclei.errors import ModelError
from hcs_nuclei.models.card import ModelCard, load_network, write_card, write_weights
from hcs_nuclei.segmentation.instances import InstanceSettings
from hcs_nuclei.segmentation.mobilenet import SKIPS, encoder_layers, freeze_encoder, load_encoder, mobilenetv2_unet
from hcs_nuclei.segmentation.network import ARCHITECTURES, build_network
from hcs_nuclei.segmentation.targets import TARGETS

# Keras asks TensorFlow's variables for arrays in NumPy 1's way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

IMAGES = np.random.default_rng(0).uniform(0, 1, (2, 64, 96, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> Any:
    """As `--architecture mobilenetv2-unet` builds it; only to be looked at."""
    return build_network("mobilenetv2-unet")


def _small() -> Any:
    return mobilenetv2_unet(filters=(16, 8, 8, 8), alpha=0.35)


def test_every_pixel_gets_a_share_of_each_target(network: Any) -> None:
    out = np.asarray(network(IMAGES))

    assert out.shape == (2, 64, 96, TARGETS)
    assert out.dtype == np.float32
    assert 0 <= out.min() < out.max() <= 1
    assert sum(v.shape.num_elements() for v in (w.value for w in network.variables)) * 2 < 25e6  # as float16


def test_the_encoder_sees_three_times_the_image_brought_to_minus_one_to_one(network: Any) -> None:
    import keras

    seen = keras.Model(network.input, network.get_layer("Conv1").input)(IMAGES)

    np.testing.assert_allclose(seen, np.repeat(2 * IMAGES - 1, 3, axis=-1), atol=1e-6)


def test_the_upsampling_path_is_joined_with_each_resolution(network: Any) -> None:
    joined = {id(tensor) for depth in range(4) for tensor in network.get_layer(f"up{depth}_join").input} | {
        id(network.get_layer("up3_conv").input)
    }

    assert {id(network.get_layer(name).output) for name in SKIPS} <= joined
    assert [network.get_layer(f"up{depth}_conv").filters for depth in (3, 2, 1, 0)] == [512, 256, 128, 64]


def test_the_encoder_is_keras_own_with_all_of_its_weights_but_those_of_its_end(network: Any) -> None:
    import keras

    whole = keras.applications.MobileNetV2(input_shape=(32, 32, 3), include_top=False, weights=None)
    expected = {layer.name for layer in whole.layers if layer.weights} - {"block_16_project_BN", "Conv_1", "Conv_1_bn"}

    assert {layer.name for layer in encoder_layers(network)} == expected


def test_frozen_it_has_only_the_upsampling_path_to_train() -> None:
    network = _small()
    freeze_encoder(network)

    trained = {variable.path.split("/")[0] for variable in network.trainable_variables}
    assert trained == {f"up{depth}_{part}" for depth in range(4) for part in ("conv", "BN")} | {"targets"}


def test_a_model_of_it_is_stored_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "small", lambda *, folded: _small())
    network = _small()
    rng = np.random.default_rng(1)
    for variable in network.variables:
        if variable.path.endswith(("variance", "gamma")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.path == "targets/kernel":
            variable.assign(rng.normal(0, 1, variable.shape))
    card = ModelCard(
        name="m",
        architecture="small",
        weights=write_weights(network, tmp_path / "weights.safetensors"),
        training_diameter_px=20,
        instances=InstanceSettings(),
        flops_per_pixel=1,
        parameters=1,
    )
    write_card(tmp_path, card)
    loaded = load_network(tmp_path, card)

    expected = np.asarray(network(IMAGES))
    assert expected.std() > 0.01
    np.testing.assert_allclose(loaded(IMAGES), expected, atol=5e-3)  # kernels are stored as float16


def test_its_encoder_takes_weights_from_a_file(network: Any, tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(11)
    other = keras.applications.MobileNetV2(input_shape=(32, 32, 3), include_top=False, weights=None)
    other.save_weights(tmp_path / "other.weights.h5")
    target = build_network("mobilenetv2-unet")
    target.set_weights(network.get_weights())
    load_encoder(target, str(tmp_path / "other.weights.h5"))

    for layer in encoder_layers(target):
        for mine, given in zip(layer.get_weights(), other.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(mine, given)
    mine, before = (n.get_layer("up3_conv").get_weights()[0] for n in (target, network))
    np.testing.assert_array_equal(mine, before)


def test_files_that_do_not_hold_such_weights_are_said(network: Any, tmp_path: Path) -> None:
    import keras

    with pytest.raises(ModelError, match=r"no file 'image-net' .* expected none, imagenet, or a file"):
        load_encoder(network, "image-net")
    (tmp_path / "noise.weights.h5").write_bytes(b"not HDF5")
    narrow = keras.applications.MobileNetV2(input_shape=(32, 32, 3), include_top=False, weights=None, alpha=0.35)
    narrow.save_weights(tmp_path / "narrow.weights.h5")
    for name in ("noise", "narrow"):
        with pytest.raises(ModelError, match=rf"{name}\.weights\.h5 does not hold the weights of MobileNetV2"):
            load_encoder(network, str(tmp_path / f"{name}.weights.h5"))


@pytest.mark.slow
def test_without_a_network_it_says_how_to_come_by_the_weights(tmp_path: Path) -> None:
    code = (
        "from hcs_nuclei.errors import ModelError\n"
        "from hcs_nuclei.segmentation.mobilenet import load_encoder\n"
        "try:\n    load_encoder(None, 'imagenet')\n"
        "except ModelError as error:\n    print('said:', error)\n"
    )
    # Nothing listens at the discard port, so that nothing can be downloaded; an empty folder is Keras's cache.
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    environment = os.environ | nowhere | {"KERAS_HOME": str(tmp_path), "no_proxy": "", "NO_PROXY": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)

    assert "said: The ImageNet weights of MobileNetV2 cannot be downloaded" in done.stdout
    assert "224_no_top.h5 and give its path as --encoder-weights" in done.stdout
