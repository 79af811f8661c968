"""LAMB (arXiv 1904.00962): Adam whose step is scaled by each layer's trust ratio."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from vit_keras.training.optimizers.adam import Adam


@dataclasses.dataclass(frozen=True)
class LAMB(Adam):
    """`ratio * (adam + weight_decay * parameter)`, ratio = |parameter| / |that sum|.

    The ratio is 1 where either norm is zero. With `weight_decay=0` this is Keras 3's `Lamb`; with
    decay it is tensorflow-addons' `LAMB`.
    """

    epsilon: float = 1e-6

    @property
    def decays_itself(self):  # noqa: D102
        return True

    def update(self, gradient, parameter, slots, step, weight_decay=0.0):  # noqa: D102
        update, slots = super().update(gradient, parameter, slots, step)
        update += weight_decay * parameter
        parameter_norm, update_norm = tf.norm(parameter), tf.norm(update)
        usable = tf.logical_and(parameter_norm > 0, update_norm > 0)
        ratio = tf.where(usable, parameter_norm / tf.where(usable, update_norm, 1.0), 1.0)
        return ratio * update, slots
