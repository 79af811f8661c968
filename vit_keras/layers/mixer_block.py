"""The block of MLP-Mixer."""

from __future__ import annotations

import keras
import tensorflow as tf

from vit_keras.layers.layer_norm import LayerNorm
from vit_keras.layers.mlp_block import MlpBlock
from vit_keras.layers.stochastic_depth import StochasticDepth


@keras.saving.register_keras_serializable(package="vit_keras")
class MixerBlock(keras.layers.Layer):
    """An MLP across the tokens, then one across the channels (arXiv 2105.01601, equation 1).

    Args:
      tokens_mlp_dim: width of the hidden layer across tokens.
      channels_mlp_dim: width of the hidden layer across channels.
      dropout: rate in both MLPs.
      stochastic_depth: rate at which an example skips each of the two.
    """

    def __init__(
        self,
        tokens_mlp_dim: int,
        channels_mlp_dim: int,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.tokens_mlp_dim = tokens_mlp_dim
        self.channels_mlp_dim = channels_mlp_dim
        self.dropout = dropout
        self.stochastic_depth = stochastic_depth
        dtype = kwargs.get("dtype")
        self.token_norm = LayerNorm(name="token_norm", dtype=dtype)
        self.token_mixing = MlpBlock(
            tokens_mlp_dim, dropout, "lecun_normal", name="token_mixing", dtype=dtype
        )
        self.channel_norm = LayerNorm(name="channel_norm", dtype=dtype)
        self.channel_mixing = MlpBlock(
            channels_mlp_dim, dropout, "lecun_normal", name="channel_mixing", dtype=dtype
        )
        self.token_drop_path = StochasticDepth(
            stochastic_depth, name="token_drop_path", dtype=dtype
        )
        self.channel_drop_path = StochasticDepth(
            stochastic_depth, name="channel_drop_path", dtype=dtype
        )

    def build(self, input_shape):
        """Builds the parts; `input_shape` is (batch, n, D), n known."""
        batch, length, width = tuple(input_shape)
        self.token_norm.build(input_shape)
        self.token_mixing.build((batch, width, length))
        self.channel_norm.build(input_shape)
        self.channel_mixing.build(input_shape)
        super().build(input_shape)

    def call(self, tokens, training=None):
        """`tokens` (batch, n, D); the same shape comes back."""
        x = tf.transpose(self.token_norm(tokens), [0, 2, 1])
        x = tf.transpose(self.token_mixing(x, training=training), [0, 2, 1])
        tokens = tokens + self.token_drop_path(x, training=training)
        x = self.channel_mixing(self.channel_norm(tokens), training=training)
        return tokens + self.channel_drop_path(x, training=training)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "tokens_mlp_dim": self.tokens_mlp_dim,
            "channels_mlp_dim": self.channels_mlp_dim,
            "dropout": self.dropout,
            "stochastic_depth": self.stochastic_depth,
        }
