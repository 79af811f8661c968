"""JAX `.npz` checkpoints <-> canonical names <-> Keras weights."""

from vit_keras.checkpoints.describe import Description, describe, head_is_zero
from vit_keras.checkpoints.hugging_face import (
    from_hugging_face,
    hugging_face_to_npz,
    npz_to_hugging_face,
    save_hugging_face,
)
from vit_keras.checkpoints.keras_weights import named_weights
from vit_keras.checkpoints.load import from_npz, load_npz
from vit_keras.checkpoints.positions import resize_positions
from vit_keras.checkpoints.save import save_npz
from vit_keras.checkpoints.timm import from_timm, save_timm

__all__ = [
    "Description",
    "describe",
    "from_hugging_face",
    "from_npz",
    "from_timm",
    "head_is_zero",
    "hugging_face_to_npz",
    "load_npz",
    "named_weights",
    "npz_to_hugging_face",
    "resize_positions",
    "save_hugging_face",
    "save_npz",
    "save_timm",
]
