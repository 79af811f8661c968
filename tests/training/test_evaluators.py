"""Evaluators: every example once, at any batch size and replica count, by known formulas."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from vit_keras.training import get_strategy
from vit_keras.training.evaluators import (
    ClassificationEvaluator,
    FeatureExtractor,
    FewShotEvaluator,
    KNNEvaluator,
    ZeroShotEvaluator,
    representation_model,
)
from vit_keras.training.evaluators.few_shot import linear_probe

DIGITS, LABELS = load_digits(return_X_y=True)
IMAGES = np.repeat(DIGITS.reshape(-1, 8, 8, 1) * 15, 3, -1).astype(np.uint8)


def make_dataset(images, labels, batch):
    """Padded and masked per-replica batches, as `vit_keras.data.eval_dataset` makes them."""

    def make(context):
        size = batch // context.num_replicas_in_sync
        padding = -len(labels) % batch
        arrays = {
            "image": np.pad(images, ((0, padding), (0, 0), (0, 0), (0, 0))),
            "label": np.pad(labels, (0, padding)),
            "mask": np.pad(np.ones(len(labels), np.float32), (0, padding)),
        }
        return tf.data.Dataset.from_tensor_slices(arrays).batch(size)

    return make


def linear_model(classes=10):
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(images)
    return keras.Model(images, keras.layers.Dense(classes, name="head")(x))


@pytest.mark.parametrize("batch", [8, 100])
def test_classification_over_every_example(any_strategy, batch):
    images, labels = IMAGES[:203], LABELS[:203]
    with any_strategy.scope():
        model = linear_model()
    evaluator = ClassificationEvaluator(any_strategy, model, make_dataset(images, labels, batch))
    for _ in range(2):  # and again on the same evaluator
        found = dict(evaluator.run())
        logits = model((images.astype(np.float32) - 127.5) / 127.5).numpy().astype(np.float64)
        order = np.argsort(-logits, axis=1)
        losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(203), labels]
        assert found["test/examples"] == 203
        assert found["test/accuracy"] == pytest.approx(np.mean(order[:, 0] == labels))
        assert found["test/top5"] == pytest.approx(
            np.mean((order[:, :5] == labels[:, None]).any(1))
        )
        assert found["test/loss"] == pytest.approx(losses.mean(), rel=1e-5)
        variable = model.get_layer("head").bias
        variable.assign(variable + np.arange(10.0))


def test_features_over_every_example(any_strategy):
    images, labels = IMAGES[:29], LABELS[:29]
    with any_strategy.scope():
        model = linear_model()
    extract = FeatureExtractor(
        any_strategy, representation_model(model), make_dataset(images, labels, 8)
    )
    features, found = extract()
    order = np.lexsort(features.T)
    expected = (images.reshape(29, -1).astype(np.float32) - 127.5) / 127.5
    expected_order = np.lexsort(expected.T)
    np.testing.assert_allclose(features[order], expected[expected_order], atol=1e-6)
    np.testing.assert_array_equal(found[order], labels[expected_order])


@pytest.mark.parametrize("examples", [30, 200])
def test_linear_probe_is_ridge_regression(examples):
    """Both forms of the solution, more and fewer examples than features, against scikit-learn."""
    x, y, test = DIGITS[:examples], LABELS[:examples], DIGITS[examples:]
    mean, std = x.mean(0), x.std(0) + 1e-5

    def whiten(values):
        return np.pad((values - mean) / std, ((0, 0), (0, 1)), constant_values=100.0)

    ridge = Ridge(alpha=2.0**10, fit_intercept=False)
    ridge.fit(whiten(x), 2.0 * np.eye(10)[y] - 1)
    expected = np.argmax(ridge.predict(whiten(test)), 1)
    np.testing.assert_array_equal(linear_probe(x, y, test, 10, 2.0**10), expected)


class Arrays:
    """Features that are there already."""

    def __init__(self, features, labels):
        self.arrays = features.astype(np.float32), labels

    def __call__(self):
        return self.arrays


TRAIN, TEST = Arrays(DIGITS[:1000], LABELS[:1000]), Arrays(DIGITS[1000:], LABELS[1000:])


def test_few_shot_learns_and_repeats():
    evaluator = FewShotEvaluator(TRAIN, TEST, 10, shots=(1, 25), num_seeds=2, name="digits")
    found = dict(evaluator.run())
    assert list(found) == [f"digits/{s}shot_seed{i}" for i in range(2) for s in (1, 25)]
    assert found["digits/25shot_seed0"] > 0.8 > found["digits/1shot_seed0"] > 0.2
    assert found == dict(evaluator.run())


def test_knn_is_scikit_learns():
    found = dict(KNNEvaluator(TRAIN, TEST, 10, ks=(1, 20), temperature=0.1, name="digits").run())
    for k in (1, 20):
        classifier = KNeighborsClassifier(
            k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.1)
        ).fit(*TRAIN.arrays)
        assert found[f"digits/{k}nn"] == pytest.approx(classifier.score(*TEST.arrays), abs=1.5e-3)


def test_zero_shot_finds_the_class_whose_texts_are_nearest():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(50, 16))
    texts = rng.integers(0, 50, (4, 3, 6))  # classes, texts, tokens

    def embed(tokens):
        mean = table[np.asarray(tokens)].mean(1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    centres = np.stack([embed(t).mean(0) for t in texts])
    images = np.repeat(centres, 5, 0) + 0.01 * rng.normal(size=(20, 16))
    labels = np.repeat(np.arange(4), 5)
    labels[0] = 3  # one wrong in twenty
    evaluator = ZeroShotEvaluator(Arrays(images, labels), embed, texts, batch=5)
    assert dict(evaluator.run()) == {"test/zeroshot": 0.95}
    with pytest.raises(ValueError, match=r"expected \(classes, texts, length\)"):
        ZeroShotEvaluator(Arrays(images, labels), embed, texts[0])


def test_data_without_a_length():
    strategy = get_strategy("one_device")
    endless = tf.data.Dataset.from_tensors({"label": 0}).filter(lambda x: True)
    evaluator = ClassificationEvaluator(strategy, linear_model(), lambda context: endless)
    with pytest.raises(ValueError, match="how many batches"):
        dict(evaluator.run())
