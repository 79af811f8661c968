"""Attention maps, as the PyPI package `vit-keras` 0.2.0 draws them."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from vit_keras import layers
from vit_keras.features import features
from vit_keras.vit import preprocess_inputs


def attention_map(model: keras.Model, image: np.ndarray) -> np.ndarray:
    """Darkens what the class token doesn't attend to, by attention rollout.

    arXiv 2010.11929, appendix D.8; rollout as in arXiv 2005.00928, section 3.

    Args:
      model: a ViT with a class token.
      image: (height, width, 3), pixels in [0, 255].

    Returns:
      uint8 (height, width, 3).

    Raises:
      ValueError: the model has no class token.
    """
    if not any(isinstance(layer, layers.ClassToken) for layer in model.layers):
        raise ValueError("model has no class token, whose attention the map would show.")
    inputs = tf.image.resize(image, model.input_shape[1:3])
    found = features(model)(preprocess_inputs(inputs)[None])
    rollout = None
    for name, weights in found.items():
        if name.endswith("_attention_weights"):
            # The mean over the heads; the residual connection is an identity matrix.
            mean = np.mean(np.asarray(weights[0], np.float32), axis=0)
            mean = (mean + np.eye(len(mean))) / 2
            rollout = mean if rollout is None else mean @ rollout
    grid = next(w for w in model.layers if hasattr(w, "grid_size")).grid_size
    mask = rollout[0, 1:].reshape(*grid, 1)
    mask = tf.image.resize(mask / mask.max(), image.shape[:2]).numpy()
    return (mask * image).astype(np.uint8)
