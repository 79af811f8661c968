"""Which Keras variable holds which parameter of a checkpoint."""

from __future__ import annotations

import operator
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


def _block_names(block: layers.TransformerBlock) -> dict[str, str]:
    return {**_BLOCK, **_LAYER_SCALE} if block.layer_scale is not None else _BLOCK


# Layer class: where its parameters stand in a checkpoint, and parameter to attribute of the layer.
_LAYERS = (
    (layers.PatchEncoder, "{name}", lambda layer: _DENSE),
    (layers.ClassToken, "", lambda layer: {"cls": "token"}),
    (layers.PositionEmbedding, "Transformer/{name}", lambda layer: {"pos_embedding": "embedding"}),
    (layers.TransformerBlock, "Transformer/{name}", _block_names),
    (layers.LayerNorm, "Transformer/{name}", lambda layer: _NORM),
    (layers.MAPHead, "{name}", lambda layer: _MAP_HEAD),
    (
        keras.layers.Dense,
        "{name}",
        lambda layer: _DENSE if layer.use_bias else {"kernel": "kernel"},
    ),
)


def named_weights(model: keras.Model) -> dict[str, Any]:
    """Canonical checkpoint name to variable, for every weight of `model`, in its order.

    Layers that no checkpoint knows, which users may add, appear under their Keras path.
    """
    names = {}
    for layer in _leaf_layers(model):
        names.update({id(weight): name for name, weight in _layer_weights(layer).items()})
    return {names.get(id(w), compat.weight_path(w)): w for w in model.weights}


def unnamed_weights(model: keras.Model) -> list[str]:
    """Paths of the weights that have no place in a checkpoint."""
    known = set()
    for layer in _leaf_layers(model):
        known.update(id(weight) for weight in _layer_weights(layer).values())
    return [compat.weight_path(weight) for weight in model.weights if id(weight) not in known]


def _leaf_layers(model: keras.Model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaf_layers(layer)
        else:
            yield layer


def _layer_weights(layer: keras.layers.Layer) -> dict[str, Any]:
    for kind, where, parameters in _LAYERS:
        if isinstance(layer, kind):
            prefix = where.format(name=layer.name)
            return {
                f"{prefix}/{name}" if prefix else name: operator.attrgetter(path)(layer)
                for name, path in parameters(layer).items()
            }
    return {}
