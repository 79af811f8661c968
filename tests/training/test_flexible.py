"""FlexiViT: the same weights at several patch sizes, one of which each step trains."""

import numpy as np
import pytest
import tensorflow as tf
import tiny_training

import vit_keras
from vit_keras import layers, models
from vit_keras.training import tasks
from vit_keras.training.flexible import at_patch_size
from vit_keras.training.losses import softmax_cross_entropy
from vit_keras.training.optimizers import SGD
from vit_keras.training.parameter_settings import make_settings
from vit_keras.training.schedules import Schedule
from vit_keras.training.train_step import TrainStep

SIZES = (4, 8, 12)


def flexible_model(**facts):
    tf.keras.utils.set_random_seed(3)
    facts = {"image_size": 24, "classes": 3, "pos_embedding": "learned_before_class_token", **facts}
    model = models.build(models.plain_config("mu/8", **facts))
    head = model.get_layer("head").kernel
    head.assign(np.random.default_rng(0).normal(0, 0.1, head.shape).astype(np.float32))
    return model


@pytest.mark.parametrize("positions", ["learned", "learned_before_class_token", "sincos2d"])
@pytest.mark.parametrize("patch", [4, (12, 6)])
def test_the_same_as_reading_the_checkpoint_at_that_size(positions, patch, tmp_path):
    classifier = "gap" if positions == "sincos2d" else "token"
    model = flexible_model(pos_embedding=positions, classifier=classifier)
    resized = at_patch_size(model, patch)
    assert {id(w) for w in resized.weights} <= {id(w) for w in model.weights}
    vit_keras.save_npz(model, tmp_path / "model.npz")
    again = vit_keras.from_npz(tmp_path / "model.npz", patch_size=patch, image_size=24)
    images = np.random.default_rng(1).uniform(-1, 1, (2, 24, 24, 3)).astype(np.float32)
    np.testing.assert_allclose(resized(images), again(images), atol=1e-6)
    assert not np.allclose(resized(images), model(images), atol=1e-3)


def test_layers_round_trip():
    model = flexible_model()
    resized = at_patch_size(model, 4)
    tokens = np.random.default_rng(1).uniform(-1, 1, (2, 24, 24, 3)).astype(np.float32)
    for name in ("embedding", "posembed_input"):
        layer = resized.get_layer(name)
        twin = type(layer).from_config(layer.get_config())
        assert isinstance(twin, layers.ResizedPatchEncoder | layers.ResizedPositionEmbedding)
        twin(tokens)
        twin.set_weights(layer.get_weights())
        np.testing.assert_array_equal(twin(tokens), layer(tokens))
        tokens = layer(tokens)


@pytest.mark.parametrize(
    ("make", "patch", "message"),
    [
        (flexible_model, 25, "at most the image's"),
        (flexible_model, 0, "expected a positive int"),
        (lambda: vit_keras.create_model("Mixer-S/16", 32, 3), 8, "isn't a ViT"),
        (tiny_training.tiny_model, 8, "isn't a ViT"),
    ],
)
def test_what_has_no_other_patch_size(make, patch, message):
    with pytest.raises(ValueError, match=message):
        at_patch_size(make(), patch)


def make_step(strategy, sizes, **arguments):
    with strategy.scope():
        model = flexible_model()
        named = vit_keras.checkpoints.named_weights(model)
        return TrainStep(
            model,
            named,
            tasks.classification(softmax_cross_entropy),
            SGD(accumulator_dtype="float32"),
            Schedule(0.05, 100, "constant"),
            make_settings(list(named)),
            global_batch=8,
            grad_norm_clip=1.0,
            history_length=10,
            alternatives=[at_patch_size(model, size) for size in sizes],
            **arguments,
        )


def batches(count):
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (count, 8, 24, 24, 3), dtype=np.uint8)
    return images, rng.integers(0, 3, (count, 8))


@pytest.mark.slow
def test_each_step_trains_one_of_them(any_strategy):
    """All replicas and micro-batches train the same one, as it would be trained alone."""
    images, labels = batches(6)
    accum_steps = 2 if any_strategy.num_replicas_in_sync < 4 else 1
    step = make_step(any_strategy, SIZES, accum_steps=accum_steps)
    history = tiny_training.run_steps(any_strategy, step, images, labels)
    alone = tf.distribute.get_strategy()
    twin = make_step(alone, SIZES)
    models_at, drawn = twin.alternatives, []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        batch = {"image": tf.constant(image), "label": tf.constant(label)}
        losses = [np.mean(twin.task(model, batch, False)) for model in models_at]
        drawn.append(int(np.argmin(np.abs(np.array(losses) - history[number, 0]))))
        assert losses[drawn[-1]] == pytest.approx(history[number, 0], abs=1e-5)
        twin.alternatives = (models_at[drawn[-1]],)
        tiny_training.run_steps(alone, twin, images[number:][:1], labels[number:][:1])
    assert len(set(drawn)) > 1
    for name, weight in twin.weights.items():
        np.testing.assert_allclose(step.weights[name].numpy(), weight.numpy(), atol=1e-5)
