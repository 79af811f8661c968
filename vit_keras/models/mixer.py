"""MLP-Mixer (Tolstikhin et al. 2021, arXiv 2105.01601)."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from vit_keras import layers
from vit_keras.layers.patch_encoder import pair
from vit_keras.models.regularization import Regularization
from vit_keras.models.vit import AFTER_ENCODER, classify


@dataclasses.dataclass(frozen=True)
class MixerConfig:
    """Everything that decides the architecture of an MLP-Mixer.

    Attributes:
      hidden_size: width of the tokens.
      tokens_mlp_dim: hidden width of the MLPs across tokens.
      channels_mlp_dim: hidden width of the MLPs across channels.
      num_layers: blocks.
      patch_size: side of a patch in pixels, or (height, width).
      image_size: side of the images in pixels, or (height, width); the weights are for it alone.
      channels: of the images.
      classes: outputs of the head; 0 for no head.
    """

    hidden_size: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    num_layers: int
    patch_size: int | tuple[int, int]
    image_size: int | tuple[int, int] = 224
    channels: int = 3
    classes: int = 1000

    def __post_init__(self):
        """Refuses values that no model can be built from."""
        object.__setattr__(self, "patch_size", pair("patch_size", self.patch_size))
        object.__setattr__(self, "image_size", pair("image_size", self.image_size))
        if not isinstance(self.classes, int) or self.classes < 0:
            raise ValueError(f"classes is {self.classes!r}; expected an int, 0 for no head.")
        if 0 in self.grid_size:
            raise ValueError(
                f"image_size is {self.image_size}; expected at least the patch_size "
                f"{self.patch_size}."
            )

    @property
    def grid_size(self) -> tuple[int, int]:
        """Patches along (height, width)."""
        return (
            self.image_size[0] // self.patch_size[0],
            self.image_size[1] // self.patch_size[1],
        )

    @property
    def num_tokens(self) -> int:
        """Patches in an image."""
        return self.grid_size[0] * self.grid_size[1]

    def replace(self, **changes) -> MixerConfig:
        """A copy with some facts changed."""
        return dataclasses.replace(self, **changes)


def build_mixer(
    config: MixerConfig,
    *,
    regularization: Regularization | None = None,
    activation: str | None = None,
    dtype: Any = None,
    name: str = "mixer",
) -> keras.Model:
    """Assembles an MLP-Mixer; layer names are those of the checkpoints.

    Args:
      config: the architecture.
      regularization: dropout and stochastic depth; its other options are for transformers.
      activation: of the output, such as "softmax"; None for linear logits.
      dtype: Keras dtype policy of every layer but the head; None for the global policy.
      name: of the model.

    Returns:
      A functional model from images (batch, height, width, channels) in [-1, 1] to float32
      logits (batch, classes), or where classes is 0 to the mean token (batch, hidden_size).

    Raises:
      ValueError: an option that a Mixer doesn't have.
    """
    options = regularization or Regularization()
    options.refuse("an MLP-Mixer", "attention_dropout", "layer_scale", "remat")
    images = keras.Input((*config.image_size, config.channels), name="image")
    x = layers.PatchEncoder(config.hidden_size, config.patch_size, dtype=dtype, name="stem")(images)
    for index in range(config.num_layers):
        x = layers.MixerBlock(
            config.tokens_mlp_dim,
            config.channels_mlp_dim,
            dropout=options.dropout,
            stochastic_depth=options.stochastic_depth_of(index, config.num_layers),
            dtype=dtype,
            name=f"MixerBlock_{index}",
        )(x)
    x = layers.LayerNorm(dtype=AFTER_ENCODER, name="pre_head_layer_norm")(x)
    x = layers.TokenPooling("mean", dtype=AFTER_ENCODER, name="pooled")(x)
    return keras.Model(images, classify(x, config.classes, activation), name=name)
