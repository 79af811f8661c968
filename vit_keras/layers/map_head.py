"""Multihead attention pooling."""

from __future__ import annotations

import keras
import tensorflow as tf

from vit_keras.layers.layer_norm import LayerNorm
from vit_keras.layers.mlp_block import MlpBlock
from vit_keras.layers.multi_head_dot_product_attention import MultiHeadDotProductAttention


@keras.saving.register_keras_serializable(package="vit_keras")
class MAPHead(keras.layers.Layer):
    """Pools tokens by attention from a learned probe (arXiv 2106.04560, section 3.4).

    `x = attention(probe, tokens)`, `x = x + mlp(norm(x))`, without a residual around attention.

    Args:
      num_heads: attention heads; a divisor of the tokens' width.
      mlp_dim: width of the MLP's hidden layer.
      approximate_gelu: whether the MLP's gelu is the tanh approximation.
      epsilon: of the norm.
    """

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        approximate_gelu: bool = True,
        epsilon: float = 1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.approximate_gelu = approximate_gelu
        self.epsilon = epsilon
        dtype = kwargs.get("dtype")
        self.attention = MultiHeadDotProductAttention(num_heads, name="attention", dtype=dtype)
        self.norm = LayerNorm(epsilon, name="norm", dtype=dtype)
        self.mlp = MlpBlock(mlp_dim, approximate_gelu=approximate_gelu, name="mlp", dtype=dtype)

    def build(self, input_shape):
        """Makes `probe` (1, 1, D) and the parts; `input_shape` is (batch, n, D)."""
        width = input_shape[-1]
        # Xavier on the (1, 1, D) array, as in big_vision: fans 1 and D.
        limit = (6.0 / (1 + width)) ** 0.5
        self.probe = self.add_weight(
            name="probe",
            shape=(1, 1, width),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        one_token = (input_shape[0], 1, width)
        self.attention.build(one_token)
        self.norm.build(one_token)
        self.mlp.build(one_token)
        super().build(input_shape)

    def call(self, tokens, training=None):
        """`tokens` (batch, n, D) to (batch, D)."""
        probe = tf.repeat(tf.cast(self.probe, tokens.dtype), tf.shape(tokens)[0], axis=0)
        x = self.attention(probe, tokens, training=training)
        x = x + self.mlp(self.norm(x), training=training)
        return x[:, 0]

    def compute_output_shape(self, input_shape):
        """(batch, D)."""
        return (input_shape[0], input_shape[-1])

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "approximate_gelu": self.approximate_gelu,
            "epsilon": self.epsilon,
        }
