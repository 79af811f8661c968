"""Decoding, resizing, cropping, flipping. Names and arguments are big_vision's.

Resizing keeps the type of the image unless told otherwise; integers are rounded, not truncated.
"""

import tensorflow as tf

from vit_keras.data.decode import decode_image, is_jpeg, turn_upright
from vit_keras.data.registry import register_op


@register_op("decode")
def decode(channels=3, precise=False):
    """Decodes any supported image; an image that is decoded already passes through.

    `precise=True` decodes JPEG as PIL does, bit for bit; the default is faster.
    """

    def apply(image):
        return decode_image(image, channels, precise) if image.dtype == tf.string else image

    return apply


@register_op("resize")
def resize(size, method="bilinear", antialias=False, dtype=None):
    """Resizes to `size` (a side or (height, width)), changing the aspect ratio if need be."""
    size = _pair(size)

    def apply(image):
        return _resize(image, size, method, antialias, dtype)

    return apply


@register_op("resize_small")
def resize_small(smaller_size, method="area", antialias=False, dtype=None):
    """Resizes so that the smaller side is `smaller_size`, keeping the aspect ratio."""
    return lambda image: _resize_side(image, tf.minimum, smaller_size, method, antialias, dtype)


@register_op("resize_long")
def resize_long(longer_size, method="area", antialias=True, dtype=None):
    """Resizes so that the longer side is `longer_size`, keeping the aspect ratio."""
    return lambda image: _resize_side(image, tf.maximum, longer_size, method, antialias, dtype)


@register_op("central_crop")
def central_crop(crop_size=None):
    """Cuts out the middle: `crop_size` (a side or (height, width)), or the largest square."""

    def apply(image):
        shape = tf.shape(image)
        height, width = _pair(crop_size) if crop_size else (tf.minimum(shape[0], shape[1]),) * 2
        top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
        return tf.image.crop_to_bounding_box(image, top, left, height, width)

    return apply


@register_op("random_crop")
def random_crop(crop_size):
    """Cuts out a random part of `crop_size` (a side or (height, width))."""
    size = _pair(crop_size)

    def apply(image, seed):
        return tf.image.stateless_random_crop(image, [*size, image.shape[-1]], seed)

    return apply


@register_op("inception_crop")
def inception_crop(
    size=None,
    area_min=5,
    area_max=100,
    ratio_min=3 / 4,
    ratio_max=4 / 3,
    method="bilinear",
    antialias=False,
    dtype=None,
):
    """Random crop of `area_min` to `area_max` % of the area, then a resize to `size`.

    From "Going deeper with convolutions" (arXiv 1409.4842), section 6.
    """

    def apply(image, seed):
        top, left, height, width = _random_box(
            tf.shape(image), seed, area_min, area_max, ratio_min, ratio_max
        )
        crop = image[top : top + height, left : left + width]
        return _resize(crop, _pair(size), method, antialias, dtype) if size else crop

    return apply


@register_op("decode_jpeg_and_inception_crop")
def decode_jpeg_and_inception_crop(
    size=None,
    area_min=5,
    area_max=100,
    ratio_min=3 / 4,
    ratio_max=4 / 3,
    method="bilinear",
    antialias=False,
    dtype=None,
):
    """`decode|inception_crop(...)` in one operation, which decodes only the rows of the crop.

    Other formats than JPEG are decoded whole; a decoded image is only cropped.
    """
    box = (area_min, area_max, ratio_min, ratio_max)
    crop_decoded = inception_crop(None, *box)

    def crop_jpeg(encoded, seed):
        window = _random_box(tf.io.extract_jpeg_shape(encoded), seed, *box)
        image = tf.image.decode_and_crop_jpeg(encoded, tf.stack(window), channels=3)
        return turn_upright(image, encoded)

    def apply(image, seed):
        if image.dtype == tf.string:
            image = tf.cond(
                is_jpeg(image),
                lambda: crop_jpeg(image, seed),
                lambda: crop_decoded(decode_image(image), seed),
            )
            image = tf.ensure_shape(image, [None, None, 3])
        else:
            image = crop_decoded(image, seed)
        return _resize(image, _pair(size), method, antialias, dtype) if size else image

    return apply


@register_op("flip_lr")
def flip_lr(probability=0.5):
    """Mirrors left and right with this probability."""

    def apply(image, seed):
        flip = tf.random.stateless_uniform([], seed) < probability
        # Not image[:, ::-1]: tf.reverse is many times faster.
        return tf.cond(flip, lambda: tf.reverse(image, [1]), lambda: image)

    return apply


def _pair(size) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _resize(image, size, method, antialias, dtype) -> tf.Tensor:
    # "area" on TensorFlow's side ignores antialias: it averages anyway.
    dtype = image.dtype if dtype is None else tf.as_dtype(dtype)
    image = tf.image.resize(image, size, method=method, antialias=antialias)
    if dtype == tf.uint8 and method in ("bilinear", "area", "nearest"):
        # Averages of pixels need no clipping, and adding a half is the cheapest way to round.
        return tf.cast(tf.cast(image, tf.float32) + 0.5, dtype)
    return tf.saturate_cast(tf.round(image) if dtype.is_integer else image, dtype)


def _resize_side(image, pick, side, method, antialias, dtype) -> tf.Tensor:
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    factor = side / pick(shape[0], shape[1])
    size = tf.cast(tf.maximum(1.0, tf.round(shape * factor)), tf.int32)
    return _resize(image, size, method, antialias, dtype)


def _random_box(shape, seed, area_min, area_max, ratio_min, ratio_max) -> list[tf.Tensor]:
    """[top, left, height, width] of a random part of an image of this shape."""
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        tf.zeros([1, 0, 4], tf.float32),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=(ratio_min, ratio_max),
        area_range=(area_min / 100, area_max / 100),
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    return [begin[0], begin[1], size[0], size[1]]
