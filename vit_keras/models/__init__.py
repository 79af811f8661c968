"""Architectures: facts in frozen dataclasses, builders on the functional API."""

from vit_keras.models.config import ViTConfig
from vit_keras.models.regularization import Regularization
from vit_keras.models.variants import PLAIN_VARIANTS, SIZES, plain_config
from vit_keras.models.vit import build_vit

__all__ = [
    "PLAIN_VARIANTS",
    "SIZES",
    "Regularization",
    "ViTConfig",
    "build_vit",
    "plain_config",
]
