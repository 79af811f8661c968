"""How fast the input pipeline is, against the limit that JPEG decoding sets and against others.

    python tools/bench_input.py [--images=2048] [--rounds=5]

Makes JPEGs of ImageNet's size and quality from scikit-learn's two sample photographs, then measures
in one run, in interleaved rounds, training and evaluation at 224 px:
    decode      bare `tf.io.decode_jpeg` of bytes in memory, the limit
    vit_keras   this project's pipelines, from files
    keras       `image_dataset_from_directory` and Keras augmentation layers (zoom and flip)
    original    the original's order of operations, written plainly in tf.data: shuffle, decode,
                crop, resize, flip, normalise, batch
The figure is images per second of processor time, that is per core: it doesn't depend on how many
cores there are, nor on what else runs on them. Ratios are medians over the rounds. Wall time is
shown beside it. From it follows how many cores a TPU's host needs.
"""

import json
import os
import statistics
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from PIL import Image
from sklearn.datasets import load_sample_images
from tqdm import tqdm

from vit_keras import data
from vit_keras.data import presets

_IMAGES = flags.DEFINE_integer("images", 2048, "JPEG files to make.", lower_bound=256)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Times that everything is measured.", lower_bound=1)
_PER_ROUND = flags.DEFINE_integer("per_round", 1024, "Images per measurement.", lower_bound=256)
_SIZE = flags.DEFINE_integer("size", 224, "Side of the images that the model gets.")
_DIR = flags.DEFINE_string("dir", None, "Where to keep the JPEGs; default a temporary folder.")
_JSON = flags.DEFINE_string("json", None, "Also write all figures to this file.")
_RATES = flags.DEFINE_string(
    "device_rates",
    None,
    'JSON file {"v3-8": {"S/16": images per second of one host\'s chips, ...}, ...} in place of '
    "the built-in estimates.",
)

_BATCH = 128
_CLASSES = 8
# Until buffers are in their steady state: as empty as a consumer that never waits leaves them.
_WARM_UP_BATCHES = 6

# What one host's chips can train, images/s. B/16 and v5e's S/16: estimated cycles of the compiled
# step of the best published implementation (cycles, batch per core, clock in Hz, cores per host).
# S/16 elsewhere: B/16 times the ratio of the two on v5e.
_ESTIMATES = {
    "v3-8": {"B/16": (179.5e6, 64, 0.94e9, 8)},
    "v5e-8": {"B/16": (116.5e6, 64, 1.5e9, 8), "S/16": (114.7e6, 128, 1.5e9, 8)},
    "v6e-8": {"B/16": (55.5e6, 64, 1.75e9, 8)},
}
_HOST_VCPUS = {"v3-8": 96, "v5e-8": 224, "v6e-8": 180}


def make_jpegs(root: str, count: int) -> None:
    """Photographs of 500 x 400 pixels and about 110 kB, as ImageNet's, no two alike."""
    photos = load_sample_images().images
    random = np.random.default_rng(0)
    for index in tqdm(range(count), desc="making JPEGs", unit="image"):
        photo = Image.fromarray(photos[index % len(photos)])
        left, top = random.uniform(0, 0.3, 2) * photo.size
        box = (left, top, left + 0.7 * photo.width, top + 0.7 * photo.height)
        size = (500, 400) if random.random() < 0.7 else (400, 500)
        photo = photo.resize(size, Image.Resampling.BICUBIC, box)
        # Enlarging smooths; the noise of a sensor brings the file to the size of ImageNet's.
        pixels = np.asarray(photo) + random.normal(0, 11, (size[1], size[0], 1))
        folder = os.path.join(root, "train", f"class{index % _CLASSES}")
        os.makedirs(folder, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(
            os.path.join(folder, f"{index:05d}.jpg"), quality=int(random.integers(88, 95))
        )


def plain_keras(root: str, training: bool, zoom: bool = True) -> tf.data.Dataset:
    """What the Keras documentation shows.

    Args:
        root: of the images.
        training: with augmentation.
        zoom: augment by RandomZoom of height and width apart, Keras's nearest to an inception crop;
            else by RandomCrop, which is cheaper but changes neither scale nor aspect ratio.
    """
    size = _SIZE.value
    load = round(size * 8 / 7) if training and not zoom else size
    dataset = keras.utils.image_dataset_from_directory(
        os.path.join(root, "train"), image_size=(load, load), batch_size=_BATCH, verbose=False
    )
    layers = [keras.layers.Rescaling(1 / 127.5, -1.0)]
    if training:
        layers.insert(0, keras.layers.RandomFlip("horizontal"))
        crop = keras.layers.RandomCrop(size, size)
        layers.insert(0, keras.layers.RandomZoom((-0.75, 0.0), (-0.75, 0.0)) if zoom else crop)
    augment = keras.Sequential(layers)
    return (
        dataset.map(
            lambda images, labels: (augment(images, training=training), labels),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .repeat()
        .prefetch(2)
    )


def plain_original(root: str, training: bool) -> tf.data.Dataset:
    """The original vision_transformer's operations in the original's order."""
    size = _SIZE.value
    files = sorted(tf.io.gfile.glob(os.path.join(root, "train", "*", "*.jpg")))

    def preprocess(file):
        image = tf.io.decode_jpeg(tf.io.read_file(file), channels=3)
        if training:
            begin, crop, _ = tf.image.sample_distorted_bounding_box(
                tf.shape(image),
                tf.zeros([0, 0, 4], tf.float32),
                area_range=(0.05, 1.0),
                min_object_covered=0,
                use_image_if_no_bounding_boxes=True,
            )
            image = tf.slice(image, begin, crop)
        image = tf.image.resize(image, [size, size])
        if training:
            image = tf.image.random_flip_left_right(image)
        return tf.ensure_shape((image - 127.5) / 127.5, [size, size, 3])

    dataset = tf.data.Dataset.from_tensor_slices(files).repeat()
    if training:
        dataset = dataset.shuffle(len(files))
    return dataset.map(preprocess, num_parallel_calls=tf.data.AUTOTUNE).batch(_BATCH).prefetch(2)


def bare_decode(root: str) -> tf.data.Dataset:
    """Decodes bytes in memory and throws the pixels away."""
    files = sorted(tf.io.gfile.glob(os.path.join(root, "train", "*", "*.jpg")))[:512]
    encoded = tf.constant([tf.io.read_file(file).numpy() for file in files])

    def decode_batch(start):
        def decode(index):
            image = tf.io.decode_jpeg(encoded[(start * 16 + index) % len(files)], channels=3)
            return tf.size(image)

        return tf.map_fn(
            decode,
            tf.range(16, dtype=tf.int64),
            parallel_iterations=1,
            fn_output_signature=tf.int32,
        )

    dataset = tf.data.Dataset.range(1 << 40)
    dataset = dataset.map(decode_batch, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(_BATCH // 16).prefetch(2)


def with_private_threads(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The thread pool that our own pipelines have, for the others too."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = os.cpu_count()
    options.threading.max_intra_op_parallelism = 1
    return dataset.with_options(options)


def measure(dataset: tf.data.Dataset, images: int) -> tuple[float, float]:
    """Images per second of processor time and of wall time, of a pipeline that runs alone."""
    iterator = iter(dataset)
    for _ in range(_WARM_UP_BATCHES):
        next(iterator)
    batches = max(1, images // _BATCH)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(batches):
        next(iterator)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return batches * _BATCH / cpu, batches * _BATCH / wall


def pipelines(root: str) -> dict[str, tf.data.Dataset]:
    """Everything that is measured, by name."""
    source = data.get_source(root)
    size = _SIZE.value

    def train(pipeline, **kwargs):
        return data.train_dataset(source, "train", pipeline, _BATCH, seed=1, **kwargs)

    def evaluate(pipeline):
        return data.eval_dataset(source, "train", pipeline, _BATCH).repeat()

    crop = f"decode_jpeg_and_inception_crop({size})|flip_lr"
    return {
        "decode": with_private_threads(bare_decode(root)),
        "vit_keras train": train(presets.finetune_train(size)),
        "vit_keras train, cache_raw": train(presets.finetune_train(size), cache_raw=True),
        "vit_keras train, bfloat16": train(presets.finetune_train(size, transport="bfloat16")),
        "vit_keras train, float32": train(presets.finetune_train(size, transport="float32")),
        "vit_keras train, randaug(2, 10)": train(f"{crop}|randaug(2, 10)"),
        "keras train": with_private_threads(plain_keras(root, True)),
        "keras train, RandomCrop": with_private_threads(plain_keras(root, True, zoom=False)),
        "original train": with_private_threads(plain_original(root, True)),
        "vit_keras eval": evaluate(presets.finetune_eval(size)),
        "vit_keras eval, resize_small and crop": evaluate(
            f"decode|resize_small({round(size * 8 / 7)})|central_crop({size})"
        ),
        "keras eval": with_private_threads(plain_keras(root, False)),
        "original eval": with_private_threads(plain_original(root, False)),
    }


def device_rates() -> dict[str, dict[str, float]]:
    """Device -> model -> images per second that the chips of one host train."""
    if _RATES.value:
        with open(_RATES.value) as file:
            return json.load(file)
    rates = {
        device: {
            model: batch * clock / cycles * cores
            for model, (cycles, batch, clock, cores) in models.items()
        }
        for device, models in _ESTIMATES.items()
    }
    small = rates["v5e-8"]["S/16"] / rates["v5e-8"]["B/16"]
    for models in rates.values():
        models.setdefault("S/16", models["B/16"] * small)
    return rates


def main(_: list[str]) -> None:
    """Makes the files, measures, prints the tables."""
    with tempfile.TemporaryDirectory() as temporary:
        root = _DIR.value or temporary
        if not os.path.isdir(os.path.join(root, "train")):
            make_jpegs(root, _IMAGES.value)
        files = tf.io.gfile.glob(os.path.join(root, "train", "*", "*.jpg"))
        mean_bytes = np.mean([os.path.getsize(file) for file in files])
        datasets = pipelines(root)
        rounds = []
        for _ in tqdm(range(_ROUNDS.value), desc="measuring", unit="round"):
            rounds.append({name: measure(ds, _PER_ROUND.value) for name, ds in datasets.items()})

    def ratio(name, base):
        return statistics.median(r[name][0] / r[base][0] for r in rounds)

    print(f"\nTensorFlow {tf.__version__}, {os.cpu_count()} cores; {len(files)} JPEGs of "
          f"{mean_bytes / 1000:.0f} kB on average.\n")  # fmt: skip
    print("| pipeline | images/s per core | of the decode limit | images/s, all cores |")
    print("| --- | --- | --- | --- |")
    figures = {}
    for name in rounds[0]:
        cpu, wall = (statistics.median(r[name][i] for r in rounds) for i in (0, 1))
        figures[name] = cpu
        print(f"| {name} | {cpu:.0f} | {ratio(name, 'decode'):.2f} | {wall:.0f} |")
    randaug = statistics.median(
        (1 / r["vit_keras train, randaug(2, 10)"][0] - 1 / r["vit_keras train"][0]) * r["decode"][0]
        for r in rounds
    )
    goals = {
        "train / decode limit": (ratio("vit_keras train", "decode"), ">=", 0.85),
        "train / keras": (ratio("vit_keras train", "keras train"), ">=", 2.0),
        "train / original": (ratio("vit_keras train", "original train"), ">=", 1.2),
        "cost of RandAugment / cost of decoding": (randaug, "<=", 1.0),
    }
    print("\n| ratio | measured | goal |\n| --- | --- | --- |")
    for name, (value, sign, goal) in goals.items():
        met = value >= goal if sign == ">=" else value <= goal
        print(f"| {name} | {value:.2f} | {sign} {goal:g}: {'met' if met else 'MISSED'} |")
    light = ratio("vit_keras train", "keras train, RandomCrop")
    print(f"| train / keras with RandomCrop | {light:.2f} | |")
    print("| eval / keras | {:.2f} | |".format(ratio("vit_keras eval", "keras eval")))
    print("| eval / original | {:.2f} | |".format(ratio("vit_keras eval", "original eval")))

    print("\nCores of this machine's kind that keep the chips of one host busy:\n")
    print("| host | its vCPUs | model | images/s of its chips | cores | cores with RandAugment |")
    print("| --- | --- | --- | --- | --- | --- |")
    plain, strong = figures["vit_keras train"], figures["vit_keras train, randaug(2, 10)"]
    for device, models in device_rates().items():
        for model, rate in sorted(models.items(), reverse=True):
            print(f"| {device} | {_HOST_VCPUS.get(device, '?')} | {model} | {rate:.0f} | "
                  f"{rate / plain:.1f} | {rate / strong:.1f} |")  # fmt: skip
    if _JSON.value:
        result = {
            "images_per_second_per_core": figures,
            "ratios": {k: v[0] for k, v in goals.items()},
        }
        with open(_JSON.value, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    app.run(main)
