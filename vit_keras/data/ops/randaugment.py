"""RandAugment (arXiv 1909.13719)."""

import tensorflow as tf

from vit_keras.data import image_ops
from vit_keras.data.registry import register_op

_MAX_LEVEL = 10.0
_CUTOUT, _TRANSLATE, _ROTATE, _SHEAR = 40, 100, 30, 0.3

# name -> function of (image, level, sign, corner): level is magnitude / 10, sign +1 or -1 at
# random, corner two random numbers in [0, 1). The names, their order and their ranges are those of
# the code that was published with EfficientNet and that big_vision uses.
OPERATIONS = {
    "AutoContrast": lambda image, *_: image_ops.autocontrast(image),
    "Equalize": lambda image, *_: image_ops.equalize(image),
    "Invert": lambda image, *_: image_ops.invert(image),
    "Rotate": lambda image, level, sign, _: image_ops.rotate(image, sign * level * _ROTATE),
    "Posterize": lambda image, level, *_: image_ops.posterize(
        image, min(8, max(1, int(level * 4)))
    ),
    "Solarize": lambda image, level, *_: image_ops.solarize(image, int(level * 256)),
    "Color": lambda image, level, *_: image_ops.color(image, level * 1.8 + 0.1),
    "Contrast": lambda image, level, *_: image_ops.contrast(image, level * 1.8 + 0.1),
    "Brightness": lambda image, level, *_: image_ops.brightness(image, level * 1.8 + 0.1),
    "Sharpness": lambda image, level, *_: image_ops.sharpness(image, level * 1.8 + 0.1),
    "ShearX": lambda image, level, sign, _: image_ops.shear_x(image, sign * level * _SHEAR),
    "ShearY": lambda image, level, sign, _: image_ops.shear_y(image, sign * level * _SHEAR),
    "TranslateX": lambda image, level, sign, _: image_ops.translate_x(
        image, sign * level * _TRANSLATE
    ),
    "TranslateY": lambda image, level, sign, _: image_ops.translate_y(
        image, sign * level * _TRANSLATE
    ),
    "Cutout": lambda image, level, _, corner: _cutout(image, int(level * _CUTOUT), corner),
    "SolarizeAdd": lambda image, level, *_: image_ops.solarize_add(image, int(level * 110)),
}


@register_op("randaug")
def randaug(num_layers=2, magnitude=10):
    """Applies `num_layers` operations, drawn evenly from the 16 published ones, one after another.

    Args:
        num_layers: N in the paper, usually 1 to 3.
        magnitude: M in the paper, the strength of all operations; usually 5 to 20.
    """
    level = magnitude / _MAX_LEVEL
    functions = list(OPERATIONS.values())

    def apply(image, seed):
        shape = image.shape
        # One draw for all: which operation, its sign, and where cutout cuts.
        draws = tf.random.stateless_uniform([num_layers, 4], seed)
        for draw in tf.unstack(draws):
            sign = tf.where(draw[1] < 0.5, -1.0, 1.0)
            branches = [
                lambda image=image, f=f, sign=sign, corner=draw[2:]: tf.ensure_shape(
                    f(image, level, sign, corner), shape
                )
                for f in functions
            ]
            image = tf.switch_case(tf.cast(draw[0] * len(functions), tf.int32), branches)
        return image

    return apply


def _cutout(image: tf.Tensor, pad: int, corner: tf.Tensor) -> tf.Tensor:
    """Greys out a square of side 2 * pad around a random pixel (arXiv 1708.04552)."""
    center = tf.cast(corner * tf.cast(tf.shape(image)[:2], tf.float32), tf.int32)
    return image_ops.erase_box(image, center[0] - pad, center[1] - pad, 2 * pad, 2 * pad)
