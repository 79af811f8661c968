"""Top-1, top-5 and loss over exactly every example."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import tensorflow as tf

from vit_keras.data.normalize import normalize_image
from vit_keras.training import losses
from vit_keras.training.evaluators.eval_input import EvalInput, MakeDataset


class ClassificationEvaluator:
    """Accuracy and loss of a model, independent of batch size and number of replicas.

    Args:
      strategy: in whose scope the model was built.
      model: images -> logits.
      make_dataset: per-replica batches of `image`, `label` (integers, or float rows for several
        right classes) and `mask` (1, or 0 for what only fills a batch up), as many in every input
        pipeline, of known cardinality.
      loss: of logits and labels.
      name: begins the metrics' names.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        make_dataset: MakeDataset,
        *,
        loss: losses.Loss = losses.softmax_cross_entropy,
        name: str = "test",
    ):
        self.strategy, self.model, self.loss, self.name = strategy, model, loss, name
        self.input = EvalInput(strategy, make_dataset)
        self._sum_all = tf.function(self._sum_batches, autograph=False)

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields `<name>/accuracy`, `/top5` (from six classes on), `/loss` and `/examples`."""
        iterator, num_steps = self.input.start()
        sums = self._sum_all(iterator, tf.constant(num_steps)).numpy()
        top1, top5, loss, count = map(float, sums)
        if not count:
            raise ValueError(f"The split for {self.name!r} has no examples.")
        yield f"{self.name}/accuracy", top1 / count
        if self.model.output_shape[-1] > 5:
            yield f"{self.name}/top5", top5 / count
        yield f"{self.name}/loss", loss / count
        yield f"{self.name}/examples", count

    def _sum_batches(self, iterator, num_steps):
        def body(index, sums):
            batch_sums = self.strategy.run(self.sum_batch, args=(next(iterator),))
            # Counts beyond 2**24 don't fit into float32.
            batch_sums = self.strategy.reduce("sum", batch_sums, axis=None)
            return index + 1, sums + tf.cast(batch_sums, tf.float64)

        start = (tf.constant(0), tf.zeros(4, tf.float64))
        _, sums = tf.while_loop(
            lambda index, _: index < num_steps, body, start, parallel_iterations=1
        )
        return sums

    def sum_batch(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """A replica's batch to float32 (4,): sums of top-1, top-5 and loss, and the count."""
        images = normalize_image(batch["image"], tf.as_dtype(self.model.compute_dtype))
        logits = tf.cast(self.model(images, training=False), tf.float32)
        labels = losses.soft_labels(batch["label"], logits.shape[-1])
        mask = batch["mask"]
        loss = tf.where(mask > 0, self.loss(logits, labels), 0.0)
        _, best = tf.math.top_k(logits, min(5, logits.shape[-1]))
        right = tf.gather(labels, best, batch_dims=1) > 0
        top1 = tf.cast(right[:, 0], tf.float32) * mask
        top5 = tf.cast(tf.reduce_any(right, axis=1), tf.float32) * mask
        return tf.stack([tf.reduce_sum(x) for x in (top1, top5, loss, mask)])
