"""The step: the same on any number of replicas and micro-batches."""

import numpy as np
import pytest
import tensorflow as tf
from tiny_training import make_batches, make_step, names, run_steps, tiny_model

from vit_keras.training import get_strategy, replica
from vit_keras.training.optimizers import SGD
from vit_keras.training.parameter_settings import make_settings
from vit_keras.training.schedules import Schedule
from vit_keras.training.sharpness import SharpnessAware


def train(strategy, num_steps=5, dropout=0.0, **kwargs):
    """History and weights after `num_steps`."""
    with strategy.scope():
        model = tiny_model(dropout)
        step = make_step(model, **kwargs)
    images, labels = make_batches(num_steps)
    history = run_steps(strategy, step, images, labels)
    return history, {name: v.numpy() for name, v in step.weights.items()}, step


ONE = get_strategy("one_device")


@pytest.mark.parametrize("options", [{}, {"sharpness": SharpnessAware(0.1, 0.01, 0.3)}])
def test_replicas_change_nothing(any_strategy, options):
    expected, expected_weights, _ = train(ONE, **options)
    history, weights, _ = train(any_strategy, **options)
    np.testing.assert_allclose(history, expected, rtol=1e-5)
    for name, value in weights.items():
        np.testing.assert_allclose(value, expected_weights[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accum_steps", [2, 8])
def test_accumulation_equals_full_batch(accum_steps):
    expected, expected_weights, _ = train(ONE)
    history, weights, _ = train(ONE, accum_steps=accum_steps)
    np.testing.assert_allclose(history, expected, rtol=1e-5)
    for name, value in weights.items():
        np.testing.assert_allclose(value, expected_weights[name], rtol=1e-4, atol=1e-6)


def test_accumulation_on_replicas(any_strategy):
    expected, _, _ = train(ONE)
    history, _, _ = train(any_strategy, accum_steps=2)
    np.testing.assert_allclose(history, expected, rtol=1e-5)


def test_update_norm_is_the_clip_value(any_strategy):
    """Clipping comes after aggregation: the update has exactly that length on any replica count."""
    clip = 0.01
    with any_strategy.scope():
        model = tiny_model()
        step = make_step(
            model,
            rule=SGD(momentum=0.0),
            schedule=Schedule(1.0, 1000, "constant"),
            grad_norm_clip=clip,
        )
    before = [p.numpy() for p in step.parameters]
    history = run_steps(any_strategy, step, *make_batches(1))
    squares = [np.sum((p.numpy() - b) ** 2) for p, b in zip(step.parameters, before, strict=True)]
    assert history[0, 1] > clip
    np.testing.assert_allclose(np.sqrt(sum(squares)), clip, rtol=1e-5)


def test_dropout_masks_differ_between_replicas_and_repeat():
    """Two replicas that see the same images give different logits; a second run the same ones."""
    strategy = get_strategy("mirrored", num_devices=2)
    losses = []

    def loss(model, batch, training):
        logits = model(tf.cast(batch["image"], tf.float32), training=training)
        tf.py_function(lambda x: losses.append(x.numpy()), [logits], [])
        return tf.reduce_sum(logits, axis=-1)

    def run():
        losses.clear()
        with strategy.scope():
            step = make_step(tiny_model(dropout=0.5), global_batch=8)
            step.task = loss
        images, labels = make_batches(2)
        images[:, 4:] = images[:, :4]  # both replicas get the same images
        run_steps(strategy, step, images, labels)
        return sorted(losses, key=lambda x: float(np.sum(x)))

    first, second = run(), run()
    assert len(first) == 4
    for i in range(4):
        np.testing.assert_array_equal(first[i], second[i])
        for j in range(i):
            assert np.abs(first[i] - first[j]).max() > 1e-3


def test_dropout_changes_the_run_and_the_seed_the_masks():
    without, _, _ = train(ONE)
    one, _, _ = train(ONE, dropout=0.5)
    again, _, _ = train(ONE, dropout=0.5)
    other, _, _ = train(ONE, dropout=0.5, seed=1)
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - without).max() > 1e-4
    assert np.abs(one - other).max() > 1e-4


def test_frozen_parameters_stay_and_multipliers_scale():
    model = tiny_model()
    settings = make_settings(
        names(model), frozen=("embedding/",), lr_multipliers=(("head/kernel", 0.5),)
    )
    before = {name: v.numpy() for name, v in names(model).items()}
    step = make_step(model, settings=settings, rule=SGD(momentum=0.0))
    run_steps(ONE, step, *make_batches(1))
    full_model = tiny_model()
    full = make_step(full_model, rule=SGD(momentum=0.0))
    run_steps(ONE, full, *make_batches(1))
    change = {n: v.numpy() - before[n] for n, v in step.weights.items()}
    full_change = {n: v.numpy() - before[n] for n, v in full.weights.items()}
    assert not np.any(change["embedding/kernel"])
    np.testing.assert_allclose(
        change["head/kernel"], 0.5 * full_change["head/kernel"], rtol=1e-3, atol=1e-7
    )
    np.testing.assert_allclose(
        change["pre_logits/kernel"], full_change["pre_logits/kernel"], rtol=1e-3, atol=1e-7
    )


def test_ema_and_its_exchange(any_strategy):
    with any_strategy.scope():
        step = make_step(tiny_model(), ema_decay=0.9)
    average = [p.numpy().astype(np.float64) for p in step.parameters]
    images, labels = make_batches(3)
    for i in range(3):
        run_steps(any_strategy, step, images[i : i + 1], labels[i : i + 1])
        average = [0.9 * a + 0.1 * p.numpy() for a, p in zip(average, step.parameters, strict=True)]
    weights = [p.numpy() for p in step.parameters]
    for found, expected in zip(step.ema, average, strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)
    swap = tf.function(lambda: any_strategy.run(step.swap_ema))
    swap()
    for found, expected in zip(step.parameters, average, strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)
    swap()
    for found, expected in zip(step.parameters, weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)


def test_weight_decay_forms():
    """big_vision: wd * (lr / base_lr) * p; Keras: wd * lr * p; on kernels only."""
    for form, share in (("big_vision", 0.01), ("keras", 0.01 * 0.1)):
        model = tiny_model()
        settings = make_settings(names(model), weight_decay=0.01)
        step = make_step(model, settings=settings, weight_decay_form=form, rule=SGD(momentum=0.0))
        plain = make_step(tiny_model(), rule=SGD(momentum=0.0))
        before = step.weights["head/kernel"].numpy()
        run_steps(ONE, step, *make_batches(1))
        run_steps(ONE, plain, *make_batches(1))
        np.testing.assert_allclose(
            plain.weights["head/kernel"].numpy() - step.weights["head/kernel"].numpy(),
            share * before,
            rtol=1e-2,
            atol=1e-7,
        )
        np.testing.assert_array_equal(
            plain.weights["head/bias"].numpy(), step.weights["head/bias"].numpy()
        )


def test_wrong_accumulation():
    with pytest.raises(ValueError, match="multiple of accum_steps"):
        train(ONE, accum_steps=3)
    with pytest.raises(ValueError, match="accum_steps is 0"):
        make_step(tiny_model(), accum_steps=0)


def test_xla_compiles_the_same_step():
    """What preflight does: the step alone, with a stand-in for the all-reduce, under XLA."""
    expected, weights, _ = train(ONE, num_steps=3, accum_steps=2)
    step = make_step(tiny_model(), accum_steps=2)
    reduced = []

    def all_reduce(tensors):
        reduced.append(len(tensors))
        return [tf.identity(tensor) for tensor in tensors]

    def run(batch):
        with replica.compiled_for(2, all_reduce):
            step(batch)

    compiled = tf.function(run, jit_compile=True)
    for image, label in zip(*make_batches(3), strict=True):
        compiled({"image": tf.constant(image), "label": tf.constant(label)})
    assert reduced == [1 + len(step.parameters)]  # one all-reduce: the loss and every gradient
    np.testing.assert_allclose(step.history.numpy()[:3], expected, rtol=1e-5)
    for name, value in weights.items():
        np.testing.assert_allclose(step.weights[name].numpy(), value, rtol=1e-4, atol=1e-6)
