"""Classification by the texts that describe the classes, for two towers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from vit_keras.training.evaluators.features import FeatureExtractor


class ZeroShotEvaluator:
    """Accuracy when an image belongs to the class whose texts it resembles most.

    A class's embedding is the mean over its texts of their embeddings of length 1, itself made of
    length 1 (arXiv 2103.00020, section 3.1.4).

    Args:
      images: extracts the image embeddings, of length 1, and the labels.
      embed_texts: token numbers (texts, length) -> embeddings (texts, width) of length 1.
      class_texts: token numbers (classes, texts for each class, length).
      batch: texts embedded at once.
      name: of the data set, in the metrics' names.
    """

    def __init__(
        self,
        images: FeatureExtractor,
        embed_texts: Callable[[tf.Tensor], tf.Tensor],
        class_texts: np.ndarray,
        *,
        batch: int = 256,
        name: str = "test",
    ):
        class_texts = np.asarray(class_texts)
        if class_texts.ndim != 3:
            raise ValueError(
                f"class_texts has shape {class_texts.shape}; expected (classes, texts, length)."
            )
        self.images, self.embed_texts, self.class_texts = images, embed_texts, class_texts
        self.batch, self.name = batch, name

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields `<name>/zeroshot`: the accuracy."""
        classes, texts, length = self.class_texts.shape
        tokens = self.class_texts.reshape(-1, length)
        embeddings = np.concatenate(
            [
                np.asarray(self.embed_texts(tf.constant(tokens[start : start + self.batch])))
                for start in range(0, len(tokens), self.batch)
            ]
        )
        embeddings = embeddings.reshape(classes, texts, -1).mean(1)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True) + 1e-8
        images, labels = self.images()
        predicted = np.argmax(images @ embeddings.T, axis=1)
        yield f"{self.name}/zeroshot", float(np.mean(predicted == labels))
