"""The table of architectures: a name in, a Keras network out that maps images to what separates and outlines nuclei.

Written with Keras's layers and operations only, so that the same network trains on its TensorFlow, JAX and torch
backends and its weights load in any of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hcs_nuclei.segmentation.backend import import_keras
from hcs_nuclei.segmentation.mobilenet import mobilenetv2_unet
from hcs_nuclei.segmentation.targets import TARGETS

#: Height and width of every input must be multiples of this: five halvings.
STRIDE = 32


def build_network(architecture: str = "unet", *, folded: bool = False) -> Any:
    """An untrained network of that name; `folded` is its form for inference.

    Input (batch, y, x, 1) float32, normalised; output (batch, y, x, 5) float32 in [0, 1] in the order of
    :mod:`hcs_nuclei.segmentation.targets`. Height and width are free multiples of 32.

    Raises:
        KeyError: no architecture of that name.
    """
    import_keras()
    return ARCHITECTURES[architecture](folded=folded)


def unet(
    filters: tuple[int, ...] = (32, 64, 128, 192, 256),
    head_filters: int = 16,
    *,
    folded: bool = False,
) -> Any:
    """U-Net with a stride-2 stem: most of the work at half resolution, outlines refined at full resolution.

    Source: Ronneberger et al. 2015; batch normalisation after each convolution; nearest-neighbour upsampling instead of
    transposed convolution (no checkerboard; the gradient of a bilinear one costs a fifth of the training on a CPU). The
    image enters with its square root, in which nuclei a tenth as bright as their neighbours still have an outline.
    `folded` builds it without the normalisations, for :func:`fold_normalisation` to fill.
    """
    import keras
    from keras import layers

    from hcs_nuclei.segmentation.layers import BatchNormalization, WithSquareRoot

    def block(x: Any, width: int, name: str, strides: int = 1) -> Any:
        if folded:
            return layers.Conv2D(width, 3, strides=strides, padding="same", activation="relu", name=f"{name}_conv")(x)
        x = layers.Conv2D(width, 3, strides=strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
        x = BatchNormalization(momentum=0.98, name=f"{name}_norm")(x)
        return layers.Activation("relu", name=f"{name}_relu")(x)

    image = layers.Input((None, None, 1), name="image")
    both = WithSquareRoot(name="image_and_root")(image)
    x = block(both, filters[0], "stem", strides=2)
    x = block(x, filters[0], "down0")
    skips = [x]
    for depth, width in enumerate(filters[1:], start=1):
        x = layers.MaxPooling2D(2, name=f"pool{depth}")(x)
        x = block(x, width, f"down{depth}a")
        x = block(x, width, f"down{depth}b")
        skips.append(x)
    for depth in range(len(filters) - 2, -1, -1):
        x = layers.UpSampling2D(2, name=f"up{depth}")(x)
        x = layers.Concatenate(name=f"join{depth}")([x, skips[depth]])
        x = block(x, filters[depth], f"up{depth}a")
        x = block(x, filters[depth], f"up{depth}b")
    x = block(x, head_filters, "head_half")
    x = layers.UpSampling2D(2, name="up_full")(x)
    x = layers.Concatenate(name="join_full")([x, both])
    x = block(x, head_filters, "head_full_a")
    x = block(x, head_filters, "head_full_b")
    out = layers.Conv2D(TARGETS, 1, activation="sigmoid", dtype="float32", name="targets")(x)
    return keras.Model(image, out, name="unet")


def fold_normalisation(network: Any, folded: Any) -> Any:
    """`folded` with the weights of `network`, each normalisation multiplied into the convolution before it.

    The same function up to rounding; two passes over every activation fewer, which on a CPU is what they cost. Where
    `folded` has its normalisations still, it is a copy.
    """
    norms = {layer.name.removesuffix("_norm"): layer for layer in network.layers if layer.name.endswith("_norm")}
    for layer in folded.layers:
        if not layer.weights:
            continue
        source = network.get_layer(layer.name)
        norm = norms.get(layer.name.removesuffix("_conv"))
        if norm is None:
            layer.set_weights(source.get_weights())
            continue
        gamma, beta, mean, variance = norm.get_weights()
        gain = gamma / (variance + norm.epsilon) ** 0.5
        layer.set_weights([source.get_weights()[0] * gain, beta - mean * gain])
    return folded


ARCHITECTURES: dict[str, Callable[..., Any]] = {"unet": unet, "mobilenetv2-unet": mobilenetv2_unet}
#: Those whose encoder can begin with weights from elsewhere, and be frozen.
WITH_ENCODER = frozenset({"mobilenetv2-unet"})


def flops_per_pixel(network: Any) -> float:
    """Floating point operations per input pixel of the convolutions of any kind, two for each multiply-add."""
    from keras import layers

    size = 8 * STRIDE
    total = 0
    shapes: dict[int, tuple[int, ...]] = {id(network.inputs[0]): (1, size, size, 1)}
    for layer in network.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        several = isinstance(layer.input, list)
        before = [shapes[id(tensor)] for tensor in (layer.input if several else [layer.input])]
        after = layer.compute_output_shape(before if several else before[0])
        shapes[id(layer.output)] = after
        if isinstance(layer, layers.Conv2DTranspose):
            _, height, width, _ = before[0]  # each pixel of its input is multiplied with the whole kernel
        elif isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            _, height, width, _ = after
        else:
            continue
        total += 2 * height * width * math.prod(layer.kernel.shape)
    return total / size**2
