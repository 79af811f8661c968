"""JAX `.npz` checkpoints <-> canonical names <-> Keras weights."""

from vit_keras.checkpoints.describe import Description, describe, head_is_zero
from vit_keras.checkpoints.keras_weights import named_weights
from vit_keras.checkpoints.load import from_npz, load_npz
from vit_keras.checkpoints.positions import resize_positions
from vit_keras.checkpoints.save import save_npz

__all__ = [
    "Description",
    "describe",
    "from_npz",
    "head_is_zero",
    "load_npz",
    "named_weights",
    "resize_positions",
    "save_npz",
]
