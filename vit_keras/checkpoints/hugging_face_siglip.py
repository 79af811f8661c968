"""SigLIP models of Hugging Face: parameters and configs, to ours and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_keras.checkpoints.hugging_face_config import (
    ENCODER_DEFAULTS,
    NOT_PARAMETERS,
    approximate_gelu,
    encoder_config,
    encoder_facts,
)
from vit_keras.checkpoints.model_facts import ModelFacts
from vit_keras.checkpoints.naming import POSITIONS
from vit_keras.checkpoints.state_dict import (
    CanonicalState,
    Entry,
    StateDict,
    attention,
    block,
    dense,
    mlp,
    norm,
)
from vit_keras.models.config import ViTConfig

_SIGLIP_DEFAULTS = {**ENCODER_DEFAULTS, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
_VISION_DEFAULTS = {
    **_SIGLIP_DEFAULTS,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "vision_use_head": True,
}
_TEXT_DEFAULTS = {**_SIGLIP_DEFAULTS, "vocab_size": 32000, "max_position_embeddings": 64}


def _encoder_entries(ours: str, theirs: str, num_layers: int, heads: int) -> list[Entry]:
    """The blocks of either tower; `ours` is the canonical name of what holds them."""
    entries = []
    for index in range(num_layers):
        layer = f"{theirs}encoder.layers.{index}"
        entries += block(
            f"{ours}/encoderblock_{index}",
            heads,
            (f"{layer}.layer_norm1", f"{layer}.layer_norm2"),
            f"{layer}.self_attn.out_proj",
            (f"{layer}.mlp.fc1", f"{layer}.mlp.fc2"),
            separate={
                part: f"{layer}.self_attn.{part[0]}_proj" for part in ("query", "key", "value")
            },
        )
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


def read_image_tower(
    state: StateDict, facts: Mapping[str, Any]
) -> tuple[ViTConfig, CanonicalState]:
    """The image tower: its architecture, and its arrays under canonical names.

    Args:
      state: of a SiglipVisionModel or SiglipModel.
      facts: `config.json` of the former, `vision_config` in that of the latter.

    Raises:
      ValueError: when it doesn't pool by attention, or arrays aren't as `facts` say.
    """
    facts = {**_VISION_DEFAULTS, **facts}
    if not facts["vision_use_head"]:
        raise ValueError(
            f"{state.path}: vision_use_head is false; expected a tower that pools by attention."
        )
    config = ViTConfig(**encoder_facts(facts), classifier="map", pos_embedding="learned", classes=0)
    theirs = "vision_model." if any(n.startswith("vision_model.") for n in state.specs) else ""
    entries = _image_tower_entries("", POSITIONS, theirs, config.num_layers, config.num_heads)
    others = r"|text_model\..*|logit_scale|logit_bias"
    return config, CanonicalState(state, entries, NOT_PARAMETERS + others)


def write_image_tower(facts: ModelFacts) -> tuple[dict, list[Entry], dict[str, np.ndarray]]:
    """A SiglipVisionModel's config.json, its entries and the canonical arrays that fill them.

    Raises:
      ValueError: when images or patches aren't square.
    """
    if facts.image_size[0] != facts.image_size[1] or facts.patch_size[0] != facts.patch_size[1]:
        raise ValueError(
            f"image_size is {facts.image_size}, patch_size {facts.patch_size}; transformers' "
            "SigLIP takes squares only."
        )
    config = {
        "architectures": ["SiglipVisionModel"],
        "model_type": "siglip_vision_model",
        **encoder_config(facts),
        "vision_use_head": True,
    }
    entries = _image_tower_entries(
        "", POSITIONS, "vision_model.", facts.num_layers, facts.num_heads
    )
    return config, entries, facts.arrays


def read_two_towers(state: StateDict, facts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The canonical arrays of both towers of a SiglipModel, from its `config.json`'s facts.

    Raises:
      ValueError: when a tower isn't built as SigLIP's are, or arrays aren't as `facts` say.
    """
    vision = {**_VISION_DEFAULTS, **facts.get("vision_config", {})}
    text = {**_TEXT_DEFAULTS, **facts.get("text_config", {})}
    for tower, part in (("vision", vision), ("text", text)):
        if not approximate_gelu(part) or part["layer_norm_eps"] != 1e-6:
            raise ValueError(
                f"{state.path}: hidden_act is {part['hidden_act']!r} and layer_norm_eps "
                f"{part['layer_norm_eps']} in {tower}_config; expected the SigLIP models' "
                "'gelu_pytorch_tanh' and 1e-6."
            )
    file = CanonicalState(state, _two_towers_entries(vision, text), NOT_PARAMETERS)
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


def two_towers_from(
    arrays: Mapping[str, np.ndarray], path: str
) -> tuple[dict[str, Any], list[Entry]]:
    """config.json and entries for the canonical arrays of two towers, read from `path`.

    Raises:
      ValueError: when the towers aren't SigLIP's.
    """
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
