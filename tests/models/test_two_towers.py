"""Embeddings, similarity and zero-shot classification of two towers."""

from pathlib import Path

import keras
import numpy as np
import pytest

import vit_keras
from vit_keras import models, two_towers

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES = ("lit_two_towers_tok_last", "siglip_two_towers_map_last")


def load(case):
    expected = dict(np.load(GOLDENS / case / "expected.npz"))
    images = (expected["images_uint8"].astype(np.float32) - 127.5) / 127.5
    return vit_keras.from_npz(GOLDENS / case / "checkpoint.npz"), images, expected


@pytest.mark.parametrize("case", CASES)
def test_embeddings_and_similarity(case):
    model, images, expected = load(case)
    zimg = two_towers.image_embeddings(model).predict(images, verbose=0)
    ztxt = two_towers.text_embeddings(model).predict(expected["tokens"], verbose=0)
    np.testing.assert_allclose(zimg, expected["zimg"], atol=1e-5)
    np.testing.assert_allclose(ztxt, expected["ztxt"], atol=1e-5)
    logits = two_towers.similarity(model)([zimg, ztxt])
    scale = np.abs(expected["similarity_logits"]).max()
    np.testing.assert_allclose(logits, expected["similarity_logits"], atol=1e-5 * scale)


def characters(texts):
    """A tokenizer: nine letters, numbered."""
    return [[ord(letter) % 100 for letter in f"{text:<9}"[:9]] for text in texts]


@pytest.mark.parametrize("case", CASES)
def test_zero_shot_with_one_template_is_the_similarity(case, tmp_path):
    model, images, _ = load(case)
    names = ["cat", "dog", "bird", "fish"]
    classifier = two_towers.zero_shot_classifier(model, names, ["a {}"], characters)
    tokens = np.array(characters([f"a {name}" for name in names]))
    similarity = model({"image": images, "tokens": tokens})["similarity_logits"]
    np.testing.assert_allclose(classifier.predict(images, verbose=0), similarity, atol=1e-5)
    classifier.save(tmp_path / "zero_shot.keras")
    again = keras.models.load_model(tmp_path / "zero_shot.keras")
    np.testing.assert_array_equal(again(images), classifier(images))


def test_zero_shot_averages_the_templates():
    model, images, _ = load(CASES[0])
    templates = ["a {}", "the {}", "{}!"]
    classifier = two_towers.zero_shot_classifier(
        model, ["cat", "dog"], templates, characters, batch_size=4, activation="softmax"
    )
    texts = np.array(characters([t.format(n) for n in ("cat", "dog") for t in templates]))
    ztxt = np.asarray(two_towers.text_embeddings(model)(texts)).reshape(2, 3, -1).mean(axis=1)
    ztxt /= np.linalg.norm(ztxt, axis=1, keepdims=True)
    outputs = model({"image": images, "tokens": texts})
    logits = np.asarray(outputs["zimg"]) @ ztxt.T * np.asarray(outputs["temperature"])
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier(images), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "templates", "match"),
    [
        ([], ["a {}"], "class_names"),
        (["cat"], [], "templates"),
        (["cat"], ["a photo"], "templates"),
        ("cat", ["a {}"], "lists"),
    ],
)
def test_what_makes_no_classifier(names, templates, match):
    model, _, _ = load(CASES[0])
    with pytest.raises(ValueError, match=match):
        two_towers.zero_shot_classifier(model, names, templates, characters)


def test_one_tower_isn_t_two():
    model = vit_keras.from_npz(GOLDENS / "vit_token_linen" / "checkpoint.npz")
    with pytest.raises(ValueError, match="two towers"):
        two_towers.image_embeddings(model)


def test_towers_that_can_t_be_compared():
    image = models.plain_config("mu/16", classes=8)
    text = models.TextConfig(24, 32, 2, 1, vocab_size=10, max_length=4, classes=16)
    with pytest.raises(ValueError, match="width 8"):
        models.TwoTowersConfig(image, text)


def test_fresh_siglip_starts_as_its_paper_says():
    image = models.plain_config("mu/16", classes=0, classifier="map", image_size=32)
    text = models.TextConfig(32, 32, 2, 1, vocab_size=10, max_length=4)
    config = models.TwoTowersConfig(image, text, has_bias=True, initial_temperature=10.0)
    outputs = models.build(config)(
        {"image": np.zeros((1, 32, 32, 3), np.float32), "tokens": np.zeros((2, 4), np.int32)}
    )
    np.testing.assert_allclose(outputs["temperature"], [10.0], rtol=1e-6)
    np.testing.assert_allclose(outputs["bias"], [-10.0])


def test_a_text_tower_alone(tmp_path):
    arrays = dict(np.load(GOLDENS / CASES[0] / "checkpoint.npz"))
    prefix = "params/txt/"
    np.savez(tmp_path / "txt.npz", **{k: a for k, a in arrays.items() if k.startswith(prefix)})
    model, _, expected = load(CASES[0])
    alone = vit_keras.from_npz(tmp_path / "txt.npz")
    both = model.get_layer("txt")
    np.testing.assert_array_equal(alone(expected["tokens"]), both(expected["tokens"]))
    mean = vit_keras.from_npz(tmp_path / "txt.npz", pooling="mean", classes=0)
    encoded = vit_keras.features(both)(expected["tokens"])["encoded"]
    np.testing.assert_allclose(mean(expected["tokens"]), np.mean(encoded, axis=1), atol=1e-5)
    vit_keras.save_npz(alone, tmp_path / "again.npz")
    assert set(np.load(tmp_path / "again.npz").files) == set(np.load(tmp_path / "txt.npz").files)
