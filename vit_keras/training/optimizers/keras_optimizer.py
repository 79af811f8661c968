"""The engine's update rules as Keras optimizers, for `compile` and `fit`."""

from __future__ import annotations

import dataclasses
import re

import keras
import tensorflow as tf

from vit_keras import compat
from vit_keras.training.optimizers.update_rule import apply_update


@keras.saving.register_keras_serializable(package="vit_keras")
class KerasOptimizer(keras.optimizers.Optimizer):
    """Any of `optimizers.RULES` for `model.compile(optimizer=...)` on one device.

    Keras averages and clips the gradients in its own way (Keras 3 clips before it sums over
    replicas); use `training.train` where that matters.

    Args:
      rule: name of a rule, such as "adafactor".
      learning_rate: number or Keras schedule.
      decoupled_decay: share of a kernel that a step takes away at the schedule's peak, if the rate
        is a `training.Schedule`; with any other rate, in every step (big_vision's weight decay).
      decay_pattern: which variables decay, matched with the end of the variable's path.
      hyperparameters: of the rule, by name.
      name: of the optimizer.
      **kwargs: of `keras.optimizers.Optimizer`, such as `global_clipnorm`.
    """

    def __init__(
        self,
        rule: str = "sgd",
        learning_rate=0.001,
        decoupled_decay: float = 0.0,
        decay_pattern: str = "kernel$",
        hyperparameters: dict | None = None,
        name: str = "vit_keras_optimizer",
        **kwargs,
    ):
        from vit_keras.training.optimizers import get_rule

        compat.init_optimizer(self, learning_rate, name, **kwargs)
        self.rule = get_rule(rule, **(hyperparameters or {}))
        self.rule_name = rule
        self.decoupled_decay, self.decay_pattern = decoupled_decay, decay_pattern
        self._slots: list[dict] = []
        self._decays: list[bool] = []
        self._numbers: dict = {}

    def build(self, variables):
        """Makes the slots of `variables`."""
        super().build(variables)
        if self._slots:
            return
        for number, variable in enumerate(variables):
            path = compat.weight_path(variable)
            self._numbers[self._var_key(variable)] = number
            self._decays.append(re.search(self.decay_pattern, path) is not None)
            self._slots.append(
                {
                    slot: self.add_variable(
                        shape=shape,
                        dtype=dtype.name,
                        initializer="zeros",
                        name=f"{path}_{slot}".replace("/", "_"),
                    )
                    for slot, (shape, dtype) in self.rule.slots(tuple(variable.shape)).items()
                }
            )

    def update_step(self, gradient, variable, learning_rate=None):
        """Updates one variable."""
        number = self._numbers[self._var_key(variable)]
        slots = {name: compat.tf_variable(v) for name, v in self._slots[number].items()}
        variable = compat.tf_variable(variable)
        schedule = self._learning_rate
        rate = self.learning_rate if learning_rate is None else learning_rate
        rate = tf.cast(tf.convert_to_tensor(rate), tf.float32)
        decay = self.decoupled_decay if self._decays[number] else 0.0
        value = tf.cast(tf.convert_to_tensor(variable), tf.float32)
        update, new_slots = self.rule.update(
            tf.cast(gradient, tf.float32),
            value,
            {name: tf.convert_to_tensor(slot) for name, slot in slots.items()},
            tf.cast(tf.convert_to_tensor(self.iterations), tf.float32),
            weight_decay=decay,
        )
        for name, slot in slots.items():
            slot.assign(new_slots[name])
        decay = 0.0 if self.rule.decays_itself else decay
        if decay and hasattr(schedule, "base_lr"):
            decay = decay * rate / schedule.base_lr
        value = apply_update(value, update, learning_rate=rate, decay=decay)
        variable.assign(tf.cast(value, variable.dtype))

    def save_own_variables(self, store):
        """Stores bfloat16 as float32, which HDF5 knows; no bit is lost."""
        for number, variable in enumerate(self._all_variables()):
            value = variable.numpy()
            if variable.dtype == tf.bfloat16:
                value = value.astype("float32")
            store[str(number)] = value

    def load_own_variables(self, store):
        """Undoes `save_own_variables`."""
        variables = self._all_variables()
        if len(store.keys()) != len(variables):
            raise ValueError(
                f"The file holds {len(store.keys())} optimizer variables; expected "
                f"{len(variables)}. Was the optimizer built with the model's variables?"
            )
        for number, variable in enumerate(variables):
            variable.assign(tf.cast(store[str(number)][()], variable.dtype))

    def _all_variables(self) -> list[tf.Variable]:
        variables = self.variables
        return [compat.tf_variable(v) for v in (variables() if callable(variables) else variables)]

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        if "learning_rate" not in config:
            config["learning_rate"] = self._serialize_hyperparameter(self._learning_rate)
        return {
            **config,
            "rule": self.rule_name,
            "decoupled_decay": self.decoupled_decay,
            "decay_pattern": self.decay_pattern,
            "hyperparameters": dataclasses.asdict(self.rule),
        }
