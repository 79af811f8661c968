"""Reading `.npz` checkpoints into Keras models."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from absl import logging

from vit_keras import layers
from vit_keras.checkpoints.infer import infer_vit
from vit_keras.checkpoints.keras_weights import named_weights
from vit_keras.checkpoints.naming import POSITIONS, NameMap, understand_names
from vit_keras.checkpoints.npz_file import BFLOAT16, NpzFile
from vit_keras.checkpoints.positions import resize_positions
from vit_keras.layers.patch_encoder import pair
from vit_keras.models.regularization import Regularization
from vit_keras.models.vit import build_vit

HEAD = ("head/kernel", "head/bias")
PRE_LOGITS = ("pre_logits/kernel", "pre_logits/bias")


def from_npz(
    path: str | os.PathLike,
    image_size: int | tuple[int, int] | None = None,
    classes: int | None = None,
    *,
    classifier: str | None = None,
    reset_head: bool = False,
    pre_logits: bool = True,
    activation: str | None = None,
    dtype: Any = None,
    name: str = "vit",
    **regularization: Any,
) -> keras.Model:
    """Reads a ViT checkpoint; the whole architecture is inferred from its arrays.

    Args:
      path: an `.npz` file in any of the JAX namings (legacy or linen vision_transformer,
        big_vision), under any of their prefixes.
      image_size: side in pixels, or (height, width); position embeddings are resized to it. None
        for the checkpoint's own. Required where the checkpoint stores no positions.
      classes: None for the checkpoint's head; 0 for no head; a number other than the checkpoint's
        for a fresh head of zeros.
      classifier: "token_unpooled" or "unpooled" for a model that classifies every token, which
        the arrays don't show; None takes what they show ("token", "gap" or "map").
      reset_head: make the head fresh (zeros) even if the number of classes is the checkpoint's.
      pre_logits: keep the tanh layer before the head, if the checkpoint has one.
      activation: of the output, such as "softmax"; None for linear logits.
      dtype: Keras dtype policy; None for the global one.
      name: of the model.
      **regularization: fields of `models.Regularization`: dropout, attention_dropout,
        stochastic_depth, remat.

    Returns:
      A functional Keras model from images (batch, height, width, channels) in [-1, 1], which is
      (x - 127.5) / 127.5 of uint8 pixels, to float32 logits (batch, classes).

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file isn't a readable `.npz`, holds pickled objects or values that aren't
        finite, or doesn't fit: the message lists the keys that are missing, extra or misshapen.
    """
    size = None if image_size is None else pair("image_size", image_size)
    options = Regularization.from_options(regularization)
    with NpzFile(path) as file:
        names = understand_names(file.specs)
        shapes = {canonical: file.specs[key].shape for canonical, key in names.stored.items()}
        config, grid = infer_vit(names, shapes, classifier=classifier, image_size=size)
        dropped = set()
        if classes is not None and (reset_head or classes != config.classes):
            config = config.replace(classes=classes)
            dropped.update(HEAD)
        elif reset_head:
            dropped.update(HEAD)
        if not pre_logits:
            config = config.replace(representation_size=None)
            dropped.update(PRE_LOGITS)
        # Before anything large is made: what the file must hold for this architecture.
        model = build_vit(
            config, regularization=options, activation=activation, dtype=dtype, name=name
        )
        assign_checkpoint(model, file, names, ignore=dropped, old_grid=grid)
    return model


def load_npz(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    reset_head: bool = False,
    pre_logits: bool = True,
) -> None:
    """Reads a checkpoint into a model that exists; every weight is checked before any changes.

    Args:
      model: made by this package, perhaps extended by the user.
      path: an `.npz` file; its position embeddings are resized to the model's.
      reset_head: leave the model's head as it is; needed where the number of classes differs.
      pre_logits: False leaves out the checkpoint's `pre_logits`.

    Raises:
      ValueError: as in `from_npz`; the model is unchanged then.
    """
    with NpzFile(path) as file:
        names = understand_names(file.specs)
        ignore = {*(HEAD if reset_head else ()), *(() if pre_logits else PRE_LOGITS)}
        positions = names.stored.get(POSITIONS)
        old_grid = None
        if positions:
            shapes = {canonical: file.specs[key].shape for canonical, key in names.stored.items()}
            target = _position_layer(model)
            size = None
            if target is not None:
                patch = shapes.get("embedding/kernel", (1, 1))[:2]
                size = (target.grid_size[0] * patch[0], target.grid_size[1] * patch[1])
            _, old_grid = infer_vit(names, shapes, image_size=size)
        assign_checkpoint(model, file, names, ignore=ignore, old_grid=old_grid, verify_first=True)


def assign_checkpoint(
    model: keras.Model,
    file: NpzFile,
    names: NameMap,
    *,
    ignore: set[str],
    old_grid: tuple[int, int] | None,
    verify_first: bool = False,
) -> None:
    """Assigns each array of `file` to its variable, one at a time.

    Args:
      model: whose variables are assigned.
      file: the open checkpoint.
      names: its names, understood.
      ignore: canonical names that neither side needs to have.
      old_grid: grid (rows, columns) of the file's positions; None where it has none.
      verify_first: read everything once before the first variable changes (for a model whose
        weights are worth something).
    """
    targets = {key: weight for key, weight in named_weights(model).items() if key not in ignore}
    sources = {key: stored for key, stored in names.stored.items() if key not in ignore}
    positions = _position_layer(model)
    new_grid = positions.grid_size if positions is not None else None
    prefix = positions.prefix_tokens if positions is not None else 0
    expected = {key: tuple(weight.shape) for key, weight in targets.items()}
    if POSITIONS in expected and old_grid is not None:
        width = expected[POSITIONS][-1]
        expected[POSITIONS] = (1, prefix + old_grid[0] * old_grid[1], width)
    check_fit(file, sources, expected, names)
    if names.ignored:
        logging.info("%s: left out %d arrays of optimizer state.", file.path, len(names.ignored))
    if verify_first:
        for stored in sources.values():
            _read_finite(file, stored)
    for key, weight in targets.items():
        array = _read_finite(file, sources[key]).astype(np.float32, copy=False)
        if key == POSITIONS and old_grid != new_grid:
            logging.info("Resizing positions from grid %s to %s.", old_grid, new_grid)
            array = resize_positions(array, old_grid, new_grid, prefix)
        weight.assign(array)


def check_fit(
    file: NpzFile,
    sources: Mapping[str, str],
    expected: Mapping[str, tuple[int, ...]],
    names: NameMap,
) -> None:
    """Compares what a file has with what a model needs.

    Raises:
      ValueError: listing every missing, extra and misshapen key, with both shapes.
    """
    problems = [
        f"missing    {names.dialect.stored_name(key)} {shape}"
        for key, shape in expected.items()
        if key not in sources
    ]
    for key, stored in sources.items():
        shape, dtype = file.specs[stored]
        if key not in expected:
            problems.append(f"extra      {stored} {shape}")
        elif shape != expected[key]:
            problems.append(f"misshapen  {stored}: found {shape}, expected {expected[key]}")
        elif not (np.issubdtype(dtype, np.floating) or dtype == BFLOAT16):
            problems.append(f"mistyped   {stored}: found {dtype}, expected a floating-point type")
    if problems:
        listed = "\n  ".join(sorted(problems))
        raise ValueError(
            f"{file.path} doesn't fit the model; {len(problems)} arrays differ:\n  {listed}"
        )


def _read_finite(file: NpzFile, stored: str) -> np.ndarray:
    array = file.read(stored)
    # A sum is not finite if any element isn't (the converse is rechecked), and needs no copy.
    if (
        not np.isfinite(np.sum(array, dtype=np.float64))
        and not np.isfinite(array.astype(np.float32, copy=False)).all()
    ):
        raise ValueError(f"{file.path}: {stored!r} {array.shape} holds NaN or infinite values.")
    return array


def _position_layer(model: keras.Model) -> layers.PositionEmbedding | None:
    found = [layer for layer in model.layers if isinstance(layer, layers.PositionEmbedding)]
    return found[0] if found else None
