"""Learning rates as functions of the step: warm-up, a decay, and a cooldown."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from vit_keras.names import unknown_name

DECAY_TYPES = ("cosine", "linear", "rsqrt", "constant")


@keras.saving.register_keras_serializable(package="vit_keras")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate at a step counted from 0.

    `cosine` and `linear` are vision_transformer's `create_learning_rate_schedule`; `rsqrt` is
    big_vision's: `base_lr / sqrt(1 + (step - warmup_steps) / timescale)`. Warm-up multiplies by
    `min(1, step / warmup_steps)` and cooldown by `min(1, (total_steps - step) / cooldown_steps)`.

    Args:
      base_lr: the rate without warm-up and decay.
      total_steps: steps of the whole run.
      decay_type: one of `DECAY_TYPES`.
      warmup_steps: length of the linear warm-up from 0.
      cooldown_steps: length of the linear descent to 0 at the end.
      linear_end: what `linear` ends at.
      timescale: of `rsqrt`, in steps.

    Raises:
      ValueError: for an unknown `decay_type`, or a warm-up that doesn't fit into the run.
    """

    def __init__(
        self,
        base_lr: float,
        total_steps: int,
        decay_type: str = "cosine",
        warmup_steps: int = 0,
        cooldown_steps: int = 0,
        linear_end: float = 1e-5,
        timescale: float = 10_000,
    ):
        if decay_type not in DECAY_TYPES:
            raise unknown_name("decay_type", decay_type, DECAY_TYPES)
        if not base_lr > 0:
            raise ValueError(f"base_lr is {base_lr}; expected a number above 0.")
        if not 0 <= warmup_steps <= total_steps:
            raise ValueError(
                f"warmup_steps is {warmup_steps}; expected 0 to total_steps ({total_steps})."
            )
        if not 0 <= cooldown_steps <= total_steps - warmup_steps:
            raise ValueError(
                f"cooldown_steps is {cooldown_steps}; expected 0 to total_steps - warmup_steps "
                f"({total_steps - warmup_steps})."
            )
        self.base_lr = base_lr
        self.total_steps = total_steps
        self.decay_type = decay_type
        self.warmup_steps = warmup_steps
        self.cooldown_steps = cooldown_steps
        self.linear_end = linear_end
        self.timescale = timescale

    def __call__(self, step) -> tf.Tensor:
        """The float32 learning rate for the update that follows `step` updates."""
        step = tf.cast(tf.convert_to_tensor(step), tf.float32)
        after_warmup = step - self.warmup_steps
        progress = after_warmup / max(1, self.total_steps - self.warmup_steps)
        progress = tf.clip_by_value(progress, 0.0, 1.0)
        if self.decay_type == "linear":
            lr = self.linear_end + (self.base_lr - self.linear_end) * (1.0 - progress)
        elif self.decay_type == "cosine":
            lr = self.base_lr * 0.5 * (1.0 + tf.cos(math.pi * progress))
        elif self.decay_type == "rsqrt":
            lr = self.base_lr * tf.math.rsqrt(1.0 + tf.maximum(after_warmup, 0) / self.timescale)
        else:
            lr = tf.fill(tf.shape(progress), tf.constant(self.base_lr, tf.float32))
        if self.warmup_steps:
            lr *= tf.minimum(1.0, step / self.warmup_steps)
        if self.cooldown_steps:
            left = tf.maximum(self.total_steps - step, 0)
            lr *= tf.minimum(1.0, left / self.cooldown_steps)
        return lr

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "base_lr": self.base_lr,
            "total_steps": self.total_steps,
            "decay_type": self.decay_type,
            "warmup_steps": self.warmup_steps,
            "cooldown_steps": self.cooldown_steps,
            "linear_end": self.linear_end,
            "timescale": self.timescale,
        }


def to_steps(
    name: str,
    *,
    steps: int | None,
    epochs: float | None,
    examples: int | None,
    batch: int,
    num_examples: int,
    default: int | None = None,
) -> int:
    """A duration in steps, from whichever of the three units was given.

    Args:
      name: the key's stem, such as `total` for `total_steps`, for the error.
      steps: in updates.
      epochs: in passes over `num_examples`.
      examples: in images seen.
      batch: global batch size.
      num_examples: of the training split.
      default: if none was given; None makes that an error.

    Raises:
      ValueError: if none or more than one was given, or it is negative.
    """
    given = {"steps": steps, "epochs": epochs, "examples": examples}
    given = {unit: value for unit, value in given.items() if value is not None}
    if not given and default is not None:
        return default
    if len(given) != 1:
        names = ", ".join(f"{name}_{unit}={value}" for unit, value in given.items()) or "none"
        raise ValueError(
            f"Expected one of {name}_steps, {name}_epochs, {name}_examples; got {names}."
        )
    ((unit, value),) = given.items()
    if value < 0:
        raise ValueError(f"{name}_{unit} is {value}; expected at least 0.")
    per_unit = {"steps": 1, "epochs": num_examples / batch, "examples": 1 / batch}[unit]
    return round(value * per_unit)
