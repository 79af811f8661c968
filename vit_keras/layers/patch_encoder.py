"""Images to patch tokens."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def pair(name: str, value: Any) -> tuple[int, int]:
    """Reads a positive int or (height, width); raises a `ValueError` naming it if it is neither."""
    sides = (value, value) if isinstance(value, int) else tuple(value or ())
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"{name} is {value!r}; expected a positive int or (height, width).")
    return sides


@keras.saving.register_keras_serializable(package="vit_keras")
class PatchEncoder(keras.layers.Layer):
    """Cuts images into patches and projects each to `hidden_size` channels.

    Dosovitskiy et al. 2020 (arXiv 2010.11929), equation 1, the product x_p E; as in the original
    code a convolution whose stride is the patch, plus a bias.

    Args:
      hidden_size: width of the tokens.
      patch_size: side of a patch in pixels, or (height, width).
    """

    def __init__(self, hidden_size: int, patch_size: int | tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.patch_size = pair("patch_size", patch_size)

    def build(self, input_shape):
        """Makes `kernel` (patch height, patch width, channels, hidden_size) and `bias`."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.patch_size, input_shape[-1], self.hidden_size),
            initializer=keras.initializers.LecunNormal(),
        )
        self.bias = self.add_weight(name="bias", shape=(self.hidden_size,), initializer="zeros")
        super().build(input_shape)

    def call(self, images):
        """`images` (batch, height, width, channels) to tokens (batch, patches, hidden_size).

        Patches are in row-major order; pixels beyond the last whole patch are left out.
        """
        kernel = tf.cast(self.kernel, images.dtype)
        tokens = tf.nn.conv2d(images, kernel, strides=self.patch_size, padding="VALID")
        tokens = tokens + tf.cast(self.bias, images.dtype)
        patches = self.compute_output_shape(images.shape)[1]
        return tf.reshape(tokens, [-1, -1 if patches is None else patches, self.hidden_size])

    def compute_output_shape(self, input_shape):
        """(batch, patches, hidden_size)."""
        _, height, width, _ = tuple(input_shape)
        known = height is not None and width is not None
        rows_columns = (
            (height // self.patch_size[0]) * (width // self.patch_size[1]) if known else None
        )
        return (input_shape[0], rows_columns, self.hidden_size)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_size": self.hidden_size,
            "patch_size": list(self.patch_size),
        }
