"""The plain Vision Transformer (Dosovitskiy et al. 2020, arXiv 2010.11929)."""

from __future__ import annotations

from typing import Any

import keras

from vit_keras import layers
from vit_keras.models.config import ViTConfig
from vit_keras.models.regularization import Regularization

# What comes after the blocks is a small part of the work, but each rounding there goes straight
# into the logits: it stays float32 under mixed precision, as in big_vision.
AFTER_ENCODER = "float32"


def build_vit(
    config: ViTConfig,
    *,
    regularization: Regularization | None = None,
    activation: str | None = None,
    dtype: Any = None,
    name: str = "vit",
    head_initializer: str = "zeros",
) -> keras.Model:
    """Assembles a ViT; layer names are those of the checkpoints.

    Args:
      config: the architecture.
      regularization: dropout and the like; None for none.
      activation: of the output, such as "softmax"; None for linear logits.
      dtype: Keras dtype policy up to the last block (and of attention pooling), such as
        "mixed_bfloat16"; None for the global policy. What follows is float32.
      name: of the model.
      head_initializer: of the head's kernel.

    Returns:
      A functional model from images (batch, height, width, channels) in [-1, 1] to float32
      logits (batch, classes); (batch, tokens, classes) where the classifier is unpooled; the
      pooled representation (batch, hidden_size) where classes is 0.
    """
    images = keras.Input((*config.image_size, config.channels), name="image")
    x = images if config.stem is None else config.stem.apply(images, dtype)
    x = layers.PatchEncoder(config.hidden_size, config.patch_size, dtype=dtype, name="embedding")(x)
    x = _encode(x, config, regularization or Regularization(), dtype)
    x = _pool(x, config, dtype)
    if config.representation_size:
        x = keras.layers.Dense(
            config.representation_size,
            activation="tanh",
            kernel_initializer=keras.initializers.LecunNormal(),
            dtype=AFTER_ENCODER,
            name="pre_logits",
        )(x)
    outputs = classify(x, config.classes, activation, head_initializer)
    return keras.Model(images, outputs, name=name)


def classify(x: Any, classes: int, activation: str | None, initializer: str = "zeros") -> Any:
    """The head: float32 whatever the policy, zeros at first; nothing where classes is 0.

    Zeros suit logits. An embedding, which is brought to length 1, needs "lecun_normal".
    """
    if not classes:
        return x
    x = keras.layers.Dense(
        classes, kernel_initializer=initializer, dtype=AFTER_ENCODER, name="head"
    )(x)
    if activation is None or activation == "linear":
        return x
    return keras.layers.Activation(activation, dtype=AFTER_ENCODER, name="probabilities")(x)


def _encode(x, config, regularization, dtype):
    if config.pos_embedding == "learned":
        if config.has_class_token:
            x = layers.ClassToken(dtype=dtype, name="cls")(x)
        x = layers.PositionEmbedding(
            config.grid_size,
            prefix_tokens=int(config.has_class_token),
            dtype=dtype,
            name="posembed_input",
        )(x)
    else:
        if config.pos_embedding == "sincos2d":
            positions = layers.SinCosPositionEmbedding(
                config.grid_size, dtype=dtype, name="posembed_input"
            )
        else:
            positions = layers.PositionEmbedding(
                config.grid_size,
                stddev=config.hidden_size**-0.5,
                dtype=dtype,
                name="posembed_input",
            )
        x = positions(x)
        if config.has_class_token:
            x = layers.ClassToken(dtype=dtype, name="cls")(x)
    if regularization.dropout:
        x = layers.StatelessDropout(regularization.dropout, dtype=dtype, name="posembed_dropout")(x)
    return encoder_blocks(
        x,
        config,
        regularization,
        dtype,
        approximate_gelu=config.approximate_gelu,
        epsilon=config.layer_norm_epsilon,
    )


def encoder_blocks(
    x: Any,
    config: Any,
    regularization: Regularization,
    dtype: Any,
    *,
    approximate_gelu: bool = True,
    epsilon: float = 1e-6,
) -> Any:
    """The blocks that `config` counts and the norm after them, on tokens (batch, n, D)."""
    for index in range(config.num_layers):
        x = layers.TransformerBlock(
            config.num_heads,
            config.mlp_dim,
            dropout=regularization.dropout,
            attention_dropout=regularization.attention_dropout,
            stochastic_depth=regularization.stochastic_depth_of(index, config.num_layers),
            layer_scale=regularization.layer_scale,
            remat=regularization.remat,
            approximate_gelu=approximate_gelu,
            epsilon=epsilon,
            dtype=dtype,
            name=f"encoderblock_{index}",
        )(x)
    return layers.LayerNorm(epsilon, dtype=AFTER_ENCODER, name="encoder_norm")(x)


def _pool(x, config, dtype):
    if config.classifier == "token":
        return layers.TokenPooling("first", dtype=AFTER_ENCODER, name="pooled")(x)
    if config.classifier == "gap":
        return layers.TokenPooling("mean", dtype=AFTER_ENCODER, name="pooled")(x)
    if config.classifier == "map":
        return layers.MAPHead(
            config.num_heads,
            config.mlp_dim,
            approximate_gelu=config.approximate_gelu,
            epsilon=config.layer_norm_epsilon,
            dtype=dtype,
            name="MAPHead_0",
        )(x)
    return x
