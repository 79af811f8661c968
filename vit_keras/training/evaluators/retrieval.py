"""Finding the caption of an image, and the image of a caption, for two towers."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from vit_keras.data.normalize import normalize_image
from vit_keras.training.evaluators.eval_input import EvalInput, MakeDataset

_ROWS = 1024  # compared at a time


class RetrievalEvaluator:
    """Recall at 1 among all images and captions of a split, one caption for each image.

    Args:
      strategy: in whose scope the models' variables were made.
      image_model: images -> embeddings of length 1.
      text_model: token numbers -> embeddings of length 1.
      make_dataset: as of `ClassificationEvaluator`, with `text`, int32 (batch, length).
      dtype: of the images that `image_model` takes.
      name: begins the metrics' names.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        image_model: keras.Model,
        text_model: keras.Model,
        make_dataset: MakeDataset,
        dtype: str | tf.DType = tf.float32,
        *,
        name: str = "test",
    ):
        self._strategy, self._models = strategy, (image_model, text_model)
        self._input = EvalInput(strategy, make_dataset)
        self._dtype, self._name = tf.as_dtype(dtype), name
        self._run = tf.function(lambda batch: strategy.run(self._gathered, args=(batch,)))

    def _gathered(self, batch) -> list[tf.Tensor]:
        image_model, text_model = self._models
        images = normalize_image(batch["image"], self._dtype)
        values = [
            image_model(images, training=False),
            text_model(batch["text"], training=False),
            batch["mask"],
        ]
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            return values
        return [context.all_gather(value, axis=0) for value in values]

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields `<name>/image_to_text` and `<name>/text_to_image` (recalls), `/examples`."""
        images, texts = [], []
        iterator, num_steps = self._input.start()
        for _ in range(num_steps):
            image, text, mask = (
                self._strategy.experimental_local_results(value)[0].numpy()
                for value in self._run(next(iterator))
            )
            images.append(image[mask > 0])
            texts.append(text[mask > 0])
        images, texts = np.concatenate(images), np.concatenate(texts)
        yield f"{self._name}/image_to_text", _recall(images, texts)
        yield f"{self._name}/text_to_image", _recall(texts, images)
        yield f"{self._name}/examples", float(len(images))


def _recall(queries: np.ndarray, keys: np.ndarray) -> float:
    """How often the most similar key is the query's own."""
    right = 0
    for start in range(0, len(queries), _ROWS):
        best = np.argmax(queries[start : start + _ROWS] @ keys.T, axis=1)
        right += int(np.sum(best == np.arange(start, start + len(best))))
    return right / len(queries)
