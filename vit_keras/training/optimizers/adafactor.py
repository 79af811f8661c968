"""The Adafactor of big_vision (arXiv 2106.04560, appendix; after arXiv 1804.04235)."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from vit_keras.training.optimizers.update_rule import UpdateRule, decayed


@dataclasses.dataclass(frozen=True)
class Adafactor(UpdateRule):
    """Gradient over the root of a factored second moment, then an exponential average of that.

    The second moment's decay at the t-th update is `min(beta2_cap, 1 - t^-decay_rate)`. Tensors
    whose two largest dimensions are both at least `min_dim_size_to_factor` keep row and column
    means only. Neither update clipping by parameter scale nor bias correction, unlike Keras'.
    """

    min_dim_size_to_factor: int = 32
    decay_rate: float = 0.8
    beta2_cap: float = 0.95
    clipping_threshold: float | None = None
    momentum: float = 0.9
    momentum_dtype: str = "bfloat16"
    epsilon: float = 1e-30

    def factored_dims(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """Indices of the second largest and the largest dimension, or None: not factored."""
        if len(shape) < 2:
            return None
        order = np.argsort(shape, kind="stable")
        if shape[order[-2]] < self.min_dim_size_to_factor:
            return None
        return int(order[-2]), int(order[-1])

    def slots(self, shape):  # noqa: D102
        dims = self.factored_dims(shape)
        if dims is None:
            slots = {"velocity": (shape, tf.float32)}
        else:
            columns, rows = dims
            slots = {
                "velocity_row": (shape[:rows] + shape[rows + 1 :], tf.float32),
                "velocity_column": (shape[:columns] + shape[columns + 1 :], tf.float32),
            }
        if self.momentum:
            slots["momentum"] = (shape, tf.as_dtype(self.momentum_dtype))
        return slots

    def update(self, gradient, parameter, slots, step, weight_decay=0.0):  # noqa: D102
        decay = tf.minimum(self.beta2_cap, 1.0 - tf.pow(step + 1.0, -self.decay_rate))
        squared = tf.square(gradient) + self.epsilon

        def average(slot, new):
            return decay * slot + (1.0 - decay) * new

        dims = self.factored_dims(tuple(gradient.shape))
        if dims is None:
            velocity = average(slots["velocity"], squared)
            new_slots = {"velocity": velocity}
            update = gradient * tf.math.rsqrt(velocity)
        else:
            columns, rows = dims
            row = average(slots["velocity_row"], tf.reduce_mean(squared, axis=rows))
            column = average(slots["velocity_column"], tf.reduce_mean(squared, axis=columns))
            new_slots = {"velocity_row": row, "velocity_column": column}
            columns_in_row = columns - 1 if columns > rows else columns
            mean = tf.reduce_mean(row, axis=columns_in_row, keepdims=True)
            row_factor = tf.expand_dims(tf.math.rsqrt(row / mean), rows)
            update = gradient * row_factor * tf.expand_dims(tf.math.rsqrt(column), columns)
        if self.clipping_threshold:
            rms = tf.sqrt(tf.reduce_mean(tf.square(update)))
            update /= tf.maximum(1.0, rms / self.clipping_threshold)
        if self.momentum:
            update = (1 - self.momentum) * update + decayed(self.momentum, slots["momentum"])
            new_slots["momentum"] = tf.cast(update, slots["momentum"].dtype)
        return update, new_slots
