"""The helpers of the PyPI package `vit-keras` 0.2.0, over this package's own."""

from __future__ import annotations

import io
import os

import numpy as np
import requests
import tensorflow as tf
from PIL import Image

from vit_keras import layers
from vit_keras.checkpoints.download import is_remote
from vit_keras.checkpoints.load import load_npz
from vit_keras.data.class_names import class_names


def get_imagenet_classes() -> list[str]:
    """The names of the 1,000 ImageNet 2012 classes, in order."""
    return class_names("imagenet2012")


def read(filepath_or_buffer, size, timeout=None) -> np.ndarray:
    """Reads an image and resizes it, bilinearly and without regard to its proportions.

    Args:
      filepath_or_buffer: a path, an http address, a file-like object or a PIL image.
      size: side of the result in pixels.
      timeout: of the request, in seconds.

    Returns:
      uint8 (size, size, 3).

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it can't be decoded.
    """
    source = filepath_or_buffer
    if isinstance(source, str | os.PathLike):
        if is_remote(source):
            response = requests.get(source, timeout=timeout)
            response.raise_for_status()
            source = io.BytesIO(response.content)
        elif not os.path.isfile(source):
            raise FileNotFoundError(f"Could not find image at path: {source}")
    try:
        image = source if isinstance(source, Image.Image) else Image.open(source)
        image = image.convert("RGB")
    except OSError as error:
        raise ValueError(f"An error occurred reading {filepath_or_buffer}: {error}") from error
    return _resize(np.asarray(image), (size, size)).astype(np.uint8)


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """To (height, width), with half-pixel centres and without antialiasing, as OpenCV does."""
    return np.rint(tf.image.resize(image, size).numpy())


def load_weights_numpy(model, params_path, pretrained_top, num_x_patches, num_y_patches) -> None:
    """Reads an `.npz` checkpoint into a model that `vit.build_model` made.

    Raises:
      ValueError: it doesn't fit (the model is unchanged then), or the patches aren't the model's.
    """
    positions = next(w for w in model.layers if isinstance(w, layers.PositionEmbedding))
    if positions.grid_size != (num_y_patches, num_x_patches):
        raise ValueError(
            f"num_x_patches is {num_x_patches} and num_y_patches {num_y_patches}; the model has "
            f"{positions.grid_size[1]} and {positions.grid_size[0]}."
        )
    has_pre_logits = any(layer.name == "pre_logits" for layer in model.layers)
    load_npz(model, params_path, reset_head=not pretrained_top, pre_logits=has_pre_logits)
