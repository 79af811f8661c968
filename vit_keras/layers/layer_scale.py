"""LayerScale."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="vit_keras")
class LayerScale(keras.layers.Layer):
    """A learned factor per channel on a residual branch (arXiv 2103.17239, equation 5).

    Args:
      initial_value: what every factor starts from.
    """

    def __init__(self, initial_value: float, **kwargs):
        super().__init__(**kwargs)
        self.initial_value = initial_value

    def build(self, input_shape):
        """Makes `gamma` (channels,)."""
        self.gamma = self.add_weight(
            name="gamma",
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(self.initial_value),
        )
        super().build(input_shape)

    def call(self, inputs):
        """`inputs` (..., channels); the same shape comes back."""
        return inputs * tf.cast(self.gamma, inputs.dtype)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "initial_value": self.initial_value}
