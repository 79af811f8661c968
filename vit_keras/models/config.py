"""The facts of a Vision Transformer, plain or behind a ResNet stem."""

from __future__ import annotations

import dataclasses

from vit_keras.layers.patch_encoder import pair
from vit_keras.models.resnet_stem import ResNetStem

CLASSIFIERS = ("token", "gap", "map", "token_unpooled", "unpooled")
POSITIONS = ("learned", "learned_before_class_token", "sincos2d")


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Everything that decides the architecture of a ViT.

    Attributes:
      hidden_size: width D of the tokens.
      mlp_dim: width of the blocks' MLPs.
      num_heads: attention heads.
      num_layers: transformer blocks.
      patch_size: side of a patch, or (height, width), in pixels; in those of the stem's output
        where there is a stem.
      image_size: side of the images in pixels, or (height, width).
      channels: of the images.
      classes: outputs of the head; 0 for no head.
      classifier: what the head sees: "token" (class token), "gap" (mean of the tokens), "map"
        (attention pooling), "token_unpooled" and "unpooled" (every token, with and without a
        class token).
      pos_embedding: "learned" (vision_transformer: the class token has a position too),
        "learned_before_class_token" (big_vision: it has none) or "sincos2d".
      representation_size: width of the tanh layer before the head (`pre_logits`); None for none.
      stem: the ResNet in front of a hybrid; None for a plain ViT.
      approximate_gelu: whether gelu is its tanh approximation, as in all JAX checkpoints.
      layer_norm_epsilon: of every LayerNorm; 1e-6 in all JAX checkpoints.
    """

    hidden_size: int
    mlp_dim: int
    num_heads: int
    num_layers: int
    patch_size: int | tuple[int, int]
    image_size: int | tuple[int, int] = 224
    channels: int = 3
    classes: int = 1000
    classifier: str = "token"
    pos_embedding: str = "learned"
    representation_size: int | None = None
    stem: ResNetStem | None = None
    approximate_gelu: bool = True
    layer_norm_epsilon: float = 1e-6

    def __post_init__(self):
        """Refuses values that no model can be built from."""
        object.__setattr__(self, "patch_size", pair("patch_size", self.patch_size))
        object.__setattr__(self, "image_size", pair("image_size", self.image_size))
        if self.classifier not in CLASSIFIERS:
            raise ValueError(f"classifier is {self.classifier!r}; expected one of {CLASSIFIERS}.")
        if self.pos_embedding not in POSITIONS:
            raise ValueError(
                f"pos_embedding is {self.pos_embedding!r}; expected one of {POSITIONS}."
            )
        if not isinstance(self.classes, int) or self.classes < 0:
            raise ValueError(f"classes is {self.classes!r}; expected an int, 0 for no head.")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads is {self.num_heads}; expected a divisor of hidden_size "
                f"{self.hidden_size}."
            )
        if 0 in self.grid_size:
            raise ValueError(
                f"image_size is {self.image_size}; expected at least the patch_size "
                f"{self.patch_pixels}."
            )

    @property
    def grid_size(self) -> tuple[int, int]:
        """Patches along (height, width)."""
        height, width = self.image_size
        if self.stem is not None:
            height, width = self.stem.output_side(height), self.stem.output_side(width)
        return height // self.patch_size[0], width // self.patch_size[1]

    @property
    def patch_pixels(self) -> tuple[int, int]:
        """Pixels of the image along (height, width) that a token stands for."""
        stride = 1 if self.stem is None else self.stem.stride
        return self.patch_size[0] * stride, self.patch_size[1] * stride

    @property
    def has_class_token(self) -> bool:
        """Whether a class token is put in front of the patches."""
        return self.classifier in ("token", "token_unpooled")

    @property
    def prefix_positions(self) -> int:
        """Learned positions that belong to no patch: the class token's, where it has one."""
        return int(self.has_class_token and self.pos_embedding == "learned")

    @property
    def num_positions(self) -> int:
        """Learned positions."""
        return self.grid_size[0] * self.grid_size[1] + self.prefix_positions

    @property
    def num_tokens(self) -> int:
        """Tokens in the encoder."""
        return self.grid_size[0] * self.grid_size[1] + self.has_class_token

    def replace(self, **changes) -> ViTConfig:
        """A copy with some facts changed."""
        return dataclasses.replace(self, **changes)
