"""The learned class token."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="vit_keras")
class ClassToken(keras.layers.Layer):
    """Puts one learned token in front of each sequence (arXiv 2010.11929, equation 1, x_class)."""

    def build(self, input_shape):
        """Makes `token` (1, 1, hidden_size), zeros at first."""
        self.token = self.add_weight(
            name="token", shape=(1, 1, input_shape[-1]), initializer="zeros"
        )
        super().build(input_shape)

    def call(self, tokens):
        """`tokens` (batch, n, hidden_size) to (batch, n + 1, hidden_size)."""
        token = tf.cast(self.token, tokens.dtype)
        return tf.concat([tf.repeat(token, tf.shape(tokens)[0], axis=0), tokens], axis=1)

    def compute_output_shape(self, input_shape):
        """(batch, n + 1, hidden_size)."""
        batch, length, hidden_size = tuple(input_shape)
        return (batch, None if length is None else length + 1, hidden_size)
