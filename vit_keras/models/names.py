"""Moved to `vit_keras.names`."""

from vit_keras.names import unknown_name

__all__ = ["unknown_name"]
