"""Pipeline strings: what they may say, and what is answered to what they may not."""

import re

import data_helpers
import numpy as np
import pytest
import tensorflow as tf

from vit_keras import data
from vit_keras.data import mixing, normalize, presets, registry

PHOTO_JPEG = data_helpers.encode(data_helpers.photo(), "JPEG")
SEED = tf.constant([1, 2], tf.int64)
IMAGE = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)


def run(pipeline, **example):
    return data.build_pipeline(pipeline)({"image": IMAGE, **example}, SEED)


def test_values_and_labels():
    result = run("value_range(-1, 1)|onehot(5)|drop('file')", label=np.int64(3), file="x")
    np.testing.assert_allclose(result["image"], (IMAGE - 127.5) / 127.5, atol=1e-6)
    np.testing.assert_array_equal(result["label"], [0, 0, 0, 1, 0])
    assert sorted(result) == ["image", "label"]


def test_big_vision_spelling():
    pipeline = "value_range(-1,1)|onehot(5,key='label',key_result='labels')|keep('image','labels')"
    result = run(pipeline, label=np.int64(3))
    assert sorted(result) == ["image", "labels"]
    several = run("onehot(4, key='labels')", labels=np.array([0, 2]))
    np.testing.assert_array_equal(several["labels"], [1, 0, 1, 0])


def test_keys():
    result = run("copy('image', 'small')|resize(4, key='small')|resize(2, outkey='tiny')")
    assert result["small"].shape == (4, 4, 3)
    assert result["tiny"].shape == (2, 2, 3)
    np.testing.assert_array_equal(result["image"], IMAGE)


@pytest.mark.parametrize(
    ("pipeline", "shape"),
    [
        ("resize(6)", (6, 6)),
        ("resize((6, 4))", (6, 4)),
        ("resize_small(5)", (6, 5)),
        ("resize_long(6)", (6, 5)),
        ("central_crop(8)", (8, 8)),
        ("central_crop()", (10, 10)),
        ("central_crop((4, 6))", (4, 6)),
        ("random_crop((4, 6))", (4, 6)),
        ("inception_crop(7)", (7, 7)),
        ("", (12, 10)),
    ],
)
def test_shapes(pipeline, shape):
    image = run(pipeline)["image"]
    assert image.shape == (*shape, 3)
    assert image.dtype == tf.uint8


def test_resize_rounds_and_keeps_floats():
    half = np.array([[[0, 0, 0], [1, 1, 1]]], np.uint8)
    assert int(data.build_pipeline("resize(1)")({"image": half}, SEED)["image"][0, 0, 0]) == 1
    exact = data.build_pipeline("resize(1, dtype='float32')")({"image": half}, SEED)["image"]
    assert float(exact[0, 0, 0]) == 0.5


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("decod|resize(8)", "Did you mean 'decode'"),
        ("resize(8, antialas=True)", "argument of resize 'antialas'. Did you mean 'antialias'"),
        ("resize()", "missing a required argument: 'size'"),
        ("flip_lr(1, 2, 3)", "too many positional"),
        ("resize(8", "Cannot parse"),
        ("resize(__import__('os').getpid())", "must be literals"),
        ("resize.__class__", "is not an operation"),
        ("__import__('os')", "Unknown operation '__import__'"),
        ("resize(8) + flip_lr", "is not an operation"),
        ("resize(*[8])", "must be literals"),
        ("resize(**{'size': 8})", "is not an operation"),
        ("resize(8, key='imag')", "Did you mean 'image'"),
        ("onehot(3, key='lable')", "key for onehot"),
    ],
)
def test_what_is_wrong_is_said(pipeline, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        run(pipeline, label=np.int64(0))


def test_registering_an_operation():
    @data.register_op("fill_with")
    def fill_with(value):
        return lambda image, seed: tf.ones_like(image) * value + tf.cast(0 * seed[0], image.dtype)

    try:
        assert int(tf.reduce_min(run("fill_with(7)")["image"])) == 7
        assert data.available_ops()["fill_with"] == "fill_with(value)"
        with pytest.raises(ValueError, match="already registered"):
            data.register_op("fill_with")(presets.finetune_eval)
    finally:
        del registry._OPS["fill_with"]
    with pytest.raises(ValueError, match="must be an identifier"):
        data.register_op("no-good")


def test_presets_keep_the_values_of_the_original():
    expected = (tf.image.resize(tf.io.decode_jpeg(PHOTO_JPEG), [9, 7]) - 127.5) / 127.5
    for transport, tolerance in [("float32", 1e-6), ("bfloat16", 0.004), ("uint8", 0.0040)]:
        pipeline = data.build_pipeline(presets.finetune_eval((9, 7), transport=transport))
        image = pipeline({"image": PHOTO_JPEG}, SEED)["image"]
        assert image.dtype.name == transport
        got = normalize.normalize_image(image)
        np.testing.assert_allclose(got, expected, atol=tolerance)
    assert "flip" in presets.finetune_train(8)
    assert "flip" not in presets.finetune_train(8, flip=False)
    with pytest.raises(ValueError, match="Did you mean 'uint8'"):
        presets.finetune_train(8, transport="int8")


def test_normalize_image():
    np.testing.assert_allclose(
        normalize.normalize_image(tf.constant([0, 255], tf.uint8)), [-1, 1], atol=1e-7
    )
    floats = tf.constant([0.5], tf.bfloat16)
    assert normalize.normalize_image(floats, tf.bfloat16).dtype == tf.bfloat16
    with pytest.raises(ValueError, match="int32"):
        normalize.normalize_image(tf.constant([1]))


@pytest.mark.parametrize("compiled", [False, True])
def test_mixup(compiled):
    images, labels = tf.random.normal([4, 6, 6, 3], seed=1), tf.eye(4)
    function = tf.function(
        lambda seed: mixing.mixup(images, labels, seed, 0.5), jit_compile=compiled
    )
    shares = set()
    for seed in range(5):
        mixed, mixed_labels = function(tf.constant([seed, 0]))
        share = float(mixed_labels[0, 0])
        shares.add(share)
        assert 0.5 <= share <= 1
        np.testing.assert_allclose(
            mixed, share * images + (1 - share) * tf.roll(images, 1, 0), atol=1e-5
        )
        np.testing.assert_allclose(mixed_labels[0, 3], 1 - share, atol=1e-6)
    assert len(shares) == 5
    assert mixing.mixup(images, labels, tf.constant([0, 0]), 0)[0] is images


@pytest.mark.parametrize("compiled", [False, True])
def test_cutmix(compiled):
    images, labels = tf.random.normal([4, 16, 12, 3], seed=1), tf.eye(4)
    function = tf.function(
        lambda seed: mixing.cutmix(images, labels, seed, 1.0), jit_compile=compiled
    )
    for seed in range(5):
        mixed, mixed_labels = function(tf.constant([seed, 0]))
        own = np.all(np.asarray(mixed) == images, axis=-1)
        partner = np.all(np.asarray(mixed) == np.roll(images, 1, 0), axis=-1)
        assert (own | partner).all()
        np.testing.assert_allclose(mixed_labels[0, 0], own[0].mean(), atol=1e-6)
        rows, columns = np.where(~own[0])
        if len(rows):
            box = ~own[0][rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert box.all()


@pytest.mark.parametrize("p", [0.1, 0.8, 2.0])
def test_mixup_draws_from_a_beta_distribution(p):
    draw = tf.function(lambda seed: mixing._draw_beta(seed, p))
    values = np.array([float(draw(tf.constant([seed, 5]))) for seed in range(1500)])
    # Mean 1/2, variance 1 / (4 (2p + 1)); bounds are more than four standard errors.
    variance = 1 / (4 * (2 * p + 1))
    assert abs(values.mean() - 0.5) < 4.5 * np.sqrt(variance / 1500)
    assert abs(values.var() - variance) < 0.12 * variance


def test_mixing_arguments():
    images, labels, seed = tf.zeros([2, 4, 4, 3]), tf.eye(2), tf.constant([0, 0])
    with pytest.raises(ValueError, match="between 0 and 2, got -1"):
        mixing.mixup(images, labels, seed, -1)
    with pytest.raises(ValueError, match="onehot_labels must be floating"):
        mixing.cutmix(images, tf.constant([0, 1]), seed, 1.0)
