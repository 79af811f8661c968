"""Dropout without random state of its own."""

from __future__ import annotations

import keras
import tensorflow as tf

from vit_keras.layers import random


def check_rate(name: str, rate: float) -> float:
    """Returns `rate` if it is a probability below one; raises a `ValueError` naming it if not."""
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"{name} is {rate!r}; expected a number in [0, 1).")
    return float(rate)


@keras.saving.register_keras_serializable(package="vit_keras")
class StatelessDropout(keras.layers.Layer):
    """Sets a share `rate` of the elements to zero while training and scales up the rest.

    Unlike Keras 3's, its masks differ between the replicas of a strategy and repeat from run to
    run: inside `layers.random.seed_scope` they are a pure function of the scope's seed.
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        self.rate = check_rate("rate", rate)
        self.supports_masking = True

    def call(self, inputs, training=None):
        """`inputs` of any shape; the same shape and dtype comes back."""
        if not training or self.rate == 0.0:
            return inputs
        return random.drop(self, inputs, self.rate, tf.shape(inputs))

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate}
