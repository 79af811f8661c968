"""From tokens to one vector without weights."""

from __future__ import annotations

import keras
import tensorflow as tf

POOLINGS = {
    "first": lambda tokens: tokens[:, 0],
    "last": lambda tokens: tokens[:, -1],
    "mean": lambda tokens: tf.reduce_mean(tokens, axis=1),
    "max": lambda tokens: tf.reduce_max(tokens, axis=1),
}


@keras.saving.register_keras_serializable(package="vit_keras")
class TokenPooling(keras.layers.Layer):
    """Takes the first (the class token) or last token, or the mean or maximum over all.

    Args:
      pooling: "first", "last", "mean" or "max".
    """

    def __init__(self, pooling: str, **kwargs):
        super().__init__(**kwargs)
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}; expected one of {sorted(POOLINGS)}.")
        self.pooling = pooling

    def call(self, tokens):
        """`tokens` (batch, n, D) to (batch, D)."""
        return POOLINGS[self.pooling](tokens)

    def compute_output_shape(self, input_shape):
        """(batch, D)."""
        return (input_shape[0], input_shape[-1])

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "pooling": self.pooling}
