"""Changes to the pixels of one image, with PIL's results for PIL's parameters.

All take and return uint8 `(height, width, 3)`, eagerly and in graphs, and draw nothing at random.
`fill` is the grey value of pixels that come from outside the image.
"""

import math
from collections.abc import Callable

import tensorflow as tf

_CHANNEL_OFFSETS = (0, 256, 512)


def blend(image: tf.Tensor, other: tf.Tensor, factor: float | tf.Tensor) -> tf.Tensor:
    """`image` for factor 0, `other` for 1, between and beyond linearly, clipped; `Image.blend`."""
    first, second = tf.cast(image, tf.float32), tf.cast(other, tf.float32)
    return tf.cast(tf.clip_by_value(first + factor * (second - first), 0.0, 255.0), tf.uint8)


def to_gray(image: tf.Tensor) -> tf.Tensor:
    """Luma as float32 whole numbers `(height, width, 1)`; `convert("L")`, exactly.

    PIL computes in fixed point; all its numbers are below 2**24, so that float32 holds them.
    """
    weights = tf.constant([[19595.0], [38470.0], [7471.0]])
    pixels = tf.reshape(tf.cast(image, tf.float32), [-1, 3])
    luma = tf.floor((tf.matmul(pixels, weights) + 0x8000) / 0x10000)
    return tf.reshape(luma, tf.concat([tf.shape(image)[:2], [1]], 0))


def brightness(image: tf.Tensor, factor: float | tf.Tensor) -> tf.Tensor:
    """`ImageEnhance.Brightness`: 0 is black, 1 the image."""
    return tf.cast(tf.clip_by_value(tf.cast(image, tf.float32) * factor, 0.0, 255.0), tf.uint8)


def color(image: tf.Tensor, factor: float | tf.Tensor) -> tf.Tensor:
    """`ImageEnhance.Color`: 0 is grey, 1 the image."""
    return blend(to_gray(image), image, factor)


def contrast(image: tf.Tensor, factor: float | tf.Tensor) -> tf.Tensor:
    """`ImageEnhance.Contrast`: 0 is the mean grey, 1 the image.

    The published RandAugment code divides by 256 where it means the number of pixels, so that its
    grey is nearly always white.
    """
    mean = tf.reduce_mean(to_gray(image))
    return blend(tf.floor(mean + 0.5), image, factor)


def sharpness(image: tf.Tensor, factor: float | tf.Tensor) -> tf.Tensor:
    """`ImageEnhance.Sharpness`: 0 is smoothed by a 3x3 filter (but for the edge), 1 the image."""

    def sharpened():
        pixels = tf.cast(image, tf.int32)
        rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
        box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
        inner = pixels[1:-1, 1:-1]
        # Neighbours count once, the pixel itself five times; rounded to the nearest.
        smooth = (2 * (box + 4 * inner) + 13) // 26
        changed = blend(smooth, inner, factor)
        middle = tf.concat([image[1:-1, :1], changed, image[1:-1, -1:]], axis=1)
        return tf.concat([image[:1], middle, image[-1:]], axis=0)

    # An image without an inside has only an edge. Where the shape is known, a graph won't even
    # build for it.
    if any(side is not None and side < 3 for side in image.shape[:2]):
        return image
    has_inside = tf.reduce_min(tf.shape(image)[:2]) > 2
    return tf.cond(has_inside, sharpened, lambda: image)


def invert(image: tf.Tensor) -> tf.Tensor:
    """`ImageOps.invert`."""
    return 255 - image


def posterize(image: tf.Tensor, bits: int) -> tf.Tensor:
    """`ImageOps.posterize`: keeps the highest 1 to 8 bits."""
    return tf.bitwise.bitwise_and(image, tf.constant(256 - (1 << (8 - bits)), tf.uint8))


def solarize(image: tf.Tensor, threshold: int = 128) -> tf.Tensor:
    """`ImageOps.solarize`: inverts the values from `threshold` on; 256 leaves all."""
    if threshold > 255:
        return image
    # x ^ 255 is 255 - x.
    return tf.bitwise.bitwise_xor(image, 255 * tf.cast(image >= threshold, tf.uint8))


def solarize_add(image: tf.Tensor, addition: int, threshold: int = 128) -> tf.Tensor:
    """Adds `addition` to values below `threshold`, clipped. Not in PIL."""
    # Masks multiplied: several times faster than tf.where.
    chosen = tf.cast(image < threshold, tf.uint8)
    if addition >= 0:
        return image + chosen * tf.minimum(255 - image, addition)
    return image - chosen * tf.minimum(image, -addition)


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """`ImageOps.autocontrast`: stretches each channel to 0..255."""
    low = tf.cast(_over_pixels(tf.reduce_min, image), tf.float64)
    high = tf.cast(_over_pixels(tf.reduce_max, image), tf.float64)
    spread = tf.maximum(high - low, 1.0)
    scale = tf.where(high > low, 255.0 / spread, tf.ones_like(spread))
    offset = tf.where(high > low, -low * scale, tf.zeros_like(spread))
    values = tf.range(256, dtype=tf.float64)
    table = tf.clip_by_value(values * scale[:, None] + offset[:, None], 0.0, 255.0)
    return _look_up(image, table)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """`ImageOps.equalize`: makes each channel's histogram flat."""
    indices = tf.reshape(tf.cast(image, tf.int32) + _CHANNEL_OFFSETS, [-1])
    histogram = tf.reshape(tf.math.bincount(indices, minlength=768, maxlength=768), [3, 256])
    highest = 255 - tf.argmax(tf.cast(histogram[:, ::-1] > 0, tf.int32), axis=1)
    last = tf.gather(histogram, highest, batch_dims=1)
    step = ((tf.reduce_sum(histogram, axis=1) - last) // 255)[:, None]
    below = tf.cumsum(histogram, axis=1, exclusive=True)
    table = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
    return _look_up(image, tf.where(step > 0, table, tf.range(256)))


def affine(image: tf.Tensor, matrix: list[float | tf.Tensor], fill: int = 128) -> tf.Tensor:
    """`Image.transform(size, AFFINE, matrix, NEAREST)`.

    Args:
        image: uint8 `(height, width, channels)`.
        matrix: (a, b, c, d, e, f): output pixel (x, y) is taken from (ax + by + c, dx + ey + f),
            where pixel centres lie at halves.
        fill: value of pixels from outside.
    """
    a, b, c, d, e, f = (tf.cast(entry, tf.float32) for entry in matrix)
    # TensorFlow puts the centres of pixels at whole numbers.
    c, f = c + (a + b - 1) / 2, f + (d + e - 1) / 2
    zero = tf.constant(0.0)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([a, b, c, d, e, f, zero, zero])[None],
        output_shape=tf.shape(image)[:2],
        fill_value=float(fill),
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]


def rotate(image: tf.Tensor, degrees: float | tf.Tensor, fill: int = 128) -> tf.Tensor:
    """`Image.rotate`: counter-clockwise around the centre, size kept."""
    radians = tf.cast(degrees, tf.float32) * (math.pi / 180)
    cos, sin = tf.cos(radians), tf.sin(radians)
    y, x = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32) / 2)
    return affine(image, [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y], fill)


def shear_x(image: tf.Tensor, level: float | tf.Tensor, fill: int = 128) -> tf.Tensor:
    """Row y is taken from `level * y` pixels further right."""
    return affine(image, [1, level, 0, 0, 1, 0], fill)


def shear_y(image: tf.Tensor, level: float | tf.Tensor, fill: int = 128) -> tf.Tensor:
    """Column x is taken from `level * x` pixels further down."""
    return affine(image, [1, 0, 0, level, 1, 0], fill)


def translate_x(image: tf.Tensor, pixels: float | tf.Tensor, fill: int = 128) -> tf.Tensor:
    """Moves the image to the left, by whole pixels: `pixels` is rounded, as PIL does."""
    return _shift(image, 1, pixels, fill)


def translate_y(image: tf.Tensor, pixels: float | tf.Tensor, fill: int = 128) -> tf.Tensor:
    """Moves the image up, by whole pixels: `pixels` is rounded, as PIL does."""
    return _shift(image, 0, pixels, fill)


def erase_box(
    image: tf.Tensor,
    top: int | tf.Tensor,
    left: int | tf.Tensor,
    height: int | tf.Tensor,
    width: int | tf.Tensor,
    fill: int | tf.Tensor = 128,
) -> tf.Tensor:
    """Fills a box, which may reach beyond the image, with a value or with another image."""
    shape = tf.shape(image)
    rows = tf.range(shape[0])
    columns = tf.repeat(tf.range(shape[1]), shape[2])
    # Broadcast over two dimensions rather than three: much faster.
    inside = ((rows >= top) & (rows < top + height))[:, None] & (
        (columns >= left) & (columns < left + width)
    )
    flat = [shape[0], shape[1] * shape[2]]
    fill = tf.cast(fill, image.dtype)
    fill = tf.reshape(fill, flat) if fill.shape.rank else fill
    return tf.reshape(tf.where(inside, fill, tf.reshape(image, flat)), shape)


def _shift(image: tf.Tensor, axis: int, pixels: float | tf.Tensor, fill: int) -> tf.Tensor:
    size = tf.shape(image)[axis]
    pixels = tf.cast(tf.floor(tf.cast(pixels, tf.float32) + 0.5), tf.int32)
    pixels = tf.clip_by_value(pixels, -size, size)
    padding = [[0, 0]] * 3
    padding[axis] = [tf.maximum(-pixels, 0), tf.maximum(pixels, 0)]
    padded = tf.pad(image, padding, constant_values=fill)
    begin = [0, 0, 0]
    begin[axis] = tf.maximum(pixels, 0)
    return tf.ensure_shape(tf.slice(padded, begin, tf.shape(image)), image.shape)


def _over_pixels(reduce: Callable, image: tf.Tensor) -> tf.Tensor:
    """Reduces to one value per channel; first over rows, where memory is contiguous."""
    shape = tf.shape(image)
    pixels = tf.cast(image, tf.float32)  # Which has the vectorised reduction.
    rows = reduce(tf.reshape(pixels, [shape[0], shape[1] * shape[2]]), axis=0)
    return reduce(tf.reshape(rows, [shape[1], shape[2]]), axis=0)


def _look_up(image: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Replaces value v of channel c by table[c, v], truncated to uint8."""
    table = tf.reshape(tf.cast(table, tf.uint8), [-1])
    return tf.gather(table, tf.cast(image, tf.int32) + _CHANNEL_OFFSETS)
