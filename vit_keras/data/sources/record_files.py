"""Examples in TFRecord files whose lengths are known: common to TFDS and to our own files."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from vit_keras.data.sources.base import Records

# What one read asks of the file system; a bucket wants larger requests than a disk.
_READ_BYTES_LOCAL = 1 << 20
_READ_BYTES_REMOTE = 8 << 20


class FileRecords(Records):
    """The concatenation of runs of records in TFRecord files.

    Args:
        runs: (file, first record, number of records), in order.
        parse: serialized example -> {"image": string or array, "label": int64}.
        bytes_per_example: mean size of a record.
    """

    def __init__(
        self,
        runs: Sequence[tuple[str, int, int]],
        parse: Callable[[tf.Tensor], dict[str, tf.Tensor]],
        bytes_per_example: float,
    ):
        self._files = [run[0] for run in runs]
        self._skips = np.array([run[1] for run in runs], np.int64)
        self._ends = np.cumsum([run[2] for run in runs])
        self._parse = parse
        self.num_examples = int(self._ends[-1])
        self.num_files = len(runs)
        self.bytes_per_example = bytes_per_example

    def segments(self, start: int, stop: int) -> np.ndarray:
        """See `Records`."""
        rows, begin = [], 0
        for index, end in enumerate(self._ends):
            first, last = max(start, begin), min(stop, int(end))
            if last > first:
                rows.append((index, self._skips[index] + first - begin, last - first, first))
            begin = int(end)
        return np.array(rows, np.int64).reshape(-1, 4)

    def read_segment(self, segment: tf.Tensor) -> tf.data.Dataset:
        """See `Records`."""
        # Not tf.unstack: together with skip(), tf.data optimises it into a crash (TF 2.15 to 2.21).
        file_index, skip, take, first_id = (segment[column] for column in range(4))
        file = tf.constant(self._files)[file_index]
        remote = "://" in self._files[0]
        records = tf.data.TFRecordDataset(
            file, buffer_size=_READ_BYTES_REMOTE if remote else _READ_BYTES_LOCAL
        )
        # A record with a broken check sum ends its file. What is lost is counted, not forgotten:
        # every lost record takes its place in the order as an unreadable example.
        parsed = ignore_errors(records).skip(skip).map(self._parse)
        lost = {
            key: tf.zeros([side or 0 for side in spec.shape], spec.dtype)
            for key, spec in parsed.element_spec.items()
        }
        lost["label"] = tf.constant(-1, tf.int64)
        lost = tf.data.Dataset.from_tensors(lost).repeat()

        def number(index, example):
            where = tf.strings.join([file, tf.strings.as_string(skip + index)], "#")
            return {**example, "id": first_id + index, "file": where}

        return parsed.concatenate(lost).take(take).enumerate().map(number)


def ignore_errors(dataset: tf.data.Dataset, log_warning: bool = False) -> tf.data.Dataset:
    """Drops the elements that fail."""
    return dataset.ignore_errors(log_warning=log_warning)


def mean_record_bytes(files: Sequence[str], num_records: int) -> float:
    """Bytes per record, from the sizes of at most 16 of the files and their share of records."""
    sample = files[:: max(1, len(files) // 16)][:16]
    total = sum(tf.io.gfile.stat(file).length for file in sample if tf.io.gfile.exists(file))
    return total * len(files) / max(1, len(sample)) / max(1, num_records)
