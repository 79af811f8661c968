"""From the shapes of a checkpoint's arrays to the architecture behind it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from vit_keras.checkpoints.naming import BLOCK, POSITIONS, NameMap, split_tower
from vit_keras.models.bert import BertConfig
from vit_keras.models.build import Config
from vit_keras.models.config import ViTConfig
from vit_keras.models.mixer import MixerConfig
from vit_keras.models.resnet_stem import ResNetStem
from vit_keras.models.text import TextConfig
from vit_keras.models.two_towers import TwoTowersConfig

Shapes = Mapping[str, tuple[int, ...]]

_MAX_LAYERS = 1000  # no model is deeper; a number beyond it is a broken name or shape
_BERT_LAYER = re.compile(r"BertEncoder_0/encoder_block/layer_sequence/layers_(\d+)/(.+)")


def infer_config(
    names: NameMap,
    shapes: Shapes,
    *,
    classifier: str | None = None,
    image_size: tuple[int, int] | None = None,
    grid_size: tuple[int, int] | None = None,
    patch_size: tuple[int, int] | None = None,
    pooling: str | None = None,
) -> Config:
    """The architecture that a checkpoint was written by, as far as its arrays show it.

    Sizes are read off biases wherever there is one: a transposed kernel then shows as misshapen
    instead of as another architecture.

    Args:
      names: as `understand_names` gives them.
      shapes: canonical name to shape.
      classifier: what can't be read off the arrays: an unpooled classifier. None takes "map"
        where there is an attention pooling head, "token" where there is a class token, else "gap".
      image_size: (height, width) wanted by the user; needed where positions aren't stored.
      grid_size: instead of `image_size`, patches along (height, width).
      patch_size: of the checkpoint, where its patches aren't square: none were published that
        aren't, so that it is rather a broken file.
      pooling: of a text tower; None takes "map" where there is such a head, else "last".

    Returns:
      The config of the checkpoint's own image size, where it stores positions.

    Raises:
      ValueError: an array that decides the architecture is missing or makes no sense, or an
        argument is needed.
    """
    image_options = {"image_size": image_size, "grid_size": grid_size, "patch_size": patch_size}
    if len(names.towers) == 1:
        family = names.towers[""]
        if classifier is not None and family != "vit":
            raise ValueError(f"classifier is {classifier!r}, but the checkpoint is no ViT's.")
        if pooling is not None and family != "text":
            raise ValueError(f"pooling is {pooling!r}, but the checkpoint is no text tower's.")
        if family == "vit":
            return _infer_vit(names, _unstacked(shapes), classifier, **image_options)
        if family == "mixer":
            return _infer_mixer(shapes, **image_options)
        return _infer_text(family, _unstacked(shapes), pooling)
    if names.towers["img/"] != "vit" or names.towers["txt/"] not in ("text", "bert"):
        raise ValueError(
            f"No two towers are known that are a {' and a '.join(names.towers.values())}."
        )
    image, text = (
        _unstacked(
            {
                local: shape
                for name, shape in shapes.items()
                for prefix, local in [split_tower(name)]
                if prefix == tower
            }
        )
        for tower in ("img/", "txt/")
    )
    return TwoTowersConfig(
        image=_infer_vit(names, image, classifier, **image_options),
        text=_infer_text(names.towers["txt/"], text, pooling),
        has_bias="b" in shapes,
    )


def has_layer_scale(shapes: Shapes) -> bool:
    """Whether the blocks of the image tower have LayerScale."""
    return any("/LayerScale_0/gamma" in name and "Transformer/" in name for name in shapes)


def _infer_vit(
    names: NameMap,
    shapes: Shapes,
    classifier: str | None,
    image_size: tuple[int, int] | None,
    grid_size: tuple[int, int] | None,
    patch_size: tuple[int, int] | None,
) -> ViTConfig:
    kernel = _patch_kernel(shapes, "embedding/kernel", patch_size)
    blocks = _blocks(shapes, "Transformer")
    stem = _infer_stem(shapes)
    has_class_token = "cls" in shapes
    config = ViTConfig(
        hidden_size=_size(shapes, ["embedding/bias"], axis=0),
        mlp_dim=_size(shapes, [f"{block}/MlpBlock_0/Dense_0/bias" for block in blocks], axis=0),
        num_heads=_heads(shapes, blocks),
        num_layers=len(blocks),
        patch_size=kernel[:2],
        image_size=tuple(side * (stem.stride if stem else 1) for side in kernel[:2]),  # for now
        channels=kernel[2] if stem is None else _shape(shapes, "conv_root/kernel", 4)[2],
        classes=_classes(shapes),
        classifier=_classifier(classifier, has_class_token, _any(shapes, "MAPHead_0/")),
        pos_embedding="sincos2d" if POSITIONS not in shapes else "learned_before_class_token",
        representation_size=(
            _size(shapes, ["pre_logits/bias"], axis=0) if _any(shapes, "pre_logits/") else None
        ),
        stem=stem,
    )
    if grid_size is None and image_size is not None:
        grid_size = config.replace(image_size=image_size).grid_size
    if config.pos_embedding == "sincos2d":
        if names.dialect.naming == "legacy":
            raise ValueError(f"The checkpoint lacks {names.dialect.stored_name(POSITIONS)!r}.")
        if grid_size is None:
            raise ValueError(
                "The checkpoint stores no position embedding (it was trained with fixed sincos2d "
                "positions), so its image size can't be inferred: pass image_size."
            )
        return config.replace(image_size=image_size or _pixels(grid_size, config))
    positions = _shape(shapes, POSITIONS, 3)[1]
    kind = _positions_kind(positions, has_class_token, names.dialect.naming, grid_size)
    config = config.replace(pos_embedding=kind)
    own_grid = _stored_grid(positions - config.prefix_positions, config, grid_size)
    if own_grid == grid_size and image_size is not None:
        return config.replace(image_size=image_size)
    return config.replace(image_size=_pixels(own_grid, config))


def _patch_kernel(shapes: Shapes, name: str, patch_size: tuple[int, int] | None) -> tuple[int, ...]:
    kernel = _shape(shapes, name, 4)
    if kernel[0] != kernel[1] and kernel[:2] != patch_size:
        raise ValueError(
            f"{name!r} has shape {kernel}, whose patches of {kernel[0]}x{kernel[1]} aren't square. "
            f"If they are meant to be, pass patch_size={kernel[:2]}."
        )
    return kernel


def _pixels(grid: tuple[int, int], config: ViTConfig) -> tuple[int, int]:
    return grid[0] * config.patch_pixels[0], grid[1] * config.patch_pixels[1]


def _infer_stem(shapes: Shapes) -> ResNetStem | None:
    if not (_any(shapes, "conv_root/") or _any(shapes, "gn_root/") or _any(shapes, "block1/")):
        return None
    stages: dict[int, set[int]] = {}
    for name in shapes:
        if match := re.match(r"block(\d+)/unit(\d+)/", name):
            stages.setdefault(int(match[1]), set()).add(int(match[2]))
    _check_numbers("block{}", stages, first=1)
    for stage, units in stages.items():
        _check_numbers(f"block{stage}/unit{{}}", units, first=1)
    width = _shape(shapes, "conv_root/kernel", 4)[-1]
    return ResNetStem(tuple(len(stages[stage]) for stage in sorted(stages)), width / 64)


def _infer_mixer(
    shapes: Shapes,
    image_size: tuple[int, int] | None,
    grid_size: tuple[int, int] | None,
    patch_size: tuple[int, int] | None,
) -> MixerConfig:
    kernel = _patch_kernel(shapes, "stem/kernel", patch_size)
    numbers = {int(m[1]) for name in shapes if (m := re.match(r"MixerBlock_(\d+)/", name))}
    _check_numbers("MixerBlock_{}", numbers)
    blocks = [f"MixerBlock_{index}" for index in sorted(numbers)]
    tokens = _size(shapes, [f"{block}/token_mixing/Dense_1/bias" for block in blocks], axis=0)
    if image_size is None:
        grid = (
            grid_size
            if grid_size and math.prod(grid_size) == tokens
            else _square(tokens, "token_mixing/Dense_1/bias", kernel[:2])
        )
        image_size = (grid[0] * kernel[0], grid[1] * kernel[1])
    config = MixerConfig(
        hidden_size=_size(shapes, ["stem/bias"], axis=0),
        tokens_mlp_dim=_size(shapes, [f"{b}/token_mixing/Dense_0/bias" for b in blocks], axis=0),
        channels_mlp_dim=_size(
            shapes, [f"{b}/channel_mixing/Dense_0/bias" for b in blocks], axis=0
        ),
        num_layers=len(blocks),
        patch_size=kernel[:2],
        image_size=image_size,
        channels=kernel[2],
        classes=_classes(shapes),
    )
    if config.num_tokens != tokens:
        raise ValueError(
            f"image_size is {image_size}, which makes {config.num_tokens} patches; the Mixer's "
            f"weights are for {tokens}, and can't be resized."
        )
    return config


def _infer_text(family: str, shapes: Shapes, pooling: str | None) -> TextConfig | BertConfig:
    if family == "bert":
        return _infer_bert(shapes)
    has_map_head = _any(shapes, "MAPHead_0/")
    if pooling is not None and (pooling == "map") != has_map_head:
        raise ValueError(
            f"pooling is {pooling!r}, but the checkpoint has "
            f"{'an' if has_map_head else 'no'} attention pooling head."
        )
    blocks = _blocks(shapes, "Encoder_0")
    return TextConfig(
        hidden_size=_size(shapes, ["Encoder_0/encoder_norm/bias"], axis=0),
        mlp_dim=_size(shapes, [f"{block}/MlpBlock_0/Dense_0/bias" for block in blocks], axis=0),
        num_heads=_heads(shapes, blocks),
        num_layers=len(blocks),
        vocab_size=_shape(shapes, "Embed_0/embedding", 2)[0],
        max_length=_shape(shapes, "pos_embedding", 3)[1],
        pooling=pooling or ("map" if has_map_head else "last"),
        classes=_classes(shapes),
    )


def _infer_bert(shapes: Shapes) -> BertConfig:
    numbers = {int(match[1]) for name in shapes if (match := _BERT_LAYER.fullmatch(name))}
    _check_numbers("BertEncoder_0/encoder_block/layer_sequence/layers_{}", numbers)
    blocks = [f"BertEncoder_0/encoder_block/layer_sequence/layers_{i}" for i in sorted(numbers)]
    hidden_size = _size(shapes, ["BertEncoder_0/layer_norm/bias"], axis=0)
    biases = [f"{block}/attention_block/attention_layer/query/bias" for block in blocks]
    if any(len(shapes.get(name, ())) == 2 for name in biases):
        num_heads = _size(shapes, biases, axis=0, ndim=2)
    else:
        # Flat kernels don't show the heads; every published BERT has heads of width 64.
        num_heads = max(hidden_size // 64, 1)
    embedder = "BertEncoder_0/embedder/embedders_{}_ids/embedding"
    return BertConfig(
        hidden_size=hidden_size,
        mlp_dim=_size(shapes, [f"{b}/mlp_block/mlp/dense_layer/bias" for b in blocks], axis=0),
        num_heads=num_heads,
        num_layers=len(blocks),
        vocab_size=_shape(shapes, embedder.format("token"), 2)[0],
        max_length=_shape(shapes, embedder.format("position"), 2)[0],
        num_segments=_shape(shapes, embedder.format("segment"), 2)[0],
        classes=_classes(shapes),
    )


def _classifier(asked: str | None, has_class_token: bool, has_map_head: bool) -> str:
    found = "map" if has_map_head else "token" if has_class_token else "gap"
    if asked is None:
        return found
    possible = {"token": ("token", "token_unpooled"), "gap": ("gap", "unpooled")}
    if asked not in possible.get(found, (found,)):
        raise ValueError(
            f"classifier is {asked!r}, but the checkpoint "
            f"{'has a' if has_class_token else 'has no'} class token and "
            f"{'an' if has_map_head else 'no'} attention pooling head; expected one of "
            f"{possible.get(found, (found,))}."
        )
    return asked


def _positions_kind(
    positions: int, has_class_token: bool, naming: str, grid: tuple[int, int] | None
) -> str:
    """Whether the class token has a position of its own."""
    if naming != "big_vision":
        return "learned"
    # Before 2022 big_vision added positions after the class token was there.
    without = positions - 1
    fits = math.isqrt(max(without, 0)) ** 2 == without or (grid and math.prod(grid) == without)
    return "learned" if has_class_token and without > 0 and fits else "learned_before_class_token"


def _stored_grid(patches: int, config: ViTConfig, asked: tuple[int, int] | None) -> tuple[int, int]:
    if asked is not None and math.prod(asked) == patches:
        square = math.isqrt(patches)
        # A grid that fits exactly needs no resize, unless the stored one is surely another.
        if square**2 != patches or asked == (square, square):
            return asked
    return _square(patches, POSITIONS, config.patch_pixels)


def _square(patches: int, name: str, patch: tuple[int, ...]) -> tuple[int, int]:
    side = math.isqrt(max(patches, 0))
    if side == 0 or side**2 != patches:
        raise ValueError(
            f"{name} is for {patches} patches, which make no square grid. If the model is for "
            f"images that aren't square, pass its image_size=(height, width) (patches are "
            f"{patch[0]}x{patch[1]})."
        )
    return side, side


def _unstacked(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """With an entry for each block instead of one for the stack of them."""
    scanned = {
        name: match
        for name in shapes
        if (match := BLOCK.fullmatch(name)) and match[2] is None and shapes[name]
    }
    depths = Counter(shapes[name][0] for name in scanned)
    found = {name: shape for name, shape in shapes.items() if name not in scanned}
    if not scanned:
        return found
    depth = depths.most_common(1)[0][0]
    _check_depth(depth, next(iter(scanned)))
    for name, match in scanned.items():
        for index in range(depth):
            found[f"{match[1]}/encoderblock_{index}/{match[3]}"] = shapes[name][1:]
    return found


def _blocks(shapes: Shapes, encoder: str) -> list[str]:
    """Prefixes of an encoder's blocks, in order."""
    numbers = {
        int(match[2])
        for name in shapes
        if (match := BLOCK.fullmatch(name)) and match[1] == encoder and match[2] is not None
    }
    _check_numbers(f"{encoder}/encoderblock_{{}}", numbers)
    return [f"{encoder}/encoderblock_{index}" for index in sorted(numbers)]


def _check_numbers(name: str, numbers: Iterable[int], first: int = 0) -> None:
    """Raises when numbered parts don't follow each other."""
    numbers = sorted(numbers)
    if first == 0 and not numbers:
        raise ValueError(f"The checkpoint lacks {name.format(0)!r}; it has no blocks.")
    if not numbers:
        return
    _check_depth(len(numbers), name)
    missing = sorted(set(range(first, first + len(numbers))) - set(numbers))
    if missing:
        raise ValueError(
            f"The checkpoint lacks {', '.join(repr(name.format(n)) for n in missing[:10])}, "
            f"but has {name.format(numbers[-1])!r}."
        )


def _check_depth(depth: int, name: str) -> None:
    if not 0 < depth <= _MAX_LAYERS:
        raise ValueError(f"{name!r} is of {depth} blocks; expected 1 to {_MAX_LAYERS}.")


def _heads(shapes: Shapes, blocks: list[str]) -> int:
    biases = [f"{block}/MultiHeadDotProductAttention_0/query/bias" for block in blocks]
    return _size(shapes, biases, axis=0, ndim=2)


def _classes(shapes: Shapes) -> int:
    return _size(shapes, ["head/bias"], axis=0) if _any(shapes, "head/") else 0


def _any(shapes: Shapes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in shapes)


def _shape(shapes: Shapes, name: str, ndim: int) -> tuple[int, ...]:
    if name not in shapes:
        raise ValueError(f"The checkpoint lacks {name!r}; it has {_similar(shapes, name)}.")
    if len(shapes[name]) != ndim or 0 in shapes[name]:
        raise ValueError(f"{name!r} has shape {shapes[name]}; expected {ndim} positive dimensions.")
    return shapes[name]


def _size(shapes: Shapes, names: list[str], axis: int, ndim: int = 1) -> int:
    """The size that most of the arrays `names` agree on."""
    sizes = Counter(
        shapes[name][axis]
        for name in names
        if len(shapes.get(name, ())) == ndim and shapes[name][axis]
    )
    if sizes:
        return sizes.most_common(1)[0][0]
    return _shape(shapes, names[0], ndim)[axis]


def _similar(shapes: Shapes, name: str) -> str:
    part = name.split("/")[0]
    found = sorted(other for other in shapes if other.startswith(part))[:5]
    return ", ".join(found) if found else f"nothing under {part!r}"
