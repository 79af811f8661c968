"""Architectures: facts in frozen dataclasses, builders on the functional API."""

from vit_keras.models.bert import BertConfig, build_bert
from vit_keras.models.build import Config, build, family
from vit_keras.models.config import ViTConfig
from vit_keras.models.mixer import MixerConfig, build_mixer
from vit_keras.models.regularization import Regularization
from vit_keras.models.resnet_stem import ResNetStem
from vit_keras.models.text import TextConfig, build_text
from vit_keras.models.two_towers import TwoTowersConfig, build_two_towers
from vit_keras.models.variants import (
    HYBRID_VARIANTS,
    MIXER_VARIANTS,
    PLAIN_VARIANTS,
    SIZES,
    TWO_TOWER_VARIANTS,
    VARIANTS,
    canonical_variant,
    plain_config,
    variant_config,
)
from vit_keras.models.vit import build_vit

__all__ = [
    "HYBRID_VARIANTS",
    "MIXER_VARIANTS",
    "PLAIN_VARIANTS",
    "SIZES",
    "TWO_TOWER_VARIANTS",
    "VARIANTS",
    "BertConfig",
    "Config",
    "MixerConfig",
    "Regularization",
    "ResNetStem",
    "TextConfig",
    "TwoTowersConfig",
    "ViTConfig",
    "build",
    "build_bert",
    "build_mixer",
    "build_text",
    "build_two_towers",
    "build_vit",
    "canonical_variant",
    "family",
    "plain_config",
    "variant_config",
]
