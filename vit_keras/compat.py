"""The one place where Keras 2.15 (classic stack) and Keras 3 (modern stack) are told apart.

Everything else in the project is written against the part of the API that both share.
"""

from __future__ import annotations

import os
from typing import Any

import keras
import tensorflow as tf

KERAS_3 = int(keras.__version__.split(".")[0]) >= 3


def check_keras_stack() -> None:
    """Refuses the combinations that would import but could not work.

    Raises:
      ValueError: for a Keras 3 backend other than TensorFlow, and for `TF_USE_LEGACY_KERAS`,
        where `tf.keras` is a third package (`tf_keras`) that doesn't know our layers.
    """
    if KERAS_3 and keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"KERAS_BACKEND is {keras.backend.backend()!r}; vit_keras needs 'tensorflow'. "
            "Set the environment variable KERAS_BACKEND=tensorflow before importing keras."
        )
    if KERAS_3 and os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
        raise ValueError(
            "TF_USE_LEGACY_KERAS is set, so tf.keras is tf_keras, but keras is Keras "
            f"{keras.__version__}. Unset it, or use TensorFlow 2.15 (the classic stack)."
        )


def full_precision_weight() -> dict[str, Any]:
    """Arguments of `add_weight` for a variable that mixed precision must not round."""
    return {"autocast": False} if KERAS_3 else {"experimental_autocast": False}


def tf_variable(variable: Any) -> tf.Variable:
    """The `tf.Variable` behind a Keras variable of either generation."""
    if KERAS_3:
        if isinstance(variable, tf.Variable):  # what Keras' own optimizers are given
            return variable
        return variable.value if isinstance(variable.value, tf.Variable) else variable._value
    return getattr(variable, "_variable", variable)  # an AutoCastVariable wraps the real one


def assign_in_pieces(variable: Any, array: Any, piece_bytes: int = 1 << 20) -> None:
    """`variable.assign(array)` that holds no second copy of a large array meanwhile.

    Args:
      variable: a Keras variable of either generation; one that a strategy mirrors is assigned
        whole.
      array: of its shape.
      piece_bytes: of the rows that are assigned at a time.
    """
    target = tf_variable(variable)
    rows = max(1, len(array) * piece_bytes // array.nbytes) if array.ndim and array.nbytes else 1
    if array.nbytes <= piece_bytes or hasattr(target, "values"):
        variable.assign(array)
        return
    for start in range(0, len(array), rows):
        # `target[a:b].assign(...)` would first read the rows that it overwrites.
        piece = array[start : start + rows]
        tf.raw_ops.ResourceStridedSliceAssign(
            ref=target.handle, begin=[start], end=[start + len(piece)], strides=[1], value=piece
        )


def weight_path(variable: Any) -> str:
    """Where a weight stands in its model, such as `head/kernel`, alike on both stacks."""
    return variable.path if KERAS_3 else variable.name.split(":")[0]


def write_saved_model(model: Any, directory: str, signatures: dict[str, Any]) -> None:
    """Writes a SavedModel; Keras 2 adds what its `load_model` needs, Keras 3 has no such form."""
    if not KERAS_3:
        model.save(directory, save_format="tf", signatures=signatures, include_optimizer=False)
        return
    module = tf.Module()
    module.model_variables = [tf_variable(weight) for weight in model.weights]
    module.serve = signatures["serving_default"]
    tf.saved_model.save(module, directory, signatures=signatures)


def init_optimizer(optimizer: Any, learning_rate: Any, name: str, **kwargs: Any) -> None:
    """Calls the constructor of `keras.optimizers.Optimizer`, which 2.15 gives no rate."""
    if KERAS_3:
        keras.optimizers.Optimizer.__init__(optimizer, learning_rate, name=name, **kwargs)
    else:
        keras.optimizers.Optimizer.__init__(optimizer, name=name, **kwargs)
        optimizer._learning_rate = optimizer._build_learning_rate(learning_rate)
