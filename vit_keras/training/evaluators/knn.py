"""Nearest neighbours in the space of representations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vit_keras.training.evaluators.features import FeatureExtractor


class KNNEvaluator:
    """Accuracy of a vote of the k most similar training examples.

    A neighbour's vote weighs exp(cosine similarity / temperature) (arXiv 1805.01978, section 3.4).

    Args:
      train: extracts the neighbours.
      test: extracts the examples to classify.
      num_classes: labels are 0 to this.
      ks: numbers of neighbours.
      temperature: of the votes.
      name: of the data set, in the metrics' names.
    """

    def __init__(
        self,
        train: FeatureExtractor,
        test: FeatureExtractor,
        num_classes: int,
        *,
        ks: Sequence[int] = (1, 5, 20),
        temperature: float = 0.07,
        name: str = "test",
    ):
        self.train, self.test, self.num_classes = train, test, num_classes
        self.ks, self.temperature, self.name = tuple(ks), temperature, name

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields `<name>/<k>nn`: accuracies."""
        features, labels = self.train()
        test_features, test_labels = self.test()
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
        test_features = test_features / np.linalg.norm(test_features, axis=1, keepdims=True)
        most = min(max(self.ks), len(labels))
        right = np.zeros(len(self.ks))
        for start in range(0, len(test_labels), 1024):  # all similarities at once may not fit
            part = slice(start, start + 1024)
            similarities = test_features[part] @ features.T
            nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :most]
            votes = np.exp(np.take_along_axis(similarities, nearest, 1) / self.temperature)
            for number, k in enumerate(self.ks):
                sums = np.zeros((len(votes), self.num_classes))
                rows = np.arange(len(votes))[:, np.newaxis]
                np.add.at(sums, (rows, labels[nearest[:, :k]]), votes[:, :k])
                right[number] += np.sum(np.argmax(sums, axis=1) == test_labels[part])
        for k, count in zip(self.ks, right, strict=True):
            yield f"{self.name}/{k}nn", float(count / len(test_labels))
