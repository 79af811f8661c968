"""What other formats ask of a model of ours, read off its layers."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from vit_keras import layers
from vit_keras.checkpoints.keras_weights import named_weights, unnamed_weights


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """The architecture of a plain ViT that is built, and its arrays.

    Attributes:
      arrays: canonical name to array.
      image_size: (height, width) in pixels.
      patch_size: (height, width) in pixels.
      channels: of the images.
      hidden_size, mlp_dim, num_heads, num_layers: of the encoder.
      has_class_token: whether it has one.
      class_token_has_position: whether positions are kept for it too.
      pooling: "first", "mean", "map" or "none".
      classes: outputs of the head; 0 for no head.
      approximate_gelu: whether its gelu is the tanh approximation.
      epsilon: of its LayerNorms.
    """

    arrays: dict[str, np.ndarray]
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    channels: int
    hidden_size: int
    mlp_dim: int
    num_heads: int
    num_layers: int
    has_class_token: bool
    class_token_has_position: bool
    pooling: str
    classes: int
    approximate_gelu: bool
    epsilon: float


def model_facts(model: keras.Model) -> ModelFacts:
    """Reads the facts off a model.

    Raises:
      ValueError: when it isn't a plain ViT with stored positions, or has weights of other layers.
    """
    found = {
        kind: [layer for layer in model.layers if isinstance(layer, kind)]
        for kind in (
            layers.PatchEncoder,
            layers.PositionEmbedding,
            layers.TransformerBlock,
            layers.ClassToken,
            layers.TokenPooling,
            layers.MAPHead,
        )
    }
    for kind in (layers.PatchEncoder, layers.PositionEmbedding, layers.TransformerBlock):
        if not found[kind]:
            raise ValueError(
                f"model is {model.name!r}, which has no {kind.__name__} layer; expected a plain "
                "ViT with stored position embeddings."
            )
    if extra := unnamed_weights(model):
        raise ValueError(
            f"model is {model.name!r}, which has weights that other formats have no place for: "
            f"{', '.join(extra[:10])}{', ...' if len(extra) > 10 else ''}."
        )
    arrays = {name: np.asarray(weight.numpy()) for name, weight in named_weights(model).items()}
    block, positions = found[layers.TransformerBlock][0], found[layers.PositionEmbedding][0]
    kernel = arrays["embedding/kernel"]
    pooling = "map" if found[layers.MAPHead] else "none"
    if found[layers.TokenPooling]:
        pooling = found[layers.TokenPooling][0].pooling
    return ModelFacts(
        arrays=arrays,
        image_size=tuple(model.input_shape[1:3]),
        patch_size=kernel.shape[:2],
        channels=kernel.shape[2],
        hidden_size=kernel.shape[3],
        mlp_dim=block.mlp_dim,
        num_heads=block.num_heads,
        num_layers=len(found[layers.TransformerBlock]),
        has_class_token=bool(found[layers.ClassToken]),
        class_token_has_position=bool(positions.prefix_tokens),
        pooling=pooling,
        classes=arrays["head/bias"].shape[0] if "head/bias" in arrays else 0,
        approximate_gelu=block.approximate_gelu,
        epsilon=block.epsilon,
    )
