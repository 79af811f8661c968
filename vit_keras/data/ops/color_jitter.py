"""Random changes of brightness, contrast, saturation and hue."""

import tensorflow as tf

from vit_keras.data import image_ops
from vit_keras.data.registry import register_op


@register_op("color_jitter")
def color_jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.0):
    """Jitters a uint8 image, in the order of the arguments.

    Args:
        brightness: the factor is drawn from [max(0, 1 - brightness), 1 + brightness].
        contrast: likewise.
        saturation: likewise.
        hue: hues are turned by up to this fraction of the circle, at most 0.5.
    """

    def factor(draw, strength):
        low = max(0.0, 1.0 - strength)
        return low + draw * (1.0 + strength - low)

    def apply(image, seed):
        draws = tf.random.stateless_uniform([4], seed)
        if brightness:
            image = image_ops.brightness(image, factor(draws[0], brightness))
        if contrast:
            image = image_ops.contrast(image, factor(draws[1], contrast))
        if saturation:
            image = image_ops.color(image, factor(draws[2], saturation))
        if hue:
            image = tf.image.adjust_hue(image, (2.0 * draws[3] - 1.0) * hue)
        return image

    return apply
