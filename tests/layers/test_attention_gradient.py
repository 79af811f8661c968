import numpy as np
import pytest
import tensorflow as tf

from vit_keras.layers import MultiHeadDotProductAttention


@pytest.mark.parametrize("has_values", [False, True])
def test_gradients_are_those_of_the_plain_formula(has_values):
    layer = MultiHeadDotProductAttention(num_heads=3, dtype="float64")
    layer.build((2, 5, 12))
    draw = np.random.default_rng(0).normal
    query = tf.constant(draw(size=(2, 5, 12)))
    value = tf.constant(draw(size=(2, 7, 12))) if has_values else None
    weight = tf.constant(draw(size=(2, 5, 12)))
    inputs = [query] if value is None else [query, value]

    def gradients(**plain):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            x = layer(query, value, training=True, **plain)
            x = x[0] if plain else x
            loss = tf.reduce_sum(x * weight)
        return [x, *tape.gradient(loss, [*inputs, *layer.trainable_weights])]

    # Asked for the weights, the layer takes the path that TensorFlow differentiates. No relative
    # tolerance: the gradient of the keys' bias is zero but for rounding.
    for ours, plain in zip(gradients(), gradients(return_attention_weights=True), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-13)


def test_second_derivatives_exist():
    layer = MultiHeadDotProductAttention(num_heads=2, dtype="float64")
    layer.build((1, 3, 4))
    tokens = tf.constant(np.random.default_rng(0).normal(size=(1, 3, 4)))

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(tf.square(layer(x)))
        return tape.gradient(y, x)

    with tf.GradientTape() as tape:
        tape.watch(tokens)
        total = tf.reduce_sum(gradient(tokens))
    second = tape.gradient(total, tokens)
    step = 1e-6
    bump = np.zeros((1, 3, 4))
    bump[0, 1, 2] = step
    numeric = (tf.reduce_sum(gradient(tokens + bump)) - tf.reduce_sum(gradient(tokens - bump))) / (
        2 * step
    )
    np.testing.assert_allclose(second[0, 1, 2], numeric, rtol=1e-6)
