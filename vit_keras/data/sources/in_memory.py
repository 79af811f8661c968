"""A `tf.data.Dataset` that the user made."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from absl import logging

from vit_keras.data.sources.base import Records, Source


class DatasetSource(Source):
    """One or several user-made datasets of single (not batched) examples.

    Each element is a dictionary with "image" and "label" or a pair (image, label): the image
    encoded (scalar string) or decoded (height, width, channels), the label a scalar integer.
    The dataset must give the same elements in the same order each time: training shuffles it. It
    is read through once here, to count its examples and classes.

    Args:
        datasets: a dataset, which becomes the split "train", or a mapping of split names.
        class_names: by default "0", "1", ... up to the largest label.

    Raises:
        ValueError: for elements of another structure, or an empty or infinite dataset.
    """

    def __init__(
        self,
        datasets: tf.data.Dataset | Mapping[str, tf.data.Dataset],
        *,
        class_names: list[str] | None = None,
        on_bad_image: str = "error",
    ):
        super().__init__("tf.data.Dataset", [], on_bad_image)
        if isinstance(datasets, tf.data.Dataset):
            datasets = {"train": datasets}
        self._datasets = {name: _as_examples(name, data) for name, data in datasets.items()}
        self._lengths, self._bytes, max_label = {}, {}, -1
        for name, dataset in self._datasets.items():
            count, size, largest = _scan(name, dataset)
            self._lengths[name], self._bytes[name] = count, size / count
            max_label = max(max_label, largest)
        self.class_names = list(class_names or map(str, range(max_label + 1)))

    @property
    def shard_lengths(self) -> dict[str, list[int]]:
        """Split name -> number of examples in each of its files."""
        return {name: [length] for name, length in self._lengths.items()}

    def _range_records(self, ranges: list[tuple[str, int, int]]) -> "DatasetRecords":
        parts = [self._datasets[name].skip(a).take(b - a) for name, a, b in ranges]
        dataset = parts[0]
        for part in parts[1:]:
            dataset = dataset.concatenate(part)
        count = sum(b - a for _, a, b in ranges)
        return DatasetRecords(dataset, count, max(self._bytes[name] for name, _, _ in ranges))


class DatasetRecords(Records):
    """A dataset that is read from its beginning."""

    num_files = 1

    def __init__(self, dataset: tf.data.Dataset, num_examples: int, bytes_per_example: float):
        self._dataset = dataset
        self.num_examples = num_examples
        self.bytes_per_example = bytes_per_example

    def segments(self, start: int, stop: int) -> np.ndarray:
        """See `Records`."""
        return np.array([(0, start, stop - start, start)], np.int64)

    def read_segment(self, segment: tf.Tensor) -> tf.data.Dataset:
        """See `Records`."""
        skip, take = segment[1], segment[2]

        def number(index, example):
            where = tf.strings.join(["element ", tf.strings.as_string(skip + index)])
            return {**example, "id": skip + index, "file": where}

        return self._dataset.skip(skip).take(take).enumerate().map(number)


def _as_examples(name: str, dataset: tf.data.Dataset) -> tf.data.Dataset:
    spec = dataset.element_spec
    if isinstance(spec, tuple) and len(spec) == 2:
        dataset = dataset.map(lambda image, label: {"image": image, "label": label})
    elif isinstance(spec, dict) and {"image", "label"} <= set(spec):
        dataset = dataset.map(lambda example: {k: example[k] for k in ("image", "label")})
    else:
        raise ValueError(
            f"The dataset {name!r} must give (image, label) or {{'image': ..., 'label': ...}}, "
            f"got {spec}."
        )
    image, label = dataset.element_spec["image"], dataset.element_spec["label"]
    if label.shape.rank != 0 or not label.dtype.is_integer:
        raise ValueError(
            f"Labels of the dataset {name!r} must be scalar integers, got {label}. If it is "
            "batched, hand in dataset.unbatch()."
        )
    if image.shape.rank != (0 if image.dtype == tf.string else 3):
        raise ValueError(
            f"Images of the dataset {name!r} must be encoded strings or (height, width, channels) "
            f"arrays, got {image}."
        )
    return dataset.map(
        lambda example: {"image": example["image"], "label": tf.cast(example["label"], tf.int64)}
    )


def _scan(name: str, dataset: tf.data.Dataset) -> tuple[int, int, int]:
    """(number of examples, bytes of all images, largest label)."""
    cardinality = int(dataset.cardinality())
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise ValueError(f"The dataset {name!r} is infinite; hand it in without repeat().")
    logging.info("Reading the dataset %r through once to count its examples.", name)

    def add(state, example):
        image = example["image"]
        size = (
            tf.strings.length(image)
            if image.dtype == tf.string
            else tf.size(image) * image.dtype.size
        )
        return (
            state[0] + 1,
            state[1] + tf.cast(size, tf.int64),
            tf.maximum(state[2], example["label"]),
        )

    zero = tf.constant(0, tf.int64)
    count, size, largest = dataset.reduce((zero, zero, zero - 1), add)
    if int(count) == 0:
        raise ValueError(f"The dataset {name!r} is empty.")
    return int(count), int(size), int(largest)
