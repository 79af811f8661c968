"""What a model makes of a data set, gathered on the host."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from vit_keras.data.normalize import normalize_image
from vit_keras.training.evaluators.eval_input import EvalInput, MakeDataset


def representation_model(model: keras.Model) -> keras.Model:
    """`model` up to the input of its layer `head`; `model` itself if it has none."""
    if "head" not in [layer.name for layer in model.layers]:
        return model
    return keras.Model(model.inputs, model.get_layer("head").input)


class FeatureExtractor:
    """Runs a function of images over every example of a data set, on all replicas.

    Args:
      strategy: in whose scope the function's variables were made.
      function: float images (batch, height, width, 3) -> (batch, width).
      make_dataset: as of `ClassificationEvaluator`, with integer labels.
      dtype: of the images that `function` takes.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        function: Callable[[tf.Tensor], tf.Tensor],
        make_dataset: MakeDataset,
        dtype: str | tf.DType = tf.float32,
    ):
        self._strategy, self._function = strategy, function
        self._input = EvalInput(strategy, make_dataset)
        self._dtype = tf.as_dtype(dtype)
        self._run = tf.function(lambda batch: strategy.run(self._gathered, args=(batch,)))

    def _gathered(self, batch) -> list[tf.Tensor]:
        images = normalize_image(batch["image"], self._dtype)
        features = tf.cast(self._function(images), tf.float32)
        values = [features, batch["label"], batch["mask"]]
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            return values
        return [context.all_gather(value, axis=0) for value in values]

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        """Float32 features (examples, width) and labels (examples,)."""
        features, labels = [], []
        iterator, num_steps = self._input.start()
        for _ in range(num_steps):
            batch = self._run(next(iterator))
            feature, label, mask = (
                self._strategy.experimental_local_results(value)[0].numpy() for value in batch
            )
            features.append(feature[mask > 0])
            labels.append(label[mask > 0])
        return np.concatenate(features), np.concatenate(labels)
