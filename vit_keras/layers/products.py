"""The products that a transformer consists of, in the form that is fast for the target."""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from vit_keras.layers import target


def dense(
    equation: str,
    tokens: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    activation: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tf.Tensor:
    """`activation(einsum(equation, tokens, kernel) + bias)` in the dtype of `tokens`.

    Args:
      equation: contracts the last axes of `tokens` (batch, t, ...) with the first of `kernel`.
      tokens: (batch, t, *inputs).
      kernel: (*inputs, *outputs).
      bias: (*outputs).
      activation: elementwise.

    Returns:
      (batch, t, *outputs).
    """
    kernel, bias = tf.cast(kernel, tokens.dtype), tf.cast(bias, tokens.dtype)
    if target.is_tpu():
        x = tf.einsum(equation, tokens, kernel) + bias
        return x if activation is None else activation(x)
    outputs = math.prod(bias.shape)
    inputs = math.prod(kernel.shape) // outputs
    # TensorFlow fuses exactly this sequence on CPUs: MatMul of matrices, BiasAdd, gelu.
    rows = tf.matmul(tf.reshape(tokens, [-1, inputs]), tf.reshape(kernel, [inputs, outputs]))
    rows = tf.nn.bias_add(rows, tf.reshape(bias, [outputs]))
    rows = rows if activation is None else activation(rows)
    length = tokens.shape[1] if tokens.shape[1] is not None else tf.shape(tokens)[1]
    return tf.reshape(rows, [-1, length, *bias.shape])


def attend(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """`softmax(q k) v` of q (batch, t, heads, size) and k, v (batch, s, heads, size); as q."""
    if target.is_tpu():
        return _attend(q, k, v)
    q, k, v = (tf.transpose(x, [0, 2, 1, 3]) for x in (q, k, v))
    return tf.transpose(_attend_heads_first(q, k, v), [0, 2, 1, 3])


@tf.custom_gradient
def _attend_heads_first(q, k, v):
    """`_attend` of arrays (batch, heads, tokens, size)."""
    weights = tf.nn.softmax(tf.matmul(q, k, transpose_b=True))
    x = tf.matmul(weights, v)

    def gradients(dx):
        exact = tf.float64 if dx.dtype == tf.float64 else tf.float32
        sums = tf.reduce_sum(tf.cast(dx, exact) * tf.cast(x, exact), axis=-1, keepdims=True)
        d_weights = tf.matmul(dx, v, transpose_b=True)
        d_scores = weights * (d_weights - tf.cast(sums, dx.dtype))
        return (
            tf.matmul(d_scores, k),
            tf.matmul(d_scores, q, transpose_a=True),
            tf.matmul(weights, dx, transpose_a=True),
        )

    return x, gradients


@tf.custom_gradient
def _attend(q, k, v):
    """`softmax(q k) v`, with a backward pass that reads the (t, s) arrays once less.

    The gradient of softmax needs sum_s(weights * gradient of weights) for each query. That sum is
    the same as sum_k(output * gradient of output) (arXiv 2205.14135, appendix B.2, equation 4),
    which is smaller by s / head size.
    """
    weights = tf.nn.softmax(tf.einsum("bthk,bshk->bhts", q, k))
    x = tf.einsum("bhts,bshk->bthk", weights, v)
    scope = tf.get_current_name_scope()

    def gradients(dx):
        exact = tf.float64 if dx.dtype == tf.float64 else tf.float32
        # Named as TensorFlow names the gradients that it derives itself, for profiles.
        with tf.name_scope(f"gradient_tape/{scope}/" if scope else "gradient"):
            sums = tf.einsum("bthk,bthk->bht", tf.cast(dx, exact), tf.cast(x, exact))
            d_weights = tf.einsum("bthk,bshk->bhts", dx, v)
            d_scores = weights * (d_weights - tf.cast(sums, dx.dtype)[..., None])
            return (
                tf.einsum("bhts,bshk->bthk", d_scores, k),
                tf.einsum("bhts,bthk->bshk", d_scores, q),
                tf.einsum("bhts,bthk->bshk", weights, dx),
            )

    return x, gradients
