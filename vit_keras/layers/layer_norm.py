"""Layer normalisation with float32 statistics, as Flax computes it."""

from __future__ import annotations

import keras
import tensorflow as tf

from vit_keras import compat


@keras.saving.register_keras_serializable(package="vit_keras")
class LayerNorm(keras.layers.Layer):
    """Normalises the last axis (Ba et al. 2016, arXiv 1607.06450).

    Flax's defaults, which every published checkpoint was trained with: `epsilon` 1e-6 inside the
    root, and the variance as E[x²] - E[x]² in float32, whatever the compute dtype. Scale and bias
    aren't rounded by mixed precision.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        """Makes `scale` and `bias`, both of shape (channels,)."""
        channels = (input_shape[-1],)
        exact = compat.full_precision_weight()
        self.scale = self.add_weight(name="scale", shape=channels, initializer="ones", **exact)
        self.bias = self.add_weight(name="bias", shape=channels, initializer="zeros", **exact)
        super().build(input_shape)

    def call(self, inputs):
        """`inputs` (..., channels); the same shape and dtype comes back."""
        dtype = tf.float64 if inputs.dtype == tf.float64 else tf.float32
        x = tf.cast(inputs, dtype)
        mean = tf.reduce_mean(x, axis=-1, keepdims=True)
        mean_of_squares = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
        # Rounding may leave the difference a little below zero, where the root is not defined.
        variance = tf.maximum(mean_of_squares - tf.square(mean), 0.0)
        factor = tf.math.rsqrt(variance + self.epsilon) * tf.cast(self.scale, dtype)
        return tf.cast((x - mean) * factor + tf.cast(self.bias, dtype), inputs.dtype)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}
