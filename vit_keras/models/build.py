"""From the facts of any family to its model."""

from __future__ import annotations

from typing import Any

import keras

from vit_keras.models.bert import BertConfig, build_bert
from vit_keras.models.config import ViTConfig
from vit_keras.models.mixer import MixerConfig, build_mixer
from vit_keras.models.regularization import Regularization
from vit_keras.models.text import TextConfig, build_text
from vit_keras.models.two_towers import TwoTowersConfig, build_two_towers
from vit_keras.models.vit import build_vit

Config = ViTConfig | MixerConfig | TextConfig | BertConfig | TwoTowersConfig

_BUILDERS = {
    ViTConfig: build_vit,
    MixerConfig: build_mixer,
    TextConfig: build_text,
    BertConfig: build_bert,
    TwoTowersConfig: build_two_towers,
}


def family(config: Config) -> str:
    """ "vit", "hybrid", "mixer", "text", "bert" or "two_towers"."""
    if isinstance(config, ViTConfig):
        return "vit" if config.stem is None else "hybrid"
    return {
        MixerConfig: "mixer",
        TextConfig: "text",
        BertConfig: "bert",
        TwoTowersConfig: "two_towers",
    }[type(config)]


def build(
    config: Config,
    *,
    regularization: Regularization | None = None,
    activation: str | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> keras.Model:
    """Assembles the model that `config` describes; see the builder of its family.

    Raises:
      ValueError: an option that the family doesn't have.
    """
    options = {"regularization": regularization, "dtype": dtype}
    if isinstance(config, ViTConfig | MixerConfig):
        options["activation"] = activation
    elif activation is not None:
        raise ValueError(
            f"activation is {activation!r}; a {family(config)} model gives embeddings, not classes."
        )
    # A lone text tower goes by another name than one of two: names tell them apart.
    return _BUILDERS[type(config)](config, **options, name=name or family(config))
