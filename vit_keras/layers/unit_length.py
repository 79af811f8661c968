"""Vectors to vectors of length one."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="vit_keras")
class UnitLength(keras.layers.Layer):
    """Divides by the Euclidean norm plus 1e-8, in float32 (as big_vision's two towers do)."""

    def call(self, inputs):
        """(batch, D) to float32 (batch, D)."""
        x = tf.cast(inputs, tf.float32)
        return x / (tf.norm(x, axis=-1, keepdims=True) + 1e-8)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape
