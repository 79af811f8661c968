"""What the `config.json` files of Hugging Face's ViT and SigLIP say of a ViT, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vit_keras.checkpoints.model_facts import ModelFacts
from vit_keras.checkpoints.state_dict import StateDict
from vit_keras.names import unknown_name

# Hugging Face's name of an activation: whether it is gelu's tanh approximation.
_GELUS = {"gelu": False, "gelu_pytorch_tanh": True, "gelu_new": True}

# What a config.json may leave out (transformers' defaults).
ENCODER_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}

# Buffers that old versions of transformers wrote beside the parameters, and training's mask token.
NOT_PARAMETERS = r".*\.position_ids|(vit\.)?embeddings\.mask_token"


def encoder_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `ViTConfig` from a config.json with its defaults filled in."""
    return {
        "hidden_size": facts["hidden_size"],
        "mlp_dim": facts["intermediate_size"],
        "num_heads": facts["num_attention_heads"],
        "num_layers": facts["num_hidden_layers"],
        "patch_size": _size(facts["patch_size"]),
        "image_size": _size(facts["image_size"]),
        "channels": facts["num_channels"],
        "approximate_gelu": approximate_gelu(facts),
        "layer_norm_epsilon": facts["layer_norm_eps"],
    }


def encoder_config(facts: ModelFacts) -> dict[str, Any]:
    """The inverse of `encoder_facts`."""
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


def approximate_gelu(facts: Mapping[str, Any]) -> bool:
    """Whether `hidden_act` is gelu's tanh approximation.

    Raises:
      ValueError: when it is no gelu.
    """
    if facts["hidden_act"] not in _GELUS:
        raise unknown_name("config.json's hidden_act", facts["hidden_act"], _GELUS)
    return _GELUS[facts["hidden_act"]]


def _size(value: int | list[int]) -> int | tuple[int, int]:
    return tuple(value) if isinstance(value, list) else value


def _one_or_two(size: tuple[int, int]) -> int | list[int]:
    return size[0] if size[0] == size[1] else list(size)


def rows(state: StateDict, name: str) -> int:
    """The length of the vector of that name.

    Raises:
      ValueError: when it is no vector.
    """
    shape = state.specs[name].shape
    if len(shape) != 1:
        raise ValueError(f"{state.path}: {name} has shape {shape}; expected one dimension.")
    return shape[0]
