"""timm's ViT state dicts, in and out.

A state dict names no activation and no number of heads, so these are arguments. timm's ViTs use the
exact gelu unless made with `act_layer="gelu_tanh"`; that is the default here too, to give what timm
gives. (AugReg's files were trained with the tanh approximation: for the original's numbers, read
the original's `.npz`, or pass approximate_gelu=True.)
"""

from __future__ import annotations

import math
import os
import re
from typing import Any

import keras

from vit_keras.checkpoints.load import HEAD
from vit_keras.checkpoints.model_facts import ModelFacts, model_facts
from vit_keras.checkpoints.naming import POSITIONS
from vit_keras.checkpoints.state_dict import (
    CanonicalState,
    Entry,
    StateDict,
    attention,
    block,
    blocks,
    dense,
    fill,
    mlp,
    norm,
    to_state,
    write_state,
)
from vit_keras.layers.patch_encoder import pair
from vit_keras.models.config import ViTConfig
from vit_keras.models.regularization import Regularization
from vit_keras.models.variants import SIZES
from vit_keras.models.vit import build_vit

# State names that mean a part which ours lack, and what they are.
_FOREIGN = {
    r"fc_norm\..*": "a norm after the pooling instead of before it (global_pool='avg')",
    r"norm_pre\..*": "a norm in front of the blocks",
    r"reg_token": "register tokens",
    r"dist_token|head_dist\..*": "a distillation token",
    r".*\.[qk]_norm\..*": "norms of queries and keys",
    r"blocks\.\d+\.attn\.relative_position.*|.*rope.*": "relative or rotary positions",
}


def from_timm(
    path: str | os.PathLike,
    image_size: int | tuple[int, int] | None = None,
    classes: int | None = None,
    *,
    num_heads: int | None = None,
    approximate_gelu: bool = False,
    stored_image_size: int | tuple[int, int] | None = None,
    reset_head: bool = False,
    activation: str | None = None,
    dtype: Any = None,
    name: str = "vit",
    **regularization: Any,
) -> keras.Model:
    """Reads the state dict of a timm `VisionTransformer`.

    Args:
      path: a `.safetensors` file, or a `.pth` (`.pt`, `.bin`) where torch is installed.
      image_size: side in pixels, or (height, width), wanted; positions are resized to it, as
        `from_npz` does. None for the file's own.
      classes: None for the file's head; 0 for none; another number for a fresh head of zeros.
      num_heads: attention heads, which a state dict doesn't tell. None takes those of the named
        size (Ti, S, B, L, H, ...) with the file's width, depth and MLP, which is what timm's models
        of these sizes have.
      approximate_gelu: whether the model was made with act_layer="gelu_tanh", as timm's SigLIP 2
        and So400m models are.
      stored_image_size: (height, width) that the file's positions are for; needed where that isn't
        a square.
      reset_head: make the head fresh (zeros) even if the number of classes is the file's.
      activation: of the output; None for linear logits.
      dtype: Keras dtype policy; None for the global one.
      name: of the model.
      **regularization: as of `from_npz`. A file with LayerScale makes a model with it.

    Returns:
      A model of images (batch, height, width, channels), the transposed input of timm's; which
      mean and standard deviation they are normalised by is the timm model's matter.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it isn't such a state dict, has parts that this package doesn't have, or
        `num_heads` or `stored_image_size` is needed.
      ImportError: `safetensors`, or for a `.pth` `torch`, isn't installed.
    """
    state = StateDict(path)
    _refuse_foreign(state)
    config, entries, layer_scale = _read_facts(state, num_heads, stored_image_size)
    config = config.replace(approximate_gelu=approximate_gelu)
    file = CanonicalState(state, entries)
    for ours in _blocks_without_bias(state, config):
        shape = (config.num_heads, config.hidden_size // config.num_heads)
        for part in ("query", "key", "value"):  # a bias of zeros computes the same
            file.add_zeros(f"{ours}/MultiHeadDotProductAttention_0/{part}/bias", shape)
    stored = config
    ignore = set()
    if reset_head or classes not in (None, config.classes):
        ignore.update(HEAD)
        config = config.replace(classes=config.classes if classes is None else classes)
    if image_size is not None:
        config = config.replace(image_size=pair("image_size", image_size))
    if layer_scale:
        regularization = {"layer_scale": 1.0, **regularization}
    model = build_vit(
        config,
        regularization=Regularization.from_options(regularization),
        activation=activation,
        dtype=dtype,
        name=name,
    )
    return fill(model, file, stored, ignore)


def save_timm(model: keras.Model, path: str | os.PathLike) -> dict[str, Any]:
    """Writes the state dict of the timm model that computes the same.

    Args:
      model: a plain ViT of this package that pools its class token, the mean, or by attention.
      path: a `.safetensors` file, or a `.pth` where torch is installed; one that exists is replaced
        when the new one is whole.

    Returns:
      The arguments that make the timm model:
      `timm.models.vision_transformer.VisionTransformer(**save_timm(model, path))` takes the state
      dict with `load_state_dict`.

    Raises:
      ValueError: timm has no such model (`pre_logits`, sincos2d positions, a ResNet stem, unpooled
        outputs), or a norm's epsilon isn't timm's 1e-6.
      ImportError: `safetensors`, or for a `.pth` `torch`, isn't installed.
    """
    facts = model_facts(model)
    pools = {"first": "token", "mean": "avg", "map": "map"}
    if facts.pooling not in pools or (facts.pooling == "first") != facts.has_class_token:
        raise ValueError(f"model is {model.name!r}; timm has no ViT that pools like it.")
    if "pre_logits/kernel" in facts.arrays:
        raise ValueError(
            "The model has pre_logits, which timm's ViT hasn't: drop it "
            "(from_npz(..., pre_logits=False))."
        )
    if facts.epsilon != 1e-6:
        raise ValueError(f"The model's norms have epsilon {facts.epsilon}; timm's have 1e-6.")
    layer_scale = "Transformer/encoderblock_0/LayerScale_0/gamma" in facts.arrays
    entries = _entries(
        facts.num_layers,
        facts.num_heads,
        class_token=facts.has_class_token,
        attention_pooling=facts.pooling == "map",
        layer_scale=layer_scale,
        head=bool(facts.classes),
    )
    write_state(to_state(facts.arrays, entries), path)
    return _timm_arguments(facts, pools[facts.pooling], layer_scale)


def _timm_arguments(facts: ModelFacts, pool: str, layer_scale: bool) -> dict[str, Any]:
    return {
        "img_size": facts.image_size,
        "patch_size": facts.patch_size,
        "in_chans": facts.channels,
        "num_classes": facts.classes,
        "global_pool": pool,
        "embed_dim": facts.hidden_size,
        "depth": facts.num_layers,
        "num_heads": facts.num_heads,
        # timm makes int(width * ratio) of it; half a unit more survives the rounding.
        "mlp_ratio": (facts.mlp_dim + 0.5) / facts.hidden_size,
        "init_values": 1.0 if layer_scale else None,
        "class_token": facts.has_class_token,
        "no_embed_class": facts.has_class_token and not facts.class_token_has_position,
        "fc_norm": False,
        "act_layer": "gelu_tanh" if facts.approximate_gelu else "gelu",
    }


def _entries(
    num_layers: int,
    heads: int,
    *,
    class_token: bool,
    attention_pooling: bool,
    layer_scale: bool,
    head: bool,
    qkv_bias: bool = True,
) -> list[Entry]:
    entries = [
        *dense("embedding", "patch_embed.proj", "conv"),
        Entry(POSITIONS, "pos_embed"),
        *norm("Transformer/encoder_norm", "norm"),
    ]
    if class_token:
        entries.append(Entry("cls", "cls_token"))
    for index, ours in blocks(num_layers):
        theirs = f"blocks.{index}"
        entries += block(
            ours,
            heads,
            (f"{theirs}.norm1", f"{theirs}.norm2"),
            f"{theirs}.attn.proj",
            (f"{theirs}.mlp.fc1", f"{theirs}.mlp.fc2"),
            fused=f"{theirs}.attn.qkv.",
        )
        if layer_scale:
            entries += [
                Entry(f"{ours}/LayerScale_0/gamma", f"{theirs}.ls1.gamma"),
                Entry(f"{ours}/LayerScale_1/gamma", f"{theirs}.ls2.gamma"),
            ]
    if not qkv_bias:
        entries = [entry for entry in entries if entry.layout != "heads_bias"]
    if attention_pooling:
        entries += [
            Entry("MAPHead_0/probe", "attn_pool.latent"),
            *attention(
                "MAPHead_0/MultiHeadDotProductAttention_0",
                heads,
                "attn_pool.proj",
                fused="attn_pool.kv.",
                separate={"query": "attn_pool.q"},
            ),
            *norm("MAPHead_0/LayerNorm_0", "attn_pool.norm"),
            *mlp("MAPHead_0/MlpBlock_0", "attn_pool.mlp.fc1", "attn_pool.mlp.fc2"),
        ]
    if head:
        entries += dense("head", "head")
    return entries


def _refuse_foreign(state: StateDict) -> None:
    for pattern, meaning in _FOREIGN.items():
        for name in state.specs:
            if re.fullmatch(pattern, name):
                raise ValueError(f"{state.path} has {name!r}: {meaning}, which this package lacks.")


def _read_facts(
    state: StateDict,
    num_heads: int | None,
    stored_image_size: int | tuple[int, int] | None,
) -> tuple[ViTConfig, list[Entry], bool]:
    """Config (at the stored size), entries, and whether there is LayerScale."""
    width, channels, *patch_size = _shape(state, "patch_embed.proj.weight", 4)
    depth = len({name.split(".")[1] for name in state.specs if name.startswith("blocks.")})
    mlp_dim = _shape(state, "blocks.0.mlp.fc1.bias", 1)[0]
    class_token = "cls_token" in state.specs
    attention_pooling = "attn_pool.latent" in state.specs
    head = "head.bias" in state.specs
    classifier = "token" if class_token else "map" if attention_pooling else "gap"
    if class_token and attention_pooling:
        raise ValueError(f"{state.path} has a class token and attention pooling; expected one.")
    positions = _shape(state, "pos_embed", 3)[1]
    size, for_class_token = _stored_size(
        state, positions, tuple(patch_size), class_token, stored_image_size
    )
    config = ViTConfig(
        hidden_size=width,
        mlp_dim=mlp_dim,
        num_heads=num_heads or _usual_heads(state, width, mlp_dim, depth),
        num_layers=depth,
        patch_size=tuple(patch_size),
        image_size=size,
        channels=channels,
        classes=_shape(state, "head.bias", 1)[0] if head else 0,
        classifier=classifier,
        pos_embedding=(
            "learned_before_class_token" if class_token and not for_class_token else "learned"
        ),
    )
    layer_scale = "blocks.0.ls1.gamma" in state.specs
    entries = _entries(
        depth,
        config.num_heads,
        class_token=class_token,
        attention_pooling=attention_pooling,
        layer_scale=layer_scale,
        head=head,
        qkv_bias="blocks.0.attn.qkv.bias" in state.specs,
    )
    return config, entries, layer_scale


def _stored_size(
    state: StateDict,
    positions: int,
    patch_size: tuple[int, int],
    class_token: bool,
    stored_image_size: int | tuple[int, int] | None,
) -> tuple[tuple[int, int], bool]:
    """Image size of the positions, and whether the class token has one of them."""
    possible = (True, False) if class_token else (False,)
    if stored_image_size is not None:
        size = pair("stored_image_size", stored_image_size)
        patches = (size[0] // patch_size[0]) * (size[1] // patch_size[1])
        for for_class_token in possible:
            if patches + for_class_token == positions:
                return size, for_class_token
        raise ValueError(
            f"stored_image_size is {size}, of {patches} patches; {state.path} has {positions} "
            "positions."
        )
    # Of two neighbouring numbers at most one is a square (but for 0 and 1).
    for for_class_token in possible:
        side = math.isqrt(positions - for_class_token)
        if side and side**2 == positions - for_class_token:
            return (side * patch_size[0], side * patch_size[1]), for_class_token
    raise ValueError(
        f"{state.path} has {positions} positions, which are for no square image: pass "
        "stored_image_size=(height, width)."
    )


def _usual_heads(state: StateDict, width: int, mlp_dim: int, depth: int) -> int:
    for size in SIZES.values():
        if (size.hidden_size, size.mlp_dim, size.num_layers) == (width, mlp_dim, depth):
            return size.num_heads
    raise ValueError(
        f"{state.path} is of width {width}, MLP width {mlp_dim} and depth {depth}, which is no "
        "named size, and a state dict doesn't tell the number of attention heads: pass num_heads."
    )


def _blocks_without_bias(state: StateDict, config: ViTConfig) -> list[str]:
    if "blocks.0.attn.qkv.bias" in state.specs:
        return []
    return [ours for _, ours in blocks(config.num_layers)]


def _shape(state: StateDict, name: str, ndim: int) -> tuple[int, ...]:
    if name not in state.specs:
        raise ValueError(f"{state.path} lacks {name!r}; it isn't the state dict of a timm ViT.")
    shape = state.specs[name].shape
    if len(shape) != ndim or 0 in shape:
        raise ValueError(f"{state.path}: {name!r} has shape {shape}; expected {ndim} dimensions.")
    return shape
