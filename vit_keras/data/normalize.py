"""Normalisation on the device: images travel as uint8, and become floats where that is free."""

import tensorflow as tf


def normalize_image(images: tf.Tensor, dtype: tf.DType | str = tf.float32) -> tf.Tensor:
    """Maps uint8 pixels to [-1, 1] by (x - 127.5) / 127.5; floats are taken as normalised already.

    Args:
        images: `(batch, height, width, channels)` uint8 or float.
        dtype: type of the result; the arithmetic on uint8 is done in float32 before the cast.

    Returns:
        Images of the same shape in `dtype`.

    Raises:
        ValueError: if `images` is of another integer type.
    """
    if images.dtype == tf.uint8:
        return tf.cast((tf.cast(images, tf.float32) - 127.5) / 127.5, dtype)
    if not images.dtype.is_floating:
        raise ValueError(f"images must be uint8 or floating, got {images.dtype.name}.")
    return tf.cast(images, dtype)
