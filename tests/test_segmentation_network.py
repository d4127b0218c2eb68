"""The network: what goes in and comes out, what it costs, and that its weights need no code of ours to load."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from hcs_nuclei.segmentation.network import (
    ARCHITECTURES,
    STRIDE,
    build_network,
    flops_per_pixel,
    fold_normalisation,
    unet,
)
from hcs_nuclei.segmentation.targets import TARGETS


@pytest.fixture(scope="module")
def shipped() -> Any:
    """The default architecture, untrained."""
    return build_network()


def test_every_pixel_gets_a_share_of_each_target(shipped: Any) -> None:
    images = np.random.default_rng(0).normal(0, 3, (2, 2 * STRIDE, 3 * STRIDE, 1)).astype(np.float32)
    out = np.asarray(shipped(images))

    assert out.shape == (2, 2 * STRIDE, 3 * STRIDE, TARGETS)
    assert out.dtype == np.float32
    assert out.min() >= 0
    assert out.max() <= 1
    assert out.std() > 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_none_costs_more_than_110_kflop_a_pixel_and_25_mb(architecture: str) -> None:
    network = build_network(architecture)

    assert flops_per_pixel(network) <= 110_000
    assert 2 * network.count_params() <= 25e6  # kernels are stored in two bytes


def test_flops_of_a_small_network_by_hand() -> None:
    # 2 × inputs × outputs × 9 a convolution, over the share of pixels that it is computed for.
    expected = (
        2 * 9 * 2 * 4 / 4  # stem, stride 2, on the image and its square root
        + 2 * 9 * 4 * 4 / 4  # down0
        + 2 * 9 * (4 * 6 + 6 * 6) / 16  # down1a, down1b
        + 2 * 9 * ((6 + 4) * 4 + 4 * 4) / 4  # up0a, up0b on the joined 10 channels
        + 2 * 9 * 4 * 2 / 4  # head at half resolution
        + 2 * 9 * (2 + 2) * 2  # head_full_a: with the image and its square root
        + 2 * 9 * 2 * 2  # head_full_b
        + 2 * 2 * 5  # targets, 1 × 1
    )

    assert flops_per_pixel(unet(filters=(4, 6), head_filters=2)) == pytest.approx(expected)


def test_flops_of_depthwise_and_transposed_convolutions_by_hand() -> None:
    import keras
    from keras import layers

    image = layers.Input((None, None, 1))
    x = layers.Concatenate()([image, image, image])
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="valid")(x)  # 9 products for each of 3 channels at a quarter
    x = layers.Add()([x, x])
    x = layers.Conv2D(8, 1)(x)  # 3 × 8 products at a quarter
    x = layers.Conv2DTranspose(5, 3, strides=2, padding="same")(x)  # 9 × 8 × 5 products at a quarter: its input
    network = keras.Model(image, x)

    assert flops_per_pixel(network) == 2 * (9 * 3 + 3 * 8 + 9 * 8 * 5) / 4


# What TensorFlow's profiler counts for Conv2D, DepthwiseConv2dNative and Conv2DBackpropInput at 256 × 256.
@pytest.mark.parametrize(("architecture", "flops"), [("unet", 98_944), ("mobilenetv2-unet", 72_913.75)])
def test_flops_of_the_architectures_are_those_that_tensorflow_counts(architecture: str, flops: float) -> None:
    assert flops_per_pixel(build_network(architecture)) == flops


@pytest.mark.parametrize("folded", [False, True])
def test_it_is_made_of_keras_and_our_own_layers_and_holds_no_code(folded: bool) -> None:
    network = build_network(folded=folded)
    from_elsewhere = {type(layer) for layer in network.layers if not type(layer).__module__.startswith("keras.")}

    assert {kind.__module__ for kind in from_elsewhere} == {"hcs_nuclei.segmentation.layers"}
    assert "Lambda" not in {type(layer).__name__ for layer in network.layers}


def _with_random_normalisations(network: Any) -> Any:
    """`network` with statistics as training leaves them, other than 0 and 1."""
    rng = np.random.default_rng(1)
    for layer in network.layers:
        if layer.name.endswith("_norm"):
            gamma, beta, mean, variance = (np.shape(w) for w in layer.get_weights())
            layer.set_weights(
                [
                    rng.uniform(0.5, 2, gamma),
                    rng.normal(0, 1, beta),
                    rng.normal(0, 1, mean),
                    rng.uniform(0.2, 3, variance),
                ]
            )
    return network


def test_folding_the_normalisations_changes_nothing_but_the_last_digits() -> None:
    small: dict[str, Any] = {"filters": (4, 8, 8), "head_filters": 4}
    network = _with_random_normalisations(unet(**small))
    folded = fold_normalisation(network, unet(**small, folded=True))
    images = np.random.default_rng(2).normal(0, 1, (1, 64, 96, 1)).astype(np.float32)

    np.testing.assert_allclose(np.asarray(folded(images)), np.asarray(network(images)), atol=1e-5)
    assert not any(layer.name.endswith("_norm") for layer in folded.layers)
    assert flops_per_pixel(folded) == flops_per_pixel(network)


def test_an_architecture_that_is_not_in_the_table_is_a_key_error() -> None:
    assert "unet" in ARCHITECTURES
    with pytest.raises(KeyError, match="resnet"):
        build_network("resnet")


@pytest.mark.slow
def test_importing_keras_says_nothing_on_stderr_but_what_matters() -> None:
    code = (
        "import os; from hcs_nuclei.segmentation.backend import import_keras; import_keras();"
        "os.write(2, b'after\\n'); import_keras()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr == "after\n"
    assert done.stdout == ""
