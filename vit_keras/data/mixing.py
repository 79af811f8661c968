"""Mixing pairs of images of a batch on the device: mixup and cutmix.

Pure functions of a batch and a stateless seed, called from the training step. The partner of each
image is its neighbour, the batch rolled by one.
"""

import numpy as np
import tensorflow as tf


def mixup(
    images: tf.Tensor, onehot_labels: tf.Tensor, seed: tf.Tensor, p: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """mixup (arXiv 1710.09412) in big_vision's form: one lambda = max(l, 1 - l) for the batch.

    Args:
        images: `(batch, height, width, channels)`, floating.
        onehot_labels: `(batch, classes)`, floating.
        seed: integers of shape (2,).
        p: l is drawn from Beta(p, p); 0 leaves everything as it is.

    Returns:
        lambda * x + (1 - lambda) * roll(x) of images and labels, in their own types.

    Raises:
        ValueError: for a `p` outside [0, 2], or images or labels that aren't floating.
    """
    _check(images, onehot_labels, p, "p")
    if p == 0:
        return images, onehot_labels
    mix = _draw_beta(seed, p)
    mix = tf.maximum(mix, 1.0 - mix)
    return _blend(images, mix), _blend(onehot_labels, mix)


def cutmix(
    images: tf.Tensor, onehot_labels: tf.Tensor, seed: tf.Tensor, alpha: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """CutMix (arXiv 1905.04899, section 3.1): a box of the partner is pasted into each image.

    The box is the same for the whole batch. Its area is 1 - l of the image, l ~ Beta(alpha,
    alpha), less what lies outside; labels are mixed by the area that was really pasted.

    Args: as for `mixup`, `alpha` in the place of `p`.
    """
    _check(images, onehot_labels, alpha, "alpha")
    if alpha == 0:
        return images, onehot_labels
    height, width = images.shape[1], images.shape[2]
    side = tf.sqrt(1.0 - _draw_beta(seed, alpha))
    center = tf.random.stateless_uniform([2], seed)

    def inside(middle, size):
        # Whole pixels: start and end are rounded, clipped by the image's edge.
        start = tf.round((middle - side / 2) * size)
        end = tf.round((middle + side / 2) * size)
        pixel = tf.range(size, dtype=tf.float32)
        return tf.cast((pixel >= start) & (pixel < end), tf.float32)

    box = inside(center[0], height)[:, None] * inside(center[1], width)[None, :]
    kept = 1.0 - tf.reduce_mean(box)
    pasted = tf.cast(box, tf.bool)[None, :, :, None]
    return tf.where(pasted, tf.roll(images, 1, axis=0), images), _blend(onehot_labels, kept)


def _blend(values: tf.Tensor, mix: tf.Tensor) -> tf.Tensor:
    mix = tf.cast(mix, values.dtype)
    return mix * values + (1 - mix) * tf.roll(values, 1, axis=0)


def _draw_beta(seed: tf.Tensor, concentration: float) -> tf.Tensor:
    """A float32 scalar from Beta(concentration, concentration)."""
    # Jöhnk's method: of u^(1/a) and v^(1/a) the first's share is Beta(a, a), given that they sum to
    # at most 1. Rather than to retry in a loop, which suits no TPU, draw many pairs and take the
    # first that fits. Of 256 none fits with a probability below 1e-20 for a <= 2. In logarithms,
    # because a small `a` would underflow.
    seed = tf.stack([seed[0], seed[1] + 1])
    uniform = tf.random.stateless_uniform([2, 256], seed, minval=np.finfo(np.float32).tiny)
    logs = tf.math.log(uniform) / concentration
    fits = tf.reduce_logsumexp(logs, axis=0) <= 0.0
    return tf.sigmoid(logs[0] - logs[1])[tf.argmax(tf.cast(fits, tf.int32))]


def _check(images: tf.Tensor, onehot_labels: tf.Tensor, parameter: float, name: str) -> None:
    if not 0 <= parameter <= 2:
        raise ValueError(f"{name} must be between 0 and 2, got {parameter}.")
    for what, tensor in (("images", images), ("onehot_labels", onehot_labels)):
        if not tensor.dtype.is_floating:
            raise ValueError(f"{what} must be floating, got {tensor.dtype.name}.")
