"""SGD with momentum, whose accumulator may be bfloat16."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from vit_keras.training.optimizers.update_rule import UpdateRule, decayed


@dataclasses.dataclass(frozen=True)
class SGD(UpdateRule):
    """`m = gradient + momentum * m`; the update is `m` (optax's `trace`, as vision_transformer).

    The update uses the sum before it is rounded to `accumulator_dtype`.
    """

    momentum: float = 0.9
    nesterov: bool = False
    accumulator_dtype: str = "bfloat16"

    def slots(self, shape):  # noqa: D102
        if not self.momentum:
            return {}
        return {"momentum": (shape, tf.as_dtype(self.accumulator_dtype))}

    def update(self, gradient, parameter, slots, step, weight_decay=0.0):  # noqa: D102
        if not self.momentum:
            return gradient, {}
        accumulated = gradient + decayed(self.momentum, slots["momentum"])
        update = gradient + self.momentum * accumulated if self.nesterov else accumulated
        return update, {"momentum": tf.cast(accumulated, slots["momentum"].dtype)}
