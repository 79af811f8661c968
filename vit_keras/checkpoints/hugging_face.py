"""Hugging Face folders (`config.json` and `model.safetensors`) of ViT and SigLIP, in and out.

Hugging Face's ViT differs from the JAX original in what a checkpoint doesn't show and its
`config.json` does: its gelu is the exact one unless `hidden_act` says otherwise, and its LayerNorms
add 1e-12 instead of 1e-6. Both are honoured, in both directions.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from vit_keras import layers
from vit_keras.checkpoints.hugging_face_siglip import (
    read_image_tower,
    read_two_towers,
    two_towers_from,
    write_image_tower,
)
from vit_keras.checkpoints.hugging_face_vit import read_vit, write_vit
from vit_keras.checkpoints.load import HEAD, PRE_LOGITS, from_npz
from vit_keras.checkpoints.model_facts import model_facts
from vit_keras.checkpoints.save import save_npz
from vit_keras.checkpoints.state_dict import StateDict, fill, read_json, to_state, write_state
from vit_keras.files import replace_when_done
from vit_keras.layers.patch_encoder import pair
from vit_keras.models.regularization import Regularization
from vit_keras.models.vit import build_vit
from vit_keras.names import unknown_name


def from_hugging_face(
    directory: str | os.PathLike,
    image_size: int | tuple[int, int] | None = None,
    classes: int | None = None,
    *,
    tower: str | None = None,
    reset_head: bool = False,
    pre_logits: bool = True,
    activation: str | None = None,
    dtype: Any = None,
    name: str | None = None,
    **regularization: Any,
) -> keras.Model:
    """Reads a folder that transformers' `save_pretrained` wrote.

    Args:
      directory: with `config.json` and `model.safetensors` (also in shards, or
        `pytorch_model.bin` where torch is installed), of a ViTModel, ViTForImageClassification,
        SiglipVisionModel or SiglipModel.
      image_size: side in pixels, or (height, width); positions are resized to it, as `from_npz`
        does. None for the folder's own.
      classes: None for the folder's head; 0 for none; another number for a fresh head of zeros.
      tower: "image" for the image tower of a SiglipModel alone; None for both.
      reset_head: make the head fresh (zeros) even if the number of classes is the folder's.
      pre_logits: keep a ViTModel's pooler (Dense and tanh).
      activation: of the output; None for linear logits.
      dtype: Keras dtype policy; None for the global one.
      name: of the model.
      **regularization: as of `from_npz`.

    Returns:
      A model of images (batch, height, width, channels); what transformers takes as
      `pixel_values` (batch, channels, height, width) are the same numbers, transposed. Google's
      ViTs and SigLIP want them in [-1, 1], as ours; others may not: see the folder's
      `preprocessor_config.json`. A SiglipModel becomes two towers.

    Raises:
      FileNotFoundError: the folder lacks a file.
      ValueError: a kind of model, activation or option that this package doesn't have, or arrays
        that aren't as config.json says, listed.
      ImportError: `safetensors` isn't installed.
    """
    directory = Path(directory)
    facts = read_json(directory / "config.json")
    if tower not in (None, "image"):
        raise unknown_name("tower", tower, ("image",))
    kind = _model_kind(directory, facts)
    state = _open(directory)
    if kind == "siglip" and tower is None:
        unused = {"classes": classes, "activation": activation, **regularization}
        for option, value in unused.items():
            if value is not None:
                raise ValueError(f"{option} is {value!r}; two towers have no such option here.")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "two_towers.npz")
            _write_npz(read_two_towers(state, facts), path)
            return from_npz(path, image_size, dtype=dtype, name=name or "two_towers")
    if kind == "vit":
        config, file = read_vit(state, facts)
    else:
        vision = facts if kind == "siglip_vision_model" else facts.get("vision_config", {})
        config, file = read_image_tower(state, vision)
    stored = config
    ignore = set()
    if reset_head or classes not in (None, config.classes):
        ignore.update(HEAD)
        config = config.replace(classes=config.classes if classes is None else classes)
    if not pre_logits:
        ignore.update(PRE_LOGITS)
        config = config.replace(representation_size=None)
    if image_size is not None:
        config = config.replace(image_size=pair("image_size", image_size))
    model = build_vit(
        config,
        regularization=Regularization.from_options(regularization),
        activation=activation,
        dtype=dtype,
        name=name or "vit",
    )
    return fill(model, file, stored, ignore)


def save_hugging_face(
    model: keras.Model, directory: str | os.PathLike, class_names: Sequence[str] | None = None
) -> None:
    """Writes a folder that transformers' `from_pretrained` reads.

    A ViT with a class token becomes a ViTForImageClassification (without classes where it has no
    head), or, where it ends in `pre_logits`, a ViTModel; one with an attention pooling head and no
    other a SiglipVisionModel; two towers of that kind a SiglipModel.

    Args:
      model: a model of this package.
      directory: the folder; made if it isn't there. Its `config.json` and `model.safetensors` are
        replaced, each when the new one is whole.
      class_names: of the head's classes, kept as `id2label`.

    Raises:
      ValueError: transformers has no such model (mean pooling, sincos2d positions, LayerScale,
        `pre_logits` in front of a head, a ResNet stem, ...).
      ImportError: `safetensors` isn't installed.
    """
    if _is_two_towers(model):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "two_towers.npz")
            save_npz(model, path, naming="big_vision")
            npz_to_hugging_face(path, directory)
        return
    facts = model_facts(model)
    if facts.pooling == "first" and facts.has_class_token:
        config, entries, arrays = write_vit(facts)
    elif facts.pooling == "map" and not facts.classes and not facts.has_class_token:
        config, entries, arrays = write_image_tower(facts)
    else:
        raise ValueError(
            f"model is {model.name!r}, which transformers has no counterpart of: expected a ViT "
            "classifying its class token, or one pooling by attention without a head."
        )
    if class_names is not None:
        if len(class_names) != facts.classes:
            raise ValueError(
                f"class_names has {len(class_names)} names; the head has {facts.classes} classes."
            )
        config["id2label"] = {str(i): label for i, label in enumerate(class_names)}
        config["label2id"] = {label: i for i, label in enumerate(class_names)}
    _write_folder(directory, config, to_state(arrays, entries))


def hugging_face_to_npz(directory: str | os.PathLike, path: str | os.PathLike) -> None:
    """Converts the folder of a SiglipModel to a big_vision `.npz`, without building a model.

    Raises:
      ValueError: when the folder isn't that of a SiglipModel, or its arrays aren't as its
        config.json says.
    """
    facts = read_json(Path(directory) / "config.json")
    if facts.get("model_type") != "siglip":
        raise ValueError(
            f"directory is {os.fspath(directory)!r}, of model_type {facts.get('model_type')!r}; "
            "expected 'siglip'. For others, use from_hugging_face and save_npz."
        )
    _write_npz(read_two_towers(_open(Path(directory)), facts), path)


def npz_to_hugging_face(path: str | os.PathLike, directory: str | os.PathLike) -> None:
    """Converts a big_vision `.npz` of two SigLIP towers to the folder of a SiglipModel.

    Raises:
      ValueError: when the towers aren't SigLIP's (attention pooling for images, the last token for
        texts, a bias, square images).
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = {name.removeprefix("params/"): file[name] for name in file.files}
    config, entries = two_towers_from(arrays, os.fspath(path))
    _write_folder(directory, config, to_state(arrays, entries))


def _model_kind(directory: Path, facts: Mapping[str, Any]) -> str:
    kind = facts.get("model_type")
    known = ("vit", "siglip", "siglip_vision_model")
    if kind not in known:
        raise unknown_name(f"model_type in {directory / 'config.json'}", kind, known)
    architectures = facts.get("architectures") or []
    readable = {
        "vit": ("ViTModel", "ViTForImageClassification"),
        "siglip": ("SiglipModel",),
        "siglip_vision_model": ("SiglipVisionModel",),
    }[kind]
    for architecture in architectures:
        if architecture not in readable:
            raise unknown_name(
                f"architecture in {directory / 'config.json'}", architecture, readable
            )
    return kind


def _is_two_towers(model: keras.Model) -> bool:
    return any(isinstance(layer, layers.Similarity) for layer in model.layers)


def _open(directory: Path) -> StateDict:
    names = (
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
    )
    for name in names:
        if (directory / name).exists():
            return StateDict(directory / name)
    raise FileNotFoundError(f"{directory} has none of {', '.join(names)}.")


def _write_folder(
    directory: str | os.PathLike, config: Mapping[str, Any], state: Mapping[str, np.ndarray]
) -> None:
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = {name: array.astype(np.float32, copy=False) for name, array in state.items()}
    write_state(state, directory / "model.safetensors")
    with replace_when_done(directory / "config.json") as temporary:
        temporary.write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n")


def _write_npz(arrays: Mapping[str, np.ndarray], path: str | os.PathLike) -> None:
    with replace_when_done(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **{f"params/{name}": array for name, array in arrays.items()})
