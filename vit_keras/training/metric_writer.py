"""Where a run's numbers go: JSON lines and TensorBoard."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping

import tensorflow as tf


class MetricWriter:
    """Appends to `metrics.jsonl` and to TensorBoard's event files in `workdir`.

    A line is `{"step": n, "time": seconds since 1970, name: number, ...}`. A run that was killed
    repeats the steps after its last checkpoint; of two lines for a step, the later one counts.
    """

    def __init__(self, workdir: str):
        tf.io.gfile.makedirs(workdir)
        self._path = os.path.join(workdir, "metrics.jsonl")
        self._directory = os.path.join(workdir, "tensorboard")
        self._summaries = None  # opened by the first number: a finished run leaves no empty file

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes numbers that belong to `step`, and flushes."""
        line = {"step": step, "time": time.time()}
        # JSON has no NaN; a number that isn't one is null.
        line |= {k: float(v) if math.isfinite(v) else None for k, v in metrics.items()}
        with tf.io.gfile.GFile(self._path, "a") as file:
            file.write(json.dumps(line) + "\n")
        if self._summaries is None:
            self._summaries = tf.summary.create_file_writer(self._directory)
        with self._summaries.as_default():
            for name, value in metrics.items():
                tf.summary.scalar(name, value, step=step)
        self._summaries.flush()

    def close(self) -> None:
        """Closes the event file."""
        if self._summaries is not None:
            self._summaries.close()
