"""The unit that the ResNet stages of a hybrid are made of."""

from __future__ import annotations

import keras
import tensorflow as tf

from vit_keras.layers.group_norm import GroupNorm
from vit_keras.layers.std_conv import StdConv


@keras.saving.register_keras_serializable(package="vit_keras")
class ResidualUnit(keras.layers.Layer):
    """A bottleneck: 1x1, 3x3 and 1x1 convolutions, added to the input (arXiv 1912.11370, BiT).

    The input goes through a 1x1 convolution too where its shape isn't the output's.

    Args:
      features: channels inside; four times as many come out.
      strides: of the 3x3 convolution.
    """

    def __init__(self, features: int, strides: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.features = features
        self.strides = strides
        dtype = kwargs.get("dtype")
        self.conv1 = StdConv(features, 1, name="conv1", dtype=dtype)
        self.gn1 = GroupNorm(name="gn1", dtype=dtype)
        self.conv2 = StdConv(features, 3, strides, name="conv2", dtype=dtype)
        self.gn2 = GroupNorm(name="gn2", dtype=dtype)
        self.conv3 = StdConv(4 * features, 1, name="conv3", dtype=dtype)
        self.gn3 = GroupNorm(zero_scale=True, name="gn3", dtype=dtype)
        self.conv_proj = self.gn_proj = None

    def build(self, input_shape):
        """Builds the parts; `input_shape` is (batch, height, width, channels)."""
        if input_shape[-1] != 4 * self.features or self.strides != 1:
            dtype = self.conv1.dtype_policy
            self.conv_proj = StdConv(
                4 * self.features, 1, self.strides, name="conv_proj", dtype=dtype
            )
            self.gn_proj = GroupNorm(name="gn_proj", dtype=dtype)
            self.conv_proj.build(input_shape)
            self.gn_proj.build(self.conv_proj.compute_output_shape(input_shape))
        shape = input_shape
        for conv, norm in self._branch():
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            norm.build(shape)
        super().build(input_shape)

    def _branch(self):
        return ((self.conv1, self.gn1), (self.conv2, self.gn2), (self.conv3, self.gn3))

    def call(self, images):
        """(batch, h, w, channels) to (batch, h / strides, w / strides, 4 * features)."""
        x = tf.nn.relu(self.gn1(self.conv1(images)))
        x = tf.nn.relu(self.gn2(self.conv2(x)))
        x = self.gn3(self.conv3(x))
        if self.conv_proj is not None:
            images = self.gn_proj(self.conv_proj(images))
        return tf.nn.relu(images + x)

    def compute_output_shape(self, input_shape):
        """(batch, ceil(h / strides), ceil(w / strides), 4 * features)."""
        return (*self.conv2.compute_output_shape(input_shape)[:3], 4 * self.features)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "features": self.features, "strides": self.strides}
