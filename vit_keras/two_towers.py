"""Using two towers (LiT, SigLIP): embeddings, similarity, zero-shot classification.

Usage:
  >>> model = vit_keras.from_npz("LiT-L16S.npz")
  >>> zimg = two_towers.image_embeddings(model).predict(images)
  >>> classify = two_towers.zero_shot_classifier(
  ...     model, ["cat", "dog"], ["a photo of a {}."], tokenizer
  ... )
  >>> classify.predict(images)  # logits (batch, 2)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vit_keras import compat, layers


def image_embeddings(model: keras.Model) -> keras.Model:
    """From images (batch, h, w, channels) in [-1, 1] to float32 (batch, D) of length 1."""
    return _embeddings(model, "img", "zimg")


def text_embeddings(model: keras.Model) -> keras.Model:
    """From token numbers (batch, n), int32, to float32 (batch, D) of length 1."""
    return _embeddings(model, "txt", "ztxt")


def similarity(model: keras.Model) -> keras.Model:
    """From a list of image embeddings (images, D) and text embeddings (texts, D) to logits.

    They are (images, texts): `zimg · ztxtᵀ · temperature`, plus the bias if there is one.
    """
    width = _tower(model, "txt").output_shape[-1]
    zimg, ztxt = keras.Input((width,), name="zimg"), keras.Input((width,), name="ztxt")
    logits = _tower(model, "similarity")([zimg, ztxt])["similarity_logits"]
    return keras.Model([zimg, ztxt], logits, name=f"{model.name}_similarity")


def zero_shot_classifier(
    model: keras.Model,
    class_names: Sequence[str],
    templates: Sequence[str],
    tokenizer: Callable[[list[str]], Any],
    *,
    activation: str | None = None,
    batch_size: int = 256,
) -> keras.Model:
    """A classifier of images whose classes are named in words (arXiv 2103.00020, section 3.1.4).

    A class is the mean over the templates of its texts' embeddings, brought to length 1.

    Args:
      model: two towers.
      class_names: the classes, in the order of the output.
      templates: such as "a photo of a {}."; each has one {} for the name.
      tokenizer: from a list of texts to their token numbers (texts, n).
      activation: of the output, "softmax" (LiT) or "sigmoid" (SigLIP); None for logits.
      batch_size: texts that are embedded at a time.

    Returns:
      A model from images (batch, h, w, channels) in [-1, 1] to float32 logits (batch, classes):
      each image's similarity to each class, times the temperature, plus the bias if there is one.

    Raises:
      ValueError: no classes, no templates, or a template without exactly one {}.
    """
    if not class_names:
        raise ValueError("class_names is empty; expected at least one name.")
    if isinstance(class_names, str) or isinstance(templates, str):
        raise ValueError("class_names and templates are lists of texts, not one text.")
    if not templates or any(template.count("{}") != 1 for template in templates):
        raise ValueError(f"templates is {templates!r}; expected texts with one {{}} each.")
    embed = text_embeddings(model)
    texts = [template.format(name) for name in class_names for template in templates]
    embedded = np.concatenate(
        [
            np.asarray(
                embed(tf.constant(np.asarray(tokenizer(texts[i : i + batch_size]), "int32")))
            )
            for i in range(0, len(texts), batch_size)
        ]
    )
    means = embedded.reshape(len(class_names), len(templates), -1).mean(axis=1)
    classes = means / (np.linalg.norm(means, axis=-1, keepdims=True) + 1e-8)

    compare = _tower(model, "similarity")
    temperature = np.exp(compat.tf_variable(compare.t).numpy())
    bias = 0.0 if compare.b is None else compat.tf_variable(compare.b).numpy()
    images = image_embeddings(model)
    head = keras.layers.Dense(len(class_names), dtype="float32", name="zero_shot_head")
    logits = head(images.output)
    head.set_weights([classes.T * temperature, np.zeros(len(class_names)) + bias])
    if activation is not None:
        logits = keras.layers.Activation(activation, dtype="float32", name="probabilities")(logits)
    return keras.Model(images.input, logits, name=f"{model.name}_zero_shot")


def _embeddings(model: keras.Model, tower: str, name: str) -> keras.Model:
    encoder = _tower(model, tower)
    outputs = layers.UnitLength(dtype="float32", name=name)(encoder.output)
    return keras.Model(encoder.input, outputs, name=f"{model.name}_{name}")


def _tower(model: keras.Model, name: str) -> Any:
    found = [layer for layer in model.layers if layer.name == name]
    if not found:
        raise ValueError(
            f"model is {model.name!r}, which has no {name!r}; expected two towers (LiT, SigLIP)."
        )
    return found[0]
