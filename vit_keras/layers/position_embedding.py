"""Learned position embeddings."""

from __future__ import annotations

import keras
import tensorflow as tf

from vit_keras.layers.patch_encoder import pair


@keras.saving.register_keras_serializable(package="vit_keras")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned embedding to every token (arXiv 2010.11929, equation 1, E_pos).

    Args:
      grid_size: patches along (height, width).
      prefix_tokens: tokens in front of the patches that have a position too: 1 where the class
        token is concatenated before positions are added (vision_transformer), 0 where it comes
        after, or there is none (big_vision).
      stddev: of the normal distribution that the embedding starts from: 0.02 in
        vision_transformer, 1/sqrt(hidden_size) in big_vision.
    """

    def __init__(
        self,
        grid_size: int | tuple[int, int],
        prefix_tokens: int = 0,
        stddev: float = 0.02,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.grid_size = pair("grid_size", grid_size)
        self.prefix_tokens = prefix_tokens
        self.stddev = stddev

    def build(self, input_shape):
        """Makes `embedding` (1, prefix_tokens + patches, hidden_size)."""
        length = self.prefix_tokens + self.grid_size[0] * self.grid_size[1]
        if input_shape[1] is not None and input_shape[1] != length:
            raise ValueError(
                f"{self.name} was made for {length} tokens (grid_size {self.grid_size}, "
                f"prefix_tokens {self.prefix_tokens}) but is given {input_shape[1]}."
            )
        self.embedding = self.add_weight(
            name="embedding",
            shape=(1, length, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=self.stddev),
        )
        super().build(input_shape)

    def call(self, tokens):
        """`tokens` (batch, prefix_tokens + patches, hidden_size); the same shape comes back."""
        return tokens + tf.cast(self.embedding, tokens.dtype)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "grid_size": list(self.grid_size),
            "prefix_tokens": self.prefix_tokens,
            "stddev": self.stddev,
        }
