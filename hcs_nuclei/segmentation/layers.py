"""Two layers that Keras lacks; their variables are those of Keras's own, so weights load with or without them."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


class BatchNormalization(layers.BatchNormalization):  # type: ignore[misc]
    """Keras's batch normalisation, computed in training by TensorFlow's or torch's one fused kernel.

    The same function. Keras computes mean, variance and result as separate float32 passes over every activation, which
    on a CPU is a quarter of the time of a training step in mixed precision.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """(batch, y, x, channel) of any float dtype → the same shape and dtype, normalised over all but the last."""
        if not (training and self.trainable) or keras.backend.backend() not in ("tensorflow", "torch"):
            return super().call(inputs, training=training, mask=mask)
        normalised, mean, variance = _fused(inputs, self.gamma, self.beta, self.epsilon)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
        return normalised


def _fused(x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        gain, shift = ops.convert_to_tensor(gamma), ops.convert_to_tensor(beta)
        result: tuple[Any, Any, Any] = tf.compat.v1.nn.fused_batch_norm(x, gain, shift, epsilon=epsilon)
        return result
    import torch

    channels_first = x.permute(0, 3, 1, 2)  # a view: in memory it stays as it is
    mean, variance = torch.zeros_like(gamma.value), torch.zeros_like(gamma.value)
    # With a momentum of 1 the running values are those of this batch.
    y = torch.nn.functional.batch_norm(
        channels_first, mean, variance, gamma.value, beta.value, training=True, momentum=1.0, eps=epsilon
    )
    return y.permute(0, 2, 3, 1), mean, variance


class WithSquareRoot(layers.Layer):  # type: ignore[misc]
    """(batch, y, x, 1) → (batch, y, x, 2): the image, and the square root of what of it is positive."""

    def call(self, image: Any) -> Any:
        """Computed in the layer's own dtype."""
        return ops.concatenate([image, ops.sqrt(ops.relu(image))], axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """One more channel."""
        return (*input_shape[:-1], 2)
