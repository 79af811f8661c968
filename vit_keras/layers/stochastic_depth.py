"""Stochastic depth (Huang et al. 2016, arXiv 1603.09382)."""

from __future__ import annotations

import keras
import tensorflow as tf

from vit_keras.layers import random
from vit_keras.layers.stateless_dropout import check_rate


@keras.saving.register_keras_serializable(package="vit_keras")
class StochasticDepth(keras.layers.Layer):
    """Drops a residual branch for a share `rate` of the examples while training.

    The kept ones are divided by `1 - rate`, so that nothing needs doing at inference.
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        self.rate = check_rate("rate", rate)

    def call(self, inputs, training=None):
        """`inputs` (batch, ...): a branch's output before it is added."""
        if not training or self.rate == 0.0:
            return inputs
        mask_shape = tf.concat([tf.shape(inputs)[:1], [1] * (len(inputs.shape) - 1)], axis=0)
        return random.drop(self, inputs, self.rate, mask_shape)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate}
