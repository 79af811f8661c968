"""Every rule against its formula in float64 numpy, and against the libraries' own optimizers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_training import make_batches, tiny_model

from vit_keras.training.optimizers import RULES, KerasOptimizer, apply_update, get_rule
from vit_keras.training.schedules import Schedule

STEPS = 10


def bfloat16(x):
    return np.asarray(x).astype(tf.bfloat16.as_numpy_dtype).astype(np.float64)


def gradients(shape, seed=0):
    return np.random.default_rng(seed).normal(size=(STEPS, *shape)).astype(np.float32)


def run_rule(rule, parameter, grads, learning_rate=0.01, decay=0.0, weight_decay=0.0):
    """Parameters after each of the steps; slots in the rule's dtypes."""
    slots = {name: tf.zeros(s, d) for name, (s, d) in rule.slots(parameter.shape).items()}
    parameter = tf.constant(parameter)
    history = []
    for step, gradient in enumerate(grads):
        update, slots = rule.update(
            tf.constant(gradient),
            parameter,
            slots,
            tf.constant(float(step)),
            weight_decay=weight_decay,
        )
        parameter = apply_update(parameter, update, learning_rate=learning_rate, decay=decay)
        history.append(parameter.numpy())
    return np.stack(history)


def sgd(p, grads, lr, momentum=0.9, nesterov=False, stored=lambda x: x):
    m, history, rate = np.zeros_like(p), [], stored(momentum)
    for g in grads.astype(np.float64):
        total = g + rate * m
        p = p - lr * (g + momentum * total if nesterov else total)
        m = stored(total)
        history.append(p)
    return np.stack(history)


def adam(p, grads, lr, b1=0.9, b2=0.999, eps=1e-8, decay=0.0, stored=lambda x: x):
    m, v, history = np.zeros_like(p), np.zeros_like(p), []
    for t, g in enumerate(grads.astype(np.float64), 1):
        mean = (1 - b1) * g + stored(b1) * m
        v = b2 * v + (1 - b2) * g**2
        update = mean / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        m = stored(mean)
        p = p - lr * update - decay * p
        history.append(p)
    return np.stack(history)


def lamb(p, grads, lr, b1=0.9, b2=0.999, eps=1e-6, wd=0.0):
    m, v, history = np.zeros_like(p), np.zeros_like(p), []
    for t, g in enumerate(grads.astype(np.float64), 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        update = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + wd * p
        p = p - lr * np.linalg.norm(p) / np.linalg.norm(update) * update
        history.append(p)
    return np.stack(history)


def adafactor(p, grads, lr, momentum=0.9, clip=None, smallest=32, stored=bfloat16):
    order = np.argsort(p.shape, kind="stable")
    factored = p.ndim > 1 and p.shape[order[-2]] >= smallest
    m, v, row, column, history = np.zeros_like(p), 0.0, 0.0, 0.0, []
    for t, g in enumerate(grads.astype(np.float64), 1):
        beta = min(0.95, 1 - float(t) ** -0.8)
        square = g**2 + 1e-30
        if factored:
            small, large = order[-2], order[-1]
            row = beta * row + (1 - beta) * square.mean(large, keepdims=True)
            column = beta * column + (1 - beta) * square.mean(small, keepdims=True)
            update = g / np.sqrt(row * column / row.mean(small, keepdims=True))
        else:
            v = beta * v + (1 - beta) * square
            update = g / np.sqrt(v)
        if clip:
            update = update / max(1, np.sqrt((update**2).mean()) / clip)
        update = (1 - momentum) * update + stored(momentum) * m
        m = stored(update)
        p = p - lr * update
        history.append(p)
    return np.stack(history)


PARAMETER = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("rule", "reference"),
    [
        (get_rule("sgd", accumulator_dtype="float32"), lambda p, g: sgd(p, g, 0.01)),
        (get_rule("sgd"), lambda p, g: sgd(p, g, 0.01, stored=bfloat16)),
        (get_rule("sgd", momentum=0.0), lambda p, g: sgd(p, g, 0.01, momentum=0.0)),
        (
            get_rule("sgd", nesterov=True, accumulator_dtype="float32"),
            lambda p, g: sgd(p, g, 0.01, nesterov=True),
        ),
        (get_rule("adam"), lambda p, g: adam(p, g, 0.01)),
        (
            get_rule("adam", momentum_dtype="bfloat16"),
            lambda p, g: adam(p, g, 0.01, stored=bfloat16),
        ),
        (get_rule("lamb"), lambda p, g: lamb(p, g, 0.01)),
        (get_rule("adafactor"), lambda p, g: adafactor(p, g, 0.01)),
    ],
    ids=lambda value: "" if callable(value) and not hasattr(value, "slots") else str(value),
)
def test_rule_is_its_formula(rule, reference):
    grads = gradients(PARAMETER.shape)
    found = run_rule(rule, PARAMETER, grads)
    np.testing.assert_allclose(found, reference(PARAMETER.astype(np.float64), grads), rtol=2e-5)


@pytest.mark.parametrize(
    "shape", [(32, 48), (48, 32), (2, 40, 33), (33, 2, 40), (40, 4, 8), (32, 32)]
)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_adafactor_factors_the_two_largest_dimensions(shape, clip):
    parameter = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    grads = gradients(shape)
    rule = get_rule("adafactor", clipping_threshold=clip, momentum_dtype="float32")
    factored = "velocity_row" in rule.slots(shape)
    assert factored == (sorted(shape)[-2] >= 32)
    expected = adafactor(parameter.astype(np.float64), grads, 0.01, clip=clip, stored=lambda x: x)
    np.testing.assert_allclose(run_rule(rule, parameter, grads), expected, rtol=2e-5, atol=1e-6)


def test_decay_forms_of_adam_and_lamb():
    grads, wide = gradients(PARAMETER.shape), PARAMETER.astype(np.float64)
    found = run_rule(get_rule("adam"), PARAMETER, grads, decay=0.02)
    np.testing.assert_allclose(found, adam(wide, grads, 0.01, decay=0.02), rtol=2e-5)
    found = run_rule(get_rule("lamb"), PARAMETER, grads, weight_decay=0.1)
    np.testing.assert_allclose(found, lamb(wide, grads, 0.01, wd=0.1), rtol=2e-5)


def library_run(optimizer, grads):
    variable = keras.Variable(PARAMETER) if hasattr(keras, "Variable") else tf.Variable(PARAMETER)
    history = []
    for gradient in grads:
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
        history.append(np.array(variable))
    return np.stack(history)


def test_lamb_is_the_librarys():
    """Keras 3 has one; for Keras 2.15 tensorflow-addons does."""
    if hasattr(keras.optimizers, "Lamb"):
        optimizer = keras.optimizers.Lamb(0.01, epsilon=1e-6)
    else:
        optimizer = pytest.importorskip("tensorflow_addons").optimizers.LAMB(0.01)
    grads = gradients(PARAMETER.shape)
    found = run_rule(get_rule("lamb"), PARAMETER, grads)
    np.testing.assert_allclose(library_run(optimizer, grads), found, rtol=2e-5)


def test_adamw_is_keras():
    """Keras decays by rate times parameter before the update, the engine after: O(rate²) apart."""
    grads, rate, decay = gradients(PARAMETER.shape), 1e-4, 0.1
    optimizer = keras.optimizers.AdamW(rate, weight_decay=decay, epsilon=1e-8)
    found = run_rule(get_rule("adamw"), PARAMETER, grads, learning_rate=rate, decay=rate * decay)
    np.testing.assert_allclose(library_run(optimizer, grads), found, rtol=1e-4)


@pytest.mark.parametrize("name", RULES)
def test_keras_optimizer_is_the_rule(name):
    grads = gradients(PARAMETER.shape)
    schedule = Schedule(0.01, STEPS, "linear", 2)
    optimizer = KerasOptimizer(name, schedule)
    found = library_run(optimizer, grads)
    slots = None
    rule, parameter = get_rule(name), tf.constant(PARAMETER)
    slots = {key: tf.zeros(s, d) for key, (s, d) in rule.slots(PARAMETER.shape).items()}
    for step, gradient in enumerate(grads):
        update, slots = rule.update(
            tf.constant(gradient), parameter, slots, tf.constant(float(step))
        )
        parameter = apply_update(parameter, update, learning_rate=schedule(step), decay=0.0)
        np.testing.assert_allclose(found[step], parameter, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adafactor", "lamb"])
def test_keras_optimizer_in_compile_fit_save(name, tmp_path):
    model = tiny_model()
    optimizer = KerasOptimizer(name, Schedule(0.01, 10), decoupled_decay=0.1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    images, labels = make_batches(4)
    images, labels = images.reshape(-1, 8, 8, 3) / 255.0, labels.reshape(-1)
    model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.rule == optimizer.rule
    assert loaded.optimizer.decoupled_decay == 0.1
    np.testing.assert_array_equal(loaded(images[:2]), model(images[:2]))
    model.fit(images, labels, batch_size=8, shuffle=False, verbose=0)
    loaded.fit(images, labels, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_allclose(loaded(images[:2]), model(images[:2]), rtol=1e-5, atol=1e-6)


def test_unknown_names():
    with pytest.raises(ValueError, match="Did you mean 'adafactor'"):
        get_rule("adafacter")
    with pytest.raises(ValueError, match="Did you mean 'momentum'"):
        get_rule("sgd", momentun=0.9)
