"""`create_model`: a model by name."""

from __future__ import annotations

import os
from typing import Any

import keras

from vit_keras.checkpoints.load import load_npz
from vit_keras.models.regularization import Regularization
from vit_keras.models.variants import plain_config
from vit_keras.models.vit import build_vit


def create_model(
    variant: str,
    image_size: int | tuple[int, int] = 224,
    classes: int = 1000,
    weights: str | os.PathLike | None = None,
    *,
    classifier: str = "token",
    pos_embedding: str = "learned",
    representation_size: int | None = None,
    channels: int = 3,
    activation: str | None = None,
    dtype: Any = None,
    name: str | None = None,
    **regularization: Any,
) -> keras.Model:
    """Builds a model by the name of its size.

    Args:
      variant: such as "B/16"; also "ViT-B_16", "B_16", "b16".
      image_size: side in pixels, or (height, width).
      classes: outputs of the head; 0 for no head.
      weights: an `.npz` checkpoint to read; None for fresh weights.
      classifier: "token", "gap", "map", "token_unpooled" or "unpooled".
      pos_embedding: "learned", "learned_before_class_token" or "sincos2d".
      representation_size: width of the tanh layer before the head; None for none.
      channels: of the images.
      activation: of the output, such as "softmax"; None for linear logits.
      dtype: Keras dtype policy, such as "mixed_bfloat16"; None for the global one.
      name: of the model; by default made of the variant.
      **regularization: fields of `models.Regularization`: dropout, attention_dropout,
        stochastic_depth, layer_scale, remat.

    Returns:
      A functional Keras model from images (batch, height, width, channels) in [-1, 1] to float32
      logits (batch, classes).

    Raises:
      ValueError: an unknown variant (the message lists the valid ones) or argument.
    """
    config = plain_config(
        variant,
        image_size=image_size,
        classes=classes,
        classifier=classifier,
        pos_embedding=pos_embedding,
        representation_size=representation_size,
        channels=channels,
    )
    model = build_vit(
        config,
        regularization=Regularization.from_options(regularization),
        activation=activation,
        dtype=dtype,
        name=name or "vit_" + "".join(c for c in variant.lower() if c.isalnum()),
    )
    if weights is not None:
        load_npz(model, weights)
    return model
