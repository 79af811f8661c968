"""Evaluators: each is one class whose `run` yields (name, value)."""

from vit_keras.training.evaluators.classification import ClassificationEvaluator
from vit_keras.training.evaluators.features import FeatureExtractor, representation_model
from vit_keras.training.evaluators.few_shot import FewShotEvaluator
from vit_keras.training.evaluators.knn import KNNEvaluator
from vit_keras.training.evaluators.retrieval import RetrievalEvaluator
from vit_keras.training.evaluators.zero_shot import ZeroShotEvaluator

__all__ = [
    "ClassificationEvaluator",
    "FeatureExtractor",
    "FewShotEvaluator",
    "KNNEvaluator",
    "RetrievalEvaluator",
    "ZeroShotEvaluator",
    "representation_model",
]
