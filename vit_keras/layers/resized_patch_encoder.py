"""Patches of another size by the weights of a `PatchEncoder`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from vit_keras import compat
from vit_keras.layers.patch_encoder import PatchEncoder, pair
from vit_keras.layers.resizing import patch_matrix


@keras.saving.register_keras_serializable(package="vit_keras")
class ResizedPatchEncoder(keras.layers.Layer):
    """A `PatchEncoder` at another patch size, for training at several (FlexiViT).

    It has no weights of its own: the other layer's kernel is resized in every call by the
    pseudo-inverse of arXiv 2212.08013, equation 4, as `from_npz(..., patch_size=...)` does once.

    Args:
      source: the layer whose weights it uses.
      patch_size: side of a patch in pixels, or (height, width).
    """

    def __init__(self, source: PatchEncoder | dict, patch_size: int | tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        if isinstance(source, dict):
            source = keras.saving.deserialize_keras_object(source)
        self.source = source
        self.patch_size = pair("patch_size", patch_size)

    def build(self, input_shape):
        """Builds the other layer, if it isn't yet."""
        if not self.source.built:
            self.source.build(input_shape)
        super().build(input_shape)

    def call(self, images):
        """`images` (batch, height, width, channels) to tokens (batch, patches, hidden_size)."""
        # The stored float32 weights, whatever the layer computes in: a rounded kernel would be
        # rounded a second time by its resize.
        kernel = tf.convert_to_tensor(compat.tf_variable(self.source.kernel))
        rows, columns = (
            tf.constant(patch_matrix(old, new), kernel.dtype)
            for old, new in zip(self.source.patch_size, self.patch_size, strict=True)
        )
        kernel = tf.einsum("Hh,Ww,hwcd->HWcd", rows, columns, kernel)
        tokens = tf.nn.conv2d(
            images, tf.cast(kernel, images.dtype), strides=self.patch_size, padding="VALID"
        )
        tokens = tokens + tf.cast(compat.tf_variable(self.source.bias), images.dtype)
        patches = self.compute_output_shape(images.shape)[1]
        return tf.reshape(tokens, [-1, patches, self.source.hidden_size])

    def compute_output_shape(self, input_shape):
        """(batch, patches, hidden_size)."""
        batch, height, width, _ = tuple(input_shape)
        patches = (height // self.patch_size[0]) * (width // self.patch_size[1])
        return (batch, patches, self.source.hidden_size)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "source": keras.saving.serialize_keras_object(self.source),
            "patch_size": list(self.patch_size),
        }
