"""BERT (Devlin et al. 2018, arXiv 1810.04805) as the text tower of LiT."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from vit_keras import layers
from vit_keras.models.regularization import Regularization
from vit_keras.models.vit import classify


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Everything that decides the architecture of a BERT text tower.

    Attributes:
      hidden_size: width of the tokens.
      mlp_dim: width of the blocks' MLPs.
      num_heads: attention heads.
      num_layers: blocks.
      vocab_size: how many tokens there are.
      max_length: how many positions there are; texts may be shorter.
      num_segments: kinds of sentences that the table has; all tokens are of the first.
      classes: width of the embedding that comes out; 0 for no head.
    """

    hidden_size: int
    mlp_dim: int
    num_heads: int
    num_layers: int
    vocab_size: int = 30_522
    max_length: int = 512
    num_segments: int = 2
    classes: int = 0

    def __post_init__(self):
        """Refuses values that no model can be built from."""
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads is {self.num_heads}; expected a divisor of hidden_size "
                f"{self.hidden_size}."
            )

    def replace(self, **changes) -> BertConfig:
        """A copy with some facts changed."""
        return dataclasses.replace(self, **changes)


def build_bert(
    config: BertConfig,
    *,
    regularization: Regularization | None = None,
    dtype: Any = None,
    name: str = "txt",
) -> keras.Model:
    """Assembles BERT's encoder with a linear head on its first token, [CLS].

    Args:
      config: the architecture.
      regularization: dropout; its other options are for pre-norm transformers.
      dtype: Keras dtype policy of every layer but the head; None for the global policy.
      name: of the model.

    Returns:
      A functional model from WordPiece numbers (batch, n), int32, n <= max_length, 0 for padding,
      to float32 embeddings (batch, classes); where classes is 0 to (batch, hidden_size).
    """
    options = regularization or Regularization()
    options.refuse("BERT", "attention_dropout", "stochastic_depth", "layer_scale", "remat")
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = layers.BertEmbedding(
        config.vocab_size,
        config.max_length,
        config.hidden_size,
        config.num_segments,
        dropout=options.dropout,
        dtype=dtype,
        name="embedder",
    )(tokens)
    for index in range(config.num_layers):
        x = layers.BertBlock(
            config.num_heads,
            config.mlp_dim,
            dropout=options.dropout,
            dtype=dtype,
            name=f"layers_{index}",
        )([x, tokens])
    x = layers.TokenPooling("first", dtype=dtype, name="pooled")(x)
    outputs = classify(x, config.classes, None, "lecun_normal")
    return keras.Model(tokens, outputs, name=name)
