"""FlexiViT: one model that is trained at many patch sizes (arXiv 2212.08013)."""

from __future__ import annotations

import keras

from vit_keras import layers


def at_patch_size(model: keras.Model, patch_size: int | tuple[int, int]) -> keras.Model:
    """`model` at another patch size, for the same images, with the very same weights.

    The kernel of its patch embedding and its positions are resized in every call, as `from_npz`
    with `patch_size` resizes them once, so both give the same logits.

    Args:
      model: a plain ViT.
      patch_size: side of a patch in pixels, or (height, width).

    Raises:
      ValueError: for another kind of model, or a patch larger than the image.
    """
    patch_size = layers.patch_encoder.pair("patch_size", patch_size)
    positions = (layers.PositionEmbedding, layers.SinCosPositionEmbedding)
    kinds = [type(layer) for layer in model.layers]
    if layers.PatchEncoder not in kinds or not any(kind in kinds for kind in positions):
        raise ValueError(f"{model.name!r} isn't a ViT, so it can't be had at several patch sizes.")
    if any(issubclass(kind, layers.ResidualUnit | layers.StdConv) for kind in kinds):
        raise ValueError(f"{model.name!r} is a hybrid, whose patch size can't be changed.")
    grid = tuple(
        side // patch for side, patch in zip(model.input_shape[1:3], patch_size, strict=True)
    )
    if 0 in grid:
        raise ValueError(
            f"patch_size is {patch_size}; expected at most the image's {model.input_shape[1:3]}."
        )

    def resized(layer):
        name, dtype = layer.name, layer.dtype_policy
        if isinstance(layer, layers.PatchEncoder):
            return layers.ResizedPatchEncoder(layer, patch_size, name=name, dtype=dtype)
        if isinstance(layer, layers.PositionEmbedding):
            return layers.ResizedPositionEmbedding(layer, grid, name=name, dtype=dtype)
        if isinstance(layer, layers.SinCosPositionEmbedding):
            return type(layer).from_config({**layer.get_config(), "grid_size": grid})
        return layer

    return keras.models.clone_model(model, clone_function=resized)
