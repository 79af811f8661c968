"""Encoded bytes to upright RGB pixels, for any image a person may have in a folder."""

import tensorflow as tf

_ORIENTATION_TAG = 0x0112


def is_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Whether the bytes begin as a JPEG file does."""
    return tf.equal(tf.strings.substr(encoded, 0, 3), b"\xff\xd8\xff")


def decode_image(encoded: tf.Tensor, channels: int = 3, precise: bool = False) -> tf.Tensor:
    """Decodes JPEG (also CMYK), PNG (also 16 bit, palette, transparent), GIF and BMP.

    16-bit images keep their high bytes, transparency is dropped, of an animation the first frame
    is taken, and a JPEG with an EXIF orientation is turned upright.

    Args:
        encoded: scalar string.
        channels: 3, or 1 for grey.
        precise: use the accurate integer DCT for JPEG, as PIL does, rather than the fast one.

    Returns:
        uint8 `(height, width, channels)`.
    """

    def jpeg():
        method = "INTEGER_ACCURATE" if precise else ""
        image = tf.io.decode_jpeg(encoded, channels=channels, dct_method=method)
        return turn_upright(image, encoded)

    def other():
        return tf.io.decode_image(encoded, channels=channels, expand_animations=False)

    image = tf.cond(is_jpeg(encoded), jpeg, other)
    return tf.ensure_shape(image, [None, None, channels])


def turn_upright(image: tf.Tensor, jpeg: tf.Tensor) -> tf.Tensor:
    """Turns or mirrors pixels as the EXIF orientation of the JPEG file says they must be shown."""
    shape = [None, None, image.shape[-1]]
    start = _exif_start(jpeg)

    def turned():
        turns = [
            lambda: image,
            lambda: tf.reverse(image, [1]),
            lambda: tf.reverse(image, [0, 1]),
            lambda: tf.reverse(image, [0]),
            lambda: tf.transpose(image, [1, 0, 2]),
            lambda: tf.reverse(tf.transpose(image, [1, 0, 2]), [1]),
            lambda: tf.reverse(tf.transpose(image, [1, 0, 2]), [0, 1]),
            lambda: tf.reverse(tf.transpose(image, [1, 0, 2]), [0]),
        ]
        return tf.ensure_shape(tf.switch_case(_orientation(jpeg, start) - 1, turns), shape)

    return tf.ensure_shape(tf.cond(start >= 0, turned, lambda: image), shape)


def _exif_start(jpeg: tf.Tensor) -> tf.Tensor:
    """Offset of the TIFF header in the EXIF segment, or -1.

    The segment is the first in the file, or the second if a JFIF header comes first.
    """
    head = tf.io.decode_raw(tf.strings.substr(jpeg, 0, 6), tf.uint8, fixed_length=6)
    head = tf.cast(head, tf.int32)
    segment = tf.where(tf.equal(head[3], 0xE0), 4 + head[4] * 256 + head[5], 2)
    length = tf.strings.length(jpeg)
    # Regular expressions would take the bytes for UTF-8.
    segment = tf.minimum(segment, length)
    marker = tf.strings.substr(jpeg, segment, 2)
    kind = tf.strings.substr(jpeg, tf.minimum(segment + 4, length), 6)
    is_exif = tf.equal(marker, b"\xff\xe1") & tf.equal(kind, b"Exif\x00\x00")
    return tf.where(is_exif, segment + 10, -1)


def _orientation(jpeg: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """The orientation, 1 to 8; 1 if there is none or the EXIF data makes no sense."""
    tiff = tf.cast(tf.io.decode_raw(tf.strings.substr(jpeg, start, 4096), tf.uint8), tf.int32)
    size = tf.size(tiff)
    tiff = tf.pad(tiff, [[0, 16]])
    little_endian = tf.equal(tiff[0], ord("I"))
    weights = tf.where(little_endian, [1, 256], [256, 1])

    def number(byte_pairs):
        return tf.reduce_sum(byte_pairs * weights, axis=-1)

    # The directory's offset has four bytes; the two high ones are zero within 4096 bytes.
    directory = number(tf.where(little_endian, tiff[4:6], tiff[6:8]))
    directory = tf.clip_by_value(directory, 0, size)
    count = tf.minimum(number(tiff[directory : directory + 2]), (size - directory) // 12)
    entries = tf.reshape(tiff[directory + 2 : directory + 2 + count * 12], [-1, 12])
    is_orientation = tf.equal(number(entries[:, 0:2]), _ORIENTATION_TAG)
    found = tf.boolean_mask(number(entries[:, 8:10]), is_orientation)
    orientation = tf.concat([found, [1]], axis=0)[0]
    return tf.where((orientation >= 1) & (orientation <= 8), orientation, 1)
