"""Reading `.npz` checkpoints into Keras models."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from absl import logging

from vit_keras import compat, layers
from vit_keras.checkpoints.download import local_path
from vit_keras.checkpoints.infer import has_layer_scale, infer_config
from vit_keras.checkpoints.keras_weights import named_weights
from vit_keras.checkpoints.layout import FileArray, file_layout
from vit_keras.checkpoints.naming import POSITIONS, NameMap, understand_names
from vit_keras.checkpoints.npz_file import BFLOAT16, NpzFile
from vit_keras.checkpoints.patches import resize_patches as resize_patches_to
from vit_keras.checkpoints.positions import resize_positions
from vit_keras.checkpoints.shapes import parameter_shapes
from vit_keras.layers.patch_encoder import pair
from vit_keras.models.bert import BertConfig
from vit_keras.models.build import Config, build
from vit_keras.models.config import ViTConfig
from vit_keras.models.mixer import MixerConfig
from vit_keras.models.regularization import Regularization
from vit_keras.models.text import TextConfig
from vit_keras.models.two_towers import TwoTowersConfig

HEAD = ("head/kernel", "head/bias")
PRE_LOGITS = ("pre_logits/kernel", "pre_logits/bias")
PATCHES = "embedding/kernel"

# Canonical name to what becomes of its array before it is assigned.
Changes = dict[str, Callable[[np.ndarray], np.ndarray]]


def from_npz(
    path: str | os.PathLike,
    image_size: int | tuple[int, int] | None = None,
    classes: int | Sequence[int] | None = None,
    *,
    classifier: str | None = None,
    patch_size: int | tuple[int, int] | None = None,
    pooling: str | None = None,
    reset_head: bool = False,
    pre_logits: bool = True,
    activation: str | None = None,
    dtype: Any = None,
    name: str | None = None,
    **regularization: Any,
) -> keras.Model:
    """Reads a checkpoint; family and architecture are inferred from its arrays.

    Args:
      path: an `.npz` file (also an https:// or gs:// address) of a ViT, plain or hybrid, an
        MLP-Mixer, a text tower or two towers, in any of the JAX namings (legacy or linen
        vision_transformer, big_vision), under any of their prefixes.
      image_size: side in pixels, or (height, width); position embeddings are resized to it. None
        for the checkpoint's own. Required where the checkpoint stores no positions.
      classes: None for the checkpoint's head; 0 for no head; a number other than the checkpoint's
        for a fresh head of zeros; a list of the checkpoint's class numbers for a head of those.
      classifier: "token_unpooled" or "unpooled" for a model that classifies every token, which
        the arrays don't show; None takes what they show ("token", "gap" or "map").
      patch_size: another one than the checkpoint's, to which the patch embedding is resized as in
        FlexiViT (arXiv 2212.08013, equation 4); the image keeps its size. Required where the
        checkpoint's own patches aren't square.
      pooling: "first", "mean" or "max" for a text tower that doesn't take its last token, which
        the arrays don't show either.
      reset_head: make the head fresh (zeros) even if the number of classes is the checkpoint's.
      pre_logits: keep the tanh layer before the head, if the checkpoint has one.
      activation: of the output, such as "softmax"; None for linear logits.
      dtype: Keras dtype policy; None for the global one.
      name: of the model; None for its family.
      **regularization: fields of `models.Regularization`: dropout, attention_dropout,
        stochastic_depth, remat.

    Returns:
      A functional Keras model from images (batch, height, width, channels) in [-1, 1], which is
      (x - 127.5) / 127.5 of uint8 pixels, to float32 logits (batch, classes). For two towers see
      `models.build_two_towers`, for a text tower `models.build_text`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file isn't a readable `.npz`, holds pickled objects or values that aren't
        finite, or doesn't fit: the message lists the keys that are missing, extra or misshapen.
    """
    size = None if image_size is None else pair("image_size", image_size)
    patch_size = None if patch_size is None else pair("patch_size", patch_size)
    options = Regularization.from_options(regularization)
    with NpzFile(local_path(path)) as file:
        names, shapes = understand_file(file)
        stored = infer_config(
            names,
            shapes,
            classifier=classifier,
            image_size=size,
            patch_size=patch_size,
            pooling=pooling,
        )
        if has_layer_scale(shapes) and options.layer_scale is None:
            options = dataclasses.replace(options, layer_scale=1.0)  # the checkpoint's takes over
        expected = parameter_shapes(stored, layer_scale=options.layer_scale is not None)
        layout = file_layout(expected, names.dialect)
        check_fit(file, names, layout)
        config, dropped, changes = _adapted(
            stored, size, classes, patch_size, reset_head, pre_logits
        )
        model = build(config, regularization=options, activation=activation, dtype=dtype, name=name)
        changes.update(_resizes(model, stored, file, names))
        _assign(model, file, names, layout, dropped, changes)
    model.checkpoint_dialect = names.dialect  # for save_npz
    return model


def load_npz(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    reset_head: bool = False,
    pre_logits: bool = True,
    resize_patches: bool = False,
) -> None:
    """Reads a checkpoint into a model that exists; every array is checked before any changes.

    Args:
      model: made by this package, perhaps extended by the user.
      path: an `.npz` file, or an address; its position embeddings are resized to the model's.
      reset_head: leave the model's head as it is; needed where the number of classes differs.
      pre_logits: False leaves out the checkpoint's `pre_logits`.
      resize_patches: resize the patch embedding to the model's patch size (see `from_npz`), which
        is an error otherwise.

    Raises:
      ValueError: as in `from_npz`; the model is unchanged then.
    """
    with NpzFile(local_path(path)) as file:
        names, shapes = understand_file(file)
        grid_size, patch_size = _grid_of(model)
        stored = infer_config(names, shapes, grid_size=grid_size, patch_size=patch_size)
        dropped = {*(HEAD if reset_head else ()), *(() if pre_logits else PRE_LOGITS)}
        weights = named_weights(model)
        expected = {key: tuple(weight.shape) for key, weight in weights.items()}
        changes = _resizes(model, stored, file, names)
        stored_shapes = parameter_shapes(stored)
        for key in changes:
            if not key.endswith(PATCHES) or resize_patches:
                # The array is to have its own size, but the model's width.
                expected[key] = (*stored_shapes[key][:-1], expected[key][-1])
        layout = file_layout(expected, names.dialect)
        check_fit(file, names, layout, ignore=dropped)
        for key, array in layout.items():
            if not dropped.issuperset(array.parameters):
                read_finite(file, names.stored[key])
        _assign(model, file, names, layout, dropped, changes, verified=True)
    model.checkpoint_dialect = names.dialect


def understand_file(file: NpzFile) -> tuple[NameMap, dict[str, tuple[int, ...]]]:
    """The names of an open file, understood, and canonical name to shape."""
    names = understand_names({name: spec.shape for name, spec in file.specs.items()})
    shapes = {canonical: file.specs[key].shape for canonical, key in names.stored.items()}
    return names, shapes


def check_fit(
    file: NpzFile,
    names: NameMap,
    layout: Mapping[str, FileArray],
    ignore: set[str] = frozenset(),
) -> None:
    """Compares what a file has with what a model needs.

    Args:
      file: open.
      names: its names, understood.
      layout: what it should have.
      ignore: canonical names that may be there or not, in any shape.

    Raises:
      ValueError: listing every missing, extra and misshapen key, with both shapes.
    """
    problems = [
        f"missing    {names.dialect.stored_name(key)} {array.shape}"
        for key, array in layout.items()
        if key not in names.stored and key not in ignore
    ]
    problems += [f"extra      {name} {file.specs[name].shape}" for name in names.extra]
    for key, name in names.stored.items():
        shape, dtype = file.specs[name]
        if key in ignore:
            continue
        if key not in layout:
            problems.append(f"extra      {name} {shape}")
        elif shape != layout[key].shape:
            problems.append(f"misshapen  {name}: found {shape}, expected {layout[key].shape}")
        elif not (np.issubdtype(dtype, np.floating) or dtype == BFLOAT16):
            problems.append(f"mistyped   {name}: found {dtype}, expected a floating-point type")
    if problems:
        shown = sorted(problems)
        listed = "\n  ".join(shown[:100] + ["..."] * (len(shown) > 100))
        raise ValueError(
            f"{file.path} doesn't fit the model; {len(problems)} arrays differ:\n  {listed}"
        )


def read_finite(file: NpzFile, name: str) -> np.ndarray:
    """An array of a file.

    Raises:
      ValueError: its data is corrupt, or holds NaN or infinite values.
    """
    array = file.read(name)
    # A sum is not finite if any element isn't (the converse is rechecked), and needs no copy.
    with np.errstate(all="ignore"):
        suspicious = not np.isfinite(np.sum(array, dtype=np.float32))
    if suspicious and not np.isfinite(array.astype(np.float32, copy=False)).all():
        raise ValueError(f"{file.path}: {name!r} {array.shape} holds NaN or infinite values.")
    return array


def _assign(
    model: keras.Model,
    file: NpzFile,
    names: NameMap,
    layout: Mapping[str, FileArray],
    dropped: set[str],
    changes: Changes,
    verified: bool = False,
) -> None:
    """Assigns each array of `file` to its variables, one array at a time."""
    if names.ignored:
        logging.info("%s: left out %d arrays of optimizer state.", file.path, len(names.ignored))
    weights = named_weights(model)
    for key, stored in layout.items():
        if dropped.issuperset(stored.parameters):
            continue
        name = names.stored[key]
        array = file.read(name) if verified else read_finite(file, name)
        array = array.astype(np.float32, copy=False)
        for parameter, part in zip(
            stored.parameters, array if stored.stacked else [array], strict=True
        ):
            weight = weights[parameter]
            if parameter in changes:
                part = changes[parameter](part)
            compat.assign_in_pieces(weight, part.reshape(weight.shape))
        del array, part  # before the next is read: two large ones at once are one too many


def _adapted(
    stored: Config,
    image_size: tuple[int, int] | None,
    classes: int | Sequence[int] | None,
    patch_size: tuple[int, int] | None,
    reset_head: bool,
    pre_logits: bool,
) -> tuple[Config, set[str], Changes]:
    """The config that the user wants, which parameters then stay fresh, and which change."""
    if isinstance(stored, TwoTowersConfig):
        if classes is not None or reset_head:
            raise ValueError(
                "classes and reset_head aren't for two towers, which give embeddings; see "
                "vit_keras.two_towers.zero_shot_classifier."
            )
        image, _, _ = _adapted(stored.image, image_size, None, patch_size, False, True)
        return stored.replace(image=image), set(), {}
    if isinstance(stored, TextConfig | BertConfig) and (image_size or patch_size):
        raise ValueError("image_size and patch_size aren't for a text tower.")
    facts, dropped, changes = {}, set(), {}
    if isinstance(stored, MixerConfig) and patch_size not in (None, stored.patch_size):
        raise ValueError(f"patch_size is {patch_size!r}, but a Mixer's can't be changed.")
    if image_size is not None:
        facts["image_size"] = image_size
    if patch_size is not None:
        facts["patch_size"] = patch_size
    if not pre_logits and isinstance(stored, ViTConfig):
        facts["representation_size"] = None
        dropped.update(PRE_LOGITS)
        if stored.representation_size not in (None, stored.hidden_size):
            reset_head = True
    chosen = None
    if isinstance(classes, Sequence | np.ndarray):
        chosen = _chosen_classes(classes, stored.classes)
        classes = len(chosen)
    if chosen is not None and not reset_head:
        facts["classes"] = classes
        changes = {key: lambda array: array[..., chosen] for key in HEAD}
    elif classes is not None and classes != stored.classes:
        facts["classes"] = classes
        dropped.update(HEAD)
    elif reset_head:
        dropped.update(HEAD)
    return stored.replace(**facts), dropped, changes


def _chosen_classes(classes: Sequence[int], available: int) -> np.ndarray:
    chosen = np.asarray(classes)
    if (
        chosen.ndim != 1
        or not chosen.size
        or not np.issubdtype(chosen.dtype, np.integer)
        or chosen.min() < 0
        or chosen.max() >= available
    ):
        raise ValueError(
            f"classes is {classes!r}; expected a number, or a list of class numbers of the "
            f"checkpoint, which has {available}."
        )
    return chosen


def _resizes(model: keras.Model, stored: Config, file: NpzFile, names: NameMap) -> Changes:
    """What the arrays of the image tower must go through to fit `model`."""
    changes: Changes = {}
    config = stored.image if isinstance(stored, TwoTowersConfig) else stored
    if not isinstance(config, ViTConfig):
        return {}
    for tower, image_model in _image_towers(model):
        patches = _only(image_model, layers.PatchEncoder)
        if patches is not None and patches.patch_size != config.patch_size:
            new_patch = patches.patch_size
            changes[tower + PATCHES] = lambda array, new=new_patch: resize_patches_to(array, new)
        positions = _only(image_model, layers.PositionEmbedding)
        if patches is None or positions is None or config.pos_embedding == "sincos2d":
            continue
        old, new = config.grid_size, positions.grid_size
        before, after = config.prefix_positions, positions.prefix_tokens
        if old == new and before == after:
            continue
        changes[tower + POSITIONS] = lambda array, old=old, new=new, after=after: resize_positions(
            _with_prefix(array, old, after), old, new, after
        )
        if before > after and config.has_class_token:
            # The class token and its position are only ever used as their sum.
            name = names.stored[tower + POSITIONS]
            changes[tower + "cls"] = lambda array, name=name: array + read_finite(file, name)[:, :1]
        if old != new:
            logging.info("Resizing positions from grid %s to %s.", old, new)
    return changes


def _with_prefix(positions: np.ndarray, grid: tuple[int, int], prefix: int) -> np.ndarray:
    """Positions with `prefix` leading ones: the class token's is put away, or added as zero."""
    patches = positions[:, positions.shape[1] - grid[0] * grid[1] :]
    if positions.shape[1] - patches.shape[1] == prefix:
        return positions
    return np.concatenate([np.zeros_like(patches[:, :prefix]), patches], axis=1)


def _image_towers(model: keras.Model) -> Iterator[tuple[str, keras.Model]]:
    towers = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    named = [layer for layer in towers if layer.name == "img"]
    if named:
        yield "img/", named[0]
    else:
        yield from (("", tower) for tower in (model, *towers))


def _grid_of(model: keras.Model) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Patches along (height, width) of a model's images, and the size of one; None without."""
    for _, tower in _image_towers(model):
        patches = _only(tower, layers.PatchEncoder)
        if patches is None:
            continue
        for kind in (layers.PositionEmbedding, layers.SinCosPositionEmbedding):
            if (found := _only(tower, kind)) is not None:
                return found.grid_size, patches.patch_size
        _, height, width, _ = tower.input_shape
        size = patches.patch_size
        return (height // size[0], width // size[1]), size
    return None, None


def _only(model: keras.Model, kind: type) -> Any:
    found = [layer for layer in model.layers if isinstance(layer, kind)]
    return found[0] if found else None
