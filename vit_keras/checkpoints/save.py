"""Writing `.npz` checkpoints that the JAX code reads."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator

import keras
import numpy as np

from vit_keras import layers
from vit_keras.checkpoints.keras_weights import named_weights, unnamed_weights
from vit_keras.checkpoints.naming import NAMINGS, POSITIONS, Dialect
from vit_keras.files import replace_when_done
from vit_keras.models.names import unknown_name


def save_npz(model: keras.Model, path: str | os.PathLike, naming: str = "legacy") -> None:
    """Writes the weights of a model as a JAX checkpoint.

    Args:
      model: a model of this package.
      path: file to write; one that exists is replaced only when the new one is whole.
      naming: "legacy" (what every published vision_transformer file has), "linen" (what the
        current code writes) or "big_vision". vision_transformer reads the first two.

    Raises:
      ValueError: an unknown naming, or weights that a checkpoint has no name for.
    """
    if naming not in NAMINGS:
        raise unknown_name("naming", naming, NAMINGS)
    extra = unnamed_weights(model)
    if extra:
        raise ValueError(
            f"No checkpoint has a name for {', '.join(extra[:10])}"
            f"{', ...' if len(extra) > 10 else ''}; save the part of the model that vit_keras "
            "made, or all of it with model.save."
        )
    dialect = Dialect(naming)
    with (
        replace_when_done(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for name, array in _arrays(model, naming):
            entry = f"{dialect.stored_name(name)}.npy"
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)


def _arrays(model: keras.Model, naming: str) -> Iterator[tuple[str, np.ndarray]]:
    """Canonical names and arrays, positions in the form that the naming's reader expects."""
    weights = named_weights(model)
    prefix_tokens = [
        layer.prefix_tokens for layer in model.layers if isinstance(layer, layers.PositionEmbedding)
    ]
    with_class_position = bool(prefix_tokens and prefix_tokens[0])
    wants_class_position = naming != "big_vision" and "cls" in weights and bool(prefix_tokens)
    for name, weight in weights.items():
        array = _to_numpy(weight)
        if with_class_position and not wants_class_position:
            # The class token and its position are only ever used as their sum.
            if name == "cls":
                array = array + _to_numpy(weights[POSITIONS])[:, :1]
            elif name == POSITIONS:
                array = array[:, 1:]
        elif wants_class_position and not with_class_position and name == POSITIONS:
            array = np.concatenate([np.zeros_like(array[:, :1]), array], axis=1)
        yield name, array


def _to_numpy(weight) -> np.ndarray:
    return np.asarray(weight.numpy())
