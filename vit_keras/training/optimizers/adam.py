"""Adam (arXiv 1412.6980), whose first moment may be bfloat16."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from vit_keras.training.optimizers.update_rule import UpdateRule, decayed


@dataclasses.dataclass(frozen=True)
class Adam(UpdateRule):
    """`m̂ / (sqrt(v̂) + epsilon)` with bias-corrected moments (optax's `scale_by_adam`)."""

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    momentum_dtype: str = "float32"

    def slots(self, shape):  # noqa: D102
        return {
            "momentum": (shape, tf.as_dtype(self.momentum_dtype)),
            "velocity": (shape, tf.float32),
        }

    def update(self, gradient, parameter, slots, step, weight_decay=0.0):  # noqa: D102
        momentum = (1 - self.beta_1) * gradient + decayed(self.beta_1, slots["momentum"])
        velocity = (1 - self.beta_2) * tf.square(gradient) + self.beta_2 * slots["velocity"]
        corrected_momentum = momentum / (1 - tf.pow(self.beta_1, step + 1))
        corrected_velocity = velocity / (1 - tf.pow(self.beta_2, step + 1))
        update = corrected_momentum / (tf.sqrt(corrected_velocity) + self.epsilon)
        stored = tf.cast(momentum, slots["momentum"].dtype)
        return update, {"momentum": stored, "velocity": velocity}
