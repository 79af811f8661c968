"""Evaluation data on all replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import tensorflow as tf

MakeDataset = Callable[[tf.distribute.InputContext], tf.data.Dataset]


class EvalInput:
    """A finite data set that can be iterated again and again.

    Args:
      strategy: whose replicas it feeds.
      make_dataset: per-replica batches, as many in every input pipeline, of known cardinality.
    """

    def __init__(self, strategy: tf.distribute.Strategy, make_dataset: MakeDataset):
        self._strategy, self._make_dataset = strategy, make_dataset
        self._dataset = None
        self._steps = 0

    def start(self) -> tuple[Iterator, int]:
        """A fresh distributed iterator, and how many steps exhaust it.

        Raises:
          ValueError: if the data set doesn't know its own length.
        """
        if self._dataset is None:  # built when first needed, then kept: building takes a second
            self._dataset = self._strategy.distribute_datasets_from_function(self._make)
        return iter(self._dataset), self._steps

    def _make(self, context: tf.distribute.InputContext) -> tf.data.Dataset:
        dataset = self._make_dataset(context)
        batches = int(dataset.cardinality())
        if batches < 0:
            raise ValueError("The evaluation data set doesn't know how many batches it has.")
        self._steps = batches // (context.num_replicas_in_sync // context.num_input_pipelines)
        return dataset
