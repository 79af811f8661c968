"""Vision Transformers in TensorFlow/Keras, exact to the JAX reference, for TPU pods."""

import importlib.util

if importlib.util.find_spec("tensorflow") is None:
    raise ImportError(
        "vit_keras needs TensorFlow, of which there are several builds: install it with one of "
        "the extras, pip install 'vit-keras-tpu[modern]', [gpu], [tpu] or [classic]."
    )

from vit_keras import compat

compat.check_keras_stack()

from vit_keras import checkpoints, layers, models, two_towers  # noqa: E402
from vit_keras.checkpoints import catalog, from_npz, load_npz, save_npz  # noqa: E402
from vit_keras.create import create_model  # noqa: E402
from vit_keras.features import features  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "catalog",
    "checkpoints",
    "create_model",
    "features",
    "from_npz",
    "layers",
    "load_npz",
    "models",
    "save_npz",
    "two_towers",
]
