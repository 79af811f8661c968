"""SAM and GSAM against their algorithms in float64 numpy, on linear regression."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_training import make_step

from vit_keras.training import Schedule
from vit_keras.training.optimizers import SGD
from vit_keras.training.sharpness import SharpnessAware

RNG = np.random.default_rng(0)
INPUTS, TARGETS = RNG.normal(size=(8, 5)), RNG.normal(size=8)
STEPS, RATE = 10, 0.05


def reference(weights, sharpness, schedule):
    """arXiv 2203.08065, algorithm 1 (alpha = 0: arXiv 2010.01412, algorithm 1)."""

    def gradient(w):
        return INPUTS.T @ (INPUTS @ w - TARGETS) / len(TARGETS)

    history = []
    for step in range(STEPS):
        rate = schedule[step]
        low = sharpness.rho if sharpness.rho_min is None else sharpness.rho_min
        rho = low + (sharpness.rho - low) * rate / RATE
        g = gradient(weights)
        perturbed = gradient(weights + rho * g / (np.linalg.norm(g) + 1e-12))
        across = g - (g @ perturbed) / (perturbed @ perturbed) * perturbed
        weights = weights - rate * (perturbed - sharpness.alpha * across)
        history.append(weights)
    return np.stack(history)


@pytest.mark.parametrize(
    "sharpness",
    [SharpnessAware(0.3), SharpnessAware(0.3, alpha=0.4), SharpnessAware(0.3, 0.1, 0.4)],
    ids=str,
)
def test_ten_steps(sharpness):
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, name="head")(inputs))

    def task(model, batch, training):
        error = model(batch["inputs"], training=training)[:, 0] - batch["targets"]
        return 0.5 * tf.square(error)

    schedule = Schedule(RATE, STEPS, "linear", linear_end=0.001)
    step = make_step(
        model, task=task, rule=SGD(momentum=0.0), schedule=schedule, sharpness=sharpness
    )
    batch = {
        "inputs": tf.constant(INPUTS, tf.float32),
        "targets": tf.constant(TARGETS, tf.float32),
    }
    kernel = step.weights["head/kernel"] if "head/kernel" in step.weights else step.parameters[0]
    expected = reference(
        kernel.numpy()[:, 0].astype(np.float64),
        sharpness,
        [float(schedule(s)) for s in range(STEPS)],
    )
    compiled = tf.function(step)
    for row in expected:
        compiled(batch)
        np.testing.assert_allclose(kernel.numpy()[:, 0], row, rtol=1e-4, atol=1e-6)
