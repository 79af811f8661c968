"""The text tower of big_vision: a ViT's encoder over the tokens of a text."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from vit_keras import layers
from vit_keras.models.regularization import Regularization
from vit_keras.models.vit import AFTER_ENCODER, classify, encoder_blocks
from vit_keras.names import unknown_name

POOLINGS = ("last", "first", "mean", "max", "map")


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """Everything that decides the architecture of a text tower.

    Attributes:
      hidden_size: width of the tokens.
      mlp_dim: width of the blocks' MLPs.
      num_heads: attention heads.
      num_layers: transformer blocks.
      vocab_size: how many tokens there are.
      max_length: tokens of every text, padded.
      pooling: what the head sees: the "last" or "first" token, the "mean" or "max" over all, or
        "map" (attention pooling).
      classes: width of the embedding that comes out; 0 for no head.
    """

    hidden_size: int
    mlp_dim: int
    num_heads: int
    num_layers: int
    vocab_size: int = 32_000
    max_length: int = 64
    pooling: str = "last"
    classes: int = 0

    def __post_init__(self):
        """Refuses values that no model can be built from."""
        if self.pooling not in POOLINGS:
            raise unknown_name("pooling", self.pooling, POOLINGS)
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads is {self.num_heads}; expected a divisor of hidden_size "
                f"{self.hidden_size}."
            )

    def replace(self, **changes) -> TextConfig:
        """A copy with some facts changed."""
        return dataclasses.replace(self, **changes)


def build_text(
    config: TextConfig,
    *,
    regularization: Regularization | None = None,
    dtype: Any = None,
    name: str = "txt",
) -> keras.Model:
    """Assembles a text tower (the text transformer of arXiv 2111.07991 and 2303.15343).

    There is no mask: padding is a token like any other.

    Args:
      config: the architecture.
      regularization: dropout and the like; None for none.
      dtype: Keras dtype policy of every layer but the head; None for the global policy.
      name: of the model.

    Returns:
      A functional model from token numbers (batch, max_length), int32, to float32 embeddings
      (batch, classes); where classes is 0 to (batch, hidden_size) in the compute dtype.
    """
    tokens = keras.Input((config.max_length,), dtype="int32", name="tokens")
    x = layers.TokenEmbedding(config.vocab_size, config.hidden_size, dtype=dtype, name="Embed_0")(
        tokens
    )
    # A row of tokens is a grid one token high.
    x = layers.PositionEmbedding(
        (1, config.max_length), stddev=config.hidden_size**-0.5, dtype=dtype, name="pos_embedding"
    )(x)
    x = encoder_blocks(x, config, regularization or Regularization(), dtype)
    if config.pooling == "map":
        x = layers.MAPHead(config.num_heads, config.mlp_dim, dtype=dtype, name="MAPHead_0")(x)
    else:
        x = layers.TokenPooling(config.pooling, dtype=AFTER_ENCODER, name="pooled")(x)
    outputs = classify(x, config.classes, None, "lecun_normal")
    return keras.Model(tokens, outputs, name=name)
