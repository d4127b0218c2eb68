"""The table of architectures: a name in, a Keras network out that maps images to what separates and outlines nuclei.

Written with Keras's layers and operations only, so that the same network trains on its TensorFlow, JAX and torch
backends and its weights load in any of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
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

    from hcs_nuclei.segmentation.layers import WithSquareRoot

    block = partial(_block, folded=folded)
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
    return keras.Model(image, _head(x, both, head_filters, folded=folded), name="unet")


def residual_unet(
    filters: tuple[int, ...] = (32, 64, 128, 256, 384),
    convolutions: tuple[int, ...] = (1, 2, 3, 3, 2),
    head_filters: int = 16,
    *,
    folded: bool = False,
) -> Any:
    """:func:`unet` with shortcuts past its convolutions, deeper and wider where the image is small.

    `convolutions` of each level on the way down; two on the way up. What that costs is saved before each upsampling,
    where a convolution of one pixel brings the channels to those of the next level, as in Ronneberger et al. 2015.
    Source of the shortcuts: He et al. 2016.
    """
    import keras
    from keras import layers

    from hcs_nuclei.segmentation.layers import WithSquareRoot

    block = partial(_block, folded=folded)

    def past(x: Any, name: str) -> Any:
        return layers.Add(name=f"{name}_add")([x, block(x, x.shape[-1], name)])

    image = layers.Input((None, None, 1), name="image")
    both = WithSquareRoot(name="image_and_root")(image)
    x = block(both, filters[0], "stem", strides=2)
    skips = []
    for depth, (width, count) in enumerate(zip(filters, convolutions, strict=True)):
        if depth:
            x = layers.MaxPooling2D(2, name=f"pool{depth}")(x)
            x = block(x, width, f"down{depth}_0")
        for i in range(min(depth, 1), count):
            x = past(x, f"down{depth}_{i}")
        skips.append(x)
    for depth in range(len(filters) - 2, -1, -1):
        x = block(x, filters[depth], f"narrow{depth}", kernel=1)
        x = layers.UpSampling2D(2, name=f"up{depth}")(x)
        x = layers.Concatenate(name=f"join{depth}")([x, skips[depth]])
        x = block(x, filters[depth], f"up{depth}_0")
        x = past(x, f"up{depth}_1")
    return keras.Model(image, _head(x, both, head_filters, folded=folded), name="residual_unet")


def _block(x: Any, width: int, name: str, *, kernel: int = 3, strides: int = 1, folded: bool) -> Any:
    """Convolution, normalisation, ReLU; `folded` leaves the normalisation to :func:`fold_normalisation`."""
    from keras import layers

    from hcs_nuclei.segmentation.layers import BatchNormalization

    how = {"strides": strides, "padding": "same", "name": f"{name}_conv"}
    if folded:
        return layers.Conv2D(width, kernel, activation="relu", **how)(x)
    x = layers.Conv2D(width, kernel, use_bias=False, **how)(x)
    x = BatchNormalization(momentum=0.98, name=f"{name}_norm")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def _head(x: Any, image: Any, filters: int, *, folded: bool) -> Any:
    """What a U-Net knows at half resolution, brought to the full one beside the image: the targets."""
    from keras import layers

    x = _block(x, filters, "head_half", folded=folded)
    x = layers.UpSampling2D(2, name="up_full")(x)
    x = layers.Concatenate(name="join_full")([x, image])
    x = _block(x, filters, "head_full_a", folded=folded)
    x = _block(x, filters, "head_full_b", folded=folded)
    return layers.Conv2D(TARGETS, 1, activation="sigmoid", dtype="float32", name="targets")(x)


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


ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "unet": unet,
    "residual-unet": residual_unet,
    "mobilenetv2-unet": mobilenetv2_unet,
}
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
