"""What BERT makes of token numbers before its blocks."""

from __future__ import annotations

import keras
import tensorflow as tf

from vit_keras.layers.layer_norm import LayerNorm
from vit_keras.layers.stateless_dropout import StatelessDropout


@keras.saving.register_keras_serializable(package="vit_keras")
class BertEmbedding(keras.layers.Layer):
    """The sum of token, position and segment vectors, normalised (arXiv 1810.04805, figure 2).

    All tokens are of segment 0: a caption is one sentence.

    Args:
      vocab_size: how many tokens there are.
      max_length: how many positions there are; texts may be shorter.
      hidden_size: width of the vectors.
      num_segments: kinds of sentences that the table has.
      dropout: rate after the normalisation.
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        hidden_size: int,
        num_segments: int = 2,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.hidden_size = hidden_size
        self.num_segments = num_segments
        dtype = kwargs.get("dtype")
        self.norm = LayerNorm(1e-12, name="norm", dtype=dtype)
        self.dropout = StatelessDropout(dropout, name="dropout", dtype=dtype)

    def build(self, input_shape):
        """Makes the three tables (rows, hidden_size)."""
        if input_shape[-1] is not None and input_shape[-1] > self.max_length:
            raise ValueError(
                f"The texts have {input_shape[-1]} tokens; max_length is {self.max_length}."
            )

        def table(name, rows):
            return self.add_weight(
                name=name,
                shape=(rows, self.hidden_size),
                initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            )

        self.token_embedding = table("token_embedding", self.vocab_size)
        self.position_embedding = table("position_embedding", self.max_length)
        self.segment_embedding = table("segment_embedding", self.num_segments)
        self.norm.build((*tuple(input_shape), self.hidden_size))
        super().build(input_shape)

    def call(self, tokens, training=None):
        """`tokens` (batch, n) integers, n <= max_length, to (batch, n, hidden_size)."""
        dtype = self.compute_dtype
        x = tf.gather(tf.cast(self.token_embedding, dtype), tf.cast(tokens, tf.int32))
        x = x + tf.cast(self.position_embedding, dtype)[: tf.shape(tokens)[1]]
        x = x + tf.cast(self.segment_embedding, dtype)[0]
        return self.dropout(self.norm(x), training=training)

    def compute_output_shape(self, input_shape):
        """(batch, n, hidden_size)."""
        return (*tuple(input_shape), self.hidden_size)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "vocab_size": self.vocab_size,
            "max_length": self.max_length,
            "hidden_size": self.hidden_size,
            "num_segments": self.num_segments,
            "dropout": self.dropout.rate,
        }
