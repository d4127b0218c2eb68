"""The architecture that ours is measured against: MobileNetV2 as feature extractor, with an upsampling path.

Source: Sandler et al. 2018; the segmentation tutorial of TensorFlow, with the upsampling blocks of pix2pix (Isola et
al. 2017).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hcs_nuclei.errors import ModelError
from hcs_nuclei.segmentation.backend import import_keras
from hcs_nuclei.segmentation.targets import TARGETS

#: Layers of the encoder that the upsampling path is joined with, at 1/2, 1/4, 1/8, 1/16 and, to begin with, 1/32.
SKIPS = (
    "block_1_expand_relu",
    "block_3_expand_relu",
    "block_6_expand_relu",
    "block_13_expand_relu",
    "block_16_project",
)
#: What ``imagenet`` downloads, for those who fetch it by hand.
IMAGENET_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"


def mobilenetv2_unet(
    filters: tuple[int, ...] = (512, 256, 128, 64), alpha: float = 1.0, *, folded: bool = False
) -> Any:
    """MobileNetV2 of width `alpha`, then transposed convolutions of `filters` that each double height and width.

    Input and output are those of :func:`hcs_nuclei.segmentation.network.build_network`. The image enters three times,
    [0, 1] brought to [-1, 1] as the encoder's ImageNet weights expect. `folded` changes nothing: the normalisations
    stay, because Keras builds the encoder with them.
    """
    import keras
    from keras import layers

    from hcs_nuclei.segmentation.layers import BatchNormalization

    image = layers.Input((None, None, 1), name="image")
    x = layers.Rescaling(2.0, offset=-1.0, name="image_scaled")(image)
    x = layers.Concatenate(name="image_as_colour")([x, x, x])
    encoder = keras.applications.MobileNetV2(
        input_shape=(None, None, 3), input_tensor=x, alpha=alpha, include_top=False, weights=None
    )
    *skips, x = (encoder.get_layer(name).output for name in SKIPS)
    for depth, width in zip(range(len(skips) - 1, -1, -1), filters, strict=True):
        x = layers.Conv2DTranspose(width, 3, strides=2, padding="same", use_bias=False, name=f"up{depth}_conv")(x)
        x = BatchNormalization(momentum=0.98, name=f"up{depth}_BN")(x)
        x = layers.Activation("relu", name=f"up{depth}_relu")(x)
        x = layers.Concatenate(name=f"up{depth}_join")([x, skips[depth]])
    out = layers.Conv2DTranspose(
        TARGETS, 3, strides=2, padding="same", activation="sigmoid", dtype="float32", name="targets"
    )(x)
    network = keras.Model(image, out, name="mobilenetv2_unet")
    for layer in encoder_layers(network):
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.98  # with ImageNet's 0.999 the statistics would lag epochs of ours behind the kernels
    return network


def encoder_layers(network: Any) -> list[Any]:
    """The layers of MobileNetV2 that have weights, in a network of :func:`mobilenetv2_unet`."""
    return [layer for layer in network.layers if layer.weights and not layer.name.startswith(("up", "targets"))]


def freeze_encoder(network: Any) -> None:
    """Keep the encoder as it is in training: its kernels, and its normalisations with their statistics."""
    for layer in encoder_layers(network):
        layer.trainable = False


def load_encoder(network: Any, weights: str) -> None:
    """Give the encoder of a network of :func:`mobilenetv2_unet` (of full width) weights from elsewhere.

    Args:
        network: changed in place.
        weights: ``imagenet`` (Keras's download, kept in its cache), or a file of MobileNetV2's weights without its top
            as Keras writes them.

    Raises:
        ModelError: no such file, not these weights, or no network to download from.
    """
    keras = import_keras()
    if weights != "imagenet" and not Path(weights).is_file():
        raise ModelError(
            f"There is no file {weights!r} with weights for the encoder: expected none, imagenet, or a file of "
            "MobileNetV2's weights without its top, as Keras writes them."
        )
    try:
        source = keras.applications.MobileNetV2(input_shape=(224, 224, 3), include_top=False, weights=weights)
    except Exception as error:  # Keras's download raises no class of its own, its readers whatever the file led them to
        if weights == "imagenet":
            raise ModelError(
                f"The ImageNet weights of MobileNetV2 cannot be downloaded: {error}. Where there is a network fetch "
                f"{IMAGENET_FILE} and give its path as --encoder-weights, or train with --encoder-weights none."
            ) from None
        raise ModelError(
            f"{weights} does not hold the weights of MobileNetV2 (width 1, without its top): {error}"
        ) from None
    for layer in encoder_layers(network):
        layer.set_weights(source.get_layer(layer.name).get_weights())
