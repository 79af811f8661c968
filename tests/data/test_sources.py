"""Sources: TFDS, folders, TFRecords, datasets; and their splits."""

import json
import pathlib
import subprocess
import sys

import data_helpers
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from vit_keras import data

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "make_tfrecords.py"
PIPELINE = "decode|resize(8)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return data_helpers.make_folder(tmp_path_factory.mktemp("images"), train=50, test=20)


@pytest.fixture(scope="module")
def digits_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


def run_tool(*arguments):
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "/usr/bin"},
    )


def values(source, split="train"):
    batches = data.eval_dataset(source, split, PIPELINE, 16)
    found = []
    for batch in batches:
        rows = zip(data_helpers.values_of(batch), batch["label"], batch["mask"], strict=True)
        found += [(value, int(label)) for value, label, mask in rows if mask]
    return found


@pytest.mark.parametrize(
    ("config", "classes", "count"),
    [("all", "0123456789", 1797), ("digits_0_4", "01234", 901), ("digits_5_9", "56789", 896)],
)
def test_sklearn_digits(digits_dir, config, classes, count):
    source = data.get_source(f"sklearn_digits/{config}", data_dir=digits_dir)
    assert source.class_names == list(classes)
    train, test = source.num_examples("train"), source.num_examples("test")
    assert train + test == count
    assert abs(test / count - 0.25) < 0.01


def test_digits_are_what_scikit_learn_has(digits_dir):
    """Every image once, with its label; no image in both splits; classes evenly split."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    expected = sorted(
        (np.round(image * 255 / 16).astype(np.uint8).tobytes(), label)
        for image, label in zip(images, labels, strict=True)
        if label >= 5
    )
    source = data.get_source("sklearn_digits/digits_5_9", data_dir=digits_dir)
    found = {}
    for split in ("train", "test"):
        found[split] = []
        for batch in data.eval_dataset(source, split, "decode|resize(8)", 64):
            kept = batch["mask"].numpy() > 0
            for image, label in zip(batch["image"][kept], batch["label"][kept], strict=True):
                found[split].append((image[..., 0].numpy().tobytes(), int(label) + 5))
    assert sorted(found["train"] + found["test"]) == expected
    for digit in range(5, 10):
        share = sum(label == digit for _, label in found["test"]) / sum(labels == digit)
        assert abs(share - 0.25) < 0.01


def test_tfds_sources(digits_dir, folder):
    by_name = data.get_source("sklearn_digits/digits_0_4", data_dir=digits_dir)
    builder = tfds.builder("sklearn_digits/digits_0_4", data_dir=digits_dir)
    by_builder = data.get_source(builder)
    by_folder = data.get_source(str(builder.data_path))
    expected = values(by_name, "test[:40]")
    assert values(by_builder, "test[:40]") == values(by_folder, "test[:40]") == expected
    image_folder = data.get_source(tfds.folder_dataset.ImageFolder(folder))
    assert values(image_folder) == values(data.get_source(folder))
    with pytest.raises(ValueError, match="Did you mean 'sklearn_digits'"):
        data.get_source("sklearn_digit", data_dir=digits_dir)


@pytest.mark.parametrize(
    ("split", "count"),
    [
        ("train", 50),
        ("train[:98%]", 49),
        ("train[98%:]", 1),
        ("train[-5:]", 5),
        ("train[:10]+test[50%:]", 20),
        ("all", 70),
    ],
)
def test_splits(folder, split, count):
    source = data.get_source(folder)
    assert source.num_examples(split) == count
    read = source.records(split).read_segment(tf.constant([0, 0, count, 0], tf.int64))
    assert len({bytes(example["file"].numpy()) for example in read}) == count


def test_even_splits(folder):
    source = data.get_source(folder)
    parts = tfds.even_splits("train", n=3)
    assert [source.num_examples(part) for part in parts] == [17, 17, 16]
    files = [
        source.records(part).file_name(index).numpy()
        for part in parts
        for index in range(source.num_examples(part))
    ]
    assert len(set(files)) == 50


def test_a_percentage_of_a_folder_has_every_class(folder):
    assert {label for _, label in values(data.get_source(folder), "train[:30%]")} == {0, 1, 2}


@pytest.mark.parametrize("split", ["trian", "train[", "train[:200%]", "train[:1000]", ""])
def test_split_that_is_none(folder, split):
    with pytest.raises(ValueError, match="split"):
        data.get_source(folder).num_examples(split)


def test_tfrecords_tool(folder, tmp_path):
    done = run_tool(folder, tmp_path / "records", "--shards=4")
    assert done.returncode == 0, done.stderr
    assert "50/50" in done.stderr  # The progress bar.
    names = sorted(path.name for path in (tmp_path / "records").iterdir())
    assert names[0] == "dataset.json"
    assert names[-1] == "train-00003-of-00004.tfrecord"
    source, original = data.get_source(str(tmp_path / "records")), data.get_source(folder)
    assert source.class_names == original.class_names
    for split in ("test", "train[5:40]"):
        assert sorted(values(source, split)) == sorted(values(original, split))
    with pytest.raises(ValueError, match="exists already"):
        data_helpers.make_tfrecords(folder, tmp_path / "records")


def test_tfrecords_tool_names_what_it_cannot_read(tmp_path):
    folder = data_helpers.make_folder(tmp_path / "images", train=20)
    good = data_helpers.encode(data_helpers.photo(), "JPEG")
    for name, content in {"cut.jpg": good[:800], "none.png": b"", "text.jpg": b"hello"}.items():
        (tmp_path / "images" / "train" / "class0" / name).write_bytes(content)
    stopped = run_tool(folder, tmp_path / "records")
    assert stopped.returncode != 0
    for name in ("cut.jpg", "none.png", "text.jpg"):
        assert name in stopped.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["images"]  # No trace of the attempt.
    bad = data_helpers.make_tfrecords(folder, tmp_path / "records", on_bad_image="skip")
    assert {pathlib.Path(file).name for file, _ in bad} == {"cut.jpg", "none.png", "text.jpg"}
    assert len(values(data.get_source(str(tmp_path / "records")))) == 20


@pytest.mark.parametrize("cache_raw", [False, True])
def test_broken_check_sum(folder, tmp_path, cache_raw):
    data_helpers.make_tfrecords(folder, tmp_path / "records", shards=3)
    broken = tmp_path / "records" / "test-00001-of-00003.tfrecord"
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 0xFF
    broken.write_bytes(content)

    def evaluate(source):
        dataset = data.eval_dataset(source, "test", PIPELINE, 8, cache_raw=cache_raw)
        return sum(float(tf.reduce_sum(batch["mask"])) for batch in dataset)

    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"test-00001-of-00003\.tfrecord#\d: .*check sum"
    ):
        evaluate(data.get_source(str(tmp_path / "records")))
    source = data.get_source(str(tmp_path / "records"), on_bad_image="skip")
    read = evaluate(source)
    # What comes after the broken record cannot be found any more; all of it is listed.
    assert 13 <= read < 20
    assert len(source.bad_images) == 20 - read


def test_tfrecord_index_that_is_none(folder, tmp_path):
    data_helpers.make_tfrecords(folder, tmp_path / "records", shards=2)
    index = tmp_path / "records" / "dataset.json"
    content = json.loads(index.read_text())
    (tmp_path / "records" / "test-00000-of-00002.tfrecord").unlink()
    with pytest.raises(ValueError, match=r"test-00000-of-00002\.tfrecord: missing"):
        data.get_source(str(tmp_path / "records"))
    del content["splits"]
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="not an index of TFRecords"):
        data.get_source(str(tmp_path / "records"))


def test_dataset_sources():
    encoded = [data_helpers.jpeg(2 * index, (10 + index, 12)) for index in range(12)]
    by_pair = data.get_source(tf.data.Dataset.from_tensor_slices((encoded, np.arange(12) % 4)))
    assert by_pair.num_classes == 4
    assert values(by_pair) == [(2 * i, i % 4) for i in range(12)]
    # Decoded images of different sizes.
    decoded = tf.data.Dataset.from_tensor_slices((encoded, np.arange(12) % 4)).map(
        lambda image, label: {"image": tf.io.decode_jpeg(image, channels=3), "label": label}
    )
    source = data.get_source({"train": decoded, "test": decoded.take(3)}, class_names=list("abcd"))
    assert values(source) == values(by_pair)
    assert source.num_examples("test") == 3
    batch = next(iter(data.train_dataset(source, "train", "resize(8)|flip_lr", 4)))
    assert batch["image"].shape == (4, 8, 8, 3)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (lambda d: d.batch(2), r"unbatch\(\)"),
        (lambda d: d.repeat(), "infinite"),
        (lambda d: d.take(0), "empty"),
        (lambda d: d.map(lambda image, label: image), r"must give \(image, label\)"),
        (lambda d: d.map(lambda image, label: (image[0], label)), "height, width, channels"),
    ],
)
def test_datasets_that_will_not_do(dataset, message):
    good = tf.data.Dataset.from_tensor_slices((np.zeros([4, 8, 8, 3], np.uint8), np.zeros(4, int)))
    with pytest.raises(ValueError, match=message):
        data.get_source(dataset(good))


def test_not_a_source():
    with pytest.raises(ValueError, match="must be a name, a folder"):
        data.get_source(3)
