"""mixup and cutmix as the part of a training step that comes before its micro-batches."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from vit_keras.data import mixing
from vit_keras.data.normalize import normalize_image
from vit_keras.training.losses import soft_labels

Batch = dict[str, tf.Tensor]


def make_mixing(
    mixup: float, cutmix: float, num_classes: int, dtype: str | tf.DType
) -> Callable[[Batch, tf.Tensor], Batch] | None:
    """`(batch, seed) -> batch` with mixed images and labels; None if there is nothing to mix.

    Every replica mixes its own part of the batch, with its own random numbers, before it splits
    that into micro-batches: accumulation changes nothing.

    Args:
      mixup: concentration of the Beta distribution; 0: no mixup.
      cutmix: likewise. With both, each step draws one of the two with even chances.
      num_classes: of integer labels.
      dtype: floating; that images are mixed in.
    """
    if not mixup and not cutmix:
        return None

    def prepare(batch: Batch, seed: tf.Tensor) -> Batch:
        images = normalize_image(batch["image"], tf.as_dtype(dtype))
        labels = soft_labels(batch["label"], num_classes)

        def by_mixup():
            return mixing.mixup(images, labels, seed, mixup)

        def by_cutmix():
            return mixing.cutmix(images, labels, seed, cutmix)

        if mixup and cutmix:
            coin = tf.random.stateless_uniform(
                (), tf.random.experimental.stateless_fold_in(seed, 7)
            )
            images, labels = tf.cond(coin < 0.5, by_mixup, by_cutmix)
        else:
            images, labels = by_mixup() if mixup else by_cutmix()
        return {**batch, "image": images, "label": labels}

    return prepare
