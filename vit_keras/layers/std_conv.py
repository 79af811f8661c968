"""Convolution with standardised weights."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="vit_keras")
class StdConv(keras.layers.Layer):
    """A convolution, SAME padding and no bias, whose kernel is standardised before each use.

    Weight standardisation (arXiv 1903.10520, equation 4) as BiT's code has it: each output
    channel's kernel minus its mean, divided by its standard deviation plus 1e-5.

    Args:
      filters: output channels.
      kernel_size: side of the kernel.
      strides: in both directions.
    """

    def __init__(self, filters: int, kernel_size: int, strides: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides

    def build(self, input_shape):
        """Makes `kernel` (kernel_size, kernel_size, channels, filters)."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, input_shape[-1], self.filters),
            initializer=keras.initializers.LecunNormal(),
        )
        super().build(input_shape)

    def call(self, images):
        """(batch, h, w, channels) to (batch, ceil(h / strides), ceil(w / strides), filters)."""
        # In float32: a mean over thousands of bfloat16 weights would be off by more than 1e-5.
        kernel = tf.cast(self.kernel, tf.float32)
        kernel = kernel - tf.reduce_mean(kernel, axis=[0, 1, 2])
        kernel = kernel / (tf.math.reduce_std(kernel, axis=[0, 1, 2]) + 1e-5)
        return tf.nn.conv2d(images, tf.cast(kernel, images.dtype), self.strides, "SAME")

    def compute_output_shape(self, input_shape):
        """(batch, ceil(h / strides), ceil(w / strides), filters)."""
        batch, height, width, _ = tuple(input_shape)
        sides = (None if s is None else -(-s // self.strides) for s in (height, width))
        return (batch, *sides, self.filters)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
        }
