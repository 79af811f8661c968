"""Every change of pixels against PIL, for the same parameters, eagerly and in tf.data."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image

from vit_keras.data import image_ops, registry
from vit_keras.data.ops.randaugment import OPERATIONS

PHOTO = load_sample_image("china.jpg")[100:221, 200:350]
# Flat and narrow-ranged channels are where histograms go wrong.
NARROW = np.stack([PHOTO[..., 0] // 4 + 50, np.full(PHOTO.shape[:2], 7), PHOTO[..., 2]], -1)
IMAGES = {"photo": PHOTO, "narrow": NARROW.astype(np.uint8), "pixel": PHOTO[:1, :1]}


def affine_of_pil(image, matrix):
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=(128,) * 3
    )


CASES = {
    "autocontrast": (image_ops.autocontrast, ImageOps.autocontrast, [()]),
    "equalize": (image_ops.equalize, ImageOps.equalize, [()]),
    "invert": (image_ops.invert, ImageOps.invert, [()]),
    "posterize": (image_ops.posterize, ImageOps.posterize, [(1,), (4,), (8,)]),
    "solarize": (image_ops.solarize, ImageOps.solarize, [(0,), (100,), (255,), (256,)]),
    "color": (image_ops.color, lambda i, f: ImageEnhance.Color(i).enhance(f), [(0.1,), (1.9,)]),
    "contrast": (
        image_ops.contrast,
        lambda i, f: ImageEnhance.Contrast(i).enhance(f),
        [(0.0,), (0.1,), (1.0,), (1.9,)],
    ),
    "brightness": (
        image_ops.brightness,
        lambda i, f: ImageEnhance.Brightness(i).enhance(f),
        [(0.0,), (0.5,), (1.9,)],
    ),
    "sharpness": (
        image_ops.sharpness,
        lambda i, f: ImageEnhance.Sharpness(i).enhance(f),
        [(0.0,), (0.1,), (1.0,), (1.9,)],
    ),
    "to_gray": (
        lambda i: tf.cast(tf.repeat(image_ops.to_gray(i), 3, -1), tf.uint8),
        lambda i: i.convert("L").convert("RGB"),
        [()],
    ),
    "erase_box": (
        image_ops.erase_box,
        lambda i, top, left, h, w: (i.paste((128,) * 3, (left, top, left + w, top + h)), i)[1],
        [(10, 20, 30, 40), (-5, -5, 20, 20), (110, 140, 50, 50)],
    ),
}
GEOMETRIC = {
    "rotate": (
        image_ops.rotate,
        lambda i, d: i.rotate(d, Image.Resampling.NEAREST, fillcolor=(128,) * 3),
        [(0.0,), (30.0,), (-17.3,), (145.0,)],
    ),
    "shear_x": (
        image_ops.shear_x,
        lambda i, v: affine_of_pil(i, (1, v, 0, 0, 1, 0)),
        [(0.3,), (-0.17,)],
    ),
    "shear_y": (
        image_ops.shear_y,
        lambda i, v: affine_of_pil(i, (1, 0, 0, v, 1, 0)),
        [(0.3,), (-0.17,)],
    ),
    "translate_x": (
        image_ops.translate_x,
        lambda i, v: affine_of_pil(i, (1, 0, v, 0, 1, 0)),
        [(30.0,), (-7.0,), (1000.0,)],
    ),
    "translate_y": (
        image_ops.translate_y,
        lambda i, v: affine_of_pil(i, (1, 0, 0, 0, 1, v)),
        [(30.0,), (-7.0,)],
    ),
}


def in_tf_data(function, image):
    dataset = tf.data.Dataset.from_tensors(image).map(function)
    return dataset.get_single_element().numpy()


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("name", CASES)
def test_equals_pil(name, image):
    ours, theirs, parameters = CASES[name]
    for args in parameters:
        expected = np.asarray(theirs(Image.fromarray(IMAGES[image]), *args))
        got = ours(tf.constant(IMAGES[image]), *args).numpy()
        np.testing.assert_array_equal(got, expected, err_msg=f"{name}{args}")
        np.testing.assert_array_equal(
            in_tf_data(lambda x, args=args: ours(x, *args), IMAGES[image]), expected
        )


@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometry_as_pil(name):
    """PIL rounds coordinates to 1/65536; that may move a few pixels by one, and no more."""
    ours, theirs, parameters = GEOMETRIC[name]
    for args in parameters:
        expected = np.asarray(theirs(Image.fromarray(PHOTO), *args))
        got = ours(tf.constant(PHOTO), *args).numpy()
        different = np.any(got != expected, axis=-1).mean()
        assert different < 0.01, f"{name}{args}: {different:.2%} of the pixels differ"
        graph = in_tf_data(lambda x, args=args: ours(x, *args), PHOTO)
        np.testing.assert_array_equal(graph, got)


def test_solarize_add():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, -1)
    expected = np.where(image < 128, np.minimum(image.astype(int) + 110, 255), image)
    np.testing.assert_array_equal(image_ops.solarize_add(tf.constant(image), 110), expected)
    dark = image_ops.solarize_add(tf.constant(image), -50).numpy()
    np.testing.assert_array_equal(dark, np.where(image < 128, np.maximum(image - 50.0, 0), image))


def test_hue_near_pil():
    """PIL has hue in 8 bits only, so that colours agree on average, not one by one."""
    turned = np.asarray(Image.fromarray(PHOTO).convert("HSV")).copy()
    turned[..., 0] += 64
    expected = np.asarray(Image.fromarray(turned, "HSV").convert("RGB")).astype(float)
    got = tf.image.adjust_hue(tf.constant(PHOTO), 64 / 256).numpy().astype(float)
    assert np.abs(got - expected).mean() < 2


def test_randaugment_reaches_every_operation():
    """Each layer applies one of the published operations, drawn about evenly, seed by seed."""
    image = tf.constant(PHOTO)
    level, results = 0.6, {}
    for name, function in OPERATIONS.items():
        for sign in (-1.0, 1.0):
            results[function(image, level, sign, tf.zeros(2)).numpy().tobytes()] = name
    apply = registry.build_pipeline("randaug(1, 6)")
    step = tf.function(lambda seed: apply({"image": image}, seed)["image"])
    counts = dict.fromkeys(OPERATIONS, 0)
    for seed in range(400):
        got = step(tf.constant([seed, 7], tf.int64)).numpy().tobytes()
        # Where cutout cuts is random: it is what is left over.
        counts[results.get(got, "Cutout")] += 1
    assert len(OPERATIONS) == 16
    assert all(8 <= count <= 50 for count in counts.values()), counts


@pytest.mark.parametrize(
    "pipeline", ["randaug(2, 10)", "color_jitter(hue=0.1)", "random_erasing(1.0)", "flip_lr",
                 "inception_crop(32)", "random_crop(32)"]
)  # fmt: skip
def test_random_operations_depend_on_the_seed_alone(pipeline):
    apply = registry.build_pipeline(pipeline)
    seeds = tf.stack([tf.zeros([8], tf.int64), tf.range(8, dtype=tf.int64)], 1)
    eager = [apply({"image": tf.constant(PHOTO)}, seed)["image"].numpy() for seed in seeds]
    dataset = tf.data.Dataset.from_tensor_slices(seeds)
    graph = list(dataset.map(lambda seed: apply({"image": PHOTO}, seed)["image"]))
    for a, b in zip(eager, graph, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({a.tobytes() for a in eager}) > 1
    assert all(a.dtype == np.uint8 for a in eager)


def test_random_erasing_erases_its_share():
    apply = registry.build_pipeline("random_erasing(1.0, area_min=10, area_max=10, fill=0)")
    white = tf.fill([100, 100, 3], tf.constant(255, tf.uint8))
    for seed in range(20):
        erased = apply({"image": white}, tf.constant([seed, 0], tf.int64))["image"].numpy() == 0
        rows, columns = np.where(erased[..., 0])
        assert 0.08 < erased.mean() < 0.12
        assert erased[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()


def test_color_jitter_stays_in_its_range():
    apply = registry.build_pipeline("color_jitter(0.5, 0, 0)")
    gray = tf.fill([4, 4, 3], tf.constant(100, tf.uint8))
    values = [
        int(apply({"image": gray}, tf.constant([seed, 0], tf.int64))["image"][0, 0, 0])
        for seed in range(50)
    ]
    assert min(values) >= 50
    assert max(values) <= 150
    assert max(values) - min(values) > 60
