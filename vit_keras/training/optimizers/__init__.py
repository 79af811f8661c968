"""Optimizers: pure update rules, and Keras optimizers made of them."""

from __future__ import annotations

import dataclasses

from vit_keras.names import unknown_name
from vit_keras.training.optimizers.adafactor import Adafactor
from vit_keras.training.optimizers.adam import Adam
from vit_keras.training.optimizers.keras_optimizer import KerasOptimizer
from vit_keras.training.optimizers.lamb import LAMB
from vit_keras.training.optimizers.sgd import SGD
from vit_keras.training.optimizers.update_rule import UpdateRule, apply_update

RULES = {"sgd": SGD, "adam": Adam, "adamw": Adam, "adafactor": Adafactor, "lamb": LAMB}


def get_rule(name: str, **hyperparameters) -> UpdateRule:
    """Returns the rule `name` with its hyperparameters.

    Raises:
      ValueError: for an unknown name or hyperparameter.
    """
    if name not in RULES:
        raise unknown_name("optimizer", name, RULES)
    known = [field.name for field in dataclasses.fields(RULES[name])]
    for key in hyperparameters:
        if key not in known:
            raise unknown_name(f"hyperparameter of {name}", key, known)
    return RULES[name](**hyperparameters)


__all__ = [
    "LAMB",
    "RULES",
    "SGD",
    "Adafactor",
    "Adam",
    "KerasOptimizer",
    "UpdateRule",
    "apply_update",
    "get_rule",
]
