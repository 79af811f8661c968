"""Twenty training steps against the losses, norms and weights of the JAX reference."""

import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import vit_keras
from vit_keras.training import losses, tasks
from vit_keras.training.optimizers import get_rule
from vit_keras.training.parameter_settings import make_settings
from vit_keras.training.schedules import Schedule
from vit_keras.training.train_step import TrainStep

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"


class GoldenSchedule:
    """The big_vision cases' own schedule: see tests/goldens/README.md."""

    base_lr = 1e-3

    def __call__(self, step):
        step = tf.cast(step, tf.float32)
        warmup = tf.minimum(1.0, (step + 1) / 5)
        return self.base_lr * warmup * 0.5 * (1 + tf.cos(math.pi * step / 20))


CASES = {
    "train_sgd_momentum_bf16_clip1_cosine_accum2": dict(
        rule=get_rule("sgd", accumulator_dtype="bfloat16"),
        schedule=Schedule(0.03, 20, "cosine", 5),
        accum_steps=2,
    ),
    "train_sgd_momentum_f32_clip1_linear": dict(
        rule=get_rule("sgd", accumulator_dtype="float32"),
        schedule=Schedule(0.03, 20, "linear", 5),
    ),
    "train_bv_adam_bf16mu_clip1_wd": dict(
        rule=get_rule("adam", momentum_dtype="bfloat16"),
        schedule=GoldenSchedule(),
        weight_decay=1e-4,
    ),
    "train_bv_adafactor_clip1_wd": dict(
        rule=get_rule("adafactor"),
        schedule=GoldenSchedule(),
        weight_decay=1e-4,
        loss="sigmoid",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps(name):
    case = CASES[name]
    expected = np.load(GOLDENS / name / "expected.npz")
    model = vit_keras.from_npz(GOLDENS / name / "checkpoint.npz", image_size=32)
    named = vit_keras.checkpoints.named_weights(model)
    step = TrainStep(
        model,
        named,
        tasks.classification(losses.get_loss(case.get("loss", "softmax"))),
        case["rule"],
        case["schedule"],
        make_settings(named, weight_decay=case.get("weight_decay", 0.0)),
        global_batch=8,
        accum_steps=case.get("accum_steps", 1),
        grad_norm_clip=1.0,
        history_length=20,
    )
    compiled = tf.function(step)
    for images, labels in zip(expected["images_uint8"], expected["labels"], strict=True):
        compiled({"image": tf.constant(images), "label": tf.constant(labels)})
    measured, norms, _ = step.history.numpy().T
    np.testing.assert_allclose(measured, expected["losses"], rtol=1e-4)
    np.testing.assert_allclose(norms, expected["grad_norms"], rtol=1e-4)
    for key, variable in step.weights.items():
        # Softmax doesn't feel a key bias: its gradient is rounding noise, which Adam and Adafactor
        # blow up to full steps, so there is nothing to agree on.
        if "_bv_" in name and key.endswith("key/bias"):
            continue
        final = expected[f"final/{key}"]
        assert np.linalg.norm(variable.numpy() - final) < 1e-4 * np.linalg.norm(final), key
