"""One block of the transformer encoder."""

from __future__ import annotations

import keras
import tensorflow as tf

from vit_keras.layers import random
from vit_keras.layers.layer_norm import LayerNorm
from vit_keras.layers.layer_scale import LayerScale
from vit_keras.layers.mlp_block import MlpBlock
from vit_keras.layers.multi_head_dot_product_attention import MultiHeadDotProductAttention
from vit_keras.layers.stateless_dropout import StatelessDropout
from vit_keras.layers.stochastic_depth import StochasticDepth

_TOKENS = {None: slice(None), "first": slice(0, 1), "last": slice(-1, None)}


@keras.saving.register_keras_serializable(package="vit_keras")
class TransformerBlock(keras.layers.Layer):
    """A pre-norm encoder block (arXiv 2010.11929, equations 2 and 3).

    `z = x + attention(norm(x))`, then `z + mlp(norm(z))`.

    Args:
      num_heads: attention heads; a divisor of the tokens' width.
      mlp_dim: width of the MLP's hidden layer.
      dropout: rate after attention, after the MLP's gelu and after the MLP.
      attention_dropout: rate on the attention weights.
      stochastic_depth: rate at which an example skips each of the two branches.
      layer_scale: initial value of a LayerScale on each branch; None for no LayerScale.
      remat: keep only the block's input for the backward pass and compute the block again there,
        which trades time for memory.
      read_token: "first" or "last" where nothing but that token's output is read: in training the
        block then computes queries, MLP and output of that token alone, with the same result (keys
        and values are still all tokens'). None: all are read.
      approximate_gelu: whether the MLP's gelu is the tanh approximation.
      epsilon: of the norms.
    """

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        layer_scale: float | None = None,
        remat: bool = False,
        read_token: str | None = None,
        approximate_gelu: bool = True,
        epsilon: float = 1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if read_token not in _TOKENS:
            raise ValueError(f"read_token is {read_token!r}; expected one of {list(_TOKENS)}.")
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.stochastic_depth = stochastic_depth
        self.layer_scale = layer_scale
        self.remat = remat
        self.read_token = read_token
        self.approximate_gelu = approximate_gelu
        self.epsilon = epsilon

        dtype = kwargs.get("dtype")
        self.attention_norm = LayerNorm(epsilon, name="attention_norm", dtype=dtype)
        self.attention = MultiHeadDotProductAttention(
            num_heads, attention_dropout, name="attention", dtype=dtype
        )
        self.attention_output_dropout = StatelessDropout(
            dropout, name="attention_output_dropout", dtype=dtype
        )
        self.mlp_norm = LayerNorm(epsilon, name="mlp_norm", dtype=dtype)
        self.mlp = MlpBlock(
            mlp_dim, dropout, approximate_gelu=approximate_gelu, name="mlp", dtype=dtype
        )
        self.attention_drop_path = StochasticDepth(
            stochastic_depth, name="attention_drop_path", dtype=dtype
        )
        self.mlp_drop_path = StochasticDepth(stochastic_depth, name="mlp_drop_path", dtype=dtype)
        if layer_scale is not None:
            self.attention_scale = LayerScale(layer_scale, name="attention_scale", dtype=dtype)
            self.mlp_scale = LayerScale(layer_scale, name="mlp_scale", dtype=dtype)

    def build(self, input_shape):
        """Builds the parts; `input_shape` is (batch, n, D)."""
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape)
        self.mlp_norm.build(input_shape)
        self.mlp.build(input_shape)
        if self.layer_scale is not None:
            self.attention_scale.build(input_shape)
            self.mlp_scale.build(input_shape)
        super().build(input_shape)

    def call(self, tokens, training=None, return_attention_weights=False):
        """Encodes once more.

        Args:
          tokens: (batch, n, D).
          training: whether dropout and stochastic depth act.
          return_attention_weights: also return the attention weights.

        Returns:
          (batch, n, D), and with `return_attention_weights` also (batch, heads, n, n). In training
          with `read_token` (batch, 1, D) and (batch, heads, 1, n).
        """
        if not (self.remat and training) or return_attention_weights:
            return self._encode(tokens, training, return_attention_weights)
        # The backward pass runs the block again, perhaps after the seed scope was left.
        scope = random.current_scope()

        def encode(x):
            with random.enter_scope(scope):
                return self._encode(x, training, False)

        return tf.recompute_grad(encode)(tokens)

    def _encode(self, tokens, training, return_attention_weights):
        read = _TOKENS[self.read_token if training else None]
        x = self.attention_norm(tokens)
        x = self.attention(
            x[:, read],
            x,
            training=training,
            return_attention_weights=return_attention_weights,
        )
        x, attention_weights = x if return_attention_weights else (x, None)
        x = self.attention_output_dropout(x, training=training)
        if self.layer_scale is not None:
            x = self.attention_scale(x)
        tokens = tokens[:, read] + self.attention_drop_path(x, training=training)

        x = self.mlp(self.mlp_norm(tokens), training=training)
        if self.layer_scale is not None:
            x = self.mlp_scale(x)
        tokens = tokens + self.mlp_drop_path(x, training=training)
        return (tokens, attention_weights) if return_attention_weights else tokens

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "stochastic_depth": self.stochastic_depth,
            "layer_scale": self.layer_scale,
            "remat": self.remat,
            "read_token": self.read_token,
            "approximate_gelu": self.approximate_gelu,
            "epsilon": self.epsilon,
        }
