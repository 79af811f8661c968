"""Writing `.npz` checkpoints that the JAX code reads."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Iterator

import keras
import numpy as np

from vit_keras import layers
from vit_keras.checkpoints.keras_weights import named_weights, unnamed_weights
from vit_keras.checkpoints.layout import file_layout
from vit_keras.checkpoints.naming import BLOCK, NAMINGS, POSITIONS, Dialect, split_tower
from vit_keras.files import replace_when_done
from vit_keras.names import unknown_name


def save_npz(
    model: keras.Model,
    path: str | os.PathLike,
    naming: str | None = None,
    *,
    prefix: str | None = None,
    scan: bool | None = None,
) -> None:
    """Writes the weights of a model as a JAX checkpoint, in float32.

    Args:
      model: a model of this package, of any family.
      path: file to write; one that exists is replaced only when the new one is whole.
      naming: "legacy" (what every published vision_transformer file has), "linen" (what the
        current code writes) or "big_vision". vision_transformer reads the first two. None for
        everything as the checkpoint had it that the model was read from (lost by
        `keras.models.load_model`); for a model that came from none "legacy", or "big_vision" if
        its positions are sincos2d, which no legacy file has.
      prefix: in front of every name, such as "params/"; None for the checkpoint's own, or none
        where `naming` is given.
      scan: whether to stack the blocks of each encoder in one array along a leading axis, as
        big_vision's scanned models do; None likewise.

    Raises:
      ValueError: an unknown naming, or weights that a checkpoint has no name for.
    """
    if naming is not None and naming not in NAMINGS:
        raise unknown_name("naming", naming, NAMINGS)
    if naming is None and not hasattr(model, "checkpoint_dialect"):
        # In a legacy file that stores no positions they would seem to be lost.
        naming = "big_vision" if _has_fixed_positions(model) else "legacy"
    extra = unnamed_weights(model)
    if extra:
        raise ValueError(
            f"No checkpoint has a name for {', '.join(extra[:10])}"
            f"{', ...' if len(extra) > 10 else ''}; save the part of the model that vit_keras "
            "made, or all of it with model.save."
        )
    arrays = dict(_arrays(model, naming))
    dialect = _dialect(model, naming, prefix, scan, arrays)
    layout = file_layout({name: array.shape for name, array in arrays.items()}, dialect)
    with (
        replace_when_done(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for name, stored in layout.items():
            parts = [arrays[parameter].numpy() for parameter in stored.parameters]
            array = np.stack(parts) if stored.stacked else parts[0]
            entry = f"{dialect.stored_name(name)}.npy"
            with archive.open(entry, "w", force_zip64=True) as stream:
                array = np.ascontiguousarray(array.reshape(stored.shape))
                np.lib.format.write_array(stream, array, allow_pickle=False)


@dataclasses.dataclass(frozen=True)
class _Array:
    """A weight, and what becomes of its values on the way out."""

    shape: tuple[int, ...]
    numpy: object


def _dialect(
    model: keras.Model,
    naming: str | None,
    prefix: str | None,
    scan: bool | None,
    arrays: dict[str, _Array],
) -> Dialect:
    dialect = Dialect(naming or "legacy")
    if naming is None:
        dialect = getattr(model, "checkpoint_dialect", dialect)
    if scan is not None:
        encoders = {
            tower + match[1]
            for tower, name in map(split_tower, arrays)
            if (match := BLOCK.fullmatch(name))
        }
        exceptions = {
            name: stored
            for name, stored in dialect.exceptions.items()
            if not BLOCK.fullmatch(split_tower(name)[1])
        }
        dialect = dataclasses.replace(
            dialect, scan=tuple(sorted(encoders)) if scan else (), exceptions=exceptions
        )
    if prefix is not None:
        dialect = dataclasses.replace(dialect, prefix=prefix)
    return dialect


def _arrays(model: keras.Model, naming: str | None) -> Iterator[tuple[str, _Array]]:
    """Canonical names and arrays, positions in the form that the naming's reader expects."""
    weights = named_weights(model)
    for name, weight in weights.items():
        array = _Array(tuple(weight.shape), weight.numpy)
        tower, local = split_tower(name)
        if naming is not None and tower + "cls" in weights and tower + POSITIONS in weights:
            positions = weights[tower + POSITIONS]
            has_class_position = _has_class_position(model, positions)
            wants_class_position = naming != "big_vision"
            if has_class_position and not wants_class_position:
                # The class token and its position are only ever used as their sum.
                if local == "cls":
                    array = _changed(weight, lambda cls, p=positions: cls + p.numpy()[:, :1])
                elif local == POSITIONS:
                    array = _changed(weight, lambda p: p[:, 1:])
            elif wants_class_position and not has_class_position and local == POSITIONS:
                array = _changed(
                    weight, lambda p: np.concatenate([np.zeros_like(p[:, :1]), p], axis=1)
                )
        yield name, array


def _changed(weight, change) -> _Array:
    array = change(weight.numpy())
    return _Array(array.shape, lambda: array)


def _has_fixed_positions(model: keras.Model) -> bool:
    return any(
        _has_fixed_positions(layer)
        if isinstance(layer, keras.Model)
        else isinstance(layer, layers.SinCosPositionEmbedding)
        for layer in model.layers
    )


def _has_class_position(model: keras.Model, positions) -> bool:
    """Whether the layer that owns the weight `positions` has one for the class token."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            if _has_class_position(layer, positions):
                return True
        elif isinstance(layer, layers.PositionEmbedding) and layer.embedding is positions:
            return bool(layer.prefix_tokens)
    return False
