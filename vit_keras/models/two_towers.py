"""An image tower and a text tower whose outputs are compared (LiT, SigLIP)."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from vit_keras import layers
from vit_keras.models.bert import BertConfig, build_bert
from vit_keras.models.config import ViTConfig
from vit_keras.models.regularization import Regularization
from vit_keras.models.text import TextConfig, build_text
from vit_keras.models.vit import build_vit


@dataclasses.dataclass(frozen=True)
class TwoTowersConfig:
    """Everything that decides the architecture of two towers.

    Attributes:
      image: the image tower; its `classes` is the width of its head, 0 for none.
      text: the text tower; its `classes` likewise.
      has_bias: whether the similarity has a learned bias (SigLIP) or not (LiT).
      initial_temperature: what the similarity's factor starts from in a fresh model.
      initial_bias: what the bias starts from in a fresh model.
    """

    image: ViTConfig
    text: TextConfig | BertConfig
    has_bias: bool = False
    initial_temperature: float = 1.0
    initial_bias: float = -10.0

    def __post_init__(self):
        """Refuses towers whose embeddings can't be compared."""
        widths = [tower.classes or tower.hidden_size for tower in (self.image, self.text)]
        if self.image.representation_size and not self.image.classes:
            widths[0] = self.image.representation_size
        if widths[0] != widths[1]:
            raise ValueError(
                f"The image tower gives embeddings of width {widths[0]}, the text tower of width "
                f"{widths[1]}; expected the same."
            )

    @property
    def embedding_size(self) -> int:
        """Width of the embeddings."""
        return self.text.classes or self.text.hidden_size

    def replace(self, **changes) -> TwoTowersConfig:
        """A copy with some facts changed."""
        return dataclasses.replace(self, **changes)


def build_two_towers(
    config: TwoTowersConfig,
    *,
    regularization: Regularization | None = None,
    text_regularization: Regularization | None = None,
    dtype: Any = None,
    name: str = "two_towers",
) -> keras.Model:
    """Assembles two towers; they are sub-models named `img` and `txt`.

    Args:
      config: the architecture.
      regularization: of the image tower; None for none.
      text_regularization: of the text tower; None for none.
      dtype: Keras dtype policy; None for the global policy.
      name: of the model.

    Returns:
      A functional model from a dict of `image` (images, height, width, channels) in [-1, 1] and
      `tokens` (texts, n), int32, to a dict of float32 `zimg` (images, D) and `ztxt` (texts, D),
      both of length 1, `similarity_logits` (images, texts), `temperature` (1,) and, where there is
      one, `bias` (1,).
    """
    build = build_bert if isinstance(config.text, BertConfig) else build_text
    image_tower = build_vit(
        config.image,
        regularization=regularization,
        dtype=dtype,
        name="img",
        head_initializer="lecun_normal",
    )
    text_tower = build(config.text, regularization=text_regularization, dtype=dtype, name="txt")
    image = keras.Input(image_tower.input_shape[1:], name="image")
    tokens = keras.Input(text_tower.input_shape[1:], dtype="int32", name="tokens")
    zimg = layers.UnitLength(dtype="float32", name="zimg")(image_tower(image))
    ztxt = layers.UnitLength(dtype="float32", name="ztxt")(text_tower(tokens))
    compared = layers.Similarity(
        config.initial_temperature,
        config.initial_bias if config.has_bias else None,
        dtype="float32",
        name="similarity",
    )([zimg, ztxt])
    return keras.Model(
        {"image": image, "tokens": tokens}, {"zimg": zimg, "ztxt": ztxt, **compared}, name=name
    )
