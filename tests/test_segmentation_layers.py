"""The two layers: that they are what Keras would compute, and that weights load with or without them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from hcs_nuclei.segmentation.layers import BatchNormalization, WithSquareRoot

# Keras asks TensorFlow's variables for arrays in NumPy 1's way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

MOMENTUM = 0.9
CHANNELS = 3


def _activations(seed: int, shape: tuple[int, int, int] = (4, 16, 16)) -> npt.NDArray[np.float32]:
    """(batch, y, x, 3) whose channels differ in mean and spread."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 1, (*shape, CHANNELS)) * (0.1, 1, 7) + (-2, 0, 30)).astype(np.float32)


def _twins() -> tuple[Any, Any]:
    """Ours and Keras's, with the same weights as training leaves them."""
    rng = np.random.default_rng(5)
    weights = [rng.uniform(0.5, 2, 3), rng.normal(0, 1, 3), rng.normal(0, 1, 3), rng.uniform(0.5, 2, 3)]
    twins = (
        BatchNormalization(momentum=MOMENTUM, name="norm"),
        keras.layers.BatchNormalization(momentum=MOMENTUM, name="norm"),
    )
    for layer in twins:
        layer.build((None, None, None, CHANNELS))
        layer.set_weights(weights)
    return twins


def test_in_training_it_gives_the_values_of_keras_own() -> None:
    ours, theirs = _twins()
    for step in range(3):
        x = _activations(step)
        np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), atol=1e-4)

    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, rtol=1e-4, atol=1e-4)
    # That of a sample of n rather than of the n themselves: n / (n - 1) of Keras's, here 1024 / 1023.
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=1.1e-3)


def test_the_moving_variance_is_that_of_a_sample() -> None:
    ours, _ = _twins()
    before = np.asarray(ours.moving_variance)
    x = _activations(0, (2, 3, 4))
    ours(x, training=True)

    expected = MOMENTUM * before + (1 - MOMENTUM) * x.astype(np.float64).var(axis=(0, 1, 2), ddof=1)
    np.testing.assert_allclose(ours.moving_variance, expected, rtol=1e-4)


def test_in_training_it_has_the_gradients_of_keras_own() -> None:
    import tensorflow as tf

    x, weight = tf.constant(_activations(0)), _activations(1)
    gradients = []
    for layer in _twins():
        with tf.GradientTape() as tape:
            tape.watch(x)
            summed = tf.reduce_sum(layer(x, training=True) * weight)
        gradients.append(tape.gradient(summed, [x, layer.gamma.value, layer.beta.value]))

    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * float(np.abs(other).max()))


def test_in_use_it_is_keras_own_and_leaves_its_statistics() -> None:
    ours, theirs = _twins()
    before = [np.array(weights) for weights in ours.get_weights()]
    x = _activations(0)

    np.testing.assert_array_equal(ours(x, training=False), theirs(x, training=False))
    for weights, kept in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, kept)


def test_mixed_precision_keeps_its_dtype_and_float32_statistics() -> None:
    ours, theirs = (
        layer(momentum=MOMENTUM, dtype="mixed_bfloat16")
        for layer in (BatchNormalization, keras.layers.BatchNormalization)
    )
    x = keras.ops.cast(_activations(0), "bfloat16")
    one, other = ours(x, training=True), theirs(x, training=True)

    assert keras.backend.standardize_dtype(one.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(ours.moving_mean.dtype) == "float32"
    np.testing.assert_allclose(keras.ops.cast(one, "float32"), keras.ops.cast(other, "float32"), atol=0.05)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, rtol=1e-3, atol=1e-3)


def _network(normalisation: Any) -> Any:
    image = keras.layers.Input((8, 8, 1))
    x = WithSquareRoot(name="image_and_root")(image)
    x = keras.layers.Conv2D(CHANNELS, 3, name="block_conv")(x)
    return keras.Model(image, normalisation(name="block_norm")(x))


def test_weights_load_with_or_without_them() -> None:
    ours, theirs = (_network(normalisation) for normalisation in (BatchNormalization, keras.layers.BatchNormalization))

    assert ours.get_layer("image_and_root").weights == []
    assert [v.path for v in ours.variables] == [v.path for v in theirs.variables]
    theirs.set_weights(ours.get_weights())
    x = np.random.default_rng(0).normal(0, 1, (1, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-6)


def test_the_image_and_the_square_root_of_what_is_positive() -> None:
    layer = WithSquareRoot()
    image = np.array([[[[-4.0], [0.0]], [[0.25], [9.0]]]], np.float32)

    np.testing.assert_allclose(layer(image)[0], np.array([[[-4, 0], [0, 0]], [[0.25, 0.5], [9, 3]]]))
    assert layer.compute_output_shape((None, None, None, 1)) == (None, None, None, 2)
