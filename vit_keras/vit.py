"""The calls of the PyPI package `vit-keras` 0.2.0, over this package's own.

Models built here have the exact gelu replaced by the one their weights were trained with, no
Lambda layers, and load and save like any other.
"""

from __future__ import annotations

from absl import logging

from vit_keras import utils
from vit_keras.checkpoints import catalog
from vit_keras.layers.patch_encoder import pair
from vit_keras.models.config import ViTConfig
from vit_keras.models.regularization import Regularization
from vit_keras.models.variants import plain_config
from vit_keras.models.vit import build_vit
from vit_keras.names import unknown_name

SIZES = {"B_16", "B_32", "L_16", "L_32"}
WEIGHTS = {"imagenet21k": 21_843, "imagenet21k+imagenet2012": 1_000}


def preprocess_inputs(X):  # noqa: N803 (the published name)
    """Pixels in [0, 255], of any shape, to [-1, 1]."""
    return X / 127.5 - 1.0


def build_model(
    image_size,
    patch_size,
    num_layers,
    hidden_size,
    num_heads,
    name,
    mlp_dim,
    classes,
    dropout=0.1,
    activation="linear",
    include_top=True,
    representation_size=None,
):
    """Builds a ViT with a class token; see `models.ViTConfig` for the arguments."""
    height, width = pair("image_size", image_size)
    if height % patch_size or width % patch_size:
        raise ValueError(f"image_size is {image_size!r}; expected a multiple of {patch_size}.")
    config = ViTConfig(
        hidden_size,
        mlp_dim,
        num_heads,
        num_layers,
        patch_size,
        image_size,
        classes=classes if include_top else 0,
        representation_size=representation_size,
    )
    return build_vit(
        config, regularization=Regularization(dropout), activation=activation, name=name
    )


def load_pretrained(size, weights, pretrained_top, model, image_size, patch_size):
    """Downloads the published weights of a size ("B_16") and reads them into `model`."""
    height, width = pair("image_size", image_size)
    utils.load_weights_numpy(
        model,
        catalog.fetch(size, weights, image_size),
        pretrained_top=pretrained_top,
        num_x_patches=width // patch_size,
        num_y_patches=height // patch_size,
    )


def _constructor(size: str, default_size: int):
    def build(
        image_size=(default_size, default_size),
        classes=1000,
        activation="linear",
        include_top=True,
        pretrained=True,
        pretrained_top=True,
        weights="imagenet21k+imagenet2012",
    ):
        if weights not in WEIGHTS:
            raise unknown_name("weights", weights, WEIGHTS)
        if pretrained_top:
            if not include_top or not pretrained:
                raise ValueError("pretrained_top needs include_top and pretrained.")
            if classes != WEIGHTS[weights]:
                logging.warning(
                    "classes is %s; pretrained_top makes it %s.", classes, WEIGHTS[weights]
                )
            classes = WEIGHTS[weights]
        config = plain_config(size)
        model = build_model(
            image_size,
            config.patch_size[0],
            config.num_layers,
            config.hidden_size,
            config.num_heads,
            f"vit-{size.lower().replace('_', '')}",
            config.mlp_dim,
            classes,
            activation=activation,
            include_top=include_top,
            representation_size=config.hidden_size if weights == "imagenet21k" else None,
        )
        if pretrained:
            load_pretrained(size, weights, pretrained_top, model, image_size, config.patch_size[0])
        return model

    build.__name__ = build.__qualname__ = f"vit_{size.lower().replace('_', '')}"
    build.__doc__ = f"""ViT-{size.replace("_", "/")}, with published weights if `pretrained`.

    Args:
      image_size: side in pixels, or (height, width).
      classes: outputs of the head; that of the weights where `pretrained_top`.
      activation: of the output.
      include_top: whether there is a head.
      pretrained: whether to load weights.
      pretrained_top: whether to load those of the head too.
      weights: "imagenet21k" or "imagenet21k+imagenet2012".
    """
    return build


vit_b16 = _constructor("B_16", 224)
vit_b32 = _constructor("B_32", 224)
vit_l16 = _constructor("L_16", 384)
vit_l32 = _constructor("L_32", 384)
