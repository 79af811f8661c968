import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from vit_keras import layers

sys.path.insert(0, str(Path(__file__).parent))
from layer_checks import check_layer

TOKENS = (2, 6, 16)

DECLARED = {
    # class: (arguments, input shape, output shape, weights)
    layers.PatchEncoder: ({"hidden_size": 16, "patch_size": (2, 4)}, (2, 8, 8, 3), (2, 8, 16), 2),
    layers.ClassToken: ({}, TOKENS, (2, 7, 16), 1),
    layers.PositionEmbedding: ({"grid_size": (2, 3)}, TOKENS, TOKENS, 1),
    layers.SinCosPositionEmbedding: ({"grid_size": (2, 3)}, TOKENS, TOKENS, 0),
    layers.LayerNorm: ({"epsilon": 1e-5}, TOKENS, TOKENS, 2),
    layers.LayerScale: ({"initial_value": 0.5}, TOKENS, TOKENS, 1),
    layers.MultiHeadDotProductAttention: ({"num_heads": 4}, TOKENS, TOKENS, 8),
    layers.MlpBlock: ({"mlp_dim": 24}, TOKENS, TOKENS, 4),
    layers.StatelessDropout: ({"rate": 0.5}, TOKENS, TOKENS, 0),
    layers.StochasticDepth: ({"rate": 0.5}, TOKENS, TOKENS, 0),
    layers.MAPHead: ({"num_heads": 4, "mlp_dim": 24}, TOKENS, (2, 16), 15),
    layers.TokenPooling: ({"pooling": "mean"}, TOKENS, (2, 16), 0),
    layers.TransformerBlock: (
        {"num_heads": 4, "mlp_dim": 24, "dropout": 0.1, "layer_scale": 0.1, "remat": True},
        TOKENS,
        TOKENS,
        18,
    ),
}


@pytest.mark.parametrize("layer_class", DECLARED, ids=lambda c: c.__name__)
def test_layer_keeps_its_promises(layer_class, tmp_path):
    check_layer(layer_class, *DECLARED[layer_class], tmp_path)


def test_every_public_layer_is_declared():
    public = {value for value in vars(layers).values() if isinstance(value, type)}
    tested_elsewhere = {value for value in public if value.__name__ in ELSEWHERE}
    assert public - tested_elsewhere == set(DECLARED)


# In test_family_layers.py and test_resized_layers.py.
ELSEWHERE = {
    "BertBlock",
    "BertEmbedding",
    "GroupNorm",
    "MixerBlock",
    "ResidualUnit",
    "ResizedPatchEncoder",
    "ResizedPositionEmbedding",
    "Similarity",
    "StdConv",
    "TokenEmbedding",
    "UnitLength",
}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.StatelessDropout(1.0), "rate is 1.0"),
        (lambda: layers.PatchEncoder(8, 0), "patch_size is 0"),
        (lambda: layers.PatchEncoder(8, (4, 4, 4)), "patch_size is"),
        (lambda: layers.TokenPooling("frist"), "pooling is 'frist'"),
        (lambda: layers.MultiHeadDotProductAttention(3)(np.zeros(TOKENS)), "num_heads is 3"),
        (lambda: layers.PositionEmbedding(2)(np.zeros(TOKENS)), "given 6"),
        (lambda: layers.SinCosPositionEmbedding(2)(np.zeros((1, 4, 6))), "hidden_size is 6"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_layer_norm_matches_float64_formula():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(4, 5, 64))
    layer = layers.LayerNorm()
    got = layer(x.astype(np.float32)).numpy()
    variance = x.var(axis=-1, keepdims=True)
    expected = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(variance + 1e-6)
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_layer_norm_of_a_constant_is_its_bias():
    layer = layers.LayerNorm()
    got = layer(np.full((1, 8), 1234.567, np.float32)).numpy()
    np.testing.assert_allclose(got, np.zeros((1, 8)), atol=0.2)
    assert np.isfinite(got).all()


def test_attention_matches_plain_numpy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 12)).astype(np.float32)
    layer = layers.MultiHeadDotProductAttention(3)
    layer.build(x.shape)
    layer.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in layer.weights])
    got, weights = layer(x, return_attention_weights=True)

    def project(kernel, bias):
        return np.einsum("btd,dhk->bhtk", x, kernel.numpy()) + bias.numpy()[None, :, None]

    q = project(layer.query_kernel, layer.query_bias)
    k = project(layer.key_kernel, layer.key_bias)
    v = project(layer.value_kernel, layer.value_bias)
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(4)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    out = np.einsum("bhtk,hkd->btd", scores @ v, layer.out_kernel.numpy()) + layer.out_bias.numpy()
    np.testing.assert_allclose(weights, scores, atol=1e-5)
    np.testing.assert_allclose(got, out, rtol=1e-4, atol=1e-4)


def test_patches_are_in_row_major_order():
    image = np.arange(4 * 6, dtype=np.float32).reshape(1, 4, 6, 1)
    layer = layers.PatchEncoder(1, 2)
    layer.build(image.shape)
    layer.set_weights([np.ones((2, 2, 1, 1), np.float32), np.zeros(1, np.float32)])
    sums = image.reshape(2, 2, 3, 2).sum(axis=(1, 3)).reshape(-1)
    np.testing.assert_array_equal(layer(image).numpy().reshape(-1), sums)


class TestRandomness:
    x = np.ones((4, 64, 8), np.float32)

    def test_same_seed_same_mask_other_seed_other_mask(self):
        layer = layers.StatelessDropout(0.5)

        def draw(seed):
            with layers.random.seed_scope(tf.constant(seed)):
                return layer(self.x, training=True).numpy()

        np.testing.assert_array_equal(draw([1, 2]), draw([1, 2]))
        assert (draw([1, 2]) != draw([1, 3])).any()

    def test_layers_of_one_scope_draw_different_masks(self):
        first, second = layers.StatelessDropout(0.5), layers.StatelessDropout(0.5)
        with layers.random.seed_scope(tf.constant([1, 2])):
            assert (
                first(self.x, training=True).numpy() != second(self.x, training=True).numpy()
            ).any()

    def test_without_a_scope_masks_change_from_call_to_call(self):
        layer = layers.StatelessDropout(0.5)
        assert (layer(self.x, training=True).numpy() != layer(self.x, training=True).numpy()).any()

    def test_mean_is_kept_and_inference_does_nothing(self):
        layer = layers.StatelessDropout(0.25)
        out = layer(self.x, training=True).numpy()
        assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.75)}
        assert abs(out.mean() - 1.0) < 0.1
        np.testing.assert_array_equal(layer(self.x, training=False), self.x)

    def test_stochastic_depth_drops_whole_examples(self):
        x = np.ones((256, 3, 2), np.float32)
        out = layers.StochasticDepth(0.5)(x, training=True).numpy()
        assert set(np.unique(out)) == {np.float32(0), np.float32(2)}
        assert (out == out[:, :1, :1]).all()


def test_rematerialised_block_has_the_same_gradients():
    rng = np.random.default_rng(0)
    # In float64, since TensorFlow fuses (and so rounds) one of the two otherwise.
    x = tf.constant(rng.normal(size=(2, 6, 16)))
    arguments = {"num_heads": 4, "mlp_dim": 24, "dropout": 0.3, "stochastic_depth": 0.2}
    arguments["dtype"] = "float64"
    plain = layers.TransformerBlock(**arguments)
    remat = layers.TransformerBlock(**arguments, remat=True)
    plain(x)
    remat(x)
    remat.set_weights(plain.get_weights())

    @tf.function
    def gradients(layer, inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            with layers.random.seed_scope(tf.constant([3, 4])):
                y = layer(inputs, training=True)
            loss = tf.reduce_sum(tf.sin(y))
        return loss, tape.gradient(loss, [inputs, *layer.trainable_variables])

    loss, expected = gradients(plain, x)
    remat_loss, got = gradients(remat, x)
    np.testing.assert_allclose(loss, remat_loss, rtol=1e-12)
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
