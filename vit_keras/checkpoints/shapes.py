"""Which parameters an architecture has, and of which shapes, without building it.

So a checkpoint is compared with what it should hold before anything as large as its model exists.
"""

from __future__ import annotations

from vit_keras.checkpoints.naming import POSITIONS
from vit_keras.models.bert import BertConfig
from vit_keras.models.build import Config
from vit_keras.models.config import ViTConfig
from vit_keras.models.mixer import MixerConfig
from vit_keras.models.resnet_stem import ResNetStem
from vit_keras.models.text import TextConfig
from vit_keras.models.two_towers import TwoTowersConfig

Shapes = dict[str, tuple[int, ...]]


def parameter_shapes(config: Config, layer_scale: bool = False) -> Shapes:
    """Canonical name to shape of every parameter of the model that `config` describes.

    Args:
      config: of any family.
      layer_scale: whether the blocks have LayerScale.
    """
    if isinstance(config, TwoTowersConfig):
        return {
            **_under("img/", parameter_shapes(config.image, layer_scale)),
            **_under("txt/", parameter_shapes(config.text)),
            "t": (1,),
            **({"b": (1,)} if config.has_bias else {}),
        }
    kinds = {ViTConfig: _vit, MixerConfig: _mixer, TextConfig: _text, BertConfig: _bert}
    shapes = kinds[type(config)](config)
    if layer_scale:
        for index in range(config.num_layers):
            for part in (0, 1):
                name = f"Transformer/encoderblock_{index}/LayerScale_{part}/gamma"
                shapes[name] = (config.hidden_size,)
    return shapes


def _under(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def _dense(name: str, *kernel: int) -> Shapes:
    return {f"{name}/kernel": kernel, f"{name}/bias": kernel[-1:]}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}/scale": (width,), f"{name}/bias": (width,)}


def _head(width: int, classes: int) -> Shapes:
    return _dense("head", width, classes) if classes else {}


def _attention(name: str, width: int, num_heads: int) -> Shapes:
    heads = (num_heads, width // num_heads)
    shapes = {f"{name}/out/kernel": (*heads, width), f"{name}/out/bias": (width,)}
    for part in ("query", "key", "value"):
        shapes[f"{name}/{part}/kernel"] = (width, *heads)
        shapes[f"{name}/{part}/bias"] = heads
    return shapes


def _mlp(name: str, width: int, mlp_dim: int) -> Shapes:
    return {
        **_dense(f"{name}/Dense_0", width, mlp_dim),
        **_dense(f"{name}/Dense_1", mlp_dim, width),
    }


def _encoder(name: str, config: ViTConfig | TextConfig) -> Shapes:
    width, shapes = config.hidden_size, {}
    for index in range(config.num_layers):
        block = f"{name}/encoderblock_{index}"
        shapes.update(_norm(f"{block}/LayerNorm_0", width))
        attention = f"{block}/MultiHeadDotProductAttention_0"
        shapes.update(_attention(attention, width, config.num_heads))
        shapes.update(_norm(f"{block}/LayerNorm_1", width))
        shapes.update(_mlp(f"{block}/MlpBlock_0", width, config.mlp_dim))
    return {**shapes, **_norm(f"{name}/encoder_norm", width)}


def _map_head(config: ViTConfig | TextConfig) -> Shapes:
    width, name = config.hidden_size, "MAPHead_0"
    return {
        f"{name}/probe": (1, 1, width),
        **_attention(f"{name}/MultiHeadDotProductAttention_0", width, config.num_heads),
        **_norm(f"{name}/LayerNorm_0", width),
        **_mlp(f"{name}/MlpBlock_0", width, config.mlp_dim),
    }


def _stem(stem: ResNetStem, channels: int) -> Shapes:
    shapes = {"conv_root/kernel": (7, 7, channels, stem.width), **_norm("gn_root", stem.width)}
    channels = stem.width
    for name, features, strides in stem.units():
        unit = name.replace("_", "/")
        convolutions = [
            ("1", 1, channels, features),
            ("2", 3, features, features),
            ("3", 1, features, 4 * features),
        ]
        if channels != 4 * features or strides != 1:
            convolutions.append(("_proj", 1, channels, 4 * features))
        for suffix, size, inputs, outputs in convolutions:
            shapes[f"{unit}/conv{suffix}/kernel"] = (size, size, inputs, outputs)
            shapes.update(_norm(f"{unit}/gn{suffix}", outputs))
        channels = 4 * features
    return shapes


def _vit(config: ViTConfig) -> Shapes:
    width, channels, shapes = config.hidden_size, config.channels, {}
    if config.stem is not None:
        shapes.update(_stem(config.stem, channels))
        channels = config.stem.output_channels
    shapes.update(_dense("embedding", *config.patch_size, channels, width))
    if config.has_class_token:
        shapes["cls"] = (1, 1, width)
    if config.pos_embedding != "sincos2d":
        shapes[POSITIONS] = (1, config.num_positions, width)
    shapes.update(_encoder("Transformer", config))
    if config.classifier == "map":
        shapes.update(_map_head(config))
    if config.representation_size:
        shapes.update(_dense("pre_logits", width, config.representation_size))
    return {**shapes, **_head(config.representation_size or width, config.classes)}


def _mixer(config: MixerConfig) -> Shapes:
    width = config.hidden_size
    shapes = _dense("stem", *config.patch_size, config.channels, width)
    for index in range(config.num_layers):
        block = f"MixerBlock_{index}"
        shapes.update(_norm(f"{block}/LayerNorm_0", width))
        shapes.update(_mlp(f"{block}/token_mixing", config.num_tokens, config.tokens_mlp_dim))
        shapes.update(_norm(f"{block}/LayerNorm_1", width))
        shapes.update(_mlp(f"{block}/channel_mixing", width, config.channels_mlp_dim))
    return {**shapes, **_norm("pre_head_layer_norm", width), **_head(width, config.classes)}


def _text(config: TextConfig) -> Shapes:
    width = config.hidden_size
    shapes = {
        "Embed_0/embedding": (config.vocab_size, width),
        "pos_embedding": (1, config.max_length, width),
        **_encoder("Encoder_0", config),
    }
    if config.pooling == "map":
        shapes.update(_map_head(config))
    return {**shapes, **_head(width, config.classes)}


def _bert(config: BertConfig) -> Shapes:
    width = config.hidden_size
    heads = (config.num_heads, width // config.num_heads)
    embedder = "BertEncoder_0/embedder/embedders_{}_ids/embedding"
    shapes = {
        embedder.format("token"): (config.vocab_size, width),
        embedder.format("position"): (config.max_length, width),
        embedder.format("segment"): (config.num_segments, width),
        **_norm("BertEncoder_0/layer_norm", width),
    }
    for index in range(config.num_layers):
        block = f"BertEncoder_0/encoder_block/layer_sequence/layers_{index}"
        for part in ("query", "key", "value"):
            attention = f"{block}/attention_block/attention_layer/{part}"
            shapes[f"{attention}/kernel"] = (width, *heads)
            shapes[f"{attention}/bias"] = heads
        shapes.update(_dense(f"{block}/attention_block/dense_layer", *heads, width))
        shapes.update(_norm(f"{block}/attention_block/layer_norm", width))
        shapes.update(_dense(f"{block}/mlp_block/mlp/dense_layer", width, config.mlp_dim))
        shapes.update(_dense(f"{block}/mlp_block/dense_layer", config.mlp_dim, width))
        shapes.update(_norm(f"{block}/mlp_block/layer_norm", width))
    return {**shapes, **_head(width, config.classes)}
