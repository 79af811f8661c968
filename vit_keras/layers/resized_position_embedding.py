"""Positions of another grid by the weights of a `PositionEmbedding`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from vit_keras import compat
from vit_keras.layers.patch_encoder import pair
from vit_keras.layers.position_embedding import PositionEmbedding
from vit_keras.layers.resizing import position_matrix


@keras.saving.register_keras_serializable(package="vit_keras")
class ResizedPositionEmbedding(keras.layers.Layer):
    """A `PositionEmbedding` on another grid, for training at several patch sizes (FlexiViT).

    It has no weights of its own: the other layer's embedding is resized in every call, bilinearly
    with aligned corners, as `from_npz` does once.

    Args:
      source: the layer whose weights it uses.
      grid_size: patches along (height, width).
    """

    def __init__(
        self, source: PositionEmbedding | dict, grid_size: int | tuple[int, int], **kwargs
    ):
        super().__init__(**kwargs)
        if isinstance(source, dict):
            source = keras.saving.deserialize_keras_object(source)
        self.source = source
        self.grid_size = pair("grid_size", grid_size)

    def build(self, input_shape):
        """Builds the other layer, if it isn't yet."""
        if not self.source.built:
            grid = self.source.grid_size
            length = self.source.prefix_tokens + grid[0] * grid[1]
            self.source.build((input_shape[0], length, input_shape[-1]))
        super().build(input_shape)

    def call(self, tokens):
        """`tokens` (batch, prefix_tokens + patches, hidden_size); the same shape comes back."""
        embedding = tf.convert_to_tensor(compat.tf_variable(self.source.embedding))
        prefix = self.source.prefix_tokens
        width = embedding.shape[-1]
        rows, columns = (
            tf.constant(position_matrix(old, new), embedding.dtype)
            for old, new in zip(self.source.grid_size, self.grid_size, strict=True)
        )
        patches = tf.reshape(embedding[:, prefix:], [*self.source.grid_size, width])
        patches = tf.einsum("Hh,Ww,hwd->HWd", rows, columns, patches)
        patches = tf.reshape(patches, [1, -1, width])
        embedding = tf.concat([embedding[:, :prefix], patches], axis=1)
        return tokens + tf.cast(embedding, tokens.dtype)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "source": keras.saving.serialize_keras_object(self.source),
            "grid_size": list(self.grid_size),
        }
