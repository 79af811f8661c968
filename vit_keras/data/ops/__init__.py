"""The operations that pipeline strings may name. Importing this package registers them."""

from vit_keras.data.ops import color_jitter, erase, general, geometry, randaugment

__all__ = ["color_jitter", "erase", "general", "geometry", "randaugment"]
