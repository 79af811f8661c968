"""Our own TFRecords: sharded files and a `dataset.json`, as `tools/make_tfrecords.py` writes.

Each record is a `tf.train.Example` with
    "image/encoded": bytes, the image file as it was (JPEG, PNG, GIF or BMP),
    "image/class/label": int64, from 0,
    "image/filename": bytes, where it came from, for error messages.
`dataset.json` holds {"format": 1, "class_names": [...], "splits": {"train": [[file, number of
examples], ...], ...}}; file names are relative to the folder.
"""

import itertools
import json
import os

import tensorflow as tf

from vit_keras.data.sources.base import Source
from vit_keras.data.sources.record_files import FileRecords, mean_record_bytes

INDEX_FILE = "dataset.json"
FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    "image/filename": tf.io.FixedLenFeature([], tf.string, ""),
}


class TFRecordSource(Source):
    """A folder written by `tools/make_tfrecords.py`.

    Raises:
        ValueError: if `dataset.json` is malformed, or names a file that isn't there.
    """

    def __init__(self, root: str, *, on_bad_image: str = "error"):
        path = os.path.join(root, INDEX_FILE)
        with tf.io.gfile.GFile(path) as file:
            try:
                index = json.load(file)
                class_names = [str(name) for name in index["class_names"]]
                self._files = {
                    split: [(os.path.join(root, name), int(length)) for name, length in files]
                    for split, files in index["splits"].items()
                }
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{path} is not an index of TFRecords ({type(error).__name__}: {error})."
                ) from error
        super().__init__(root, class_names, on_bad_image)
        for file, _ in itertools.chain.from_iterable(self._files.values()):
            if not tf.io.gfile.exists(file):
                raise ValueError(f"{file}: missing, but named in {path}.")

    @property
    def shard_lengths(self) -> dict[str, list[int]]:
        """Split name -> number of examples in each of its files."""
        return {split: [length for _, length in files] for split, files in self._files.items()}

    def _range_records(self, ranges: list[tuple[str, int, int]]) -> FileRecords:
        runs = []
        for split, start, stop in ranges:
            begin = 0
            for file, length in self._files[split]:
                first, last = max(start, begin), min(stop, begin + length)
                if last > first:
                    runs.append((file, first - begin, last - first))
                begin += length
        files = [file for split in sorted({r[0] for r in ranges}) for file in self._files[split]]
        mean = mean_record_bytes([file for file, _ in files], sum(n for _, n in files))
        return FileRecords(runs, parse_record, mean)


def parse_record(record: tf.Tensor) -> dict[str, tf.Tensor]:
    """One serialized record -> {"image": encoded bytes, "label": int64}."""
    example = tf.io.parse_single_example(record, FEATURES)
    return {"image": example["image/encoded"], "label": example["image/class/label"]}
