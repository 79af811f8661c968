"""Vectors for the tokens of a text."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="vit_keras")
class TokenEmbedding(keras.layers.Layer):
    """Looks up one learned vector a token number.

    Args:
      vocab_size: how many tokens there are.
      hidden_size: width of the vectors.
    """

    def __init__(self, vocab_size: int, hidden_size: int, **kwargs):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size

    def build(self, input_shape):
        """Makes `embedding` (vocab_size, hidden_size)."""
        self.embedding = self.add_weight(
            name="embedding",
            shape=(self.vocab_size, self.hidden_size),
            initializer=keras.initializers.RandomNormal(stddev=self.hidden_size**-0.5),
        )
        super().build(input_shape)

    def call(self, tokens):
        """`tokens` (batch, n), integers below vocab_size, to (batch, n, hidden_size)."""
        table = tf.cast(self.embedding, self.compute_dtype)
        return tf.gather(table, tf.cast(tokens, tf.int32))

    def compute_output_shape(self, input_shape):
        """(batch, n, hidden_size)."""
        return (*tuple(input_shape), self.hidden_size)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
        }
