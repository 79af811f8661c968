"""Group normalisation with float32 statistics, as Flax computes it."""

from __future__ import annotations

import keras
import tensorflow as tf

from vit_keras import compat


@keras.saving.register_keras_serializable(package="vit_keras")
class GroupNorm(keras.layers.Layer):
    """Normalises images over their pixels and groups of channels (arXiv 1803.08494).

    Flax's defaults: 32 groups, epsilon 1e-6, the variance as E[x²] - E[x]².

    Args:
      groups: how many the channels are divided into; a divisor of their number.
      epsilon: added to the variance.
      zero_scale: start `scale` from zeros instead of ones (a residual branch's last norm).
    """

    def __init__(self, groups: int = 32, epsilon: float = 1e-6, zero_scale: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups
        self.epsilon = epsilon
        self.zero_scale = zero_scale

    def build(self, input_shape):
        """Makes `scale` and `bias`, both of shape (channels,)."""
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(
                f"groups is {self.groups}; expected a divisor of the {channels} channels."
            )
        exact = compat.full_precision_weight()
        self.scale = self.add_weight(
            name="scale",
            shape=(channels,),
            initializer="zeros" if self.zero_scale else "ones",
            **exact,
        )
        self.bias = self.add_weight(name="bias", shape=(channels,), initializer="zeros", **exact)
        super().build(input_shape)

    def call(self, images):
        """`images` (batch, height, width, channels); the same shape and dtype comes back."""
        dtype = tf.float64 if images.dtype == tf.float64 else tf.float32
        shape = tf.shape(images)
        channels = int(self.scale.shape[0])
        per_group = (self.groups, channels // self.groups)
        x = tf.reshape(tf.cast(images, dtype), [shape[0], shape[1] * shape[2], *per_group])
        mean = tf.reduce_mean(x, axis=[1, 3], keepdims=True)
        mean_of_squares = tf.reduce_mean(tf.square(x), axis=[1, 3], keepdims=True)
        variance = tf.maximum(mean_of_squares - tf.square(mean), 0.0)
        scale = tf.reshape(tf.cast(self.scale, dtype), per_group)
        bias = tf.reshape(tf.cast(self.bias, dtype), per_group)
        x = (x - mean) * (tf.math.rsqrt(variance + self.epsilon) * scale) + bias
        return tf.cast(tf.reshape(x, shape), images.dtype)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "groups": self.groups,
            "epsilon": self.epsilon,
            "zero_scale": self.zero_scale,
        }
