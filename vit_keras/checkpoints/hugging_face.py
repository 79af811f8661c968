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
from vit_keras.checkpoints.load import HEAD, PRE_LOGITS, from_npz
from vit_keras.checkpoints.model_facts import ModelFacts, model_facts
from vit_keras.checkpoints.naming import POSITIONS
from vit_keras.checkpoints.save import save_npz
from vit_keras.checkpoints.state_dict import (
    CanonicalState,
    Entry,
    StateDict,
    attention,
    blocks,
    class_position_in_front,
    dense,
    fill,
    mlp,
    norm,
    read_json,
    to_state,
    write_state,
)
from vit_keras.files import replace_when_done
from vit_keras.layers.patch_encoder import pair
from vit_keras.models.config import ViTConfig
from vit_keras.models.regularization import Regularization
from vit_keras.models.vit import build_vit
from vit_keras.names import unknown_name

# Hugging Face's name of an activation: whether it is gelu's tanh approximation.
_GELUS = {"gelu": False, "gelu_pytorch_tanh": True, "gelu_new": True}

# What a config.json may leave out (transformers' defaults).
_ENCODER_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
_VIT_DEFAULTS = {
    **_ENCODER_DEFAULTS,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "qkv_bias": True,
    "pooler_act": "tanh",
}
_SIGLIP_DEFAULTS = {**_ENCODER_DEFAULTS, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
_VISION_DEFAULTS = {
    **_SIGLIP_DEFAULTS,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "vision_use_head": True,
}
_TEXT_DEFAULTS = {**_SIGLIP_DEFAULTS, "vocab_size": 32000, "max_position_embeddings": 64}

# Buffers that old versions of transformers wrote beside the parameters, and training's mask token.
_NOT_PARAMETERS = r".*\.position_ids|(vit\.)?embeddings\.mask_token"


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
            _write_npz(_read_two_towers(state, facts), path)
            return from_npz(path, image_size, dtype=dtype, name=name or "two_towers")
    if kind == "vit":
        config, file = _read_vit(state, facts)
    else:
        vision = facts if kind == "siglip_vision_model" else facts.get("vision_config", {})
        config, file = _read_image_tower(state, vision)
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
        config, entries, arrays = _write_vit(facts)
    elif facts.pooling == "map" and not facts.classes and not facts.has_class_token:
        config, entries, arrays = _write_image_tower(facts)
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
    _write_npz(_read_two_towers(_open(Path(directory)), facts), path)


def npz_to_hugging_face(path: str | os.PathLike, directory: str | os.PathLike) -> None:
    """Converts a big_vision `.npz` of two SigLIP towers to the folder of a SiglipModel.

    Raises:
      ValueError: when the towers aren't SigLIP's (attention pooling for images, the last token for
        texts, a bias, square images).
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = {name.removeprefix("params/"): file[name] for name in file.files}
    config, entries = _two_towers_from(arrays, os.fspath(path))
    _write_folder(directory, config, to_state(arrays, entries))


# ViT


def _vit_entries(
    base: str, num_layers: int, heads: int, *, head: bool, pooler: bool, qkv_bias: bool = True
) -> list[Entry]:
    entries = [
        Entry("cls", f"{base}embeddings.cls_token"),
        Entry(POSITIONS, f"{base}embeddings.position_embeddings"),
        *dense("embedding", f"{base}embeddings.patch_embeddings.projection", "conv"),
        *norm("Transformer/encoder_norm", f"{base}layernorm"),
    ]
    for index, ours in blocks(num_layers):
        theirs = f"{base}encoder.layer.{index}"
        entries += [
            *norm(f"{ours}/LayerNorm_0", f"{theirs}.layernorm_before"),
            *attention(
                f"{ours}/MultiHeadDotProductAttention_0",
                heads,
                f"{theirs}.attention.output.dense",
                separate={
                    part: f"{theirs}.attention.attention.{part}"
                    for part in ("query", "key", "value")
                },
            ),
            *norm(f"{ours}/LayerNorm_1", f"{theirs}.layernorm_after"),
            *mlp(f"{ours}/MlpBlock_0", f"{theirs}.intermediate.dense", f"{theirs}.output.dense"),
        ]
    if not qkv_bias:
        entries = [entry for entry in entries if entry.layout != "heads_bias"]
    if pooler:
        entries += dense("pre_logits", f"{base}pooler.dense")
    if head:
        entries += dense("head", "classifier")
    return entries


def _read_vit(state: StateDict, facts: Mapping[str, Any]) -> tuple[ViTConfig, CanonicalState]:
    facts = {**_VIT_DEFAULTS, **facts}
    base = "vit." if any(name.startswith("vit.") for name in state.specs) else ""
    pooler, head = f"{base}pooler.dense.bias" in state.specs, "classifier.bias" in state.specs
    if pooler and facts["pooler_act"] != "tanh":
        raise unknown_name("config.json's pooler_act", facts["pooler_act"], ["tanh"])
    if pooler and head:  # written by old versions, and not used by their classifier
        raise ValueError(f"{state.path} has a pooler and a classifier; expected one of them.")
    config = ViTConfig(
        **_encoder_facts(facts),
        representation_size=_rows(state, f"{base}pooler.dense.bias") if pooler else None,
        classes=_rows(state, "classifier.bias") if head else 0,
    )
    entries = _vit_entries(
        base,
        config.num_layers,
        config.num_heads,
        head=head,
        pooler=pooler,
        qkv_bias=facts["qkv_bias"],
    )
    file = CanonicalState(state, entries, _NOT_PARAMETERS)
    if not facts["qkv_bias"]:  # a bias of zeros computes the same
        shape = (config.num_heads, config.hidden_size // config.num_heads)
        for _, block in blocks(config.num_layers):
            for part in ("query", "key", "value"):
                file.add_zeros(f"{block}/MultiHeadDotProductAttention_0/{part}/bias", shape)
    return config, file


def _write_vit(facts: ModelFacts) -> tuple[dict, list[Entry], dict[str, np.ndarray]]:
    pooler, head = "pre_logits/kernel" in facts.arrays, bool(facts.classes)
    if pooler and head:
        raise ValueError(
            "The model has pre_logits in front of its head, which transformers' classifier hasn't: "
            "drop one of the two (from_npz(..., pre_logits=False) or classes=0)."
        )
    arrays = facts.arrays
    if not facts.class_token_has_position:
        arrays = class_position_in_front(arrays)
    config = {
        # A ViTModel always has a pooler; the class token itself is a classifier without classes.
        "architectures": ["ViTModel" if pooler else "ViTForImageClassification"],
        "model_type": "vit",
        **_encoder_config(facts),
        "qkv_bias": True,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    config["id2label"] = {str(i): f"LABEL_{i}" for i in range(facts.classes)}
    config["label2id"] = {f"LABEL_{i}": i for i in range(facts.classes)}
    if pooler:
        config["pooler_act"] = "tanh"
        config["pooler_output_size"] = arrays["pre_logits/bias"].shape[0]
    base = "" if pooler else "vit."
    return (
        config,
        _vit_entries(base, facts.num_layers, facts.num_heads, head=head, pooler=pooler),
        arrays,
    )


# SigLIP


def _encoder_entries(ours: str, theirs: str, num_layers: int, heads: int) -> list[Entry]:
    """The blocks of either tower; `ours` is the canonical name of what holds them."""
    entries = []
    for index in range(num_layers):
        block, layer = f"{ours}/encoderblock_{index}", f"{theirs}encoder.layers.{index}"
        entries += [
            *norm(f"{block}/LayerNorm_0", f"{layer}.layer_norm1"),
            *attention(
                f"{block}/MultiHeadDotProductAttention_0",
                heads,
                f"{layer}.self_attn.out_proj",
                separate={
                    part: f"{layer}.self_attn.{part[0]}_proj" for part in ("query", "key", "value")
                },
            ),
            *norm(f"{block}/LayerNorm_1", f"{layer}.layer_norm2"),
            *mlp(f"{block}/MlpBlock_0", f"{layer}.mlp.fc1", f"{layer}.mlp.fc2"),
        ]
    return entries


def _image_tower_entries(
    ours: str, positions: str, theirs: str, num_layers: int, heads: int
) -> list[Entry]:
    return [
        *dense(f"{ours}embedding", f"{theirs}embeddings.patch_embedding", "conv"),
        Entry(positions, f"{theirs}embeddings.position_embedding.weight", "positions"),
        *_encoder_entries(f"{ours}Transformer", theirs, num_layers, heads),
        *norm(f"{ours}Transformer/encoder_norm", f"{theirs}post_layernorm"),
        Entry(f"{ours}MAPHead_0/probe", f"{theirs}head.probe"),
        *attention(
            f"{ours}MAPHead_0/MultiHeadDotProductAttention_0",
            heads,
            f"{theirs}head.attention.out_proj",
            fused=f"{theirs}head.attention.in_proj_",
        ),
        *norm(f"{ours}MAPHead_0/LayerNorm_0", f"{theirs}head.layernorm"),
        *mlp(f"{ours}MAPHead_0/MlpBlock_0", f"{theirs}head.mlp.fc1", f"{theirs}head.mlp.fc2"),
    ]


def _text_tower_entries(num_layers: int, heads: int) -> list[Entry]:
    return [
        Entry("txt/Embed_0/embedding", "text_model.embeddings.token_embedding.weight"),
        Entry("txt/pos_embedding", "text_model.embeddings.position_embedding.weight", "positions"),
        *_encoder_entries("txt/Encoder_0", "text_model.", num_layers, heads),
        *norm("txt/Encoder_0/encoder_norm", "text_model.final_layer_norm"),
        *dense("txt/head", "text_model.head"),
    ]


def _read_image_tower(
    state: StateDict, facts: Mapping[str, Any]
) -> tuple[ViTConfig, CanonicalState]:
    facts = {**_VISION_DEFAULTS, **facts}
    if not facts["vision_use_head"]:
        raise ValueError(
            f"{state.path}: vision_use_head is false; expected a tower that pools by attention."
        )
    config = ViTConfig(
        **_encoder_facts(facts), classifier="map", pos_embedding="learned", classes=0
    )
    theirs = "vision_model." if any(n.startswith("vision_model.") for n in state.specs) else ""
    entries = _image_tower_entries("", POSITIONS, theirs, config.num_layers, config.num_heads)
    others = r"|text_model\..*|logit_scale|logit_bias"
    return config, CanonicalState(state, entries, _NOT_PARAMETERS + others)


def _write_image_tower(facts: ModelFacts) -> tuple[dict, list[Entry], dict[str, np.ndarray]]:
    if facts.image_size[0] != facts.image_size[1] or facts.patch_size[0] != facts.patch_size[1]:
        raise ValueError(
            f"image_size is {facts.image_size}, patch_size {facts.patch_size}; transformers' "
            "SigLIP takes squares only."
        )
    config = {
        "architectures": ["SiglipVisionModel"],
        "model_type": "siglip_vision_model",
        **_encoder_config(facts),
        "vision_use_head": True,
    }
    entries = _image_tower_entries(
        "", POSITIONS, "vision_model.", facts.num_layers, facts.num_heads
    )
    return config, entries, facts.arrays


def _read_two_towers(state: StateDict, facts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The canonical arrays of both towers."""
    vision = {**_VISION_DEFAULTS, **facts.get("vision_config", {})}
    text = {**_TEXT_DEFAULTS, **facts.get("text_config", {})}
    for tower, part in (("vision", vision), ("text", text)):
        if not _approximate_gelu(part) or part["layer_norm_eps"] != 1e-6:
            raise ValueError(
                f"{state.path}: hidden_act is {part['hidden_act']!r} and layer_norm_eps "
                f"{part['layer_norm_eps']} in {tower}_config; expected the SigLIP models' "
                "'gelu_pytorch_tanh' and 1e-6."
            )
    file = CanonicalState(state, _two_towers_entries(vision, text), _NOT_PARAMETERS)
    return {name: file.read(name) for name in file.specs}


def _two_towers_entries(vision: Mapping[str, Any], text: Mapping[str, Any]) -> list[Entry]:
    return [
        *_image_tower_entries(
            "img/",
            "img/pos_embedding",
            "vision_model.",
            vision["num_hidden_layers"],
            vision["num_attention_heads"],
        ),
        *_text_tower_entries(text["num_hidden_layers"], text["num_attention_heads"]),
        Entry("t", "logit_scale"),
        Entry("b", "logit_bias"),
    ]


def _two_towers_from(
    arrays: Mapping[str, np.ndarray], path: str
) -> tuple[dict[str, Any], list[Entry]]:
    """config.json and entries for the canonical arrays of two towers."""
    needed = ("b", "t", "img/MAPHead_0/probe", "txt/Embed_0/embedding", "txt/head/kernel")
    if missing := [name for name in needed if name not in arrays]:
        raise ValueError(f"{path} has no {', '.join(missing)}; expected two SigLIP towers.")

    def tower(root: str, encoder: str) -> dict[str, Any]:
        block = f"{root}/{encoder}/encoderblock_"
        numbers = {int(n.removeprefix(block).split("/")[0]) for n in arrays if n.startswith(block)}
        heads, _ = arrays[f"{block}0/MultiHeadDotProductAttention_0/query/bias"].shape
        return {
            "hidden_size": arrays[f"{root}/{encoder}/encoder_norm/bias"].shape[0],
            "intermediate_size": arrays[f"{block}0/MlpBlock_0/Dense_0/bias"].shape[0],
            "num_hidden_layers": len(numbers),
            "num_attention_heads": heads,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        }

    kernel = arrays["img/embedding/kernel"]
    patches = arrays["img/pos_embedding"].shape[1]
    side = round(patches**0.5)
    if side**2 != patches or kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"{path} isn't for square images; transformers' SigLIP takes no others.")
    vision = {
        "model_type": "siglip_vision_model",
        **tower("img", "Transformer"),
        "image_size": side * kernel.shape[0],
        "patch_size": kernel.shape[0],
        "num_channels": kernel.shape[2],
        "vision_use_head": True,
    }
    vocab_size = arrays["txt/Embed_0/embedding"].shape[0]
    text = {
        "model_type": "siglip_text_model",
        **tower("txt", "Encoder_0"),
        "vocab_size": vocab_size,
        "max_position_embeddings": arrays["txt/pos_embedding"].shape[1],
        "projection_size": arrays["txt/head/bias"].shape[0],
        "pad_token_id": 1,
        # transformers' own defaults (49406, 49407) are CLIP's, and outside of this vocabulary.
        "bos_token_id": None,
        "eos_token_id": 1,
    }
    config = {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "vision_config": vision,
        "text_config": text,
    }
    return config, _two_towers_entries(vision, text)


# Folders and facts


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


def _encoder_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `ViTConfig` from a config.json with its defaults filled in."""
    return {
        "hidden_size": facts["hidden_size"],
        "mlp_dim": facts["intermediate_size"],
        "num_heads": facts["num_attention_heads"],
        "num_layers": facts["num_hidden_layers"],
        "patch_size": _size(facts["patch_size"]),
        "image_size": _size(facts["image_size"]),
        "channels": facts["num_channels"],
        "approximate_gelu": _approximate_gelu(facts),
        "layer_norm_epsilon": facts["layer_norm_eps"],
    }


def _encoder_config(facts: ModelFacts) -> dict[str, Any]:
    """The inverse of `_encoder_facts`."""
    return {
        "hidden_size": facts.hidden_size,
        "intermediate_size": facts.mlp_dim,
        "num_attention_heads": facts.num_heads,
        "num_hidden_layers": facts.num_layers,
        "patch_size": _one_or_two(facts.patch_size),
        "image_size": _one_or_two(facts.image_size),
        "num_channels": facts.channels,
        "hidden_act": "gelu_pytorch_tanh" if facts.approximate_gelu else "gelu",
        "layer_norm_eps": facts.epsilon,
    }


def _approximate_gelu(facts: Mapping[str, Any]) -> bool:
    if facts["hidden_act"] not in _GELUS:
        raise unknown_name("config.json's hidden_act", facts["hidden_act"], _GELUS)
    return _GELUS[facts["hidden_act"]]


def _size(value: int | list[int]) -> int | tuple[int, int]:
    return tuple(value) if isinstance(value, list) else value


def _one_or_two(size: tuple[int, int]) -> int | list[int]:
    return size[0] if size[0] == size[1] else list(size)


def _rows(state: StateDict, name: str) -> int:
    shape = state.specs[name].shape
    if len(shape) != 1:
        raise ValueError(f"{state.path}: {name} has shape {shape}; expected one dimension.")
    return shape[0]


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
