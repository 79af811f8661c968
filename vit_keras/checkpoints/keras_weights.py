"""Which Keras variable holds which parameter of a checkpoint."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import keras

from vit_keras import compat, layers

_DENSE = {"kernel": "kernel", "bias": "bias"}
_NORM = {"scale": "scale", "bias": "bias"}
_ATTENTION = {
    f"{part}/{kind}": f"{part}_{kind}"
    for part in ("query", "key", "value", "out")
    for kind in ("kernel", "bias")
}
_MLP = {
    f"Dense_{index}/{kind}": f"dense_{index}_{kind}"
    for index in (0, 1)
    for kind in ("kernel", "bias")
}


def _inside(part: str, attribute: str, names: dict[str, str]) -> dict[str, str]:
    return {f"{part}/{name}": f"{attribute}.{path}" for name, path in names.items()}


_BLOCK = {
    **_inside("LayerNorm_0", "attention_norm", _NORM),
    **_inside("MultiHeadDotProductAttention_0", "attention", _ATTENTION),
    **_inside("LayerNorm_1", "mlp_norm", _NORM),
    **_inside("MlpBlock_0", "mlp", _MLP),
}
_LAYER_SCALE = {
    "LayerScale_0/gamma": "attention_scale.gamma",
    "LayerScale_1/gamma": "mlp_scale.gamma",
}
_MAP_HEAD = {
    "probe": "probe",
    **_inside("MultiHeadDotProductAttention_0", "attention", _ATTENTION),
    **_inside("LayerNorm_0", "norm", _NORM),
    **_inside("MlpBlock_0", "mlp", _MLP),
}
_MIXER_BLOCK = {
    **_inside("LayerNorm_0", "token_norm", _NORM),
    **_inside("token_mixing", "token_mixing", _MLP),
    **_inside("LayerNorm_1", "channel_norm", _NORM),
    **_inside("channel_mixing", "channel_mixing", _MLP),
}
_UNIT = {
    f"{part}/{name}": f"{part}.{name}"
    for suffix in ("1", "2", "3")
    for part, names in ((f"conv{suffix}", ("kernel",)), (f"gn{suffix}", _NORM))
    for name in names
}
_PROJECTION = {
    "conv_proj/kernel": "conv_proj.kernel",
    **_inside("gn_proj", "gn_proj", _NORM),
}
_BERT_EMBEDDING = {
    **{
        f"embedder/embedders_{kind}_ids/embedding": f"{kind}_embedding"
        for kind in ("token", "position", "segment")
    },
    **_inside("layer_norm", "norm", _NORM),
}
_BERT_BLOCK = {
    **{
        f"attention_block/attention_layer/{part}/{kind}": f"attention.{part}_{kind}"
        for part in ("query", "key", "value")
        for kind in _DENSE
    },
    **{f"attention_block/dense_layer/{kind}": f"attention.out_{kind}" for kind in _DENSE},
    **_inside("attention_block/layer_norm", "attention_norm", _NORM),
    **{f"mlp_block/mlp/dense_layer/{kind}": f"mlp.dense_0_{kind}" for kind in _DENSE},
    **{f"mlp_block/dense_layer/{kind}": f"mlp.dense_1_{kind}" for kind in _DENSE},
    **_inside("mlp_block/layer_norm", "mlp_norm", _NORM),
}


def _block(block: layers.TransformerBlock) -> dict[str, str]:
    return {**_BLOCK, **_LAYER_SCALE} if block.layer_scale is not None else _BLOCK


def _unit(unit: layers.ResidualUnit) -> dict[str, str]:
    return {**_UNIT, **_PROJECTION} if unit.conv_proj is not None else _UNIT


def _similarity(similarity: layers.Similarity) -> dict[str, str]:
    return {"t": "t"} if similarity.b is None else {"t": "t", "b": "b"}


# Layer class: where its parameters stand in a checkpoint, and parameter to attribute of the layer.
# {name} is the layer's, {encoder} what the model's encoder is called.
_LAYERS = (
    (layers.PatchEncoder, "{name}", lambda layer: _DENSE),
    (layers.ClassToken, "", lambda layer: {"cls": "token"}),
    (layers.PositionEmbedding, "{positions}", lambda layer: {"pos_embedding": "embedding"}),
    (layers.TransformerBlock, "{encoder}/{name}", _block),
    (layers.LayerNorm, "{norm}{name}", lambda layer: _NORM),
    (layers.MAPHead, "{name}", lambda layer: _MAP_HEAD),
    (layers.StdConv, "{name}", lambda layer: {"kernel": "kernel"}),
    (layers.GroupNorm, "{name}", lambda layer: _NORM),
    (layers.ResidualUnit, "{unit}", _unit),
    (layers.MixerBlock, "{name}", lambda layer: _MIXER_BLOCK),
    (layers.TokenEmbedding, "{name}", lambda layer: {"embedding": "embedding"}),
    (layers.BertEmbedding, "BertEncoder_0", lambda layer: _BERT_EMBEDDING),
    (
        layers.BertBlock,
        "BertEncoder_0/encoder_block/layer_sequence/{name}",
        lambda layer: _BERT_BLOCK,
    ),
    (layers.Similarity, "", _similarity),
    (
        keras.layers.Dense,
        "{name}",
        lambda layer: _DENSE if layer.use_bias else {"kernel": "kernel"},
    ),
)


def named_weights(model: keras.Model) -> dict[str, Any]:
    """Canonical checkpoint name to variable, for every weight of `model`, in its order.

    Names of two towers begin with `img/` and `txt/`. Layers that no checkpoint knows, which users
    may add, appear under their Keras path.
    """
    names = {id(weight): name for name, weight in _known_weights(model)}
    return {names.get(id(w), compat.weight_path(w)): w for w in model.weights}


def unnamed_weights(model: keras.Model) -> list[str]:
    """Paths of the weights that have no place in a checkpoint."""
    known = {id(weight) for _, weight in _known_weights(model)}
    return [compat.weight_path(weight) for weight in model.weights if id(weight) not in known]


def _known_weights(model: keras.Model, tower: str = "") -> Iterator[tuple[str, Any]]:
    is_text = any(isinstance(layer, layers.TokenEmbedding) for layer in model.layers)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            inner = f"{layer.name}/" if layer.name in ("img", "txt") else tower
            yield from _known_weights(layer, inner)
            continue
        where = {
            "name": layer.name,
            "encoder": "Encoder_0" if is_text else "Transformer",
            "positions": "" if is_text else f"Transformer/{layer.name}",
            "unit": layer.name.replace("_", "/"),
            "norm": "",
        }
        if layer.name == "encoder_norm":
            where["norm"] = where["encoder"] + "/"
        for name, weight in _layer_weights(layer, where).items():
            yield tower + name, weight


def _layer_weights(layer: keras.layers.Layer, where: dict[str, str]) -> dict[str, Any]:
    for kind, template, parameters in _LAYERS:
        if isinstance(layer, kind):
            prefix = template.format(**where)
            return {
                f"{prefix}/{name}" if prefix else name: operator.attrgetter(path)(layer)
                for name, path in parameters(layer).items()
            }
    return {}
