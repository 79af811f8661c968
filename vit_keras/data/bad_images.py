"""What an input pipeline could not use: counted and listed, never silently dropped."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf
from absl import logging

_SEPARATOR = "\x00"


class BadImages:
    """The examples skipped by pipelines built with `on_bad_image="skip"`, and why.

    A pipeline writes into it from inside `tf.data`, so it fills as batches are consumed. Each
    `Source` has one, `source.bad_images`; call `report()` when training or evaluation ends.
    """

    def __init__(self) -> None:
        # A set; TensorFlow has no table from strings to strings.
        self._table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, 0)

    def insert(self, file: str | tf.Tensor, reason: str | tf.Tensor) -> tf.Operation | None:
        """Adds one file, also from inside a graph."""
        entry = tf.strings.join([file, reason], _SEPARATOR)
        return self._table.insert(entry[None], tf.ones([1], tf.int64))

    def __len__(self) -> int:
        return int(self._table.size())

    def list(self) -> list[tuple[str, str]]:
        """Sorted (file, reason) pairs, each once however often the file was met."""
        entries = (entry.decode(errors="replace") for entry in self._table.export()[0].numpy())
        return sorted(tuple(entry.split(_SEPARATOR, 1)) for entry in entries)

    def report(self) -> None:
        """Logs the count and every file with its reason; nothing if there were none."""
        bad = self.list()
        if bad:
            lines = "\n".join(f"  {file}: {reason}" for file, reason in bad)
            logging.warning("%d bad images were skipped:\n%s", len(bad), lines)


@contextlib.contextmanager
def told_plainly() -> Iterator[None]:
    """Turns what a pipeline says of a bad example, deep inside a graph, into a `ValueError`.

    Raises:
        ValueError: with file and reason, in place of the `tf.errors.InvalidArgumentError` that
            reading a batch raises; other errors pass.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = re.search(r"assertion failed: \[(.*)\]", error.message)
        if found is None:
            raise
        raise ValueError(f"{found[1]} (on_bad_image='skip' goes on without it)") from error
