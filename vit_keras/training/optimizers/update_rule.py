"""What an optimizer is to the engine: a pure function from a gradient to an update."""

from __future__ import annotations

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class UpdateRule:
    """The rule for one parameter; subclasses hold its hyperparameters.

    A rule knows nothing of learning rates, weight decay masks or distribution: the caller
    subtracts `learning_rate * update` (`apply_update`), once, from every parameter.
    """

    def slots(self, shape: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], tf.DType]]:
        """Shape and dtype of each state that a parameter of `shape` needs; all start at zero."""
        raise NotImplementedError

    def update(
        self,
        gradient: tf.Tensor,
        parameter: tf.Tensor,
        slots: dict[str, tf.Tensor],
        step: tf.Tensor,
        weight_decay: float = 0.0,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Returns what to subtract at learning rate 1 and the new slots.

        Args:
          gradient: float32, of the parameter's shape, already averaged and clipped.
          parameter: its value in float32.
          slots: as `slots()` declares them.
          step: float32, updates made before this one.
          weight_decay: for rules that have it inside (`decays_itself`); others ignore it.
        """
        raise NotImplementedError

    @property
    def decays_itself(self) -> bool:
        """Whether weight decay is part of the rule (LAMB) rather than added after it."""
        return False


def apply_update(parameter, update, *, learning_rate, decay):
    """`parameter - learning_rate * update - decay * parameter`, in float32.

    `decay` is the share of the parameter that this step takes away: in the big_vision form
    `weight_decay * schedule` where the schedule is relative to the base rate, in Keras' AdamW
    `weight_decay * learning_rate`.
    """
    change = learning_rate * update
    if not (isinstance(decay, float) and decay == 0.0):
        change += decay * parameter
    return parameter - change


def decayed(rate: float, slot: tf.Tensor) -> tf.Tensor:
    """`rate * slot` in float32, where `rate` was first rounded to the slot's dtype.

    That is what JAX computes for a bfloat16 accumulator (0.9 becomes 0.8984): a Python number takes
    the array's dtype, and XLA keeps the product's precision. Float32 slots see no difference.
    """
    return tf.cast(tf.cast(rate, slot.dtype), tf.float32) * tf.cast(slot, tf.float32)
