"""Multi-head attention with the weights of Flax's `MultiHeadDotProductAttention`."""

from __future__ import annotations

import keras
import tensorflow as tf

from vit_keras.layers import products
from vit_keras.layers.stateless_dropout import StatelessDropout


@keras.saving.register_keras_serializable(package="vit_keras")
class MultiHeadDotProductAttention(keras.layers.Layer):
    """Multi-head attention (arXiv 2010.11929, appendix A).

    Args:
      num_heads: number of heads; it must divide the width of the queries.
      dropout: rate of dropout on the attention weights (each its own, not broadcast).
    """

    def __init__(self, num_heads: int, dropout: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout = StatelessDropout(dropout, name="dropout", dtype=kwargs.get("dtype"))

    def build(self, input_shape):
        """Makes query, key, value kernels (D, heads, D/heads) and out (heads, D/heads, D)."""
        width = input_shape[-1]
        if width % self.num_heads:
            raise ValueError(
                f"num_heads is {self.num_heads}; expected a divisor of the width {width}."
            )
        heads = (self.num_heads, width // self.num_heads)
        # Xavier over the flattened (D, D) matrix, which is what Flax computes for these kernels.
        limit = (6.0 / (2 * width)) ** 0.5
        xavier = keras.initializers.RandomUniform

        def projection(name):
            kernel = self.add_weight(
                name=f"{name}_kernel", shape=(width, *heads), initializer=xavier(-limit, limit)
            )
            bias = self.add_weight(name=f"{name}_bias", shape=heads, initializer="zeros")
            return kernel, bias

        self.query_kernel, self.query_bias = projection("query")
        self.key_kernel, self.key_bias = projection("key")
        self.value_kernel, self.value_bias = projection("value")
        self.out_kernel = self.add_weight(
            name="out_kernel", shape=(*heads, width), initializer=xavier(-limit, limit)
        )
        self.out_bias = self.add_weight(name="out_bias", shape=(width,), initializer="zeros")
        super().build(input_shape)

    def call(
        self,
        query,
        value=None,
        training=None,
        return_attention_weights=False,
        attention_mask=None,
    ):
        """Attends from `query` to `value`.

        Args:
          query: (batch, t, D).
          value: (batch, s, D), what keys and values are made of; None for self-attention.
          training: whether to drop attention weights.
          return_attention_weights: also return them.
          attention_mask: bool (batch, s), False where a value isn't to be attended to.

        Returns:
          (batch, t, D), and with `return_attention_weights` also (batch, heads, t, s).
        """
        value = query if value is None else value
        q = products.dense("btd,dhk->bthk", query, self.query_kernel, self.query_bias)
        q = q * tf.cast(int(self.query_kernel.shape[-1]) ** -0.5, q.dtype)
        if query.shape[1] == 1:
            x, weights = self._attend_from_one(q, value, attention_mask, training)
        else:
            x, weights = self._attend(q, value, attention_mask, training, return_attention_weights)
        x = products.dense("bthk,hkd->btd", x, self.out_kernel, self.out_bias)
        return (x, weights) if return_attention_weights else x

    def _attend(self, q, value, attention_mask, training, return_attention_weights):
        """From q (batch, t, heads, size) to the same shape, and the weights where asked for."""
        k = products.dense("btd,dhk->bthk", value, self.key_kernel, self.key_bias)
        v = products.dense("btd,dhk->bthk", value, self.value_kernel, self.value_bias)
        drops = bool(training) and self.dropout.rate > 0.0
        if attention_mask is None and not return_attention_weights and not drops:
            return products.attend(q, k, v), None
        scores = tf.einsum("bthk,bshk->bhts", q, k)
        weights = self._weights(scores, attention_mask, training)
        return tf.einsum("bhts,bshk->bthk", weights, v), weights

    def _attend_from_one(self, q, value, attention_mask, training):
        """As `_attend` for t = 1, without making keys and values.

        `q (W x)` is `(q W) x`, and `sum(weights * (W x))` is `W sum(weights * x)`: with one query
        that is a product with W for each image instead of one for each of its s tokens.
        """
        kernel, bias, value_kernel, value_bias = (
            tf.cast(weight, q.dtype)
            for weight in (self.key_kernel, self.key_bias, self.value_kernel, self.value_bias)
        )
        q = q[:, 0]
        probe = tf.einsum("bhk,dhk->bhd", q, kernel)
        scores = tf.einsum("bhd,bsd->bhs", probe, value)
        scores += tf.einsum("bhk,hk->bh", q, bias)[..., None]
        weights = self._weights(scores[:, :, None], attention_mask, training)
        mean = tf.einsum("bhs,bsd->bhd", weights[:, :, 0], value)
        x = tf.einsum("bhd,dhk->bhk", mean, value_kernel)
        # The weights' sum is not 1 where some are dropped.
        x += tf.reduce_sum(weights, axis=-1) * value_bias
        return x[:, None], weights

    def _weights(self, scores, attention_mask, training):
        if attention_mask is not None:
            # Finite in every dtype, so that a row without any value is uniform, not NaN.
            scores = tf.where(attention_mask[:, None, None], scores, scores.dtype.min)
        return self.dropout(tf.nn.softmax(scores), training=training)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout.rate,
        }
