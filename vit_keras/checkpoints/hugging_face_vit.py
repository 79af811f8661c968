"""ViTs of Hugging Face: parameters and configs, to ours and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_keras.checkpoints.hugging_face_config import (
    ENCODER_DEFAULTS,
    NOT_PARAMETERS,
    encoder_config,
    encoder_facts,
    rows,
)
from vit_keras.checkpoints.model_facts import ModelFacts
from vit_keras.checkpoints.naming import POSITIONS
from vit_keras.checkpoints.state_dict import (
    CanonicalState,
    Entry,
    StateDict,
    block,
    blocks,
    class_position_in_front,
    dense,
    norm,
)
from vit_keras.models.config import ViTConfig
from vit_keras.names import unknown_name

_VIT_DEFAULTS = {
    **ENCODER_DEFAULTS,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "qkv_bias": True,
    "pooler_act": "tanh",
}


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
        entries += block(
            ours,
            heads,
            (f"{theirs}.layernorm_before", f"{theirs}.layernorm_after"),
            f"{theirs}.attention.output.dense",
            (f"{theirs}.intermediate.dense", f"{theirs}.output.dense"),
            separate={
                part: f"{theirs}.attention.attention.{part}" for part in ("query", "key", "value")
            },
        )
    if not qkv_bias:
        entries = [entry for entry in entries if entry.layout != "heads_bias"]
    if pooler:
        entries += dense("pre_logits", f"{base}pooler.dense")
    if head:
        entries += dense("head", "classifier")
    return entries


def read_vit(state: StateDict, facts: Mapping[str, Any]) -> tuple[ViTConfig, CanonicalState]:
    """A ViT: its architecture, and its arrays under canonical names.

    Args:
      state: of a ViTModel or ViTForImageClassification.
      facts: its `config.json`.

    Raises:
      ValueError: when it has both a pooler and a classifier, or arrays aren't as `facts` say.
    """
    facts = {**_VIT_DEFAULTS, **facts}
    base = "vit." if any(name.startswith("vit.") for name in state.specs) else ""
    pooler, head = f"{base}pooler.dense.bias" in state.specs, "classifier.bias" in state.specs
    if pooler and facts["pooler_act"] != "tanh":
        raise unknown_name("config.json's pooler_act", facts["pooler_act"], ["tanh"])
    if pooler and head:  # written by old versions, and not used by their classifier
        raise ValueError(f"{state.path} has a pooler and a classifier; expected one of them.")
    config = ViTConfig(
        **encoder_facts(facts),
        representation_size=rows(state, f"{base}pooler.dense.bias") if pooler else None,
        classes=rows(state, "classifier.bias") if head else 0,
    )
    entries = _vit_entries(
        base,
        config.num_layers,
        config.num_heads,
        head=head,
        pooler=pooler,
        qkv_bias=facts["qkv_bias"],
    )
    file = CanonicalState(state, entries, NOT_PARAMETERS)
    if not facts["qkv_bias"]:  # a bias of zeros computes the same
        shape = (config.num_heads, config.hidden_size // config.num_heads)
        for _, ours in blocks(config.num_layers):
            for part in ("query", "key", "value"):
                file.add_zeros(f"{ours}/MultiHeadDotProductAttention_0/{part}/bias", shape)
    return config, file


def write_vit(facts: ModelFacts) -> tuple[dict, list[Entry], dict[str, np.ndarray]]:
    """A ViT's config.json, its entries and the canonical arrays that fill them.

    Raises:
      ValueError: when the model has `pre_logits` in front of a head.
    """
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
        **encoder_config(facts),
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
