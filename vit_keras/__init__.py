"""Vision Transformers in TensorFlow/Keras, exact to the JAX reference, for TPU pods."""

from vit_keras import compat

compat.check_keras_stack()

from vit_keras import checkpoints, layers, models  # noqa: E402
from vit_keras.checkpoints import from_npz, load_npz, save_npz  # noqa: E402
from vit_keras.create import create_model  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "checkpoints",
    "create_model",
    "from_npz",
    "layers",
    "load_npz",
    "models",
    "save_npz",
]
