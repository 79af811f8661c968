"""Dynamic loss scaling, which float16 gradients need (arXiv 1710.03740)."""

from __future__ import annotations

import tensorflow as tf

LARGEST = 2.0**24


class DynamicLossScale(tf.Module):
    """Doubles after `growth_interval` finite steps, halves after one that overflowed.

    The step that overflowed leaves weights and optimizer as they were.
    """

    def __init__(self, initial: float = 2.0**15, growth_interval: int = 2000):
        super().__init__(name="loss_scale")
        self.growth_interval = growth_interval
        self.scale = tf.Variable(initial, trainable=False, dtype=tf.float32, name="scale")
        self.good_steps = tf.Variable(0, trainable=False, dtype=tf.int32, name="good_steps")

    def updates(self, finite: tf.Tensor) -> list[tuple[tf.Variable, tf.Tensor]]:
        """Variables and their new values after a step whose gradients were `finite`."""
        scale = self.scale.read_value()
        good_steps = self.good_steps.read_value() + 1
        grow = good_steps >= self.growth_interval
        grown = tf.where(grow, tf.minimum(2 * scale, LARGEST), scale)
        return [
            (self.scale, tf.where(finite, grown, tf.maximum(scale / 2, 1.0))),
            (
                self.good_steps,
                tf.where(tf.logical_and(finite, tf.logical_not(grow)), good_steps, 0),
            ),
        ]
