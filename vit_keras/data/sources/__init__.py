"""Where examples come from. Every source looks the same to the pipeline: see `base`."""

from vit_keras.data.sources.base import Records, Source
from vit_keras.data.sources.find import get_source

__all__ = ["Records", "Source", "get_source"]
