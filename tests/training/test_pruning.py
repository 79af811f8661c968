"""Steps without the tokens that nobody reads are the same steps."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_keras import models
from vit_keras.layers import TransformerBlock, target
from vit_keras.training.pruning import prune_last_block, restore_last_block

RNG = np.random.default_rng(0)


def vit(classifier="token", **kwargs):
    config = models.plain_config(
        "mu/16", image_size=64, classes=5, num_layers=2, classifier=classifier
    )
    model = models.build(
        config, regularization=models.Regularization.from_options(kwargs), dtype="float64"
    )
    model.get_layer("head").kernel.assign(RNG.normal(size=(32, 5)) / 32**0.5)
    return model, tf.constant(RNG.normal(size=(2, 64, 64, 3)))


def text(pooling):
    config = models.TextConfig(
        16, 32, 2, 3, vocab_size=50, max_length=6, pooling=pooling, classes=4
    )
    tokens = tf.constant(RNG.integers(0, 50, (2, 6)), tf.int32)
    return models.build(config, dtype="float64"), tokens


def gradients(model, inputs, for_tpu=False):
    """Outputs in training and gradients of the weights."""
    with target.tpu() if for_tpu else contextlib.nullcontext(), tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        loss = tf.reduce_sum(tf.sin(outputs))
    found = tape.gradient(loss, model.trainable_weights)
    return outputs, *(tf.convert_to_tensor(gradient) for gradient in found)


def tokens_of_last_block(model, training):
    *_, last = (layer for layer in model.layers if isinstance(layer, TransformerBlock))
    return last(
        tf.zeros((1, 7, last.attention.query_kernel.shape[0]), tf.float64), training=training
    ).shape


@pytest.mark.parametrize("for_tpu", [False, True])
@pytest.mark.parametrize(
    "make",
    [vit, lambda: vit(remat=True), lambda: text("last"), lambda: text("first")],
    ids=["vit", "remat", "last", "first"],
)
def test_same_outputs_and_gradients(make, for_tpu):
    model, inputs = make()
    expected = gradients(model, inputs, for_tpu)
    prune_last_block(model)
    assert tokens_of_last_block(model, training=True)[1] == 1
    assert tokens_of_last_block(model, training=False)[1] == 7
    for one, other in zip(expected, gradients(model, inputs, for_tpu), strict=True):
        # What comes after the last block is float32. A key bias' gradient is rounding noise.
        scale = max(1.0, np.abs(one).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * scale)
    restore_last_block(model)
    assert tokens_of_last_block(model, training=True)[1] == 7


@pytest.mark.parametrize("make", [lambda: vit(classifier="gap"), lambda: text("max")])
def test_nothing_changes_where_all_tokens_are_read(make):
    model, _ = make()
    prune_last_block(model)
    assert tokens_of_last_block(model, training=True)[1] == 7


def test_both_of_two_towers():
    image = models.plain_config("mu/16", classes=16, image_size=32)
    described = models.TextConfig(32, 32, 2, 1, vocab_size=10, max_length=4, classes=16)
    model = models.build(models.TwoTowersConfig(image, described))
    prune_last_block(model)
    assert model.get_layer("img").get_layer("encoderblock_0").read_token == "first"
    assert model.get_layer("txt").get_layer("encoderblock_0").read_token == "last"


def test_a_restored_model_has_all_tokens_after_saving(tmp_path):
    model, images = vit()
    prune_last_block(model)
    restore_last_block(model)
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    inside = keras.Model(again.input, again.get_layer("encoder_norm").output)
    assert inside(images, training=True).shape == (2, 17, 32)


def test_unknown_token():
    with pytest.raises(ValueError, match="read_token is 'second'"):
        TransformerBlock(2, 8, read_token="second")
