"""The layers of hybrids, Mixers and text towers."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_keras import layers

sys.path.insert(0, str(Path(__file__).parent))
from layer_checks import check_layer

TOKENS = (2, 6, 16)
IMAGES = (2, 6, 5, 32)

DECLARED = {
    # class: (arguments, input shape, output shape, weights)
    layers.StdConv: ({"filters": 8, "kernel_size": 3, "strides": 2}, IMAGES, (2, 3, 3, 8), 1),
    layers.GroupNorm: ({"groups": 8}, IMAGES, IMAGES, 2),
    layers.ResidualUnit: ({"features": 32, "strides": 2}, IMAGES, (2, 3, 3, 128), 12),
    layers.MixerBlock: (
        {"tokens_mlp_dim": 5, "channels_mlp_dim": 24, "dropout": 0.1, "stochastic_depth": 0.1},
        TOKENS,
        TOKENS,
        12,
    ),
}
NUMBERS = np.array([[3, 1, 0], [2, 2, 4]], np.int32)


@pytest.mark.parametrize("layer_class", DECLARED, ids=lambda c: c.__name__)
def test_layer_keeps_its_promises(layer_class, tmp_path):
    check_layer(layer_class, *DECLARED[layer_class], tmp_path)


def random_weights(layer, *inputs):
    """Calls the layer once, then gives it random weights."""
    layer(*inputs)
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in layer.weights])
    return layer


def saved_and_loaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


def test_std_conv_standardises_each_output_channel():
    images = np.random.default_rng(1).normal(size=(1, 7, 7, 4)).astype(np.float32)
    layer = random_weights(layers.StdConv(6, 3), images)
    kernel = layer.kernel.numpy().astype(np.float64)
    kernel = (kernel - kernel.mean((0, 1, 2))) / (kernel.std((0, 1, 2)) + 1e-5)
    centre = np.einsum("hwc,hwcd->d", images[0, 2:5, 1:4], kernel)
    np.testing.assert_allclose(layer(images)[0, 3, 2], centre, rtol=1e-4, atol=1e-4)


def test_group_norm_is_the_formula():
    images = np.random.default_rng(1).normal(2, 3, size=(2, 5, 4, 64)).astype(np.float32)
    layer = random_weights(layers.GroupNorm(), images)
    x = images.astype(np.float64).reshape(2, 20, 32, 2)
    x = (x - x.mean((1, 3), keepdims=True)) / np.sqrt(x.var((1, 3), keepdims=True) + 1e-6)
    expected = x.reshape(images.shape) * layer.scale.numpy() + layer.bias.numpy()
    np.testing.assert_allclose(layer(images), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="groups is 32"):
        layers.GroupNorm()(np.zeros((1, 2, 2, 8), np.float32))


def test_a_fresh_residual_unit_only_passes_its_input_on():
    images = np.random.default_rng(1).normal(size=(1, 4, 4, 128)).astype(np.float32)
    np.testing.assert_array_equal(layers.ResidualUnit(32)(images), np.maximum(images, 0))


def test_mixer_block_mixes_tokens_then_channels():
    tokens = np.random.default_rng(1).normal(size=TOKENS).astype(np.float32)
    block = layers.MixerBlock(5, 24)
    block(tokens)
    block.token_mixing.dense_1_kernel.assign(np.zeros((5, 6)))
    block.token_mixing.dense_1_bias.assign(np.arange(6))
    block.channel_mixing.dense_1_kernel.assign(np.zeros((24, 16)))
    block.channel_mixing.dense_1_bias.assign(np.zeros(16))
    np.testing.assert_allclose(block(tokens), tokens + np.arange(6)[:, None], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_token_embedding(dtype, tmp_path):
    layer = random_weights(layers.TokenEmbedding(5, 16, dtype=dtype), NUMBERS)
    found = layer(NUMBERS)
    assert found.dtype == layer.compute_dtype
    expected = tf.cast(layer.embedding, layer.compute_dtype).numpy()[NUMBERS]
    np.testing.assert_array_equal(found.numpy(), expected)
    inputs = keras.Input((3,), dtype="int32")
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, 3, 16)
    np.testing.assert_array_equal(saved_and_loaded(model, tmp_path)(NUMBERS), found)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_bert_layers(dtype, tmp_path):
    inputs = keras.Input((None,), dtype="int32")
    embedding = layers.BertEmbedding(5, 4, 16, dropout=0.1, dtype=dtype)
    block = layers.BertBlock(4, 24, dropout=0.1, dtype=dtype)
    model = keras.Model(inputs, block([embedding(inputs), inputs]))
    assert model.output_shape == (None, None, 16)
    found = model(NUMBERS)
    assert found.dtype == block.compute_dtype
    assert len(embedding.weights) == 5
    assert len(block.weights) == 16
    # What stands in a padded place doesn't change the others.
    changed = np.where(NUMBERS == 0, 0, NUMBERS)[:1, :2]
    tolerance = 1e-5 if dtype == "float32" else 0.05
    np.testing.assert_allclose(
        tf.cast(found[:1, :2], tf.float32), tf.cast(model(changed), tf.float32), atol=tolerance
    )
    again = saved_and_loaded(model, tmp_path)
    np.testing.assert_array_equal(tf.cast(again(NUMBERS), tf.float32), tf.cast(found, tf.float32))
    assert np.abs(tf.cast(model(NUMBERS, training=True) - found, tf.float32)).max() > 0
    for layer in (embedding, block):
        twin = type(layer).from_config(layer.get_config())
        assert twin.get_config() == layer.get_config()


def test_bert_embedding_refuses_longer_texts():
    with pytest.raises(ValueError, match="max_length is 2"):
        layers.BertEmbedding(5, 2, 16)(NUMBERS)


@pytest.mark.parametrize("bias", [None, -3.0])
def test_similarity_of_unit_vectors(bias, tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 8)).astype("f4"), rng.normal(size=(4, 8)).astype("f4")
    x, y = keras.Input((8,)), keras.Input((8,))
    unit = layers.UnitLength()
    model = keras.Model([x, y], layers.Similarity(10.0, bias)([unit(x), unit(y)]))
    found = model([a, b])
    cosine = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(found["similarity_logits"], 10 * cosine + (bias or 0), atol=1e-5)
    assert ("bias" in found) == (bias is not None)
    assert len(model.weights) == len(found) - 1
    again = saved_and_loaded(model, tmp_path)([a, b])
    np.testing.assert_array_equal(again["similarity_logits"], found["similarity_logits"])


def test_unit_length_of_nothing_is_nothing_and_float32():
    found = layers.UnitLength(dtype="mixed_bfloat16")(np.zeros((1, 4), np.float32))
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, np.zeros((1, 4)))


def test_attention_mask_hides_values():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(2, 5, 12)).astype(np.float32)
    layer = layers.MultiHeadDotProductAttention(3)
    mask = np.array([[True] * 3 + [False] * 2, [True] * 5])
    masked, weights = layer(tokens, attention_mask=mask, return_attention_weights=True)
    np.testing.assert_array_equal(weights[0, :, :, 3:], np.zeros((3, 5, 2)))
    np.testing.assert_allclose(masked[1:], layer(tokens[1:]), atol=1e-5)
    shorter = layer(tokens[:1], tokens[:1, :3])
    np.testing.assert_allclose(masked[:1], shorter, atol=1e-5)
