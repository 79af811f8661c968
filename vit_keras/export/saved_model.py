"""SavedModels that serve without vit_keras."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from vit_keras import compat, two_towers

# The last layer's name to what its output is called for those who serve it.
_OUTPUT_NAMES = {"head": "logits", "probabilities": "probabilities"}


def export_saved_model(
    model: keras.Model, directory: str | os.PathLike, *, overwrite: bool = False
) -> None:
    """Writes `model` as a SavedModel with named signatures and a dynamic batch size.

    Signatures, each from a tensor named `image` (batch, height, width, channels):
      serving_default: float32 in [-1, 1], what the model itself takes.
      serving_uint8: pixels 0..255 as they come out of an image decoder.
    Both give `logits`, or `probabilities` for a model that ends in an activation, or `features`
    for one without a head; a model with several outputs gives them under their own names.

    Two towers have others: serving_default takes `image` and `tokens` and gives what the model
    gives; `image` and `text` give the embeddings of one of them, `zimg` and `ztxt`.

    It loads with `tf.saved_model.load` where vit_keras isn't installed, and on the classic stack
    also with `tf.keras.models.load_model`.

    Args:
      model: a model of this package with one image input.
      directory: to be made; written under a temporary name first.
      overwrite: replace a directory that exists.

    Raises:
      ValueError: `directory` exists and `overwrite` is False, or the model's input isn't images.
    """
    directory = Path(directory)
    if directory.exists() and not overwrite:
        raise ValueError(f"directory {str(directory)!r} exists; pass overwrite=True to replace it.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        compat.write_saved_model(model, str(temporary), _signatures(model))
        temporary.chmod(0o755)
        if directory.exists():
            shutil.rmtree(directory)
        temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _signatures(model: keras.Model) -> dict[str, Any]:
    if {"img", "txt", "similarity"} <= {layer.name for layer in model.layers}:
        return _signatures_of_towers(model)
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ValueError(f"model takes inputs of shape {shape}; expected one batch of images.")

    def serve(image):
        return _named(model, model(image, training=False))

    def serve_uint8(image):
        return serve((tf.cast(image, tf.float32) - 127.5) / 127.5)

    def signature(function, dtype):
        spec = tf.TensorSpec([None, *shape[1:]], dtype, name="image")
        return tf.function(function, input_signature=[spec])

    return {
        "serving_default": signature(serve, tf.float32),
        "serving_uint8": signature(serve_uint8, tf.uint8),
    }


def _signatures_of_towers(model: keras.Model) -> dict[str, Any]:
    zimg, ztxt = two_towers.image_embeddings(model), two_towers.text_embeddings(model)
    images = tf.TensorSpec([None, *zimg.input_shape[1:]], tf.float32, name="image")
    tokens = tf.TensorSpec([None, *ztxt.input_shape[1:]], tf.int32, name="tokens")

    def compare(image, tokens):
        return model({"image": image, "tokens": tokens}, training=False)

    def embed_image(image):
        return {"zimg": zimg(image, training=False)}

    def embed_text(tokens):
        return {"ztxt": ztxt(tokens, training=False)}

    return {
        "serving_default": tf.function(compare, input_signature=[images, tokens]),
        "image": tf.function(embed_image, input_signature=[images]),
        "text": tf.function(embed_text, input_signature=[tokens]),
    }


def _named(model: keras.Model, outputs: Any) -> dict[str, tf.Tensor]:
    if isinstance(outputs, dict):
        return outputs
    if isinstance(outputs, list | tuple):
        return dict(zip(model.output_names, outputs, strict=True))
    return {_OUTPUT_NAMES.get(model.layers[-1].name, "features"): outputs}
