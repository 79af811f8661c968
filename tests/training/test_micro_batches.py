"""The form that the TPU compiler gets takes the same steps as the loop."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf
from tiny_training import make_batches, make_step, names, tiny_model

from vit_keras.layers import target


def train(for_tpu, **kwargs):
    """Weights after three steps of half-batches, and how many loops the program has."""
    step = make_step(tiny_model(dropout=0.1), **kwargs)
    images, labels = make_batches(3)

    @tf.function(jit_compile=True, autograph=False)
    def compiled(image, label):
        with target.tpu() if for_tpu else contextlib.nullcontext():
            return step({"image": image, "label": label})

    for image, label in zip(images, labels, strict=True):
        compiled(image, label)
    program = compiled.experimental_get_compiler_ir(images[0], labels[0])(stage="hlo")
    return {name: v.numpy() for name, v in step.weights.items()}, program.count(" while(")


@pytest.mark.parametrize(("accum_steps", "loops"), [(2, 0), (4, 0), (8, 1)])
def test_written_in_line_for_tpus(accum_steps, loops):
    expected, loops_on_cpu = train(False, accum_steps=accum_steps)
    weights, loops_on_tpu = train(True, accum_steps=accum_steps)
    assert loops_on_tpu == loops_on_cpu - 1 + loops
    for name in names(tiny_model()):
        np.testing.assert_allclose(weights[name], expected[name], rtol=1e-5, atol=1e-7)
