"""Fixed sine and cosine position embeddings for a grid."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from vit_keras.layers.patch_encoder import pair


def sincos_2d(grid_size: tuple[int, int], hidden_size: int) -> np.ndarray:
    """The MoCo v3 position embedding (arXiv 2104.02057) in the form big_vision uses.

    Args:
      grid_size: (rows, columns).
      hidden_size: width D, a multiple of 4.

    Returns:
      float32 (rows * columns, D): [sin(x w), cos(x w), sin(y w), cos(y w)] with x the column,
      y the row and w_k = 10000^(-k / (D/4 - 1)), k < D/4.
    """
    if hidden_size % 4 or hidden_size < 8:
        raise ValueError(
            f"hidden_size is {hidden_size}; sincos2d positions need a multiple of 4, >= 8."
        )
    rows, columns = np.mgrid[: grid_size[0], : grid_size[1]]
    quarter = hidden_size // 4
    omega = 1.0 / 10_000 ** (np.arange(quarter) / (quarter - 1))
    x = columns.reshape(-1, 1) * omega
    y = rows.reshape(-1, 1) * omega
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1).astype(np.float32)


@keras.saving.register_keras_serializable(package="vit_keras")
class SinCosPositionEmbedding(keras.layers.Layer):
    """Adds `sincos_2d` to patch tokens; it has no weights.

    Args:
      grid_size: patches along (height, width).
    """

    def __init__(self, grid_size: int | tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        self.grid_size = pair("grid_size", grid_size)

    def call(self, tokens):
        """`tokens` (batch, patches, hidden_size); the same shape comes back."""
        embedding = sincos_2d(self.grid_size, int(tokens.shape[-1]))
        return tokens + tf.constant(embedding[None], tokens.dtype)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "grid_size": list(self.grid_size)}
