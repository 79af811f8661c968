"""The calls of the PyPI package vit-keras 0.2.0."""

import inspect
import io
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import vit_keras
from vit_keras import layers, utils, visualize, vit

GOLDENS = Path(__file__).parents[1] / "goldens"


def small_model(**options):
    return vit.build_model(
        **{
            "image_size": 32,
            "patch_size": 8,
            "num_layers": 2,
            "hidden_size": 32,
            "num_heads": 4,
            "name": "small",
            "mlp_dim": 64,
            "classes": 5,
            **options,
        }
    )


@pytest.mark.parametrize("name", ["vit_b16", "vit_b32", "vit_l16", "vit_l32"])
def test_signatures(name):
    parameters = inspect.signature(getattr(vit, name)).parameters
    assert list(parameters) == [
        "image_size",
        "classes",
        "activation",
        "include_top",
        "pretrained",
        "pretrained_top",
        "weights",
    ]
    assert parameters["weights"].default == "imagenet21k+imagenet2012"
    assert parameters["activation"].default == "linear"


@pytest.mark.slow
def test_without_weights():
    model = vit.vit_b32(
        image_size=(64, 96),
        classes=10,
        activation="sigmoid",
        include_top=True,
        pretrained=False,
        pretrained_top=False,
    )
    assert model.output_shape == (None, 10)
    assert model.input_shape == (None, 64, 96, 3)
    assert model.name == "vit-b32"
    body = vit.vit_b32(include_top=False, pretrained=False, pretrained_top=False)
    assert body.output_shape == (None, 768)
    assert not any(isinstance(layer, keras.layers.Lambda) for layer in model.layers)


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "imagenet", "pretrained": False},
        {"include_top": False},
        {"pretrained": False},
        {"image_size": 33, "pretrained": False, "pretrained_top": False},
    ],
)
def test_arguments_that_contradict_each_other(options):
    with pytest.raises(ValueError, match=r"weights|pretrained_top|image_size"):
        vit.vit_b16(**options)


def test_weights_are_read_and_resized():
    path = GOLDENS / "vit_token_legacy" / "checkpoint.npz"
    expected = np.load(GOLDENS / "vit_token_legacy" / "expected.npz")
    model = small_model()
    utils.load_weights_numpy(model, path, pretrained_top=True, num_x_patches=4, num_y_patches=4)
    logits = model(vit.preprocess_inputs(expected["images_uint8"].astype(np.float32)))
    assert np.abs(logits - expected["logits"]).max() <= 1e-5 * np.abs(expected["logits"]).max()
    wide = small_model(image_size=(32, 48), classes=7)
    utils.load_weights_numpy(wide, path, pretrained_top=False, num_x_patches=6, num_y_patches=4)
    assert vit_keras.checkpoints.head_is_zero(wide)
    body = small_model(include_top=False)
    utils.load_weights_numpy(body, path, pretrained_top=False, num_x_patches=4, num_y_patches=4)
    with pytest.raises(ValueError, match="num_x_patches"):
        utils.load_weights_numpy(wide, path, False, num_x_patches=4, num_y_patches=4)


def test_preprocess_inputs():
    np.testing.assert_allclose(vit.preprocess_inputs(np.array([0.0, 127.5, 255.0])), [-1, 0, 1])
    assert vit.preprocess_inputs(np.array([255], np.uint8)) == 1


def test_read(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "image.png")
    np.testing.assert_array_equal(utils.read(Image.fromarray(pixels[:, :20]), 20), pixels[:, :20])
    from_path = utils.read(str(tmp_path / "image.png"), size=16)
    assert from_path.shape == (16, 16, 3)
    assert from_path.dtype == np.uint8
    buffer = io.BytesIO((tmp_path / "image.png").read_bytes())
    np.testing.assert_array_equal(utils.read(buffer, 16), from_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        utils.read("absent.png", 16)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken\.png"):
        utils.read(str(tmp_path / "broken.png"), 16)


def test_imagenet_classes():
    names = utils.get_imagenet_classes()
    assert len(names) == 1000
    assert names[0] == "tench, Tinca tinca"


@pytest.mark.parametrize("image_size", [32, (32, 48)])
def test_attention_map(image_size):
    model = small_model(image_size=image_size)
    image = np.full((50, 40, 3), 200, np.uint8)
    drawn = visualize.attention_map(model, image)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert drawn.max() <= 200
    assert drawn.max() > drawn.min()


def test_attention_map_is_the_rollout():
    """By the formula as 0.2.0 has it, on an image of the model's own size."""
    model = small_model()
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    found = vit_keras.features(model)(vit.preprocess_inputs(image.astype(np.float32))[None])
    weights = [np.mean(found[f"encoderblock_{i}_attention_weights"][0], axis=0) for i in (0, 1)]
    weights = np.array(weights) + np.eye(17)
    weights /= weights.sum(axis=(1, 2))[:, None, None]
    mask = (weights[1] @ weights[0])[0, 1:].reshape(4, 4, 1)
    mask = tf.image.resize(mask / mask.max(), (32, 32)).numpy()
    drawn = visualize.attention_map(model, image)
    assert np.abs(drawn.astype(int) - (mask * image).astype(int)).max() <= 1


def test_attention_map_needs_a_class_token():
    model = vit_keras.create_model("mu/16", image_size=32, classifier="gap")
    with pytest.raises(ValueError, match="class token"):
        visualize.attention_map(model, np.zeros((32, 32, 3), np.uint8))


def test_layers_of_the_same_names():
    for name in ("ClassToken", "TransformerBlock"):
        assert issubclass(getattr(layers, name), keras.layers.Layer)
