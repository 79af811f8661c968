"""From the shapes of a checkpoint's arrays to the architecture behind it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from vit_keras.checkpoints.naming import BLOCK, POSITIONS, NameMap
from vit_keras.models.config import ViTConfig

Shapes = Mapping[str, tuple[int, ...]]


def infer_vit(
    names: NameMap,
    shapes: Shapes,
    *,
    classifier: str | None = None,
    image_size: tuple[int, int] | None = None,
) -> tuple[ViTConfig, tuple[int, int] | None]:
    """The architecture that a checkpoint of a plain ViT was written by.

    Sizes are read off biases wherever there is one: a transposed kernel then shows as misshapen
    instead of as another architecture.

    Args:
      names: as `understand_names` gives them.
      shapes: canonical name to shape.
      classifier: what can't be read off the arrays: an unpooled classifier. None takes "map"
        where there is an attention pooling head, "token" where there is a class token, else "gap".
      image_size: (height, width) wanted by the user; needed where positions aren't stored.

    Returns:
      The config at `image_size`, or else at the checkpoint's own size, and the grid
      (rows, columns) that the checkpoint's positions have; None where it stores none.

    Raises:
      ValueError: an array that decides the architecture is missing or makes no sense, or an
        argument is needed.
    """
    hidden_size = _size(shapes, ["embedding/bias"], axis=0)
    kernel = _shape(shapes, "embedding/kernel", 4)
    blocks = [int(match[1]) for name in shapes if (match := BLOCK.fullmatch(name))]
    num_layers = max(blocks) + 1 if blocks else 0
    in_block = [f"Transformer/encoderblock_{index}/" for index in sorted(set(blocks))]
    attention = [f"{block}MultiHeadDotProductAttention_0/query/bias" for block in in_block]
    has_class_token = "cls" in shapes
    patch_size = kernel[:2]
    config = ViTConfig(
        hidden_size=hidden_size,
        mlp_dim=_size(shapes, [f"{block}MlpBlock_0/Dense_0/bias" for block in in_block], axis=0),
        num_heads=_size(shapes, attention, axis=0, ndim=2),
        num_layers=num_layers,
        patch_size=patch_size,
        image_size=image_size or patch_size,
        channels=kernel[2],
        classes=_size(shapes, ["head/bias"], axis=0) if _any(shapes, "head/") else 0,
        classifier=_classifier(classifier, has_class_token, _any(shapes, "MAPHead_0/")),
        pos_embedding=_positions_kind(names, shapes),
        representation_size=(
            _size(shapes, ["pre_logits/bias"], axis=0) if _any(shapes, "pre_logits/") else None
        ),
    )
    if config.pos_embedding == "sincos2d":
        if image_size is None:
            raise ValueError(
                "The checkpoint stores no position embedding (it was trained with fixed sincos2d "
                "positions), so its image size can't be inferred: pass image_size."
            )
        return config, None
    prefix = int(has_class_token and config.pos_embedding == "learned")
    grid = _stored_grid(_shape(shapes, POSITIONS, 3)[1] - prefix, config, image_size is not None)
    if image_size is None:
        config = config.replace(image_size=(grid[0] * patch_size[0], grid[1] * patch_size[1]))
    return config, grid


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


def _positions_kind(names: NameMap, shapes: Shapes) -> str:
    if POSITIONS not in shapes:
        if names.dialect.naming == "legacy":
            raise ValueError(f"The checkpoint lacks {names.dialect.stored_name(POSITIONS)!r}.")
        return "sincos2d"
    return "learned_before_class_token" if names.dialect.naming == "big_vision" else "learned"


def _stored_grid(patches: int, config: ViTConfig, size_asked: bool) -> tuple[int, int]:
    if size_asked and config.grid_size[0] * config.grid_size[1] == patches:
        square = math.isqrt(patches)
        # A grid that fits exactly needs no resize, unless the stored one is surely another.
        if square**2 != patches or config.grid_size == (square, square):
            return config.grid_size
    side = math.isqrt(max(patches, 0))
    if side == 0 or side**2 != patches:
        raise ValueError(
            f"{POSITIONS} has {patches} patch positions, which is no square grid. If the model is "
            f"for images that aren't square, pass its image_size=(height, width) (patches are "
            f"{config.patch_size[0]}x{config.patch_size[1]})."
        )
    return side, side


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
    return _shape(shapes, names[0] if names else "Transformer/encoderblock_0", ndim)[axis]


def _similar(shapes: Shapes, name: str) -> str:
    part = name.split("/")[0]
    found = sorted(other for other in shapes if other.startswith(part))[:5]
    return ", ".join(found) if found else f"nothing under {part!r}"
