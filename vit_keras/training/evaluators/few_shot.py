"""Few-shot linear probe in closed form, as big_vision's `fewshot_lsr`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vit_keras.training.evaluators.features import FeatureExtractor

_BIAS = 100.0  # a constant feature so large that its weight is hardly regularized


def linear_probe(
    features: np.ndarray, labels: np.ndarray, test_features: np.ndarray, num_classes: int, l2: float
) -> np.ndarray:
    """Classes that ridge regression onto {-1, 1} predicts for `test_features`.

    Features are whitened by the training examples' mean and standard deviation. Solved in float64
    in the smaller of its two forms: `(XᵀX + l2)⁻¹ Xᵀy` or `Xᵀ (XXᵀ + l2)⁻¹ y`.
    """
    features, test_features = features.astype(np.float64), test_features.astype(np.float64)
    mean, std = features.mean(0), features.std(0) + 1e-5

    def whiten(x):
        return np.pad((x - mean) / std, ((0, 0), (0, 1)), constant_values=_BIAS)

    x = whiten(features)
    y = 2.0 * (labels[:, np.newaxis] == np.arange(num_classes)) - 1.0
    examples, width = x.shape
    if examples >= width:
        weights = np.linalg.solve(x.T @ x + l2 * np.eye(width), x.T @ y)
    else:
        weights = x.T @ np.linalg.solve(x @ x.T + l2 * np.eye(examples), y)
    return np.argmax(whiten(test_features) @ weights, axis=1)


class FewShotEvaluator:
    """Accuracy of a linear probe on a few training examples of each class.

    Args:
      train: extracts the examples to choose from.
      test: extracts the examples to classify.
      num_classes: labels are 0 to this.
      shots: how many examples of each class.
      l2: strength of the regularization.
      num_seeds: how many choices of examples.
      name: of the data set, in the metrics' names.
    """

    def __init__(
        self,
        train: FeatureExtractor,
        test: FeatureExtractor,
        num_classes: int,
        *,
        shots: Sequence[int] = (1, 5, 10, 25),
        l2: float = 2.0**10,
        num_seeds: int = 3,
        name: str = "test",
    ):
        self.train, self.test, self.num_classes = train, test, num_classes
        self.shots, self.l2, self.num_seeds, self.name = tuple(shots), l2, num_seeds, name

    def run(self) -> Iterator[tuple[str, float]]:
        """Yields `<name>/<shots>shot_seed<seed>`: accuracies."""
        features, labels = self.train()
        test_features, test_labels = self.test()
        for seed in range(self.num_seeds):
            rng = np.random.default_rng(seed)
            order = [
                rng.permutation(np.flatnonzero(labels == number))
                for number in range(self.num_classes)
            ]
            for shots in self.shots:
                chosen = np.concatenate([indices[:shots] for indices in order])
                predicted = linear_probe(
                    features[chosen], labels[chosen], test_features, self.num_classes, self.l2
                )
                accuracy = float(np.mean(predicted == test_labels))
                yield f"{self.name}/{shots}shot_seed{seed}", accuracy
