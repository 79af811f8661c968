"""Random erasing (arXiv 1708.04896)."""

import math

import tensorflow as tf

from vit_keras.data import image_ops
from vit_keras.data.registry import register_op


@register_op("random_erasing")
def random_erasing(probability=0.25, area_min=2, area_max=100 / 3, ratio_min=0.3, fill="noise"):
    """Fills a random box of a uint8 image.

    Args:
        probability: of erasing anything.
        area_min: smallest area of the box, % of the image.
        area_max: largest area.
        ratio_min: smallest ratio of the box's sides; the largest is 1 / ratio_min.
        fill: "noise" for random pixels, or a grey value from 0 to 255.
    """

    def apply(image, seed):
        def erased():
            shape = tf.cast(tf.shape(image), tf.float32)
            draws = tf.random.stateless_uniform([4], tf.add(seed, [0, 1]))
            area = (area_min + draws[0] * (area_max - area_min)) / 100 * shape[0] * shape[1]
            ratio = tf.exp((2.0 * draws[1] - 1.0) * math.log(ratio_min))
            height = tf.minimum(tf.round(tf.sqrt(area * ratio)), shape[0])
            width = tf.minimum(tf.round(tf.sqrt(area / ratio)), shape[1])
            top = tf.floor(draws[2] * (shape[0] - height + 1))
            left = tf.floor(draws[3] * (shape[1] - width + 1))
            box = [tf.cast(side, tf.int32) for side in (top, left, height, width)]
            pixels = fill
            if fill == "noise":
                pixels = tf.random.stateless_uniform(
                    tf.shape(image), tf.add(seed, [0, 2]), 0, 256, dtype=tf.int32
                )
            return image_ops.erase_box(image, *box, pixels)

        erase = tf.random.stateless_uniform([], seed) < probability
        return tf.cond(erase, erased, lambda: image)

    return apply
