"""The two forms of each product, for TPUs and for others, are the same function."""

import numpy as np
import pytest
import tensorflow as tf

from vit_keras.layers import MAPHead, TransformerBlock, products, target


def _both_forms(function, arguments):
    """Values and gradients of a function in the form for TPUs and in the other."""
    found = []
    for scope in (target.tpu, None):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            if scope is None:
                value = function(*arguments)
            else:
                with scope():
                    assert target.is_tpu()
                    value = function(*arguments)
            loss = tf.reduce_sum(value**2)
        found.append([value, *tape.gradient(loss, arguments)])
    assert not target.is_tpu()
    return found


def _normal(*shape):
    return tf.constant(np.random.default_rng(sum(shape)).normal(size=shape))  # float64


def _assert_equal(for_tpu, for_others):
    for one, other in zip(for_tpu, for_others, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("equation", "kernel", "bias"),
    [("btd,dm->btm", (6, 8), (8,)), ("btd,dhk->bthk", (6, 2, 4), (2, 4))],
)
@pytest.mark.parametrize("activation", [None, tf.nn.gelu])
def test_dense(equation, kernel, bias, activation):
    arguments = [_normal(2, 5, 6), _normal(*kernel), _normal(*bias)]
    _assert_equal(
        *_both_forms(lambda x, k, b: products.dense(equation, x, k, b, activation), arguments)
    )


def test_dense_out_of_heads():
    arguments = [_normal(2, 5, 2, 4), _normal(2, 4, 6), _normal(6)]
    _assert_equal(*_both_forms(lambda x, k, b: products.dense("bthk,hkd->btd", x, k, b), arguments))


def test_attend_from_other_tokens():
    arguments = [_normal(2, 3, 2, 4), _normal(2, 5, 2, 4), _normal(2, 5, 2, 4)]
    for_tpu, for_others = _both_forms(products.attend, arguments)
    _assert_equal(for_tpu, for_others)
    q, k, v = (array.numpy() for array in arguments)
    scores = np.exp(np.einsum("bthk,bshk->bhts", q, k))
    weights = scores / scores.sum(-1, keepdims=True)
    np.testing.assert_allclose(for_tpu[0], np.einsum("bhts,bshk->bthk", weights, v), rtol=1e-10)


def test_tokens_of_unknown_number():
    function = tf.function(
        lambda x: products.dense("btd,dm->btm", x, _normal(6, 8), _normal(8)),
        input_signature=[tf.TensorSpec((None, None, 6), tf.float64)],
    )
    assert function(_normal(2, 5, 6)).shape == (2, 5, 8)


@pytest.mark.parametrize("layer", [TransformerBlock(2, 16), MAPHead(2, 16)])
def test_layers_made_of_them(layer):
    tokens = tf.cast(_normal(2, 5, 8), tf.float32)
    layer(tokens)
    with target.tpu():
        for_tpu = layer(tokens)
    np.testing.assert_allclose(for_tpu, layer(tokens), rtol=1e-5, atol=1e-6)


def test_the_scope_ends_with_an_error():
    with pytest.raises(KeyError), target.tpu():
        raise KeyError("stop")
    assert not target.is_tpu()
