"""Images of every kind that people have."""

import io

import data_helpers
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from vit_keras.data import registry
from vit_keras.data.decode import decode_image

PHOTO = data_helpers.photo()


def difference(got, expected):
    return np.abs(np.asarray(got, float) - np.asarray(expected, float)).mean()


@pytest.mark.parametrize("pipeline", ["decode", "decode_jpeg_and_inception_crop(area_min=100)"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_exif_orientation(orientation, byte_order, pipeline):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif[0x0112] = orientation
    exif.endian = "<" if byte_order == "little" else ">"
    encoded = data_helpers.encode(PHOTO, "JPEG", exif=exif, quality=95)
    assert (b"MM\x00*" in encoded[:64]) == (byte_order == "big")
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    got = registry.build_pipeline(pipeline)({"image": encoded}, tf.constant([1, 2], tf.int64))
    if pipeline == "decode":
        assert difference(got["image"], upright) < 1.5
    else:
        # The whole area, as far as the aspect ratio allows: landscape turns into portrait.
        assert got["image"].shape[0] <= upright.size[1]
        assert got["image"].shape[1] <= upright.size[0]


def test_nonsense_in_exif():
    encoded = data_helpers.encode(PHOTO, "JPEG", quality=95)
    for tiff in (b"", b"II*\x00\xff\xff\xff\xff", b"MM\x00*\x00\x00\x00\x08\xff\xff", b"XX" * 20):
        segment = b"Exif\x00\x00" + tiff
        segment = b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
        got = decode_image(tf.constant(encoded[:2] + segment + encoded[2:]))
        assert difference(got, Image.open(io.BytesIO(encoded))) < 1.5


def test_precise_is_pil():
    encoded = data_helpers.encode(PHOTO, "JPEG")
    got = registry.build_pipeline("decode(precise=True)")({"image": encoded}, tf.zeros(2, tf.int64))
    np.testing.assert_array_equal(got["image"], Image.open(io.BytesIO(encoded)))


def gray16():
    return (PHOTO[..., 0].astype(np.uint16) * 257).astype(np.uint16)


def animation():
    frames = [Image.fromarray(PHOTO), Image.fromarray(255 - PHOTO)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def saved(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


RGB = Image.fromarray(PHOTO)
ODD = {
    "png": (lambda: saved(RGB, "PNG"), PHOTO, 0),
    "16-bit png": (
        lambda: data_helpers.encode(gray16(), "PNG"),
        PHOTO[..., :1].repeat(3, -1),
        0,
    ),
    "gray png": (lambda: saved(RGB.convert("L"), "PNG"), RGB.convert("L").convert("RGB"), 0),
    "palette png": (
        lambda: saved(RGB.quantize(64), "PNG"),
        RGB.quantize(64).convert("RGB"),
        0,
    ),
    "transparent png": (lambda: saved(RGB.convert("RGBA"), "PNG"), PHOTO, 0),
    "gray jpeg": (lambda: saved(RGB.convert("L"), "JPEG"), None, 1.5),
    "cmyk jpeg": (lambda: saved(RGB.convert("CMYK"), "JPEG"), None, 1.5),
    "progressive jpeg": (lambda: saved(RGB, "JPEG", progressive=True), None, 1.5),
    "animated gif": (animation, None, 0),
    "bmp": (lambda: saved(RGB, "BMP"), PHOTO, 0),
    "one pixel": (lambda: data_helpers.encode(PHOTO[:1, :1], "PNG"), PHOTO[:1, :1], 0),
    "one-pixel jpeg": (lambda: data_helpers.encode(PHOTO[:1, :1], "JPEG"), None, 1.5),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_images(name):
    make, expected, tolerance = ODD[name]
    encoded = make()
    if expected is None:
        expected = Image.open(io.BytesIO(encoded)).convert("RGB")
    eager = decode_image(tf.constant(encoded))
    assert eager.shape == np.asarray(expected).shape
    assert difference(eager, expected) <= tolerance
    for pipeline in ("decode|resize(8)", "decode_jpeg_and_inception_crop(8)|flip_lr",
                     "decode|resize_small(9)|central_crop(8)"):  # fmt: skip
        apply = registry.build_pipeline(pipeline)
        dataset = tf.data.Dataset.from_tensors(encoded).map(
            lambda image, apply=apply: apply({"image": image}, tf.constant([3, 4], tf.int64))
        )
        image = dataset.get_single_element()["image"]
        assert image.shape == (8, 8, 3)
        assert image.dtype == tf.uint8
        assert abs(float(np.mean(image)) - float(np.mean(expected))) < 60
