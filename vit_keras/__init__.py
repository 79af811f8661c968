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
from vit_keras.checkpoints import (  # noqa: E402
    catalog,
    from_hugging_face,
    from_npz,
    from_timm,
    load_npz,
    save_hugging_face,
    save_npz,
    save_timm,
)
from vit_keras.create import create_model  # noqa: E402
from vit_keras.features import features  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "catalog",
    "checkpoints",
    "class_names",
    "create_model",
    "features",
    "from_hugging_face",
    "from_npz",
    "from_timm",
    "layers",
    "load_npz",
    "models",
    "save_hugging_face",
    "save_npz",
    "save_timm",
    "two_towers",
]


def class_names(name: str, data_dir: str | None = None) -> list[str]:
    """The names of a data set's classes; see `vit_keras.data.class_names.class_names`."""
    from vit_keras.data import class_names as of_data  # TFDS is slow to import

    return of_data.class_names(name, data_dir)
