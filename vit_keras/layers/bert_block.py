"""One block of BERT."""

from __future__ import annotations

import keras
import tensorflow as tf

from vit_keras.layers.layer_norm import LayerNorm
from vit_keras.layers.mlp_block import MlpBlock
from vit_keras.layers.multi_head_dot_product_attention import MultiHeadDotProductAttention
from vit_keras.layers.stateless_dropout import StatelessDropout


@keras.saving.register_keras_serializable(package="vit_keras")
class BertBlock(keras.layers.Layer):
    """A post-norm encoder block: `norm(x + attention(x))`, then `norm(x + mlp(x))`.

    arXiv 1706.03762, section 3.1, as in BERT; padding (token number 0) isn't attended to.

    Args:
      num_heads: attention heads; a divisor of the tokens' width.
      mlp_dim: width of the MLP's hidden layer.
      dropout: rate on the attention weights and after each of the two.
    """

    def __init__(self, num_heads: int, mlp_dim: int, dropout: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.dropout = dropout
        dtype = kwargs.get("dtype")
        self.attention = MultiHeadDotProductAttention(
            num_heads, dropout, name="attention", dtype=dtype
        )
        self.attention_norm = LayerNorm(1e-12, name="attention_norm", dtype=dtype)
        self.mlp = MlpBlock(mlp_dim, name="mlp", dtype=dtype)
        self.mlp_norm = LayerNorm(1e-12, name="mlp_norm", dtype=dtype)
        self.attention_dropout = StatelessDropout(dropout, name="attention_dropout", dtype=dtype)
        self.mlp_dropout = StatelessDropout(dropout, name="mlp_dropout", dtype=dtype)

    def build(self, input_shape):
        """Builds the parts; `input_shape` is that of the two inputs."""
        for part in (self.attention, self.attention_norm, self.mlp, self.mlp_norm):
            part.build(tuple(input_shape[0]))
        super().build(input_shape)

    def call(self, inputs, training=None):
        """Encodes once more.

        Args:
          inputs: encoded tokens (batch, n, D), and the token numbers (batch, n) as they went
            into the model, of which 0 is padding.
          training: whether dropout acts.

        Returns:
          (batch, n, D).
        """
        x, tokens = inputs
        y = self.attention(x, training=training, attention_mask=tf.not_equal(tokens, 0))
        x = self.attention_norm(x + self.attention_dropout(y, training=training))
        y = self.mlp_dropout(self.mlp(x, training=training), training=training)
        return self.mlp_norm(x + y)

    def compute_output_shape(self, input_shape):
        """The shape of the first input."""
        return input_shape[0]

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "dropout": self.dropout,
        }
