"""What a step minimises: from a model and a batch to one loss an example."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from vit_keras.data.normalize import normalize_image
from vit_keras.training import contrastive, losses

Batch = dict[str, tf.Tensor]
Task = Callable[[keras.Model, Batch, bool], tf.Tensor]


def classification(
    loss: losses.Loss,
    *,
    label_smoothing: float = 0.0,
    teacher: keras.Model | None = None,
    temperature: float = 1.0,
) -> Task:
    """Classification of `batch["image"]` as `batch["label"]`, or as a teacher has it.

    Args:
      loss: of logits and labels.
      label_smoothing: see `losses.soft_labels`.
      teacher: a model whose distribution takes the place of labels and loss. It sees the very same
        (cropped, mixed) image, resized to its own size: the consistent teacher of arXiv 2106.05237.
      temperature: of the distillation.
    """

    def task(model: keras.Model, batch: Batch, training: bool) -> tf.Tensor:
        images = normalize_image(batch["image"], tf.as_dtype(model.compute_dtype))
        logits = model(images, training=training)
        if teacher is not None:
            size = tuple(teacher.input_shape[1:3])
            if size != tuple(images.shape[1:3]):
                images = tf.cast(tf.image.resize(images, size), images.dtype)
            target = tf.stop_gradient(teacher(images, training=False))
            return losses.distillation(logits, target, temperature)
        labels = losses.soft_labels(batch["label"], logits.shape[-1], label_smoothing)
        return loss(logits, labels)

    return task


def two_towers(loss: str = "softmax") -> Task:
    """Image-text contrast for a two-tower model (`models.build_two_towers`).

    The batch holds `image`, and `text`: int32 token numbers (batch, length).

    Raises:
      ValueError: for a `loss` other than `softmax` and `sigmoid`.
    """
    if loss not in ("softmax", "sigmoid"):
        raise ValueError(f"loss is {loss!r}; expected 'softmax' or 'sigmoid'.")

    def task(model: keras.Model, batch: Batch, training: bool) -> tf.Tensor:
        images = normalize_image(batch["image"], tf.as_dtype(model.compute_dtype))
        outputs = model({"image": images, "tokens": batch["text"]}, training=training)
        zimg, ztxt, scale = outputs["zimg"], outputs["ztxt"], outputs["temperature"]
        if loss == "softmax":
            return contrastive.softmax_contrastive(zimg, ztxt, scale)
        return contrastive.sigmoid_contrastive(zimg, ztxt, scale, outputs.get("bias"))

    return task
