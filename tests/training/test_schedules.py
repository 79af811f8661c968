"""Schedules against the JAX reference's numbers and against their formulas."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_keras.training.schedules import Schedule, to_steps

GOLDENS = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "schedules.npz")


@pytest.mark.parametrize("case", ["cosine_w10", "linear_w10", "cosine_w0"])
def test_goldens(case):
    decay_type, warmup = case.split("_w")
    schedule = Schedule(0.03, 100, decay_type, int(warmup))
    found = [schedule(step).numpy() for step in GOLDENS["step"]]
    np.testing.assert_allclose(found, GOLDENS[case], rtol=2e-6, atol=3e-9)


def test_rsqrt_with_cooldown_and_constant():
    steps = np.arange(101)
    ends = np.minimum(1, steps / 10) * np.minimum(1, (100 - steps) / 20)
    schedule = Schedule(0.5, 100, "rsqrt", 10, 20, timescale=7)
    expected = 0.5 / np.sqrt(1 + np.maximum(steps - 10, 0) / 7) * ends
    np.testing.assert_allclose([schedule(s).numpy() for s in steps], expected, rtol=1e-5)
    schedule = Schedule(0.5, 100, "constant", 10, 20)
    np.testing.assert_allclose([schedule(s).numpy() for s in steps], 0.5 * ends, rtol=1e-5)


def test_in_a_graph_and_in_a_config():
    schedule = Schedule(0.03, 100, "cosine", 10)
    compiled = tf.function(schedule)
    assert compiled(tf.constant(55, tf.int64)) == schedule(55)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert again.get_config() == schedule.get_config()


def test_units():
    arguments = dict(batch=32, num_examples=320)
    assert to_steps("total", steps=7, epochs=None, examples=None, **arguments) == 7
    assert to_steps("total", steps=None, epochs=1.5, examples=None, **arguments) == 15
    assert to_steps("total", steps=None, epochs=None, examples=640, **arguments) == 20
    assert to_steps("warmup", steps=None, epochs=None, examples=None, default=0, **arguments) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(steps=None, epochs=None), "total_steps, total_epochs, total_examples; got none"),
        (dict(steps=3, epochs=2), "got total_steps=3, total_epochs=2"),
        (dict(steps=-1, epochs=None), "total_steps is -1"),
    ],
)
def test_wrong_units(given, message):
    with pytest.raises(ValueError, match=message):
        to_steps("total", examples=None, batch=1, num_examples=1, **given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.1, 10, "cosin"), "Did you mean 'cosine'"),
        ((0.0, 10), "base_lr is 0.0"),
        ((0.1, 10, "cosine", 11), "warmup_steps is 11; expected 0 to total_steps"),
        ((0.1, 10, "rsqrt", 5, 6), "cooldown_steps is 6"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Schedule(*arguments)
