"""The layers that use another one's weights at another size (FlexiViT)."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_keras import layers
from vit_keras.checkpoints.patches import resize_patches


def _encoder(dtype="float32"):
    return (
        layers.PatchEncoder(6, 8, dtype=dtype),
        lambda source, size: layers.ResizedPatchEncoder(source, size, dtype=dtype),
        np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32"),
    )


def test_the_same_patch_size_changes_nothing():
    source, resized, images = _encoder()
    np.testing.assert_allclose(resized(source, 8)(images), source(images), rtol=1e-4, atol=1e-5)


def test_another_patch_size_is_the_loaders():
    source, resized, images = _encoder()
    source(images)
    tokens = resized(source, 4)(images)
    kernel = resize_patches(np.array(source.kernel), (4, 4))
    expected = tf.nn.conv2d(images, tf.cast(kernel, tf.float32), 4, "VALID")
    np.testing.assert_allclose(tokens, tf.reshape(expected, (2, 16, 6)), rtol=1e-4, atol=1e-5)


def test_it_trains_the_other_layer():
    source, resized, images = _encoder("mixed_bfloat16")
    layer = resized(source, 4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(layer(tf.cast(images, tf.bfloat16)), tf.float32) ** 2)
    gradient = tape.gradient(loss, source.trainable_weights[0])
    assert gradient.shape == source.kernel.shape
    assert np.any(np.array(gradient))


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (layers.ResizedPatchEncoder(layers.PatchEncoder(6, 8), 4), "patch_size"),
        (layers.ResizedPositionEmbedding(layers.PositionEmbedding((2, 3)), (4, 5)), "grid_size"),
    ],
    ids=["patches", "positions"],
)
def test_it_comes_back_from_its_config(layer, size):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert getattr(again, size) == getattr(layer, size)
    assert again.source.get_config() == layer.source.get_config()


def test_positions_of_the_same_grid_change_nothing():
    tokens = np.zeros((2, 6, 4), "float32")
    source = layers.PositionEmbedding((2, 3))
    source(tokens)
    resized = layers.ResizedPositionEmbedding(source, (2, 3))
    np.testing.assert_allclose(resized(tokens), source(tokens), rtol=1e-5, atol=1e-6)
    assert layers.ResizedPositionEmbedding(source, (3, 5))(np.zeros((2, 15, 4))).shape == (2, 15, 4)
